"""From beliefs to classes of the target rows: surviving readings, and what is expected of them, in words.

Choosing and asking questions is not done here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.beliefs import Beliefs, Hypothesis
from headwater.heads.ambiguity.dialogue import Dialogue, Exchange
from headwater.printable import counted

# A reading that is believed less than this is not taken as settled.
SETTLED = 0.9


@dataclass(frozen=True, eq=False)
class Resolution:
    """How the labels are read in the end, and what that says of the target rows.

    `probabilities` (t, classes) and `labels` (t,) class codes; `before` (t, classes) is what a head trained
    on the labeled rows alone says. `beliefs` maps the names of competing readings to their share of belief;
    `unexplained` is the belief that none of them is meant. `expected_accuracy` on target rows lies in
    `interval` with 90 % probability. `sentences` say it in words, `seconds` where the time went.
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

    @property
    def answers(self) -> dict[int, int]:
        """Target row → class code, of all that was asked."""
        return {each.question.item: each.answer for each in self.exchanges}


def blend(found: Sequence[Hypothesis], beliefs: Beliefs) -> NDArray[np.float64]:
    """Probabilities (t, classes) of target rows by all hypotheses, weighed by belief."""
    shares = beliefs.held / max(float(beliefs.held.sum()), 1e-300)
    expected = np.stack([each.expects() for each in found])
    return np.asarray(np.einsum("r,rtk->tk", shares, expected), dtype=np.float64)


def last_word(state: Dialogue) -> NDArray[np.float64]:
    """Probabilities (t, classes) by the most believed hypothesis, by its readings that know all answers."""
    best = state.found[state.beliefs.best]
    known = frozenset(state.answers)
    told = [place for place in best.members if place < len(state.knows) and state.knows[place] == known]
    if not told:
        return best.expects()
    return np.asarray(np.mean([state.readings[place].target for place in told], axis=0), dtype=np.float64)


def is_settled(state: Dialogue) -> bool:
    """Whether one hypothesis is believed, and answers do not speak against it."""
    if state.is_contradicted():
        return False
    return len(state.found) == 1 or bool(state.beliefs.held.max() >= SETTLED)


def with_answers(
    probabilities: NDArray[np.float64], answers: Mapping[int, int], error: float = 0.0
) -> NDArray[np.float64]:
    """The same, where rows that were answered have the class that was answered."""
    out = np.array(probabilities, dtype=np.float64)
    for item, code in answers.items():
        out[item] = error / out.shape[1]
        out[item, code] += 1 - error
    return out


def crossed_share(state: Dialogue, rows: str = "unlabeled") -> float:
    """Share of rows that the most believed hypothesis and the largest other one read differently."""
    best = state.beliefs.best
    others = [h for h in range(len(state.found)) if h != best]
    if not others:
        return 0.0
    said = [getattr(state.found[h], rows).argmax(axis=1) for h in (best, others[0])]
    return float((said[0] != said[1]).mean())


def in_words(state: Dialogue, settled: bool, accuracy: float) -> tuple[str, ...]:
    """What came of the questions, one sentence each."""
    asked = counted(len(state.answers), "answer")
    if len(state.found) == 1 and not state.answers:
        said = ["All readings of the labels say the same of the target rows, so nothing had to be asked."]
    elif settled:
        share = 100 * state.beliefs.held.max()
        said = [
            f"Settled by {asked}: one of {len(state.found)} readings of the labels is believed to {share:.0f}"
            f" %, and {100 * accuracy:.0f} % of the target rows are expected to be right."
        ]
    else:
        said = [
            f"Not settled by {asked}: {_why(state)}; {100 * accuracy:.0f} % of the target rows are expected"
            " to be right."
        ]
    if state.widened:
        said.append(
            "The answers contradicted all readings that there were, so new ones were trained that know them."
        )
    if state.trouble:
        said.append(f"No more was asked, as {state.trouble}.")
    return tuple(said)


def _why(state: Dialogue) -> str:
    if not state.answers:
        return "nothing was asked, so any of the readings may be meant"
    if state.is_contradicted():
        return "no reading explains the answers"
    if state.beliefs.held.max() < SETTLED:
        return f"the best reading is believed to {100 * state.beliefs.held.max():.0f} % only"
    return "readings that say the same of ordinary rows differ on the others"
