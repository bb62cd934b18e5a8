"""The reading of a head of the labeled rows alone, and whether other rows are like what it learned from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from headwater.heads.ambiguity.dealing import dealt
from headwater.heads.ambiguity.margins import torn_share
from headwater.heads.ambiguity.problem import Problem, Reading
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.hashed import Rows
from headwater.heads.specs.spec import HeadSpec, Penalty

Floats = NDArray[np.float32]

_PENALTY = Penalty(l2=1e-3)
_FOLDS = 2
_ORIGIN = "labeled rows alone"


def labeled_only(problem: Problem, features: Floats, seed: int = 0) -> Reading:
    """A linear head trained on the labeled rows of `features` (n + m + t, dim) alone.

    It goes by all that labels show. Where rows without labels show these things apart, it falls between its
    classes: `torn` is how much more often than on labeled rows that it was not trained on, which give its
    `error`, too. Neither is measured where a class has a single labeled row.
    """
    n, m = len(problem.labeled), len(problem.unlabeled)
    bank = HeadBank(features[:n], problem.labels, len(problem.classes))
    folds = dealt(problem.labels, _FOLDS, np.random.default_rng(seed))
    kept = [Rows(np.flatnonzero(folds != fold)) for fold in range(_FOLDS)]
    if np.bincount(problem.labels).min() < _FOLDS:
        kept = []
    wanted = [HeadSpec(each, _PENALTY, scaler_rows=each) for each in (Rows(np.arange(n)), *kept)]
    whole, *halves = bank.train(wanted)
    rest = softmax(whole.logits(features[n:]), axis=1)
    if not halves:
        return Reading(rest[:m], rest[m:], float("nan"), _ORIGIN)
    apart = np.empty((n, rest.shape[1]))
    for fold, head in enumerate(halves):
        apart[folds == fold] = softmax(head.logits(features[:n][folds == fold]), axis=1)
    return Reading(
        rest[:m],
        rest[m:],
        float((apart.argmax(axis=1) != problem.labels).mean()),
        _ORIGIN,
        torn=max(0.0, torn_share(rest) - torn_share(apart)),
    )
