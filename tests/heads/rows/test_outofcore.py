"""Features larger than the memory that is given: the same heads, from blocks, within that memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from headwater.errors import RequestError
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.rows.reader import FeatureReader
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows
from headwater.store import open_store

CHILD = """
import sys
from pathlib import Path
import numpy as np, torch
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows
torch.set_num_threads(1)
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))
def train(features, labels, memory):
    rows = Rows(np.arange(len(labels)))
    specs = [HeadSpec(rows, Penalty(l2=float(l2)), scaler_rows=rows) for l2 in np.logspace(-3, 0, 6)]
    return HeadBank(features, labels, 3, device="cpu", memory=memory).train(specs)
features = np.load(sys.argv[1], mmap_mode="r")
labels = np.load(sys.argv[2])
# Libraries take buffers of their own for each kind of product: those of rows read anew on every pass.
train(features[:16_000], labels[:16_000], 64 << 20)
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
heads = train(features, labels, int(sys.argv[3]))
peak = status("VmHWM") - before
np.savez(sys.argv[4], peak=peak, weight=[head.weight for head in heads],
         converged=[head.convergence.converged for head in heads])
"""


def made(rows, dim, classes, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, dim)).astype(np.float32) * np.linspace(0.3, 2, dim, dtype=np.float32)
    labels = (features[:, :classes] + rng.normal(size=(rows, classes))).argmax(1)
    return features + 0.5, labels


def test_training_stays_within_its_memory_and_finds_the_same_heads(tmp_path):
    features, labels = made(100_000, 384, 3)
    np.save(tmp_path / "features.npy", features)
    np.save(tmp_path / "labels.npy", labels)
    memory = 80 << 20
    assert features.nbytes > 1.8 * memory
    subprocess.run(
        [sys.executable, "-c", CHILD, "features.npy", "labels.npy", str(memory), "found.npz"],
        cwd=tmp_path,
        check=True,
        timeout=300,
    )
    found = np.load(tmp_path / "found.npz")
    assert found["peak"] <= memory
    assert found["converged"].all()
    rows = Rows(np.arange(len(labels)))
    specs = [HeadSpec(rows, Penalty(l2=float(l2)), scaler_rows=rows) for l2 in (1e-3, 1.0)]
    for place, head in zip((0, -1), HeadBank(features, labels, 3, device="cpu").train(specs), strict=True):
        np.testing.assert_allclose(found["weight"][place], head.weight, atol=2e-5)


@pytest.mark.parametrize("kind", ["memory map", "store"])
@pytest.mark.parametrize("part", ["all", "most", "few"])
def test_rows_read_by_copying_are_the_rows(kind, part, tmp_path, store_at):
    if kind == "store":
        source = open_store(store_at()).features
    else:
        np.save(tmp_path / "x.npy", made(250, 6, 2)[0])
        source = np.load(tmp_path / "x.npy", mmap_mode="r")
    every = np.arange(source.shape[0])
    index = {"all": every, "most": every[every % 5 > 0], "few": every[::17]}[part]
    reader = FeatureReader(source, torch.device("cpu"), unmapped=True)
    np.testing.assert_array_equal(reader.rows(index), np.asarray(source)[index])


def test_what_needs_a_copy_is_refused_where_none_fits():
    features, labels = made(200_000, 128, 2)
    spec = HeadSpec(Rows(np.arange(len(labels))), Penalty(l1=0.01))
    with pytest.raises(RequestError, match="64 MiB"):
        HeadBank(features, labels, 2, device="cpu", memory=64 << 20).train([spec])
