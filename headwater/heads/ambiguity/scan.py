"""The scan: do unlabeled rows show kinds that the labels never do, and do the labels say what those are?

It gathers what the rooms beside it find into one result; nothing is asked and nothing settled here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from headwater.heads.ambiguity.clustering import Clusterer, find_clusters
from headwater.heads.ambiguity.contradiction import Contradiction, contradiction
from headwater.heads.ambiguity.evidence import Evidence, gather_evidence
from headwater.heads.ambiguity.feature_rows import FeatureRows, joined, leading, plain_features
from headwater.heads.ambiguity.mix_rate import MixRate, Strata, best_cut, mix_rate, permutation_p_value
from headwater.heads.ambiguity.novelty import Folds, Scores, likely_classes, neighbour_scores
from headwater.heads.ambiguity.problem import Problem

ALARM = 0.95
"""Labels are called ambiguous from this score on: of sets that are not, at most 1 in 20 scores so high."""

_SURE = 1e-3
_TYPICAL = 8
_CLUSTERED = 40  # leading components that clusters are sought in
# Not letters, which name the readings that questions are about.
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")


@dataclass(frozen=True)
class Cluster:
    """A cluster of all rows: how many of each sort it has, and the rows that stand for it.

    `classes` counts labeled rows by class; `medoid` is the target row nearest to the centre (None where it
    has none), `typical` are up to 8 such rows. `is_unseen`: labeled rows are fewer than chance allows for.
    """

    number: int
    labeled: int
    unlabeled: int
    target: int
    classes: tuple[int, ...]
    is_unseen: bool
    medoid: int | None
    typical: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class FoundReading:
    """A way to read the labels that unseen rows tell from others.

    `fits` is its accuracy on held-out labeled rows; `unlabeled` and `target` are the class codes it gives to
    the unseen rows, those of `Scan.unseen_unlabeled` and `Scan.unseen_target` in order.
    """

    name: str
    fits: float
    unlabeled: NDArray[np.int64]
    target: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scan:
    """What was noticed.

    `score` in [0, 1] is how sure it is that labels are ambiguous, an alarm from `ALARM` on: 1 - the p-value
    of there being rows of unseen kinds on which readings that fit the labels contradict each other, 0 where
    none do. `novelty` is the same of rows unseen in any way, by their neighbours where the score is no alarm;
    `contradiction` how much the readings' shares of the classes overlap on rows they differ on. Rows that
    are new in another way, by noise, say, raise the novelty alone; another balance of classes
    raises neither. `mix_rate` is the share of unseen kinds among unlabeled rows, `target_rate` among target
    rows, with 80 % intervals: where the novelty is no alarm, 0, and how much it may be at most.
    `unseen_unlabeled` and `unseen_target` are the rows called unseen, those that readings tell of where
    there are any; `counted_unseen` is how many unlabeled and target rows are, where neighbours know of more.
    `cluster_of` (n + m + t,) are numbers in `clusters`, -1 for none. `sentences` say it in words.
    """

    score: float
    novelty: float
    contradiction: float
    mix_rate: MixRate
    target_rate: MixRate
    readings: tuple[FoundReading, ...]
    clusters: tuple[Cluster, ...]
    cluster_of: NDArray[np.int64]
    unseen_unlabeled: NDArray[np.int64]
    unseen_target: NDArray[np.int64]
    counted_unseen: tuple[int, int]
    evidence: Evidence
    told_by: str
    sentences: tuple[str, ...]

    @property
    def is_ambiguous(self) -> bool:
        """Whether the score is an alarm."""
        return self.score >= ALARM

    def summary(self) -> dict[str, Any]:
        """The figures as plain numbers, texts and lists, for JSON."""
        return {
            "score": self.score,
            "is_ambiguous": self.is_ambiguous,
            "novelty": self.novelty,
            "contradiction": self.contradiction,
            "mix_rate": _plain(self.mix_rate),
            "target_rate": _plain(self.target_rate),
            "readings": [{"name": each.name, "fits": each.fits} for each in self.readings],
            "clusters": [
                {**vars(each), "classes": list(each.classes), "typical": list(each.typical)}
                for each in self.clusters
            ],
            "unseen": dict(zip(("unlabeled", "target"), self.counted_unseen, strict=True)),
            "told_by": self.told_by,
            "sentences": list(self.sentences),
        }


def scan(
    problem: Problem,
    features: Sequence[FeatureRows] | None = None,
    *,
    seed: int = 0,
    clusterer: Clusterer = "kmeans",
    device: torch.device | None = None,
) -> Scan:
    """Look for kinds of rows that labels never show, and for readings of the labels that differ on them.

    `features`: any number of kinds of features of the rows, None for `plain_features`. The same seed
    gives the same scan. `device` is where k-means clusters rows (`clustering.k_means`).
    """
    given = plain_features(problem) if features is None else tuple(features)
    kinds = {each.name: leading(each.all) for each in given}
    whole = joined(list(kinds.values()))
    n, m = len(problem.labeled), len(problem.unlabeled)
    rest = whole[n:]
    folds = Folds.draw(problem.labels, len(rest), seed)
    strata = Strata(*likely_classes(whole[:n], problem.labels, rest, folds, seed=seed))
    # Plain features show one sort of feature each; those of a backbone or of patches show all there are.
    told = {"all features": leading(whole)} if features is None else kinds
    opposed = contradiction(told, problem.labels, seed=seed)
    score = novelty = 0.0 if opposed is None else 1 - opposed.p_value
    is_unlabeled = np.arange(len(rest)) < m
    readings: tuple[FoundReading, ...] = ()
    counted: list[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]] = []
    if opposed is not None and score >= ALARM:
        beyond, told_by = (opposed.labeled, opposed.rest), f"readings by {opposed.view}"
        counted.append((*beyond, opposed.looked_at))
        readings = _readings(opposed, is_unlabeled)
    if opposed is None or score < ALARM or not opposed.is_whole:
        measures = _measures(kinds, whole, problem.labels, folds, seed=seed)
        by_neighbours = 1 - permutation_p_value(measures, strata, folds, seed=seed)
        cut = best_cut(measures, strata)
        if not readings:
            beyond, told_by = (cut.labeled, cut.rest), cut.scores.name
        if not readings or by_neighbours >= ALARM:
            counted.append((cut.labeled, cut.rest, np.ones(len(rest), dtype=bool)))
        novelty = max(score, by_neighbours)
    unseen = beyond[1] & (novelty >= ALARM)
    found = find_clusters(leading(whole, _CLUSTERED), clusterer, seed=seed, device=device)
    clusters = _clusters(whole, found.codes, problem)
    unlabeled, target = np.flatnonzero(unseen & is_unlabeled), np.flatnonzero(unseen & ~is_unlabeled) - m
    # Where readings were sought among some rows alone, neighbours may know of more.
    rates, everywhere = [], unseen.copy()
    for part in (is_unlabeled, ~is_unlabeled):
        by_each = [mix_rate(ours, others, strata, among=part & among) for ours, others, among in counted]
        best = max(range(len(by_each)), key=lambda place: by_each[place].share)
        rates.append(by_each[best])
        everywhere |= counted[best][1] & part & (novelty >= ALARM)
    if novelty < ALARM:
        rates = [MixRate(0.0, 0.0, each.high) for each in rates]
    return Scan(
        score=score,
        novelty=novelty,
        contradiction=0.0 if opposed is None else opposed.balance,
        mix_rate=rates[0],
        target_rate=rates[1],
        readings=readings,
        clusters=clusters,
        cluster_of=found.codes,
        unseen_unlabeled=unlabeled,
        unseen_target=target,
        counted_unseen=(
            0 if problem.lacks_unlabeled else int((everywhere & is_unlabeled).sum()),
            int((everywhere & ~is_unlabeled).sum()),
        ),
        evidence=gather_evidence(problem, whole, everywhere, unseen, readings, seed=seed),
        told_by=told_by,
        sentences=_sentences(score, novelty, rates[0], len(readings), problem),
    )


def _measures(
    kinds: Mapping[str, NDArray[np.float32]],
    whole: NDArray[np.float32],
    labels: NDArray[np.int64],
    folds: Folds,
    *,
    seed: int,
) -> list[Scores]:
    """How new rows are by their neighbours, in all features together and in every kind of several."""
    views = [("all features", whole)]
    if len(kinds) > 1:
        views += [(name, joined([rows])) for name, rows in kinds.items()]
    n = len(labels)
    return [
        scores
        for name, rows in views
        for scores in neighbour_scores(name, rows[:n], labels, rows[n:], folds, seed=seed)
    ]


def _readings(opposed: Contradiction, is_unlabeled: NDArray[np.bool_]) -> tuple[FoundReading, ...]:
    count, mine = len(opposed.said), is_unlabeled[opposed.rest]
    names = [*_ROMAN, *(str(number) for number in range(len(_ROMAN) + 1, count + 1))]
    return tuple(
        FoundReading(name, float(fit), codes[mine], codes[~mine])
        for name, fit, codes in zip(names, opposed.fits, opposed.said, strict=False)
    )


def _clusters(whole: NDArray[np.float32], codes: NDArray[np.int64], problem: Problem) -> tuple[Cluster, ...]:
    n, m, t = len(problem.labeled), len(problem.unlabeled), len(problem.target)
    labels = problem.labels
    share = n / (n + m + t)
    count = int(codes.max()) + 1
    out = []
    for number in range(count):
        rows = np.flatnonzero(codes == number)
        centre = whole[rows].mean(axis=0) if len(rows) else whole.mean(axis=0)
        target = rows[rows >= n + m]
        order = np.argsort(((whole[target] - centre) ** 2).sum(axis=1), kind="stable")
        typical = (target[order] - n - m)[:_TYPICAL]
        ours = rows[rows < n]
        fewer = float(stats.binom.cdf(len(ours), len(rows), share)) if len(rows) else 1.0
        is_unseen = fewer < _SURE / count and len(ours) < share * len(rows) / 2
        out.append(
            Cluster(
                number=number,
                labeled=len(ours),
                unlabeled=0 if problem.lacks_unlabeled else int(((rows >= n) & (rows < n + m)).sum()),
                target=len(target),
                classes=tuple(
                    int(each) for each in np.bincount(labels[ours], minlength=len(problem.classes))
                ),
                is_unseen=is_unseen,
                medoid=int(typical[0]) if len(typical) else None,
                typical=tuple(int(each) for each in typical),
            )
        )
    return tuple(out)


def _plain(rate: MixRate) -> dict[str, float]:
    return {"share": rate.share, "low": rate.low, "high": rate.high}


def _sentences(
    score: float, novelty: float, rate: MixRate, readings: int, problem: Problem
) -> tuple[str, ...]:
    rows = "target rows" if problem.lacks_unlabeled else "unlabeled rows"
    if novelty < ALARM:
        what = rows[:1].upper() + rows[1:]
        return (f"{what} look like labeled ones: nothing in them makes the labels ambiguous.",)
    said = (
        f"About {rate.share:.0%} of the {rows} ({rate.low:.0%} to {rate.high:.0%}) are of kinds that "
        "the labels never show."
    )
    if score >= ALARM:
        return said, (
            f"{readings} readings of the labels fit them all and contradict each other on such rows: the "
            "labels are ambiguous, and only answers about such rows can settle it."
        )
    return said, (
        "They do not make the labels ambiguous as far as can be told: no two simple readings that fit the "
        "labels contradict each other on them. The rows differ in another way, by noise or light, say."
    )
