"""Every reason to refuse a list of head specs, found before any training; nothing is changed here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.heads.objectives.build import check_criterion
from headwater.heads.specs.criterion import ChiSquare, CVaR, GroupRisk, Risk
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec, Minibatch, Rows

_LEAST_MEMORY = 1 << 26


def check_target(target: Any, rows: int, n_classes: int) -> NDArray[np.int64]:
    """The target as int64 codes; raises RequestError unless it fits the features and the classes."""
    codes = np.asarray(target)
    if codes.ndim != 1 or len(codes) != rows:
        raise RequestError(
            f"the features have {rows} rows and the target shape {codes.shape}; give one class code per row"
        )
    if codes.dtype.kind not in "iu":
        raise RequestError(
            f"the target holds {codes.dtype} values; give integer class codes 0 to {n_classes - 1}, or -1"
        )
    if n_classes < 2:
        raise RequestError(f"a head needs at least two classes to tell apart, and n_classes is {n_classes}")
    if len(codes) and (codes.min() < -1 or codes.max() >= n_classes):
        wrong = codes.min() if codes.min() < -1 else codes.max()
        raise RequestError(
            f"the target holds {wrong}, which is no class: codes run from 0 to {n_classes - 1}, -1 is unknown"
        )
    return codes.astype(np.int64)


def check_features(features: Any) -> tuple[int, int]:
    """Rows and dimension of the features; raises RequestError unless they are a float matrix."""
    shape = getattr(features, "shape", None)
    if shape is None or len(shape) != 2:
        raise RequestError(f"features must be a matrix of (rows, dim) and have shape {shape}")
    if np.dtype(features.dtype).kind != "f":
        raise RequestError(f"features must be float16, float32 or float64, not {features.dtype}")
    if shape[1] == 0:
        raise RequestError("the features have no columns")
    return int(shape[0]), int(shape[1])


def check_memory(memory: int | None) -> None:
    """Raises RequestError for a bound that nothing can be done in."""
    if memory is not None and memory < _LEAST_MEMORY:
        raise RequestError(
            f"the memory is {memory} bytes; give at least {_LEAST_MEMORY}, or None for a share of all"
        )


def _check_rows(rows: Rows, n: int, what: str) -> None:
    index = rows.index
    if index.ndim != 1:
        raise RequestError(f"{what} must be a flat list of row numbers and have shape {index.shape}")
    if len(index) == 0:
        raise RequestError(f"{what} are empty")
    if index.min() < 0 or index.max() >= n:
        wrong = index.min() if index.min() < 0 else index.max()
        raise RequestError(f"{what} hold row {wrong}, and the features have rows 0 to {n - 1}")


def check_specs(specs: Sequence[HeadSpec], target: NDArray[np.int64], dim: int, n_classes: int) -> None:
    """Raises RequestError for the first spec that cannot be trained on these rows and labels."""
    seen: set[tuple[int, str]] = set()  # the same Rows object, checked once
    for spec in specs:
        for rows, what in ((spec.rows, "the training rows"), (spec.scaler_rows, "the scaler's rows")):
            if rows is not None and (id(rows), what) not in seen:
                _check_rows(rows, len(target), what)
                seen.add((id(rows), what))
        members = 1
        if spec.coupling is not None:
            _check_rows(spec.coupling.rows, len(target), "the rows of a coupling")
            members = spec.coupling.members
            known = np.unique(target[spec.rows.index]).size
            if known < n_classes:
                raise RequestError(
                    f"heads that are tied to each other need labeled rows of all {n_classes} classes, and "
                    f"there are rows of {known}"
                )
        _check_numbers(spec)
        _check_classes(spec, target, seen)
        for head, what in ((spec.start, "starting head"), (spec.anchor, "anchor")):
            if head is not None:
                _check_head(head, what, (members * n_classes, dim))
        if spec.minibatch is not None:
            _check_minibatch(spec, spec.minibatch)
        elif not spec.is_plain:
            check_criterion(spec, n_classes)
            if spec.risk is not None:
                _check_risk(spec.risk)


def _check_classes(spec: HeadSpec, target: NDArray[np.int64], seen: set[tuple[int, str]]) -> None:
    if spec.weights is None and (id(spec.rows), "classes") in seen:
        return
    codes = target[spec.rows.index]
    if codes.min() < 0:
        first = int(spec.rows.index[np.argmax(codes < 0)])
        raise RequestError(
            f"{int((codes < 0).sum())} training rows have no label (row {first} is the first): leave them out"
        )
    if spec.weights is not None:
        codes = codes[spec.weights.values > 0]
    if codes.min() == codes.max():
        raise RequestError(
            f"all {len(codes)} training rows are of class {codes[0]}; a head needs rows of two classes"
        )
    if spec.weights is None:
        seen.add((id(spec.rows), "classes"))


def _check_head(head: LinearHead, what: str, shape: tuple[int, int]) -> None:
    if head.weight.shape != shape:
        raise RequestError(f"the {what} has weights of shape {head.weight.shape}, not {shape}")
    if not (np.isfinite(head.weight).all() and np.isfinite(head.bias).all()):
        raise RequestError(f"the {what} holds NaN or infinite weights; leave it out")


def _check_numbers(spec: HeadSpec) -> None:
    for name, value in (("l1", spec.penalty.l1), ("l2", spec.penalty.l2)):
        if not math.isfinite(value):
            raise RequestError(f"the penalty's {name} is {value}; give a finite number of at least 0")
    if spec.penalty.bias and spec.penalty.l1 == 0:
        raise RequestError("a penalty on the bias is offered beside l1 only, and l1 is 0; leave it out")
    if not 0 < spec.tolerance < 1:
        raise RequestError(f"the tolerance is {spec.tolerance}; it is a relative gap, between 0 and 1")
    if spec.max_iterations < 1:
        raise RequestError(f"max_iterations is {spec.max_iterations}; give at least 1")
    if spec.weights is not None:
        values = spec.weights.values
        if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
            raise RequestError("the row weights must be finite and at least 0, one per training row")
        if not values.any():
            raise RequestError("the row weights are all zero, which leaves nothing to train on")


def _check_risk(risk: Risk) -> None:
    if isinstance(risk, CVaR):
        if not 0 < risk.share <= 1:
            raise RequestError(f"CVaR takes a share of rows above 0 and up to 1, not {risk.share}")
    elif isinstance(risk, ChiSquare):
        if not (math.isfinite(risk.radius) and risk.radius > 0):
            raise RequestError(f"the radius of a χ² ball must be above 0 and finite, not {risk.radius}")
    else:
        codes, adjustment = risk.groups.values, np.asarray(risk.adjustment, dtype=np.float64)
        if codes.min() < 0:
            raise RequestError(f"group codes of a risk start at 0, and one is {codes.min()}")
        if len(adjustment) <= codes.max() or not np.isfinite(adjustment).all():
            raise RequestError(
                f"the adjustment of a risk must be finite numbers, one for each of {codes.max() + 1} groups, "
                f"not {_said(adjustment)}"
            )
        _check_worst(risk)


def _check_worst(risk: GroupRisk) -> None:
    if risk.share is not None and not 0 < risk.share <= 1:
        raise RequestError(f"the share of groups that are the worst is above 0 and up to 1, not {risk.share}")
    if risk.shrinking is None:
        return
    strength, parent = risk.shrinking.strength, risk.shrinking.tree.parent.values
    above, groups = risk.shrinking.tree.above.values, risk.groups.values.max() + 1
    if not (math.isfinite(strength) and strength >= 0):
        raise RequestError(f"the strength of shrinking must be at least 0 and finite, not {strength}")
    if (parent >= np.arange(len(parent))).any() or (parent < -1).any():
        node = int(((parent >= np.arange(len(parent))) | (parent < -1)).argmax())
        raise RequestError(
            f"the parent of node {node} in a tree of groups is {parent[node]}; parents come before their "
            "children, and roots have -1"
        )
    if len(above) < groups:
        raise RequestError(
            f"a tree of groups must say what is above each of {groups} groups, not {len(above)}"
        )
    if len(above) and (above.min() < -1 or above.max() >= len(parent)):
        wrong = above.min() if above.min() < -1 else above.max()
        raise RequestError(
            f"node {wrong} is said to be above a group, and the tree has {len(parent)} nodes, from 0"
        )


def _said(values: NDArray[np.float64]) -> str:
    """A few numbers as they are, and of many the first."""
    shown = ", ".join(str(each) for each in values[:6].tolist())
    return f"({shown})" if len(values) <= 6 else f"{len(values)} numbers from ({shown}, …"


def _check_minibatch(spec: HeadSpec, plan: Minibatch) -> None:
    if not dataclasses.replace(spec, minibatch=None).is_plain or spec.penalty.l1:
        raise RequestError(
            "mini-batches train the plain mean of cross-entropy with an l2 penalty only; leave them out"
        )
    if plan.epochs < 1 or plan.batch < 1:
        raise RequestError(
            f"mini-batches take at least 1 epoch of at least 1 row, not {plan.epochs} of {plan.batch}"
        )
    if not (math.isfinite(plan.rate) and plan.rate > 0):
        raise RequestError(f"the learning rate must be above 0 and finite, not {plan.rate}")
    if not 0 <= plan.momentum < 1:
        raise RequestError(f"the momentum must be at least 0 and below 1, not {plan.momentum}")
    if plan.order is not None:
        order = plan.order.values
        if len(order) == 0 or order.min() < 0 or order.max() >= len(spec.rows):
            raise RequestError(
                f"the order of mini-batches holds places in the spec's {len(spec.rows)} rows, from 0, and "
                + ("is empty" if len(order) == 0 else f"runs from {order.min()} to {order.max()}")
            )
        if len(order) % plan.epochs:
            raise RequestError(
                f"the order of mini-batches has {len(order)} places, which {plan.epochs} epochs cannot share "
                "equally; give each as many"
            )
