"""The contest's sets with their points, the total score, and whether handing in pays.

Which sets there are is public knowledge of the contest; nothing here is known to the solver.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from headwater.errors import RequestError
from headwater.printable import listed

USUAL_DEFAULT, HARD_DEFAULT = 0.8, 0.5
"""The accuracy that counts for a set that is not handed in."""


@dataclass(frozen=True)
class ContestSet:
    """One set: its id, name and points, and the accuracy that counts where nothing is handed in.

    A set that was `withdrawn` counts only where something is handed in.
    """

    id: int
    name: str
    points: int
    default: float = USUAL_DEFAULT
    withdrawn: bool = False


SETS: Mapping[int, ContestSet] = {
    each.id: each
    for each in (
        ContestSet(0, "toy_dataset", 1),
        ContestSet(1, "mnist_cc", 1),
        ContestSet(2, "mnist_constant_image", 1),
        ContestSet(3, "mnist_constant_image_random_row", 2),
        ContestSet(4, "mnist_uniform_color_random_row", 1),
        ContestSet(5, "mnist_uniform_color_low_mix_rate", 2),
        ContestSet(6, "mnist_sum", 1),
        ContestSet(7, "mnist_sum_bis", 1, withdrawn=True),
        ContestSet(8, "mnist_sum_noise_level", 2),
        ContestSet(12, "mnist_mysterious", 3),
        ContestSet(13, "mnist_mysterious", 3),
        ContestSet(23, "mnist_embed", 3),
        ContestSet(456, "mnist_embed", 4),
        ContestSet(888, "vehicle_animal", 8, HARD_DEFAULT),
        ContestSet(999, "humans", 10, HARD_DEFAULT),
    )
}


@dataclass(frozen=True)
class Advice:
    """Whether to hand in, and a sentence that says why."""

    submit: bool
    text: str


@dataclass(frozen=True)
class Line:
    """One set's part of the score; `accuracy` is None where nothing was handed in."""

    set: ContestSet
    accuracy: float | None

    @property
    def score(self) -> float:
        """Points times the accuracy that counts."""
        if self.accuracy is None:
            return 0.0 if self.set.withdrawn else self.set.points * self.set.default
        return self.set.points * self.accuracy


@dataclass(frozen=True)
class Score:
    """All sets' lines; `total` of the `points` that could be had."""

    lines: tuple[Line, ...]

    @property
    def total(self) -> float:
        """The sum of the lines' scores."""
        return sum(line.score for line in self.lines)

    @property
    def points(self) -> int:
        """The most that could be had."""
        return sum(
            line.set.points for line in self.lines if line.accuracy is not None or not line.set.withdrawn
        )


def score(accuracies: Mapping[int, float]) -> Score:
    """The total score of the accuracies of what was handed in, by the sets' ids.

    RequestError for a set that the contest does not have, and for an accuracy outside [0, 1].
    """
    for number, accuracy in accuracies.items():
        find_set(number)
        if not 0 <= accuracy <= 1:
            raise RequestError(f"the accuracy of set {number} is {accuracy:g}; give a share between 0 and 1")
    return Score(tuple(Line(each, accuracies.get(each.id)) for each in SETS.values()))


def find_set(number: int) -> ContestSet:
    """The set with this id; RequestError where the contest has none."""
    if number not in SETS:
        raise RequestError(f"the contest has no set {number}; it has {listed(map(str, SETS), len(SETS))}")
    return SETS[number]


def set_named(folder: str) -> ContestSet | None:
    """The set whose id a folder's name begins with and whose own name it is, as 03_mnist_… does; or None."""
    found = re.match(r"(\d+)_([a-z_]+)", folder)
    known = SETS.get(int(found[1])) if found else None
    return known if known is not None and found is not None and found[2].startswith(known.name) else None


def advise(expected: float, known: ContestSet | None = None, *, unsettled_low: float | None = None) -> Advice:
    """Whether handing in a set pays, of which `expected` is the accuracy that is expected.

    There is one try only. So where the questions did not settle what the labels mean, what counts is how low
    the accuracy may be, `unsettled_low`.
    """
    default = USUAL_DEFAULT if known is None else known.default
    what = f"{100 * default:.0f} %, which a set counts that is not handed in"

    def shown(share: float) -> str:
        """In whole percent, unless that made it the default, which it is not."""
        whole, bound = f"{100 * share:.0f} %", f"{100 * default:.0f} %"
        if whole != bound or share == default:
            return whole
        return f"a little {'less' if share < default else 'more'} than {bound}"

    if expected < default:
        return Advice(False, f"do not hand it in: {shown(expected)} expected is below the {what}")
    if unsettled_low is not None and unsettled_low < default:
        return Advice(
            False,
            f"do not hand it in: {shown(expected)} expected, but nothing is settled, and it may be as "
            f"low as {shown(unsettled_low)}, below the {what}",
        )
    if expected == default:
        return Advice(True, f"hand it in: {shown(expected)} expected is no less than the {what}")
    return Advice(True, f"hand it in: {shown(expected)} expected is above the {what}")
