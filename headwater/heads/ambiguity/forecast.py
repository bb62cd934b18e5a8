"""How many target rows are expected to be right: calibrated probabilities, and expected accuracy.

Labeled rows are all of the ordinary kind, on which readings agree; disputed rows are harder. So the two are
judged apart: ordinary rows by errors on labeled rows kept apart, disputed ones by how often readings of the
same mind, trained apart from each other, agree there, which is what their accuracy is expected to be if they
are right in what they read (Jiang et al. 2022, Assessing generalization of SGD via disagreement).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from headwater.heads.ambiguity.beliefs import UNKNOWN_ERROR, consensus, disputed
from headwater.heads.ambiguity.dialogue import Dialogue
from headwater.heads.ambiguity.temperature import log_temperature

# What is expected of accuracies is as sure as if it had been counted on so many rows.
_COUNTED = 50.0
_DRAWS = 4000
_WITHIN = -float(np.log(64)), float(np.log(64))  # log temperatures


@dataclass(frozen=True)
class Forecast:
    """The accuracy expected on target rows; with 90 % probability it lies in `interval`.

    Rows that were answered are right. `unaided` is what is expected of labels that no answer is copied into,
    as a head gives them.
    """

    accuracy: float
    interval: tuple[float, float]
    unaided: float


def agreement_within(state: Dialogue, hypothesis: int) -> float:
    """Share of pairs of a hypothesis' readings that say the same of a disputed row; NaN without pairs.

    Pairs count by the weights that readings have in what the hypothesis says.
    """
    members = state.found[hypothesis].members
    rows = disputed(state.readings)
    if len(members) < 2 or not rows.any():
        return float("nan")
    mine = [state.readings[place] for place in members]
    weights = consensus(mine, rows)
    said = np.stack([each.target[rows].argmax(axis=1) for each in mine])
    votes = np.stack([weights @ (said == code) for code in range(state.found[0].target.shape[1])])
    same = float((weights**2).sum())  # a reading and itself are no pair
    return float((((votes**2).sum(axis=0) - same) / max(1 - same, 1e-9)).mean())


def accuracies(state: Dialogue, hypothesis: int) -> tuple[float, float]:
    """Accuracy of a hypothesis, if it is right, on ordinary rows and on disputed ones."""
    known = [state.readings[place].error for place in state.found[hypothesis].members]
    known = [error for error in known if np.isfinite(error)]
    ordinary = 1 - (float(np.mean(known)) if known else UNKNOWN_ERROR)
    agreed = agreement_within(state, hypothesis)
    # A reading that nothing confirms is taken at its group's word.
    apart = min(ordinary, agreed) if np.isfinite(agreed) else min(ordinary, 1 - state.found[hypothesis].error)
    return ordinary, apart


def forecast(labels: NDArray[np.int64], state: Dialogue, seed: int = 0) -> Forecast:
    """What is expected of `labels` (t,), by all hypotheses and, where none is right, by chance.

    Rows that were answered have the class that was answered.
    """
    random = np.random.default_rng(seed)
    rows = disputed(state.readings)
    n_classes = state.found[0].target.shape[1]
    best = accuracies(state, state.beliefs.best)
    means, shares = [], np.append(state.beliefs.held, state.beliefs.none)
    for place, each in enumerate(state.found):
        same = each.target.argmax(axis=1) == labels
        ordinary, apart = accuracies(state, place)
        means.append(
            (_right(float(same[~rows].mean()) if (~rows).any() else 1.0, ordinary, n_classes),
             _right(float(same[rows].mean()) if rows.any() else 1.0, apart, n_classes))
        )  # fmt: skip
    means.append((best[0], 1 / n_classes))
    if state.is_implausible():
        # Where no reading is plausible and all say the same, it is as likely that no row is an ordinary one.
        means.append((1 / n_classes, 1 / n_classes))
        shares = np.append(shares[:-1], [shares[-1] / 2] * 2)
    drawn = np.array(means)[random.choice(len(means), _DRAWS, p=shares / shares.sum())]
    drawn = np.clip(drawn, 1e-3, 1 - 1e-3)
    drawn = random.beta(drawn * _COUNTED, (1 - drawn) * _COUNTED)
    counts = np.array([(~rows).sum(), rows.sum()])
    each_kind = shares @ np.array(means) / shares.sum()
    known = rows[list(state.answers)]
    unknown = counts - [(~known).sum(), known.sum()]
    totals = (len(known) + random.binomial(unknown, drawn).sum(axis=1)) / len(rows)
    mean = float(len(known) + unknown @ each_kind) / len(rows)
    low, high = np.quantile(totals, (0.05, 0.95))
    return Forecast(
        mean, (min(float(low), mean), max(float(high), mean)), float(counts @ each_kind / len(rows))
    )


def _right(same: float, accuracy: float, n_classes: int) -> float:
    """Accuracy of labels that share `same` with a classifier of this accuracy, which errs independently."""
    return same * accuracy + (1 - same) * (1 - accuracy) / (n_classes - 1)


def calibrated(probabilities: NDArray[np.float64], state: Dialogue) -> NDArray[np.float64]:
    """The probabilities (t, classes), heated or cooled until they are as sure as is expected of them.

    One temperature for ordinary rows and one for disputed ones, whose mean largest probability becomes the
    accuracy that is expected of the best hypothesis there, times the belief that it is the right one.
    """
    rows = disputed(state.readings)
    n_classes = probabilities.shape[1]
    ordinary, apart = accuracies(state, state.beliefs.best)
    held = float(state.beliefs.held[state.beliefs.best])
    apart = held * apart + (1 - held) / n_classes
    out = np.array(probabilities, dtype=np.float64)
    for mine, wanted in ((~rows, ordinary), (rows, apart)):
        if mine.any():
            out[mine] = _heated(out[mine], max(wanted, 1 / n_classes))
    return out


def _heated(shares: NDArray[np.float64], wanted: float) -> NDArray[np.float64]:
    logits = np.log(np.maximum(shares, 1e-12))

    def at(temperature: float) -> NDArray[np.float64]:
        return np.asarray(softmax(logits / np.exp(temperature), axis=1))

    return at(log_temperature(at, wanted, _WITHIN))
