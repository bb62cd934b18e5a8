"""The published way, its backbone run in every epoch, against features made once, in seconds."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import resnet50, squeezenet1_1

from benchmarks import hierarchy_strength as strength
from benchmarks.common import Claim, Table, seconds
from benchmarks.extract import Files, image_files
from benchmarks.hierarchy import simulate
from benchmarks.inat_sizes import QUICK, Part, Size
from headwater.extract import extract_features, find_backbone
from headwater.extract.weights import load_backbone
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.methods import plan
from headwater.heads.methods.hierarchy_sampler import HierarchicalSampler
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.sweeps.sweeping import sweep
from headwater.heads.tasks.task import Task
from headwater.store import open_store

EPOCHS = 20


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
