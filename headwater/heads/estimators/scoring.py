"""The worst group's accuracy as a metric that scikit-learn can be given."""

from __future__ import annotations

from typing import Any

import numpy as np

from headwater.heads.estimators.arrays import group_columns, on_host
from headwater.heads.measures.metrics import GroupReport
from headwater.heads.tasks.columns import CodedColumn, combine


def worst_group_score(y_true: Any, y_pred: Any, *, groups: Any = None) -> float:
    """The lowest accuracy over groups, which are `groups` crossed with the classes; None: the classes.

    `make_scorer(worst_group_score).set_score_request(groups=True)` chooses by it in GridSearchCV. Raises
    RequestError for groups of another length, and where no row has a known group.
    """
    true, predicted = np.asarray(on_host(y_true)), np.asarray(on_host(y_pred))
    _, codes = np.unique(np.concatenate([true, predicted]), return_inverse=True)
    target = CodedColumn("y", codes[: len(true)].astype(np.int64), tuple(map(str, range(codes.max() + 1))))
    group, names = combine([target, *group_columns(groups, len(true))])
    report = GroupReport(y_true=target.codes, y_pred=codes[len(true) :], groups=group, group_names=names)
    return float(report.worst_group.correct / report.worst_group.count)
