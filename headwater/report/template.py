"""Pages of one file, from this package's templates and style sheets, under a policy that lets in no more."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

_NOTHING_ELSE = "base-uri 'none'; form-action 'none'"


def fill(
    template: str, styles: tuple[str, ...], filters: dict[str, Callable[..., Any]], **values: object
) -> str:
    """The template with these values; it also gets `style`, and the `policy` that allows just that style.

    Everything from the values is escaped. Templates and style sheets are named by their places in
    `headwater.report`.
    """
    files = resources.files("headwater.report")
    environment = Environment(
        loader=FunctionLoader(lambda name: (files / name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    style = "".join((files / name).read_text("utf-8") for name in styles)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template(template).render(
        # The style sheet is ours and holds no data; escaping would break its quotes and its hash.
        style=Markup(style),
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; {_NOTHING_ELSE}",
        **values,
    )
