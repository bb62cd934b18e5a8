"""The methods, one file per family; importing this package registers them all, in the order of the table."""

from headwater.heads.methods import erm

# isort: split
from headwater.heads.methods import reweighting

# isort: split
from headwater.heads.methods import subsampling

# isort: split
from headwater.heads.methods import dfr

# isort: split
from headwater.heads.methods import afr

# isort: split
from headwater.heads.methods import disagreement

# isort: split
from headwater.heads.methods import llr

# isort: split
from headwater.heads.methods import dro

# isort: split
from headwater.heads.methods import jtt

# isort: split
from headwater.heads.methods import lff

# isort: split
from headwater.heads.methods import eiil

# isort: split
from headwater.heads.methods import george

# isort: split
from headwater.heads.methods import cnc

# isort: split
from headwater.heads.methods import losses

# isort: split
from headwater.heads.methods import mixing

# isort: split
from headwater.heads.methods import invariance

# isort: split
from headwater.heads.methods import crt

# isort: split
from headwater.heads.methods import crossvalidated

# isort: split
from headwater.heads.methods import diverse

# isort: split
from headwater.heads.methods import hierarchy

# isort: split
from headwater.heads.methods import hierarchy_sampler

# isort: split
from headwater.heads.methods import hierarchy_dro
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
    "afr",
    "cnc",
    "crossvalidated",
    "crt",
    "dfr",
    "disagreement",
    "diverse",
    "draw_settings",
    "dro",
    "eiil",
    "erm",
    "find_method",
    "george",
    "hierarchy",
    "hierarchy_dro",
    "hierarchy_sampler",
    "invariance",
    "jtt",
    "lff",
    "llr",
    "losses",
    "method",
    "methods",
    "mixing",
    "parse_settings",
    "plan",
    "random_for",
    "reweighting",
    "subsampling",
]
