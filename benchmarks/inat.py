"""Hierarchies: 200 heads over 10,000 species, the worst K % of them, and who is right for these.

`SPECIES` names the species' table, as in `hierarchy`; `PACS` an npz as in `pacs`, and `MNIST` one as in
`digits`, for the same on real images; `IMAGES` a folder of JPEGs, as in `extract`; without them stand-ins are
made, but for digits. `SEEDS` is how many held-out seeds strength is measured on. `PARTS` names parts,
comma-separated: sweep, scoring, seed, nodes, strength, real, digits; and choose, which runs only if named:
how the hierarchical methods' settings were chosen.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
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
from benchmarks.digits import MOST, TEST, VAL, digits_task
from benchmarks.extract import Files, image_files
from benchmarks.heads import PeakMemory
from benchmarks.hierarchy import World, origin, simulate
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
CHOSEN_ON = (1, 2, 3)
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
    by_sampler = f"of its sampler, {epoch:,} rows each"
    compared = [
        (f"{times:,} epochs {which}", times * count, theirs * times * count, once + last)
        for times, last in ((EPOCHS, sgd), (heads * EPOCHS, swept))
        for which, count in ((by_sampler, epoch), ("over all of train", rows))
    ]
    lines = [
        (
            what,
            f"{seen:,} x {theirs:.4f} = {whole:,.0f}",
            f"{rows:,} x {ours:.4f} + {mine - once:.1f} = {mine:,.0f}",
            whole / mine,
        )
        for what, seen, whole, mine in compared
    ]
    return Part(
        [
            Table(
                f"{name} on {len(files)} images, scaled to {rows:,}: a head, and {heads}",
                ("", "backbone in every epoch, s", "headwater, s", "ratio"),
                lines,
            )
        ],
        [
            Claim.at_least("times faster to 20 epochs of the published sampler", lines[0][-1], 1),
            Claim.at_least(f"times faster to {heads} heads of that sampler", lines[2][-1], 1),
        ],
        [
            "Seconds an image: an epoch of the loop (files through Pillow and torchvision's transforms in as "
            "many workers as there are cores, the network in float32 without gradients, SGD on the last "
            "layer) and an extraction; compiling, paid once, is left out of the latter. The last layer's "
            "seconds are measured on simulated features, those of a sweep with all its figures.",
            f"An epoch of the published sampler sees few rows here: every species is cut to the {_cut(task)} "
            "of its class's smallest, and the epoch stops with the class that has fewest. Where all species "
            "have as many rows it sees more; rows over all of train are what any other loop would see, and "
            "nothing is claimed of them. What its head is worth beside others is measured by strength.",
        ],
    )


def _cut(task: Task) -> str:
    """How many rows of a species the published sampler draws, from the class of fewest to that of most."""
    train = task.splits["train"]
    counts = np.bincount(task.groups[train], minlength=len(task.group_names))
    of_group = np.zeros(len(counts), dtype=np.int64)
    of_group[task.groups[train]] = task.target[train]
    least = [int(counts[(of_group == each) & (counts > 0)].min()) for each in np.unique(of_group)]
    return f"{min(least)} to {max(least)} rows" if min(least) < max(least) else f"{least[0]}"


def _epoch(name: str, files: list[Path]) -> float:
    """Seconds of one epoch of the published kind: frozen network, one linear layer trained by SGD."""
    loaded = load_backbone(find_backbone(name), "random")
    network: nn.Module = (resnet50 if name == "resnet50" else squeezenet1_1)(num_classes=13).train()
    head = [each for each in network.modules() if isinstance(each, nn.Linear | nn.Conv2d)][-1]
    network.requires_grad_(requires_grad=False)
    head.requires_grad_(requires_grad=True)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
    loader = DataLoader(
        Files(files, loaded.preprocessing),
        batch_size=min(32, len(files)),
        num_workers=min(len(os.sched_getaffinity(0)), len(files)),
    )
    batches = iter(loader)  # starts the workers
    start = time.perf_counter()
    for images in batches:
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
            f"of train, {world.val:,} of val, {world.test_per_species} of each species on test; the tree is "
            f"{origin()}. Features are fewer than a ResNet-50's, so that GroupDRO over so many groups takes "
            f"minutes. {_settings(size.grids)} Only the seeds are held out: the methods' defaults, and the "
            "settings tried here, were chosen on other tasks of this simulation (part choose).",
            *strength.reasons("simulated", found),
        ],
    )


def _settings(given: Mapping[str, strength.Grid]) -> str:
    """A sentence or two about how many settings each contender has."""
    tried = {name: int(np.prod([len(values) for values in grid.values()])) for name, grid in given.items()}
    ours = sum(tried[name] for name in strength.OURS)
    rivals = ", ".join(f"{name} {tried[name]}" for name in strength.OTHERS)
    fewer = tried["GroupDRO"] < tried["ERM"]
    worst = " and ".join(f"{each:g}" for each in given["GroupDRO"]["l2"])
    return (
        f"Settings tried: our pick {ours} in all ({' and '.join(strength.OURS)}), {rivals}; all are picked "
        "by the same rule on the same val."
        + (
            f" GroupDRO, and the worst group shrunk, have fewer, for their time: L2 of {worst}."
            if fewer
            else ""
        )
    )


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
    tables, claims, whys = [], [], []
    targets = ("category", "domain") if size is FULL else ("category",)
    for target in targets:
        title = f"PACS, {target} above {'category' if target == 'domain' else 'domain'}"
        found = strength.contests(lambda seed, t=target: pacs_task(data, t, seed), seeds, size.grids_real)
        tables += strength.tables(title, found)
        claims += strength.claims(title, found)
        whys += strength.reasons(title, found)
    said = "" if place and size is FULL else "PACS is not set: features are made up. "
    return Part(
        tables,
        claims,
        [
            f"{said}Each cell of domain and category: 40 images on test, 5 on val, 2 to 200 on train. "
            f"{_settings(size.grids_real)}",
            *whys,
        ],
    )


def digits(size: Size) -> Part:
    """The contest on images of handwritten digits, many species in phyla of unequal size."""
    place = os.environ.get("MNIST")
    if not place or size is QUICK:
        return Part([], [], ["Part digits is left out: MNIST names no file, or the run is a quick one."])
    seeds = list(range(HELD_OUT, HELD_OUT + int(os.environ.get("SEEDS", size.seeds))))
    grids = strength.grids(L2, L2, alone=True)
    found = strength.contests(lambda seed: digits_task(place, seed), seeds, grids)
    title = "digits"
    return Part(
        strength.tables(title, found),
        strength.claims(title, found),
        [
            f"Digits: {len(found[0].train_counts)} species, sorts of a digit by lean and thickness, under "
            f"invented phyla of 1 to 5 digits; features of random convolutions; {VAL} images of a species on "
            f"val, {TEST} on test, 1 to {MOST} on train. {_settings(grids)}",
            *strength.reasons(title, found),
        ],
    )


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
