"""Whether labels say more than the one reading that rows fall apart by, where a second is too faint to see.

Readings that stand by themselves are sought elsewhere; this asks what is left of the classes when one is
taken away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

from headwater.heads.ambiguity.margins import leads, ridge_scores
from headwater.heads.ambiguity.partitions import self_consistent

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Codes = NDArray[np.int64]

_COMPONENTS = 128
_STARTS = 8
_SAME = 0.995
_DRAWS = 200
_RIDGE = 0.01
_FAINTEST = 1e-6  # chances that are called small: rows that are copies of few make greater ones look so
_MIXED = 0.1  # what two classes, mixed, add to the variance, of what they add where they are as many
_BEYOND = 0.05  # of the labeled rows are as doubtful as those called in dispute
_EXPLAINED = 0.5  # of what others of a class have more, at least, rows of other classes have
_FOLDS = 4


@dataclass(frozen=True, eq=False)
class Leftover:
    """A second reading that labels have in them, and rows, labeled (n,) and others (r,), most torn by it.

    `p_value` is how often rows drawn at random would be left as far apart. `first` and `second` (r,) are
    class codes of the two readings, which differ on those rows; `errors` are how often they are wrong of
    labeled rows, the second where those rows were held out.
    """

    p_value: float
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
    moved altogether: light or noise moves them first of all, and classes apart no more than by the way. New
    sorts of rows within a class make the others differ, too; but a second reading draws labeled classes
    further apart than the others', and all that others of a class have more is what other classes have.
    Classes of fewer than eight labeled rows are left out with these.
    """
    n = len(labels)
    common = np.flatnonzero(np.bincount(labels) >= 2 * _FOLDS)
    mine = np.isin(labels, common)
    if len(common) < 2:
        return None
    if mine.all():
        return _leftover(rows, labels, seed)
    found = _leftover(np.concatenate([rows[:n][mine], rows[n:]]), np.searchsorted(common, labels[mine]), seed)
    if found is None:
        return None
    labeled = mine.copy()
    labeled[mine] = found.labeled
    return replace(found, labeled=labeled, first=common[found.first], second=common[found.second])


def _leftover(rows: Floats, labels: Codes, seed: int) -> Leftover | None:
    """The same, where labeled rows of every class are enough."""
    n, classes = len(labels), int(labels.max()) + 1
    leading = np.ascontiguousarray(rows[:, :_COMPONENTS])
    ends = self_consistent(leading, (np.arange(n), labels), starts=_STARTS, same=_SAME, seed=seed)
    reading = max(ends, key=lambda each: each.found)
    codes = reading.scores.argmax(axis=1)
    counts = [np.bincount(part, minlength=classes) for part in (codes[:n], codes[n:])]
    if min(each.min() for each in counts) < 2 * _FOLDS or leading.shape[1] < classes:
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
    p_value = float(gamma.sf(found, usual**2 / scatter, scale=scatter / usual))
    if p_value > _FAINTEST or found - usual <= _square(moved[0]) - usually_moved:
        return None
    if _mixed(even, codes, n, apart[0]) < _MIXED:
        return None
    if _apart(even[:n], codes[:n]) <= _apart(even[n:], codes[n:]):
        return None
    if _explained(even, codes, n, seed) < _EXPLAINED:
        return None
    torn = _torn(leading, labels)
    second = np.where(torn, _second(even, codes, n, apart[0]), codes)
    torn &= second != codes
    errors = float((codes[:n] != labels).mean()), _error_of_second(even, codes, labels, seed)
    return Leftover(p_value, torn[:n], torn[n:], codes[n:], second[n:], errors)


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


def _apart(rows: Floats, codes: Codes) -> float:
    """How far class means lie from their middle, squares summed, less what chance adds to that."""
    mine = [rows[codes == code].astype(np.float64) for code in np.unique(codes)]
    means = np.stack([each.mean(axis=0) for each in mine])
    by_chance = sum(float(each.var(axis=0).sum()) / len(each) for each in mine) * (1 - 1 / len(mine))
    return float(((means - means.mean(axis=0)) ** 2).sum()) - by_chance


def _explained(rows: Floats, codes: Codes, n: int, seed: int) -> float:
    """How much of what others have more than labeled rows of a class other classes have, least of any class.

    Others of a class are called a mixture of labeled rows of that class and of other classes, in the
    direction in which they lie apart, that of a row being learned without it. What is left are squares of
    the distribution function's difference to the mixture's, over those to the class's own, less what chance
    makes of either (Cramér and von Mises). None where a class is no more unlike than chance makes it.
    """
    is_labeled = np.arange(len(rows)) < n
    folds = _dealt(2 * codes + is_labeled, np.random.default_rng(seed))
    each = range(int(codes.max()) + 1)
    along = np.empty((len(rows), len(each)))
    for fold in range(_FOLDS):
        kept = folds != fold
        moved = np.stack(
            [
                rows[kept & is_labeled & (codes == code)].mean(axis=0)
                - rows[kept & ~is_labeled & (codes == code)].mean(axis=0)
                for code in each
            ]
        )
        moved -= moved.mean(axis=0)
        moved /= np.sqrt((moved**2).sum(axis=1, keepdims=True)) + 1e-30
        along[~kept] = rows[~kept] @ moved.T
    return min(
        _share_explained(
            along[:n, code][codes[:n] == code],
            along[:n, code][codes[:n] != code],
            along[n:, code][codes[n:] == code],
        )
        for code in each
    )


def _share_explained(own: Doubles, foreign: Doubles, others: Doubles) -> float:
    """How much of how `others` are distributed unlike `own` mixing `foreign` values in explains."""
    samples = [np.sort(each) for each in (own, foreign, others)]
    places = np.concatenate(samples)
    weights = np.concatenate([np.full(len(each), 1 / (3 * len(each))) for each in samples])
    shares = [np.searchsorted(each, places, side="right") / len(each) for each in samples]
    wanted, given = shares[2] - shares[0], shares[1] - shares[0]
    part = float(np.clip((weights * wanted * given).sum() / ((weights * given**2).sum() + 1e-30), 0, 1))
    # The variance of a share, on average over ranks, is a sixth of one over the number of values.
    chance = (1 / len(own) + 1 / len(others)) / 6
    left_by_chance = ((1 - part) ** 2 / len(own) + part**2 / len(foreign) + 1 / len(others)) / 6
    unlike = float((weights * wanted**2).sum())
    left = float((weights * (wanted - part * given) ** 2).sum())
    return 1 - (left - left_by_chance) / (unlike - chance) if unlike > 2 * chance else 0.0


def _error_of_second(rows: Floats, codes: Codes, labels: Codes, seed: int) -> float:
    """The share of labeled rows, held out, that what labeled classes differ in beside classes wrongly."""
    n, wrong = len(labels), 0
    folds = _dealt(codes[:n], np.random.default_rng(seed))
    for fold in range(_FOLDS):
        held = np.flatnonzero(folds == fold)
        order = np.concatenate([np.flatnonzero(folds != fold), np.arange(n, len(rows)), held])
        kept, known = order[: len(rows) - len(held)], n - len(held)
        beside, _ = _differences(rows[kept], codes[kept], (np.arange(len(kept)) < known)[None])
        said = _second(rows[order], codes[order], known, beside[0])[len(kept) :]
        wrong += int((said != labels[held]).sum())
    return wrong / n


def _dealt(sorts: Codes, random: np.random.Generator) -> Codes:
    """The fold of each row, (rows,), each sort of rows dealt out evenly."""
    folds = np.empty(len(sorts), dtype=np.int64)
    for sort in np.unique(sorts):
        mine = random.permutation(np.flatnonzero(sorts == sort))
        folds[mine] = np.arange(len(mine)) % _FOLDS
    return folds


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
    lead = leads(ridge_scores(rows, np.arange(n), labels))
    return np.asarray(lead <= np.quantile(lead[:n], _BEYOND))


def _square(of: Floats) -> float:
    return float((of.astype(np.float64) ** 2).sum())
