"""Sizes of the parts of the benchmark of hierarchies, whole and quick, and the shape of what one finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks import hierarchy_strength as strength
from benchmarks.common import Claim, Table
from benchmarks.hierarchy import World

L2 = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
L2_REAL = (3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)  # of fewer rows


@dataclass(frozen=True)
class Size:
    """Of every part: the swept world and its heads, images, nodes, and the world and seeds of strength."""

    swept: World
    temper: tuple[float, ...]
    strengths: int
    images: int
    nodes: int
    world: World
    seeds: int
    grids: Mapping[str, strength.Grid]
    grids_real: Mapping[str, strength.Grid]
    chosen_in: World
    choices: Mapping[str, strength.Grid]


FULL = Size(
    swept=World(train=110_000, val=10_000),
    temper=(0.25, 0.5, 0.75, 1.0),
    strengths=50,
    images=256,
    nodes=1_000_000,
    world=World(dim=512, train=110_000, val=10_000),
    seeds=3,
    grids=strength.grids(L2, L2[4:6], alone=False),
    grids_real=strength.grids(L2_REAL, L2_REAL, alone=True),
    chosen_in=World(dim=512, species=3_000, train=33_000, val=3_000),
    choices={
        "HierRW": {
            "level": ["target", "every"],
            "temper": [0.0, 0.25, 0.5, 0.75, 1.0],
            "smoothing": [0.0, 3.0],
            "l2": [1e-3, 5e-3, 2e-2],
        },
        "HierDRO": {
            "share": [0.1, 0.3, 0.5],
            "strength": [3.0, 30.0, 300.0],
            "l2": [3e-3, 1e-2, 3e-2],
        },
    },
)
QUICK = Size(
    swept=World(dim=16, species=60, train=400, val=60),
    temper=(0.5, 1.0),
    strengths=3,
    images=4,
    nodes=2_000,
    world=World(dim=16, species=60, train=400, val=60),
    seeds=1,
    grids=strength.grids(L2[-2:], L2[-1:], alone=False),
    grids_real=strength.grids(L2[-2:], L2[-2:], alone=True),
    chosen_in=World(dim=16, species=60, train=400, val=60),
    choices={"HierRW": {"temper": [0.5, 1.0]}, "HierDRO": {"share": [0.3]}},
)


@dataclass(frozen=True)
class Part:
    """What one part of the benchmark found."""

    tables: Sequence[Table]
    claims: Sequence[Claim]
    notes: Sequence[str] = ()
