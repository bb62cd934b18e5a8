"""The head that is left in the end, trained on labels, answers, and what the surviving reading says.

Which reading survives is not decided here, nor how often the head is expected to be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from headwater.heads.ambiguity.dealing import dealt
from headwater.heads.ambiguity.problem import Problem
from headwater.heads.ambiguity.temperature import log_temperature
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.hashed import Rows, Weights
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.specs.spec import HeadSpec, Penalty

Floats = NDArray[np.float32]

# Rows that the reading is as sure of as this have pseudo-labels: of others its own members say different
# things, and the head, which need not share their errors, is better left to find out.
_SURE = 0.8
_L2 = 1e-2
# A row of a rare cell counts as much as this many rows of cells that are equally large, at most.
_MOST = 10.0
_APART = (
    5  # one in so many rows of each class is kept apart to tell which features the labels can be foretold by
)
_WITHIN = -6.0, 6.0  # log temperatures


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """What the head learns beside the labeled rows: class probabilities of unlabeled and target rows.

    `shares` (m + t, classes) are the surviving reading's; `rival` (m + t,) the class codes of its strongest
    competitor, None where there is none; `answers` are target row → class code.
    """

    shares: NDArray[np.float64]
    rival: NDArray[np.int64] | None
    answers: Mapping[int, int]


def final_head(problem: Problem, views: Mapping[str, Floats], pseudo: PseudoLabels) -> LinearHead:
    """A linear head on all `views` side by side, in their order: logits of features (rows, sum of dims).

    It is trained on labeled rows, answers, and the rows that the reading is sure of, these the more the surer
    it is. Each cell of what the reading and its rival say counts alike, so that ordinary rows, on which all
    readings are right, do not decide how rows are classed that only one is right about. `views` hold features
    (n + m + t, dim) by name. A head is trained on each, and the mean is taken of those that foretell rows
    kept apart as well as the best does, to within its standard error.
    """
    codes, weights = _taught(problem, pseudo)
    rows = np.flatnonzero(weights > 0)
    if len(views) == 1:
        (features,) = views.values()
        (only,) = HeadBank(features, codes, len(problem.classes)).train([_spec(rows, weights, rows)])
        return only
    apart = dealt(codes[rows], _APART, np.random.default_rng(0)) == 0
    heads, losses = [], []
    for features in views.values():
        bank = HeadBank(features, codes, len(problem.classes))
        every, most = bank.train([_spec(rows, weights, rows), _spec(rows[~apart], weights, rows)])
        heads.append(every)
        shares = probabilities(most, features[rows[apart]])
        right = shares[np.arange(len(shares)), codes[rows[apart]]]
        losses.append(-np.log(np.maximum(right, 1e-12)))
    return _side_by_side(heads, _as_good(np.array(losses), weights[rows[apart]]))


def probabilities(head: LinearHead, features: Floats) -> NDArray[np.float64]:
    """What the head says of features (rows, dim), as probabilities (rows, classes)."""
    return np.asarray(softmax(head.logits(features).astype(np.float64), axis=1))


def tempered(head: LinearHead, features: Floats, accuracy: float) -> LinearHead:
    """The same head, as sure of features (rows, dim) on average as it is expected to be right, `accuracy`."""

    def at(temperature: float) -> NDArray[np.float64]:
        return probabilities(_scaled(head, np.exp(-temperature)), features)

    return _scaled(head, np.exp(-log_temperature(at, accuracy, _WITHIN)))


def _taught(problem: Problem, pseudo: PseudoLabels) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Class codes and weights (n + m + t,) of all rows, 0 for those that are not learned from."""
    n, m = len(problem.labeled), len(problem.unlabeled)
    classes = pseudo.shares.shape[1]
    codes = np.concatenate([problem.labels, pseudo.shares.argmax(axis=1)])
    sure = np.concatenate([np.ones(n), pseudo.shares.max(axis=1)])
    items = n + m + np.array(sorted(pseudo.answers), dtype=np.int64)
    codes[items] = [pseudo.answers[item] for item in sorted(pseudo.answers)]
    sure[items] = 1.0
    weights = np.where(sure >= _SURE, (classes * sure - 1) / (classes - 1), 0.0)
    if pseudo.rival is not None:
        cells = codes * classes + np.concatenate([problem.labels, pseudo.rival])
        totals = np.bincount(cells, weights, minlength=classes**2)
        fair = weights.sum() / (totals > 0).sum()
        weights *= np.minimum(fair / np.maximum(totals, 1e-12), _MOST)[cells]
    weights[items] = np.maximum(weights[items], 1.0)
    return codes, weights


def _spec(rows: NDArray[np.int64], weights: NDArray[np.float64], scaler: NDArray[np.int64]) -> HeadSpec:
    return HeadSpec(
        Rows(rows),
        Penalty(l2=_L2),
        weights=Weights(weights[rows]),
        scaler_rows=Rows(scaler),
        half_whitened=True,
        tolerance=1e-4,
    )


def _as_good(losses: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which of the losses (views, rows) have a weighted mean within a standard error of the least one."""
    if not losses.shape[1]:
        return np.arange(len(losses))
    shares = weights / weights.sum()
    means = losses @ shares
    best = int(means.argmin())
    error = float(np.sqrt(((losses[best] - means[best]) ** 2) @ shares**2))
    return np.flatnonzero(means <= means[best] + error)


def _side_by_side(heads: list[LinearHead], kept: NDArray[np.int64]) -> LinearHead:
    """The mean of the heads that are kept, as one head on all features side by side."""
    shares = np.isin(np.arange(len(heads)), kept) / np.float32(len(kept))
    parts = [head.weight * share for head, share in zip(heads, shares, strict=True)]
    used = [heads[place].convergence for place in kept]
    return LinearHead(
        np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32),
        np.asarray(sum(heads[place].bias for place in kept) / len(kept), dtype=np.float32),
        Convergence(
            converged=all(each.converged for each in used),
            iterations=max(each.iterations for each in used),
            objective=float(np.mean([each.objective for each in used])),
            gradient_norm=max(each.gradient_norm for each in used),
            message=" ".join(dict.fromkeys(each.message for each in used if each.message)),
        ),
    )


def _scaled(head: LinearHead, factor: float) -> LinearHead:
    scale = np.float32(factor)
    return replace(head, weight=head.weight * scale, bias=head.bias * scale)
