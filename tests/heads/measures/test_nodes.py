"""Accuracy by node of a tree against counting the rows below each."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.heads.measures.metrics import GroupReport
from headwater.heads.tasks.hierarchy import Hierarchy
from headwater.taxonomy import from_columns


def test_every_node_counts_the_rows_below_it() -> None:
    random = np.random.default_rng(0)
    names = {
        "order": [f"o{place % 3}" for place in range(30)],
        "family": [None if place % 7 == 0 else f"f{place % 5}" for place in range(30)],
        "kind": [f"k{place}" for place in range(30)],
    }
    tree, nodes = from_columns(names)
    group = np.repeat(np.arange(30), random.integers(0, 6, 30))
    right = random.random(len(group)) < 0.6
    report = GroupReport(
        y_true=np.zeros(len(group), dtype=int),
        y_pred=np.where(right, 0, 1),
        groups=group,
        classes=("a", "b"),
        group_names=names["kind"],
        hierarchy=Hierarchy(tree, nodes, 1),
    )
    assert [each.level for each in report.by_node] == ["order", "family"]  # and no level of single groups
    for level in report.by_node:
        wanted: dict[str, list[bool]] = {}
        for g, one in zip(group.tolist(), right.tolist(), strict=True):
            values = names["order"][g], names["family"][g]
            if values[1] or level.level == "order":
                path = "_".join(v for v in values[: 1 + (level.level == "family")] if v)
                wanted.setdefault(path, []).append(one)
        assert dict(zip(level.paths, level.count.tolist(), strict=True)) == {
            path: len(rows) for path, rows in wanted.items()
        }
        assert dict(zip(level.paths, level.correct.tolist(), strict=True)) == {
            path: sum(rows) for path, rows in wanted.items()
        }
        worst = level.worst(100)
        accuracies = [each.accuracy for each, _, _ in worst]
        assert accuracies == sorted(accuracies)
        assert min(groups for _, _, groups in worst) > 1 or max(level.groups) == 1
    found = report.to_dict()["by_node"]["order"]
    assert found["nodes"] == 3
    lowest = min(report.by_node[0].correct / report.by_node[0].count)
    assert found["worst"][0]["accuracy"] == pytest.approx(lowest)
    low, high = found["worst"][0]["interval"]
    assert low <= lowest <= high


def test_without_a_tree_there_are_no_levels() -> None:
    report = GroupReport(y_true=[0, 1], y_pred=[0, 0])
    assert report.by_node == ()
    assert report.to_dict()["by_node"] == {}
