"""From beliefs to classes of the target rows: what survives, the head it teaches, and what is expected of it.

Choosing and asking questions is not done here, nor is the head trained here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.beliefs import Beliefs, Hypothesis, consensus, disputed
from headwater.heads.ambiguity.dialogue import Dialogue, Exchange
from headwater.heads.ambiguity.final_head import PseudoLabels, final_head, probabilities, tempered
from headwater.heads.ambiguity.forecast import calibrated, forecast
from headwater.heads.ambiguity.meaning import Meaning, meanings
from headwater.heads.ambiguity.problem import Problem, Reading
from headwater.heads.specs.head import LinearHead
from headwater.printable import counted

# A reading that is believed less than this is not taken as settled.
SETTLED = 0.9

_ALONE = "Without an answer, the labels are those of a head trained on the labeled rows alone."


@dataclass(frozen=True, eq=False)
class Resolution:
    """How the labels are read in the end, and what that says of the target rows.

    `probabilities` (t, classes) and `labels` (t,) class codes; `before` (t, classes) is what a head trained
    on the labeled rows alone says. `beliefs` maps the names of competing readings to their share of belief;
    `unexplained` is the belief that none of them is meant; `mix_rate` the share of unlabeled rows that the
    most believed one and the largest other one read otherwise, NaN where there is no other.
    `expected_accuracy` on target rows lies in `interval` with 90 % probability. `sentences` say it in words,
    `seconds` where the time went. `head` is what was trained on pseudo-labels, for the features that readings
    were made of, side by side; None where nothing was answered, or where the surviving readings are not of
    linear heads, of which it would be a poor copy. `readings` are what the readings say and go by, by their
    names.
    """

    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    settled: bool
    sentences: tuple[str, ...]
    exchanges: tuple[Exchange, ...]
    beliefs: Mapping[str, float]
    unexplained: float
    mix_rate: float
    expected_accuracy: float
    interval: tuple[float, float]
    before: NDArray[np.float64]
    seconds: Mapping[str, float]
    head: LinearHead | None = None
    readings: Mapping[str, Meaning] = field(default_factory=dict)

    @property
    def answers(self) -> dict[int, int]:
        """Target row → class code, of all that was asked."""
        return {each.question.item: each.answer for each in self.exchanges}


def resolve(
    problem: Problem,
    state: Dialogue,
    views: Mapping[str, NDArray[np.float32]],
    before: Reading,
    seconds: Mapping[str, float],
    *,
    seed: int = 0,
) -> Resolution:
    """Class the target rows by what is believed, and say how far that is to be trusted.

    The most believed hypothesis labels the rows that its readings are sure of, and a head learns from these
    and all labels there are: `views` hold the features (n + m + t, dim) of all rows that it is for. Where
    its readings are of what no linear head is as good as, they have the last word. Where
    nothing was answered, `before`, what labeled rows alone say, does; if all hypotheses mixed by belief say
    the same, with their probabilities.
    """
    head = None
    shares = blend(state.found, state.beliefs)
    wanted = [rows[len(rows) - len(problem.target) :] for rows in views.values()]
    features = wanted[0] if len(wanted) == 1 else np.column_stack(wanted)
    if state.answers:
        if not _is_nonlinear(state):
            head = final_head(problem, views, _pseudo_labels(state))
        shares = last_word(state) if head is None else probabilities(head, features)
    shares = with_answers(calibrated(shares, state), state.answers)
    labels = np.asarray(shares.argmax(axis=1), dtype=np.int64)
    said = np.asarray(before.target.argmax(axis=1), dtype=np.int64)
    is_alone = not state.answers and bool((said != labels).any())
    if is_alone:
        shares, labels = before.target.astype(np.float64), said
    expected = forecast(labels, state, seed)
    settled = is_settled(state)
    found = meanings(problem, {each.name: each.target.argmax(axis=1) for each in state.found})
    return Resolution(
        probabilities=shares,
        labels=labels,
        settled=settled,
        sentences=(*in_words(state, settled, expected.accuracy, found), *((_ALONE,) if is_alone else ())),
        exchanges=tuple(state.exchanges),
        beliefs={
            each.name: float(share) for each, share in zip(state.found, state.beliefs.held, strict=True)
        },
        unexplained=state.beliefs.none,
        mix_rate=crossed_share(state),
        expected_accuracy=expected.accuracy,
        interval=expected.interval,
        before=before.target.astype(np.float64),
        seconds=seconds,
        head=None if head is None else tempered(head, features, expected.unaided),
        readings=found,
    )


def blend(found: Sequence[Hypothesis], beliefs: Beliefs) -> NDArray[np.float64]:
    """Probabilities (t, classes) of target rows by all hypotheses, weighed by belief."""
    shares = beliefs.held / max(float(beliefs.held.sum()), 1e-300)
    expected = np.stack([each.expects() for each in found])
    return np.asarray(np.einsum("r,rtk->tk", shares, expected), dtype=np.float64)


def last_word(state: Dialogue, rows: str = "target") -> NDArray[np.float64]:
    """Probabilities (rows, classes) by the most believed hypothesis, by its readings that know all answers.

    By all its readings where none of them does.
    """
    mine = _told(state)
    if not mine:
        return np.asarray(getattr(state.found[state.beliefs.best], rows), dtype=np.float64)
    weights = consensus(mine, disputed(state.readings))
    return np.asarray(np.tensordot(weights, [getattr(each, rows) for each in mine], 1), dtype=np.float64)


def _told(state: Dialogue) -> list[Reading]:
    """Readings of the most believed hypothesis that know all answers."""
    known = frozenset(state.answers)
    members = [place for place in state.found[state.beliefs.best].members if place < len(state.knows)]
    return [state.readings[place] for place in members if state.knows[place] == known]


def _is_nonlinear(state: Dialogue) -> bool:
    """Whether most of those are not of linear heads; of all its readings where none knows the answers."""
    members = [place for place in state.found[state.beliefs.best].members if place < len(state.readings)]
    mine = _told(state) or [state.readings[place] for place in members]
    return 2 * sum(each.is_nonlinear for each in mine) > len(mine)


def _pseudo_labels(state: Dialogue) -> PseudoLabels:
    rival = None
    others = [each for place, each in enumerate(state.found) if place != state.beliefs.best]
    if others:  # the largest, as they come
        rival = np.concatenate([others[0].unlabeled, others[0].target]).argmax(axis=1)
    shares = np.concatenate([last_word(state, "unlabeled"), last_word(state)])
    return PseudoLabels(shares, rival, state.answers)


def is_settled(state: Dialogue) -> bool:
    """Whether one hypothesis is believed, and answers do not speak against it."""
    if state.is_contradicted() or state.is_implausible():
        return False
    return len(state.found) == 1 or bool(state.beliefs.held[state.beliefs.best] >= SETTLED)


def with_answers(probabilities: NDArray[np.float64], answers: Mapping[int, int]) -> NDArray[np.float64]:
    """The same, where rows that were answered have the class that was answered."""
    out = np.array(probabilities, dtype=np.float64)
    for item, code in answers.items():
        out[item] = 0
        out[item, code] = 1
    return out


def crossed_share(state: Dialogue) -> float:
    """Share of unlabeled rows that the most believed hypothesis and the largest other one read otherwise.

    NaN where there is no other.
    """
    best = state.beliefs.best
    others = [h for h in range(len(state.found)) if h != best]
    if not others:
        return float("nan")
    said = [state.found[h].unlabeled.argmax(axis=1) for h in (best, others[0])]
    return float((said[0] != said[1]).mean())


def in_words(
    state: Dialogue, settled: bool, accuracy: float, found: Mapping[str, Meaning] | None = None
) -> tuple[str, ...]:
    """What came of the questions, one sentence each; `found` says what readings go by."""
    asked = counted(len(state.answers), "answer")
    if len(state.found) == 1 and not state.answers and settled:
        said = ["All readings of the labels say the same of the target rows, so nothing had to be asked."]
    elif settled:
        share = 100 * state.beliefs.held[state.beliefs.best]
        name = state.found[state.beliefs.best].name
        about = found[name].about if found is not None else ""
        goes_by = f", which goes by {about}," if about else ""
        said = [
            f"Settled by {asked}: of {counted(len(state.found), 'reading')} of the labels, {name}{goes_by} is"
            f" believed to {share:.0f} %, and {100 * accuracy:.0f} % of the target rows are expected to be"
            " right."
        ]
    elif len(state.answers) == len(state.found[0].target):
        said = [
            f"Not settled by {asked}: {_why(state)}; but every target row was answered, so all are right if"
            " the answers are."
        ]
    else:
        said = [
            f"Not settled by {asked}: {_why(state)}; {100 * accuracy:.0f} % of the target rows are expected"
            " to be right."
        ]
    if state.widened:
        spoke = "contradicted all readings" if state.contradicted else "left no likely reading of those"
        said.append(f"The answers {spoke} that there were, so new ones were trained.")
    if state.trouble:
        said.append(f"No more was asked, as {state.trouble}.")
    return tuple(said)


def _why(state: Dialogue) -> str:
    if state.is_implausible() and len(state.found) == 1:
        return "all readings say the same, but leave too many rows between classes, or classes out of balance"
    if not state.answers:
        return "nothing was asked, so any of the readings may be meant"
    if state.is_contradicted():
        return "no reading explains the answers"
    if state.beliefs.held[state.beliefs.best] < SETTLED:
        return f"the best reading is believed to {100 * state.beliefs.held[state.beliefs.best]:.0f} % only"
    return "readings that say the same of ordinary rows differ on the others"
