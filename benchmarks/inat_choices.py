"""How the hierarchical methods' settings were chosen, on seeds that no contest is held on."""

from __future__ import annotations

import json

import numpy as np

from benchmarks import hierarchy_strength as strength
from benchmarks.common import Table
from benchmarks.hierarchy import origin, simulate
from benchmarks.inat_sizes import FULL, Part, Size
from headwater.heads.sweeps.sweeping import sweep

CHOSEN_ON = (1, 2, 3)


def choices(size: Size) -> Part:
    """Every setting that the hierarchical methods' defaults were chosen among, on the seeds for choosing."""
    seeds = CHOSEN_ON if size is FULL else CHOSEN_ON[:1]
    areas: dict[tuple[str, str], list[float]] = {}
    for seed in seeds:
        task = simulate(seed, size.chosen_in)
        for name, grid in size.choices.items():
            given = {f"{name}.{key}": values for key, values in grid.items()}
            table = sweep(
                task, methods=(name,), grid=given, seeds=[seed], select=strength.RULE, device="cpu"
            ).table
            for settings, area in zip(
                table["settings"].to_pylist(), table["test.worst_area"].to_pylist(), strict=True
            ):
                chosen = {key: value for key, value in json.loads(settings).items() if key in grid}
                said = ", ".join(f"{key} {value}" for key, value in chosen.items())
                areas.setdefault((name, said), []).append(area)
    best_first = sorted(areas.items(), key=lambda pair: -float(np.mean(pair[1])))
    rows = [(*key, *each, float(np.mean(each))) for key, each in best_first]
    return Part(
        [
            Table(
                "area of the worst-K curve on test, by setting, on seeds for choosing",
                ("", "settings", *(f"seed {seed}" for seed in seeds), "mean"),
                rows,
            )
        ],
        [],
        [f"The tree is {origin()}; {size.chosen_in.species:,} species. These figures look at test."],
    )
