"""The methods, one file per family; importing this package registers them all, in the order of the table."""

from headwater.heads.methods import erm

# isort: split
from headwater.heads.methods import reweighting

# isort: split
from headwater.heads.methods import subsampling

# isort: split
from headwater.heads.methods import dfr
from headwater.heads.methods.registry import (
    Method,
    Needs,
    Settings,
    draw_settings,
    find_method,
    method,
    methods,
    parse_settings,
    plan,
    random_for,
)
from headwater.heads.methods.spaces import Space

__all__ = [
    "Method",
    "Needs",
    "Settings",
    "Space",
    "dfr",
    "draw_settings",
    "erm",
    "find_method",
    "method",
    "methods",
    "parse_settings",
    "plan",
    "random_for",
    "reweighting",
    "subsampling",
]
