"""How large hierarchies may be: many heads swept over all species, one head scored, a tree of many nodes."""

from __future__ import annotations

import time

import numpy as np

from benchmarks import hierarchy_strength as strength
from benchmarks.common import Claim, Table, median, seconds
from benchmarks.heads import PeakMemory
from benchmarks.hierarchy import origin, simulate
from benchmarks.inat_sizes import Part, Size
from headwater.heads.measures.grouped import Grouped
from headwater.heads.measures.tail import worst_curve
from headwater.heads.sweeps.sweeping import sweep
from headwater.taxonomy import from_columns, from_edges


def swept_heads(size: Size) -> Part:
    """All heads of a sweep, trained, and measured on train, val and test, the worst-K area among the rest."""
    task = simulate(0, size.swept)
    grid = {"temper": size.temper, "l2": np.logspace(-2.5, 0, size.strengths).tolist()}
    memory = PeakMemory()
    start = time.perf_counter()
    found = sweep(task, methods=("HierRW",), grid=grid, seeds=[0], select=strength.RULE, device="cpu")
    took, peak = time.perf_counter() - start, memory.bytes()
    heads = found.table.num_rows
    rows = {name: len(index) for name, index in task.splits.items()}
    areas = found.table["test.worst_area"].to_numpy()
    table = Table(
        f"a sweep of {heads} heads, {len(size.temper)} balances by {size.strengths} L2 strengths",
        ("", "value"),
        [
            ("seconds, training, all figures on all splits and selection", took),
            ("peak memory, GiB, of the process", peak / 2**30),
            ("iterations per head, mean", float(found.table["iterations"].to_numpy().mean())),
            ("heads converged", int(np.sum(found.table["converged"].to_pylist()))),
            ("area of the worst-K curve on test, lowest head", float(areas.min())),
            ("area of the worst-K curve on test, highest head", float(areas.max())),
            ("area of the worst-K curve on test, picked", found.pick.test["worst_area"] if found.pick else 0),
        ],
    )
    return Part(
        [table],
        [
            Claim.at_most(f"seconds for {heads} heads with worst-K scoring", took, 120),
            Claim.at_most("GiB at the peak of that sweep", peak / 2**30, 4),
        ],
        [
            f"{task.dim} features, {len(task.classes)} classes, {len(task.group_names):,} species; rows: "
            + ", ".join(f"{name} {count:,}" for name, count in rows.items())
            + f". The tree is {origin()}."
        ],
    )


def scoring(size: Size) -> Part:
    """The worst-K curve of one head from its scores, and the same by a data frame, as one would write it."""
    import pandas as pd  # noqa: PLC0415 - a peer

    world = size.swept
    random = np.random.default_rng(0)
    rows, species = world.train - world.val, world.species
    groups = np.repeat(np.arange(species), rows // species)
    target = groups % 13
    scores = random.standard_normal((len(groups), 13)).astype(np.float32)
    scores[np.arange(len(groups)), target] += 2.5

    def ours() -> float:
        right = scores.argmax(axis=1) == target
        return worst_curve(Grouped.by(groups, species).shares(right[None])[0]).area

    def frame() -> float:
        right = scores.argmax(axis=1) == target
        by_group = pd.Series(right).groupby(groups).mean().sort_values().to_numpy()
        wanted = [int(np.ceil(percent * species / 100 - 1e-9)) for percent in range(10, 51)]
        curve = [by_group[:count].mean() for count in wanted]
        return float(np.trapezoid(curve) / (len(curve) - 1))

    took = {name: median([seconds(each) for _ in range(9)]) for name, each in (("", ours), ("frame", frame))}
    return Part(
        [
            Table(
                f"the worst-K curve of one head, {species:,} groups, {len(groups):,} rows",
                ("", "milliseconds", "area"),
                [
                    ("headwater", 1e3 * took[""], ours()),
                    ("pandas", 1e3 * took["frame"], frame()),
                ],
            )
        ],
        [
            Claim.at_most("milliseconds to score a head by its worst K %", 1e3 * took[""], 50),
            Claim.at_most("difference of its area from pandas'", abs(ours() - frame()), 1e-6),
        ],
    )


def nodes(size: Size) -> Part:
    """A tree of that many nodes from edges and from columns, and masses run up and down it."""
    count = size.nodes
    random = np.random.default_rng(0)
    parent = (random.random(count) * np.arange(count) ** 0.95).astype(np.int64)
    names = [f"taxon {each}" for each in range(count)]
    edges = list(zip(names[1:], [names[each] for each in parent[1:]], strict=True))
    leaves = count * 3 // 4
    shares = (0.001, 0.01, 0.04, 0.1, 0.2, 0.4, 1.0)
    columns = {
        f"level {number}": [f"{number}-{each}" for each in (np.arange(leaves) * share).astype(int).tolist()]
        for number, share in enumerate(shares)
    }
    start = time.perf_counter()
    tree, _ = from_edges(edges)
    by_edges = time.perf_counter() - start
    start = time.perf_counter()
    wide, _ = from_columns(columns)
    by_columns = time.perf_counter() - start
    masses = seconds(lambda: tree.down(np.ones(len(tree)), tree.up(np.ones(len(tree)))))
    return Part(
        [
            Table(
                "a large taxonomy",
                ("", "nodes", "levels", "seconds"),
                [
                    ("from edges", len(tree), len(tree.level_names), by_edges),
                    ("from columns", len(wide), len(wide.level_names), by_columns),
                    ("masses up and down that from edges", len(tree), len(tree.level_names), masses),
                ],
            )
        ],
        [Claim.at_most(f"seconds to build {count:,} nodes", max(by_edges, by_columns), 10)],
    )
