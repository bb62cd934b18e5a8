"""Hierarchies: 200 heads over 10,000 species, the worst K % of them, and who is right for these.

`SPECIES` names the species' table, as in `hierarchy`; `PACS` an npz as in `pacs`, and `MNIST` one as in
`digits`, for the same on real images; `IMAGES` a folder of JPEGs, as in `extract`; without them stand-ins are
made, but for digits. `SEEDS` is how many held-out seeds strength is measured on. `PARTS` names parts,
comma-separated: sweep, scoring, seed, nodes, strength, real, digits; and choose, which runs only if named:
how the hierarchical methods' settings were chosen.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from benchmarks.common import Result
from benchmarks.inat_choices import choices
from benchmarks.inat_contests import digits, real, strongest
from benchmarks.inat_scale import nodes, scoring, swept_heads
from benchmarks.inat_seed import seeds_way
from benchmarks.inat_sizes import FULL, QUICK, Part, Size

PARTS: dict[str, Callable[[Size], Part]] = {
    "sweep": swept_heads,
    "scoring": scoring,
    "seed": seeds_way,
    "nodes": nodes,
    "strength": strongest,
    "real": real,
    "digits": digits,
    "choose": choices,
}
ASIDE = ("choose",)  # parts that run only if they are named


def run(quick: bool) -> Result:
    """All parts, or those of PARTS, one after the other."""
    size = QUICK if quick else FULL
    usual = ",".join(name for name in PARTS if name not in ASIDE)
    found = [PARTS[name](size) for name in os.environ.get("PARTS", usual).split(",")]
    return Result(
        [table for part in found for table in part.tables],
        [claim for part in found for claim in part.claims],
        [note for part in found for note in part.notes],
    )
