"""Hierarchies: 200 heads over 10,000 species, the worst K % of them, and who is right for these.

`SPECIES` names the species' table, as in `hierarchy`; `PACS` an npz as in `pacs`, for the same on real
images; `IMAGES` a folder of JPEGs, as in `extract`; without them stand-ins are made. `SEEDS` is how many
held-out seeds strength is measured on. `PARTS` names parts, comma-separated: sweep, scoring, seed, nodes,
strength, real.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import resnet50, squeezenet1_1

from benchmarks import hierarchy_strength as strength
from benchmarks.common import Claim, Result, Table, median, seconds
from benchmarks.extract import Files, image_files
from benchmarks.heads import PeakMemory
from benchmarks.hierarchy import World, simulate
from benchmarks.pacs import features_like_pacs
from headwater.extract import extract_features, find_backbone
from headwater.extract.weights import load_backbone
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.measures.grouped import Grouped
from headwater.heads.measures.tail import worst_curve
from headwater.heads.methods import plan
from headwater.heads.methods.hierarchy_sampler import HierarchicalSampler
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.sweeps.sweeping import sweep
from headwater.heads.tasks.task import Task
from headwater.taxonomy import from_columns, from_edges

EPOCHS, BATCH = 20, 1024
HELD_OUT = 1_000  # the first of the seeds that nothing was chosen on


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
    grids: dict[str, dict[str, Sequence[Any]]]


FULL = Size(
    swept=World(train=110_000, val=10_000),
    temper=(0.25, 0.5, 0.75, 1.0),
    strengths=50,
    images=256,
    nodes=1_000_000,
    world=World(dim=512, train=110_000, val=10_000),  # GroupDRO over 10,000 groups takes minutes even so
    seeds=3,
    grids=strength.GRIDS,
)
QUICK = Size(
    swept=World(dim=16, species=60, train=400, val=60),
    temper=(0.5, 1.0),
    strengths=3,
    images=4,
    nodes=2_000,
    world=World(dim=16, species=60, train=400, val=60),
    seeds=1,
    grids={name: {key: values[-1:] for key, values in grid.items()} for name, grid in strength.GRIDS.items()},
)


@dataclass(frozen=True)
class Part:
    """What one part of the benchmark found."""

    tables: Sequence[Table]
    claims: Sequence[Claim]
    notes: Sequence[str] = ()


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
            + "."
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


def seeds_way(size: Size) -> Part:
    """The backbone in every epoch against features made once, on the same images, scaled to the same rows."""
    quick = size is QUICK
    name = "squeezenet1_1" if quick else "resnet50"
    task = simulate(0, size.swept)
    train = task.splits["train"]
    with tempfile.TemporaryDirectory() as folder:
        images = image_files(Path(folder), size.images, 1)
        files = sorted(images.rglob("*.jpg"))
        loop = _epoch(name, files)
        report = extract_features(
            images,
            Path(folder) / "bench.store",
            backbone=name,
            weights="random",
            compile="off" if quick else "on",
            batch_size=2 if quick else None,
            rows_per_shard=max(64, len(files)),
        )
        from headwater.store import open_store  # noqa: PLC0415

        moving = open_store(Path(folder) / "bench.store").runs[-1]["moving_seconds"]
    theirs, ours = loop / len(files), moving / report.rows
    bank = HeadBank(task.features, task.target, len(task.classes), device="cpu")
    sgd = seconds(lambda: run_recipes(task, [plan(task, "HierSampler", {"epochs": EPOCHS})], bank=bank))
    grid = {"temper": size.temper, "l2": np.logspace(-2.5, 0, size.strengths).tolist()}
    heads = len(size.temper) * size.strengths
    swept = seconds(
        lambda: sweep(task, methods=("HierRW",), grid=grid, seeds=[0], select=strength.RULE, device="cpu")
    )
    epoch = len(HierarchicalSampler(task.target[train], task.groups[train]))
    rows = len(train)
    once = ours * rows
    compared = [
        (
            f"{EPOCHS} epochs over all of train",
            f"{EPOCHS} x {rows:,} x {theirs:.4f}",
            EPOCHS * rows * theirs,
            f"{rows:,} x {ours:.4f} + {sgd:.1f}",
            once + sgd,
        ),
        (
            f"{EPOCHS} epochs of its sampler, {epoch:,} rows each",
            f"{EPOCHS} x {epoch:,} x {theirs:.4f}",
            EPOCHS * epoch * theirs,
            f"{rows:,} x {ours:.4f} + {sgd:.1f}",
            once + sgd,
        ),
        (
            f"{heads} heads of {EPOCHS} epochs over all of train",
            f"{heads} x {EPOCHS} x {rows:,} x {theirs:.4f}",
            heads * EPOCHS * rows * theirs,
            f"{rows:,} x {ours:.4f} + {swept:.1f}",
            once + swept,
        ),
    ]
    lines = [(what, a, f"{b / 3600:.3g} h", c, f"{d / 3600:.3g} h", b / d) for what, a, b, c, d in compared]
    return Part(
        [
            Table(
                f"{name} on {len(files)} images, scaled to {rows:,}",
                ("", "backbone in every epoch, s", "", "headwater, s", "", "ratio"),
                lines,
            )
        ],
        [
            Claim.at_least(f"times faster to {EPOCHS} epochs over all of train", lines[0][-1], EPOCHS / 2),
            Claim.at_least(f"times faster to {heads} heads", lines[2][-1], heads),
        ],
        [
            "Seconds an image: an epoch of the loop (files through Pillow and torchvision's transforms, the "
            "network in float32 without gradients, SGD on the last layer) and an extraction; compiling, "
            "paid once, is left out of the latter. The last layer's seconds are measured on simulated "
            "features, those of a sweep with all its figures.",
            "The published sampler stops at the class with the fewest rows, so that its epochs see few rows "
            "where a phylum has few; where it sees less than headwater extracts, it ends sooner, with the "
            "strength below.",
        ],
    )


def _epoch(name: str, files: list[Path]) -> float:
    """Seconds of one epoch of the published kind: frozen network, one linear layer trained by SGD."""
    loaded = load_backbone(find_backbone(name), "random")
    network: nn.Module = (resnet50 if name == "resnet50" else squeezenet1_1)(num_classes=13).train()
    head = [each for each in network.modules() if isinstance(each, nn.Linear | nn.Conv2d)][-1]
    network.requires_grad_(requires_grad=False)
    head.requires_grad_(requires_grad=True)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
    loader = DataLoader(Files(files, loaded.preprocessing), batch_size=min(32, len(files)))
    start = time.perf_counter()
    for images in loader:
        loss = nn.functional.cross_entropy(network(images), torch.zeros(len(images), dtype=torch.int64))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def strongest(size: Size) -> Part:
    """The contest on simulated tasks of seeds that nothing was chosen on."""
    seeds = list(range(HELD_OUT, HELD_OUT + int(os.environ.get("SEEDS", size.seeds))))
    found = strength.contests(lambda seed: simulate(seed, size.world), seeds, size.grids)
    world = size.world
    return Part(
        strength.tables("simulated", found),
        strength.claims("simulated", found),
        [
            f"Simulated: {world.dim} features, {world.species:,} species, {world.train - world.val:,} rows "
            f"of train, {world.val:,} of val, {world.test_per_species} of each species on test. Eight "
            "settings of each method, picked by the same rule on the same val; our pick is "
            + " or ".join(strength.OURS)
            + ", by that rule too. "
            + " ".join(f"{name}: {why}." for name, why in strength.WHY.items()),
        ],
    )


def pacs_task(data: dict[str, NDArray[Any]], target: str, seed: int) -> Task:
    """PACS as a tree of two levels, `target` above the other, with a long tail of cells on train.

    A cell of domain and category has 40 images on test, 5 on val and 2 to 200 of the others on train.
    """
    random = np.random.default_rng(seed)
    upper, lower = (
        data[target],
        data["category" if target == "domain" else "domain"],
    )
    kept, split = [], []
    for a in np.unique(upper):
        for b in np.unique(lower):
            rows = random.permutation(np.flatnonzero((upper == a) & (lower == b)))
            train = int(min(len(rows) - 45, np.exp(random.uniform(np.log(2), np.log(200)))))
            kept.append(rows[: 45 + train])
            split += ["test"] * 40 + ["val"] * 5 + ["train"] * train
    index = np.concatenate(kept)
    child = "category" if target == "domain" else "domain"
    return Task.from_arrays(
        np.asarray(data["features"])[index].astype(np.float32),
        target,
        [child],
        split,
        levels={target: upper[index], child: lower[index]},
    )


def real(size: Size) -> Part:
    """The contest on real images with a real hierarchy, in both orders of its levels."""
    place = os.environ.get("PACS")
    if place and size is FULL:
        with np.load(place) as stored:
            data = {name: stored[name] for name in ("features", "category", "domain")}
    else:
        data = features_like_pacs()
    count = int(os.environ.get("SEEDS", size.seeds))
    seeds = list(range(HELD_OUT, HELD_OUT + count))
    tables, claims = [], []
    targets = ("category", "domain") if size is FULL else ("category",)
    for target in targets:
        title = f"PACS, {target} above {'category' if target == 'domain' else 'domain'}"
        found = strength.contests(lambda seed, t=target: pacs_task(data, t, seed), seeds, size.grids)
        tables += strength.tables(title, found)
        claims += strength.claims(title, found)
    said = "" if place and size is FULL else "PACS is not set: features are made up. "
    return Part(
        tables,
        claims,
        [f"{said}Each cell of domain and category: 40 images on test, 5 on val, 2 to 200 on train."],
    )


PARTS: dict[str, Callable[[Size], Part]] = {
    "sweep": swept_heads,
    "scoring": scoring,
    "seed": seeds_way,
    "nodes": nodes,
    "strength": strongest,
    "real": real,
}


def run(quick: bool) -> Result:
    """All parts, or those of PARTS, one after the other."""
    size = QUICK if quick else FULL
    found = [PARTS[name](size) for name in os.environ.get("PARTS", ",".join(PARTS)).split(",")]
    return Result(
        [table for part in found for table in part.tables],
        [claim for part in found for claim in part.claims],
        [note for part in found for note in part.notes],
    )
