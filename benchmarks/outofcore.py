"""Heads on features larger than memory: the process's peak memory, passes over the file, the gap reached.

A child process trains, so that its peak is its own. `ROWS=N` sets the rows (2,000,000 take 8 GB of disk),
`PLACE=DIR` where the file is written and removed again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import Claim, Result, Table
from benchmarks.heads import PeakMemory, Size, features_like_resnet, objective

FULL, QUICK = Size(2_000_000, 2048, 10, 4, 0), Size(40_000, 512, 3, 2, 0)
MEMORY = {False: 2 << 30, True: 1 << 30}
# What Python and its libraries hold before any training; the bank is given the rest.
LIBRARIES = {False: 700 << 20, True: 952 << 20}
TOLERANCE = 1e-5
_BASE = 100_000


def write(place: Path, size: Size) -> None:
    """`features.npy` float16 and `labels.npy`: as many perturbed copies of a smaller set as it takes."""
    base = min(size.rows, _BASE)
    features, labels = features_like_resnet(Size(base, size.dim, size.classes, 0, 0))
    random = np.random.default_rng(0)
    shape = (size.rows, size.dim)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False}
    with (place / "features.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {**header, "shape": shape})
        for first in range(0, size.rows, 10_000):
            rows = np.arange(first, min(first + 10_000, size.rows))
            gain = random.uniform(0.8, 1.25, size=(len(rows), 1)).astype(np.float32)
            file.write((features[rows % base] * gain).astype(np.float16).tobytes())
    np.save(place / "labels.npy", labels[np.arange(size.rows) % base])


def child(place: Path, memory: int, heads: int) -> None:
    """Train on the files of `place` and print what happened as JSON."""
    from headwater.heads.bank.head_bank import HeadBank  # noqa: PLC0415 - the parent needs none of it
    from headwater.heads.specs.spec import HeadSpec, Penalty, Rows  # noqa: PLC0415

    features = np.load(place / "features.npy", mmap_mode="r")
    labels = np.load(place / "labels.npy")
    rows = Rows(np.arange(len(labels)))
    specs = [
        HeadSpec(rows, Penalty(l2=float(l2)), scaler_rows=rows, tolerance=TOLERANCE)
        for l2 in np.logspace(-4, -1, heads)
    ]
    peak = PeakMemory()
    before = peak.bytes()
    start = time.perf_counter()
    bank = HeadBank(features, labels, int(labels.max()) + 1, device="cpu", memory=memory)
    trained = bank.train(specs)
    took = time.perf_counter() - start
    np.savez(place / "heads.npz", weight=[h.weight for h in trained], bias=[h.bias for h in trained])
    print(
        json.dumps(
            {
                "seconds": took,
                "peak": peak.bytes(),
                "before": before,
                "passes": bank.rows_read / len(labels),
                "records": [[h.convergence.converged, h.convergence.message] for h in trained],
                "iterations": [h.convergence.iterations for h in trained],
                "objectives": [h.convergence.objective for h in trained],
            }
        )
    )


def run(quick: bool) -> Result:
    """Write the file, train in a child, check its objective on a part of the rows, remove the file."""
    size = QUICK if quick else FULL
    rows = int(os.environ.get("ROWS", size.rows))
    size = Size(rows, size.dim, size.classes, size.heads, 0)
    held = 2 * rows * size.dim
    with tempfile.TemporaryDirectory(dir=os.environ.get("PLACE")) as folder:
        place = Path(folder)
        free = shutil.disk_usage(place).free
        if free < 1.2 * held:
            return Result(
                tables=[],
                notes=[f"{held >> 20} MiB are needed on {folder}, {free >> 20} are free; set PLACE or ROWS"],
            )
        write(place, size)
        given = MEMORY[quick] - LIBRARIES[quick]
        command = [sys.executable, "-m", "benchmarks.outofcore", folder, str(given), str(size.heads)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        first = np.load(place / "features.npy", mmap_mode="r")[:20_000]
        labels = np.load(place / "labels.npy")[:20_000]
        heads = np.load(place / "heads.npz")
        seen = objective(first.astype(np.float32), labels, heads["weight"][0], heads["bias"][0], 0.0)
    converged = sum(record[0] for record in found["records"])
    return Result(
        tables=[
            Table(
                f"{size.heads} heads of {size.classes} classes on {rows} x {size.dim} float16, on disk",
                ("", "value"),
                [
                    ("features, MiB", held / 2**20),
                    ("peak memory of the process, MiB", found["peak"] / 2**20),
                    ("  of which before training, MiB", found["before"] / 2**20),
                    ("seconds", found["seconds"]),
                    ("passes over the file, its check and scaling included", found["passes"]),
                    ("gradient evaluations of a head, most", max(found["iterations"]) + 1),
                    ("loss of the first head on its first 20,000 rows", seen),
                ],
            ),
            Table(
                "the heads",
                ("head", "objective", "converged", "record"),
                [
                    (number, value, str(record[0]), record[1])
                    for number, (value, record) in enumerate(
                        zip(found["objectives"], found["records"], strict=True)
                    )
                ],
            ),
        ],
        claims=[
            Claim.at_most("peak memory, MiB", found["peak"] / 2**20, MEMORY[quick] / 2**20),
            Claim.at_least("heads that converged", converged, size.heads),
        ],
        notes=[
            f"Converged: the gap to the optimum is below {TOLERANCE:g} of the objective.",
            f"The file is made of perturbed copies of {min(rows, _BASE)} rows.",
        ],
    )


if __name__ == "__main__":
    child(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
