"""The levels above the groups as the page shows them: what the baseline is worst at, by two heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headwater.heads.measures.accuracy import GroupAccuracy
from headwater.heads.measures.intervals import wilson
from headwater.heads.measures.metrics import GroupReport
from headwater.report.data import Estimate, LevelResult, NodeResult
from headwater.report.text import shown

MOST_NODES = 15


def level_results(
    heads: Sequence[str], reports: Mapping[str, GroupReport], level: float
) -> tuple[LevelResult, ...]:
    """Every level above the groups, from the root; none where the groups stand in no tree."""
    found = []
    for number, first in enumerate(reports[heads[0]].by_node):
        mine = [reports[name].by_node[number] for name in heads]
        nodes = []
        for at in first.worst_places(MOST_NODES):
            nodes.append(
                NodeResult(
                    name=shown(first.names[at]),
                    parent=shown(first.parents[at]),
                    groups=int(first.groups[at]),
                    count=int(first.count[at]),
                    accuracies=tuple(_estimate(each.node(at), level) for each in mine),
                )
            )
        found.append(LevelResult(shown(first.level), len(first.names), tuple(heads), tuple(nodes)))
    return tuple(found)


def _estimate(node: GroupAccuracy, level: float) -> Estimate:
    drawn = wilson(node.correct, node.count, level)
    return Estimate(drawn.estimate, drawn.low, drawn.high)
