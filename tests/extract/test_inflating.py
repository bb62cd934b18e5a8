"""Any part of a gzip file, against the whole of it unpacked."""

from __future__ import annotations

import gzip
import os
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.extract.archives import inflating
from headwater.extract.archives.inflating import PointsOnTheWay


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(0, 60_000),
    members=st.integers(1, 4),
    span=st.integers(200, 20_000),
    most=st.integers(2, 9),
    parts=st.lists(st.tuples(st.integers(0, 61_000), st.integers(0, 30_000)), max_size=12),
    padding=st.sampled_from([0, 7, 40_000]),
)
def test_any_part_of_a_gzip_file_is_had(  # noqa: PLR0917
    length: int, members: int, span: int, most: int, parts: list[tuple[int, int]], padding: int
) -> None:
    draw = np.random.default_rng(length)
    content = bytes(np.repeat(draw.integers(0, 256, length // 3 + 1, dtype=np.uint8), 3)[:length])
    bounds = np.linspace(0, length, members + 1).astype(int).tolist()
    file = b"".join(gzip.compress(content[a:b]) + bytes(padding) for a, b in pairwise(bounds))
    handle = os.memfd_create("gzip")
    try:
        os.write(handle, file)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inflating, "FIRST_SPAN", span)
            patch.setattr(inflating, "MOST_POINTS", most)
            patch.setattr(inflating, "KEPT_BYTES", 3 * span)
            patch.setattr(inflating, "_OUTPUT", 700)
            patch.setattr(inflating, "_INPUT", 300)
            points = PointsOnTheWay(handle)
            through = b"".join(iter(points.read_on, b""))
            assert through == content
            assert points.length == length
            assert len(points._points) <= most
            for offset, size in parts:
                assert points.part(offset, size) == content[offset : offset + size]
    finally:
        os.close(handle)


def test_points_cost_what_is_said_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflating, "FIRST_SPAN", 1000)
    monkeypatch.setattr(inflating, "_OUTPUT", 1000)
    monkeypatch.setattr(inflating, "KEPT_BYTES", 1)
    handle = os.memfd_create("gzip")
    os.write(handle, gzip.compress(random.Random(1).randbytes(10_000)))
    points = PointsOnTheWay(handle)
    while points.read_on():
        pass
    assert points.unpacked_for(range(0, 10_000, 100)) == 10_000
    assert points.unpacked_for([0, 9999, 5000] * 7) > 20_000
    os.close(handle)
