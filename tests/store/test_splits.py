"""Splits: every row once, each stratum in proportion, the same for the same seed whatever the rows' order."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.store import add_columns, annotate, column_from_values, draw_split, open_store
from headwater.store.splits import _shares

PARTS = {"train": 0.7, "val": 0.1, "test": 0.2}


def split_of(path, column="split"):
    store = open_store(path)
    return dict(zip(store.keys.tolist(), store.annotations[column].texts(), strict=True))


def test_each_stratum_is_divided_in_proportion(make):
    made = make(rows=1000, rows_per_shard=500, failed={17: "broken"})
    generator = np.random.default_rng(0)
    table = {"path": made.keys, "class": generator.choice(["a", "b"], 1000, p=[0.9, 0.1]).tolist()}
    table["place"] = generator.choice(["x", "y", ""], 1000, p=[0.5, 0.45, 0.05]).tolist()
    annotate(made.path, table)
    drawn = draw_split(made.path, PARTS, stratify=["class", "place"], seed=3)
    found = split_of(made.path)
    assert found[made.keys[17]] is None
    counts = collections.Counter(
        (c, p, found[key]) for key, c, p in zip(made.keys, table["class"], table["place"], strict=True)
    )
    sizes = collections.Counter()
    for (c, p, part), count in counts.items():
        sizes[c, p] += count if part else 0
    assert drawn.strata == len(sizes) == 6
    for (c, p), size in sizes.items():
        for part, share in PARTS.items():
            assert abs(counts[c, p, part] - size * share) < 1
    totals = collections.Counter(found.values())
    assert drawn.counts == {part: totals[part] for part in PARTS}
    for part, share in PARTS.items():
        assert abs(totals[part] - 999 * share) < 2


def test_the_split_follows_the_keys_not_their_order(make):
    names = [f"{row}.jpg" for row in range(200)]
    one, other = make("one", keys=names), make("other", keys=names[::-1])
    for made in (one, other):
        annotate(made.path, {"path": names, "class": [str(row % 7) for row in range(200)]})
        draw_split(made.path, PARTS, stratify=["class"], seed=1)
    assert split_of(one.path) == split_of(other.path)


def test_seeds_draw_different_splits_and_repeat_their_own(make):
    made = make(rows=100)
    for column, seed in (("a", 0), ("b", 0), ("c", 1), ("d", -1)):
        draw_split(made.path, PARTS, seed=seed, column=column)
    a, b, c, d = (list(split_of(made.path, name).values()) for name in "abcd")
    assert a == b
    assert a != c
    assert a != d
    assert collections.Counter(a) == collections.Counter(c) == {"train": 70, "val": 10, "test": 20}


@settings(max_examples=200)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_shares_are_exact_to_a_row_in_each_stratum_and_nearly_so_overall(sizes, weights):
    fractions = np.array(weights) / sum(weights)
    shares = _shares(np.array(sizes), fractions)
    assert shares.sum(axis=1).tolist() == sizes
    assert (np.abs(shares - np.array(sizes)[:, None] * fractions) < 1).all()
    assert (np.abs(shares.sum(axis=0) - sum(sizes) * fractions) < len(weights)).all()


def test_singletons_fall_to_the_parts_in_proportion():
    shares = _shares(np.ones(1000, np.int64), np.array([0.7, 0.1, 0.2]))
    assert shares.sum(axis=0).tolist() == [700, 100, 200]


@pytest.mark.parametrize(
    ("fractions", "said"),
    [
        ({"train": 0.7, "test": 0.2}, "sum to 0.9"),
        ({"train": 1.2, "test": -0.2}, "'train' has the fraction 1.2"),
        ({"train": 1, "test": 0}, "'test' has the fraction 0"),
        ({}, "needs parts"),
        ({"": 1.0}, "needs parts"),
    ],
)
def test_fractions_that_cannot_be_meant_are_refused(make, fractions, said):
    made = make()
    with pytest.raises(RequestError, match=said):
        draw_split(made.path, fractions)


def test_an_existing_split_is_only_replaced_on_request(make):
    made = make()
    draw_split(made.path, PARTS)
    with pytest.raises(RequestError, match=r"'split' already; .*--column NAME.* by --split NAME.*--replace"):
        draw_split(made.path, PARTS, seed=1)
    add_columns(made.path, [column_from_values("one", ["train"] * len(open_store(made.path)))])
    with pytest.raises(RequestError, match="'one' already, with nothing but 'train' in it; give"):
        draw_split(made.path, PARTS, column="one")
    before = split_of(made.path)
    draw_split(made.path, PARTS, seed=1, replace=True)
    assert split_of(made.path) != before
    with pytest.raises(RequestError, match="no column 'nope'"):
        draw_split(made.path, PARTS, stratify=["nope"], column="other")
