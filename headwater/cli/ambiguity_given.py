"""What both `scan` and `solve` of `headwater ambiguity` are given: the data set, its features, the page."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from headwater.cli.console import AsJson
from headwater.errors import RequestError

if TYPE_CHECKING:
    from headwater.ambiguity import Dataset
    from headwater.ambiguity.features import Extraction


_OF_STORES = ("target", "split", "labeled_rows", "unlabeled_rows", "target_rows")


@dataclass(frozen=True)
class Given:
    """The argument and the options of both commands, with what they come to."""

    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET",
            help="A folder with X_labeled.npy, y_labeled.npy, X_unlabeled.npy and X_val.npy, or a store.",
        ),
    ]
    report: Annotated[
        Path | None,
        typer.Option(help="An HTML page to write, or an earlier one of this data set to replace."),
    ] = None
    backbone: Annotated[
        str,
        typer.Option(
            help="Of images: resnet50, pixels … \\[default: patches learned from them]", show_default=False
        ),
    ] = ""
    weights: Annotated[
        str | None,
        typer.Option(help="The backbone's: a name, a file, hf://owner/repo/file \\[default: its own]"),
    ] = None
    features: Annotated[
        Path | None,
        typer.Option(
            help="The store that keeps them. "
            "\\[default: one in the user's cache, which drops those used longest ago beyond 8 GiB]"
        ),
    ] = None
    device: Annotated[
        str, typer.Option(help="What makes features and clusters them: auto, cpu, cuda or cuda:N.")
    ] = "auto"
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0
    target: Annotated[str, typer.Option(help="A store's column of labels.")] = "class"
    split: Annotated[str, typer.Option(help="A store's column that says which rows are which.")] = "split"
    labeled_rows: Annotated[
        str,
        typer.Option(help="Its value for labeled rows. \\[default: labeled or train]", show_default=False),
    ] = ""
    unlabeled_rows: Annotated[
        str, typer.Option(help="Its value for unlabeled rows. \\[default: unlabeled]", show_default=False)
    ] = ""
    target_rows: Annotated[
        str,
        typer.Option(
            help="Its value for rows to predict. \\[default: target, test or val]", show_default=False
        ),
    ] = ""
    as_json: AsJson = False

    def opened(self) -> Dataset:
        """The data set, read and checked; RequestError where options of stores are given for a folder."""
        from headwater.ambiguity.datasets import open_dataset  # noqa: PLC0415
        from headwater.store import show_key  # noqa: PLC0415

        found = open_dataset(
            self.dataset,
            target=self.target,
            split=self.split,
            labeled_rows=self.labeled_rows,
            unlabeled_rows=self.unlabeled_rows,
            target_rows=self.target_rows,
        )
        of_stores = (each for each in fields(self) if each.name in _OF_STORES)
        said = [each.name for each in of_stores if getattr(self, each.name) != each.default]
        if said and not found.columns:
            raise RequestError(
                f"--{said[0].replace('_', '-')} is for stores, and {show_key(str(self.dataset))} is a folder "
                "of arrays; leave it out"
            )
        return found

    def extraction(self) -> Extraction | None:
        """The backbone's features that were asked for; RequestError where only their options are given."""
        from headwater.ambiguity.features import Extraction  # noqa: PLC0415

        if self.backbone:
            return Extraction(self.backbone, self.weights, self.features)
        options = {
            "--weights": self.weights is not None,
            "--features": self.features is not None,
        }
        given = next((option for option, is_given in options.items() if is_given), "")
        if given:
            raise RequestError(f"{given} is for features of a backbone; name one with --backbone, too")
        return None


def with_given(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes the fields of `Given` beside its own options, and gets them as one argument."""
    own = list(inspect.signature(command).parameters.values())[1:]
    hints = {**get_type_hints(command, include_extras=True), **get_type_hints(Given, include_extras=True)}
    shared = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if each.name == "dataset" else each.default,
        )
        for each in fields(Given)
    ]
    names = {each.name for each in shared}

    @functools.wraps(command)
    def whole(**options: Any) -> None:
        given = Given(**{name: options.pop(name) for name in names})
        command(given, **options)

    parameters = [shared[0], *own, *shared[1:]]
    whole.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [each.replace(annotation=hints[each.name]) for each in parameters]
    )
    whole.__annotations__ = {each.name: hints[each.name] for each in parameters}
    # Its own parameters are not those of the command.
    del whole.__wrapped__
    return whole
