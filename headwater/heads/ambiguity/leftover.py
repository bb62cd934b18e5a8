"""Whether labels say more than the one reading that rows fall apart by, where a second is too faint to see.

Readings that stand by themselves are sought elsewhere; this asks what is left of the classes when one is
taken away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

from headwater.heads.ambiguity.partitions import self_consistent

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

_COMPONENTS = 128
_DOUBTED = 64
_STARTS = 8
_SAME = 0.995
_DRAWS = 200
_RIDGE = 0.01
_FAINTEST = 1e-6  # chances that are called small: rows that are copies of few make greater ones look so
_SPREAD = 0.1  # what two classes, mixed, add to the variance, of what they add where they are as many
_BEYOND = 0.05  # of the labeled rows are as doubtful as those called in dispute


@dataclass(frozen=True, eq=False)
class Leftover:
    """A second reading that labels have in them, and rows, labeled (n,) and others (r,), most torn by it.

    `chance` is how often rows drawn at random would be left as far apart. `first` and `second` (r,) are class
    codes of the two readings, which differ on those rows; `errors` are the readings' on labeled rows.
    """

    chance: float
    labeled: NDArray[np.bool_]
    rest: NDArray[np.bool_]
    first: Codes
    second: Codes
    errors: tuple[float, float]


def leftover(rows: Floats, labels: Codes, *, seed: int = 0) -> Leftover | None:
    """Seek a second reading in features (n + r, dim), columns by variance, of labeled and other rows.

    A reading gives all rows a class. If it is all there is to the classes, they differ among labeled rows in
    the directions in which its classes differ among the others. What labeled classes differ in beside is
    tested by rows that change places within the reading's classes. It speaks of a second reading if others
    are mixed in it, so that they vary more than labeled rows of a class do, and if it is more than rows have
    moved altogether: light or noise moves them first of all, and classes apart no more than by the way.
    """
    n, classes = len(labels), int(labels.max()) + 1
    leading = np.ascontiguousarray(rows[:, :_COMPONENTS])
    ends = self_consistent(leading, (np.arange(n), labels), starts=_STARTS, same=_SAME, seed=seed)
    reading = max(ends, key=lambda each: each.found)
    codes = reading.scores.argmax(axis=1)
    counts = [np.bincount(part, minlength=classes) for part in (codes[:n], codes[n:])]
    if min(each.min() for each in counts) < 2 or leading.shape[1] < classes:
        return None
    even = _evened(leading, codes, n)
    is_labeled = np.arange(len(rows)) < n
    apart, moved = _differences(even, codes, is_labeled[None])
    random = np.random.default_rng(seed)
    drawn = np.empty((_DRAWS, len(rows)), dtype=bool)
    for code in range(classes):
        mine = np.flatnonzero(codes == code)
        drawn[:, mine] = random.permuted(np.broadcast_to(is_labeled[mine], (_DRAWS, len(mine))), axis=1)
    pairs = zip(*_differences(even, codes, drawn), strict=True)
    by_chance = [(_square(each), _square(shift)) for each, shift in pairs]
    usual, usually_moved = np.mean(by_chance, axis=0)
    scatter = float(np.var([each for each, _ in by_chance])) + 1e-30
    found = _square(apart[0])
    chance = float(gamma.sf(found, usual**2 / scatter, scale=scatter / usual))
    if chance > _FAINTEST or found - usual <= _square(moved[0]) - usually_moved:
        return None
    if _mixed(even, codes, n, apart[0]) < _SPREAD:
        return None
    torn = _torn(leading, labels)
    second = np.where(torn, _second(even, codes, n, apart[0]), codes)
    torn &= second != codes
    errors = tuple(float((each[:n] != labels).mean()) for each in (codes, second))
    return Leftover(chance, torn[:n], torn[n:], codes[n:], second[n:], (errors[0], errors[1]))


def _evened(rows: Floats, codes: Codes, n: int) -> Floats:
    """The rows, of equal variance in all directions among the others of a class."""
    others = rows[n:].astype(np.float64)
    for code in range(int(codes.max()) + 1):
        others[codes[n:] == code] -= others[codes[n:] == code].mean(axis=0)
    product = others.T @ others / len(others)
    product[np.diag_indices(len(product))] += _RIDGE * np.trace(product) / len(product)
    values, axes = np.linalg.eigh(product)
    return np.asarray((rows - rows.mean(axis=0)) @ (axes / np.sqrt(values)), dtype=np.float32)


def _differences(rows: Floats, codes: Codes, labeled: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """How labeled classes differ beside how the others' do, and how far labeled rows lie from the others.

    For each drawing of labeled rows (draws, n + r): of the first class, (draws, classes - 1, dim), without
    what lies in the directions of the others' differences; and (draws, dim).
    """
    ours, others = [], []
    for code in range(int(codes.max()) + 1):
        mine = codes == code
        drawn = labeled[:, mine].astype(np.float32)
        count = drawn.sum(axis=1, keepdims=True)
        total = drawn @ rows[mine]
        ours.append(total / np.maximum(count, 1))
        others.append((rows[mine].sum(axis=0) - total) / np.maximum(mine.sum() - count, 1))
    known, rest = np.stack(ours, axis=1), np.stack(others, axis=1)
    beside = known[:, 1:] - known[:, :1]
    axes, _ = np.linalg.qr(np.swapaxes(rest[:, 1:] - rest[:, :1], 1, 2))
    beside = beside - (beside @ axes) @ np.swapaxes(axes, 1, 2)
    return beside, known.mean(axis=1) - rest.mean(axis=1)


def _mixed(rows: Floats, codes: Codes, n: int, beside: Floats) -> float:
    """How much more the others vary than labeled rows of a class, over what an even mixture adds."""
    lengths = np.sqrt((beside**2).sum(axis=1))
    along = rows @ (beside / lengths[:, None]).T
    within = [
        np.mean([part[mine == code].var(axis=0) for code in np.unique(codes)], axis=0)
        for part, mine in ((along[:n], codes[:n]), (along[n:], codes[n:]))
    ]
    return float(np.mean((within[1] - within[0]) * 4 / lengths**2))


def _second(rows: Floats, codes: Codes, n: int, beside: Floats) -> Codes:
    """The class of every row by what labeled classes differ in beside, (n + r,)."""
    axes, _ = np.linalg.qr(beside.T)
    along = rows @ axes
    centres = np.stack([along[:n][codes[:n] == code].mean(axis=0) for code in np.unique(codes)])
    return np.asarray(((along[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1), dtype=np.int64)


def _torn(rows: Floats, labels: Codes) -> NDArray[np.bool_]:
    """The rows (n + r,) that a ridge head of the labeled rows, which goes by all features, is least sure of.

    Labeled rows are judged by the head of all others of them.
    """
    n = len(labels)
    leading = rows[:, :_DOUBTED].astype(np.float64)
    leading -= leading[:n].mean(axis=0)
    leading = np.column_stack([leading, np.full(len(rows), np.sqrt((leading[:n] ** 2).mean() + 1e-30))])
    square = leading[:n].T @ leading[:n]
    square[np.diag_indices(len(square))] += _RIDGE * np.trace(square) / len(square)
    corners = np.eye(int(labels.max()) + 1)[labels]
    solved = np.linalg.solve(square, leading[:n].T)
    scores = leading @ (solved @ corners)
    own = np.einsum("nd,dn->n", leading[:n], solved)[:, None]
    scores[:n] = (scores[:n] - own * corners) / (1 - own)
    ordered = np.sort(scores, axis=1)
    lead = ordered[:, -1] - ordered[:, -2]
    return np.asarray(lead <= np.quantile(lead[:n], _BEYOND))


def _square(of: Floats) -> float:
    return float((of.astype(np.float64) ** 2).sum())
