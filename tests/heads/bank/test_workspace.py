"""What a workspace keeps from one round to the next, and what it lets go."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import torch

from headwater.heads.bank.workspace import Workspace
from headwater.heads.rows.reader import FeatureReader
from headwater.heads.specs.spec import Rows


def reader_of(rows: int, dim: int) -> FeatureReader:
    features = np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32)
    return FeatureReader(features, torch.device("cpu"))


def test_rows_of_one_scaler_share_a_whitening_that_is_measured_once() -> None:
    reader = reader_of(60, 8)
    workspace = Workspace(reader)
    measured = Rows(range(60))
    first = workspace.prepare(Rows(range(20)), measured, half_whitened=True)
    reader.moments(Rows(range(20, 50)))
    before = reader.rows_read
    second = workspace.prepare(Rows(range(20, 50)), measured, half_whitened=True)
    assert second.whitening is first.whitening
    assert reader.rows_read - before == 30
    other = workspace.prepare(Rows(range(20)), Rows(range(40)), half_whitened=True)
    assert other.whitening is not first.whitening


def test_whitenings_count_as_memory_and_leave_with_their_rows() -> None:
    """Ten rows take 3 KiB, the whitening they share 13 KiB; of 33 KiB, 10 KiB may be kept."""
    workspace = Workspace(reader_of(180, 40), memory=33 << 10)
    seen = []
    for start in (0, 60, 120):
        measured = Rows(range(start, start + 60))
        whitening = workspace.prepare(Rows(range(10)), measured, half_whitened=True).whitening
        assert whitening is not None
        seen.append(weakref.ref(whitening))
        del whitening
    gc.collect()
    assert [each() is not None for each in seen] == [False, False, True]
