"""Every method on six spurious-correlation tasks of PACS, chosen by validation, beside scikit-learn.

`PACS` in the environment names an npz with `features`, `category` and `domain`, a row per image of PACS;
without it (or with --quick) features that are like them are made, and the figures say nothing about PACS.
`METHODS` names the methods, comma-separated; without it those of METHODS are run, `all` runs all.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ttest_1samp
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from benchmarks.common import Claim, Result, Table
from headwater.heads.methods import plan
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.sweeps.results import SweepResult, judged
from headwater.heads.sweeps.selection import RULES, best, find_rule
from headwater.heads.sweeps.sweeping import sweep
from headwater.heads.tasks.task import Task

RULE = "cv_worst_group"  # 25 images of each group on val
TARGET = 0.84
SIGNIFICANT = 0.01  # of a paired one-sided t-test over tasks x seeds

# Two categories, two domains. On train they go together: 110 images of the first category in the first domain
# and of the second in the second, 4 of each crossing; val has 25 and test 50 of each of the four.
PAIRS = {
    f"{a}/{b}, {c.removesuffix('_painting')}/{d}": ((a, b), (c, d))
    for a, b in (("dog", "horse"), ("elephant", "giraffe"), ("dog", "elephant"))
    for c, d in (("photo", "sketch"), ("art_painting", "cartoon"))
}
TRAIN, VAL, TEST = (110, 4, 4, 110), 25, 50


METHODS = ("ERM", "RWG", "SUBG", "DFR-val", "LLR-group", "CV-GroupDRO")


@dataclass(frozen=True)
class Size:
    """How much is tried: settings drawn of each method, splits of each task, how many tasks."""

    draws: int
    seeds: int
    tasks: int
    methods: tuple[str, ...] = METHODS


FULL = Size(draws=4, seeds=5, tasks=6)
QUICK = Size(draws=2, seeds=2, tasks=1, methods=("ERM", "RWG", "SUBG"))


@dataclass(frozen=True)
class Trial:
    """One task with one split: what the references and the sweep made of it.

    `alike` is the worst group on test of methods with the strength of their counterpart.
    """

    task: str
    seed: int
    references: dict[str, float]
    alike: dict[str, float]
    swept: SweepResult

    def chosen(self, method: str | None = None, rule: str = RULE) -> tuple[str, float]:
        """Which method's candidate the rule picks (of `method`, or of all), and its worst group on test."""
        among = [each for each in judged(self.swept.table) if method in (None, each.method)]
        found = best(among, find_rule(rule))
        return ("", float("nan")) if found is None else (found.method, found.test["worst_group"])


def features_like_pacs(seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Rectified features of every category and domain of PAIRS, 190 rows of each, 64 wide."""
    random = np.random.default_rng(seed)
    categories = sorted({each for pair, _ in PAIRS.values() for each in pair})
    domains = sorted({each for _, pair in PAIRS.values() for each in pair})
    what = {each: random.standard_normal(64) for each in categories}
    where = {each: 1.5 * random.standard_normal(64) for each in domains}
    cells = [(each, domain) for each in categories for domain in domains]
    rows = [
        np.maximum(what[each] + where[domain] + 3 * random.standard_normal((190, 64)), 0)
        for each, domain in cells
    ]
    category, domain = (np.repeat([cell[part] for cell in cells], 190) for part in (0, 1))
    return {"features": np.concatenate(rows).astype(np.float16), "category": category, "domain": domain}


def task_of(data: dict[str, NDArray[np.generic]], name: str, seed: int) -> Task:
    """The task `name` with the rows drawn by `seed`: test first, then val, then train."""
    random = np.random.default_rng(seed)
    (first, second), (here, there) = PAIRS[name]
    cells = [(first, here), (first, there), (second, here), (second, there)]
    rows, split = [], []
    for (category, domain), train in zip(cells, TRAIN, strict=True):
        found = np.flatnonzero((data["category"] == category) & (data["domain"] == domain))
        taken = random.permutation(found)[: TEST + VAL + train]
        rows.append(taken)
        split += ["test"] * TEST + ["val"] * VAL + ["train"] * (len(taken) - TEST - VAL)
    index = np.concatenate(rows)
    return Task.from_arrays(
        data["features"][index].astype(np.float32),
        data["category"][index],
        {"domain": data["domain"][index]},
        split,
        target_name="category",
    )


def balanced(codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights of mean 1 that give every code the same total."""
    weights = 1.0 / np.bincount(codes)[codes]
    return np.asarray(weights / weights.mean())


def references(task: Task, seed: int) -> dict[str, float]:
    """Worst-group accuracy on test of what anyone would write with scikit-learn; scaled as on train."""
    train, val, test = (task.splits[name] for name in ("train", "val", "test"))
    scale = task.features[train].std(axis=0)
    x = (task.features - task.features[train].mean(axis=0)) / np.where(scale > 0, scale, 1)
    x = x.astype(np.float64)
    both = np.concatenate([train, val])

    def logistic(c: float, rows: NDArray[np.int64], weigh: bool = False) -> NDArray[np.int64]:
        weights = balanced(task.groups[rows]) if weigh else None
        model = LogisticRegression(C=c, max_iter=2_000).fit(x[rows], task.target[rows], weights)
        return np.asarray(model.predict(x))

    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x[val], task.target[val])
    predicted = {
        "ERM": logistic(1.0, train),
        "group-weighted on train": logistic(1.0, train, True),
        "subsampled groups of train": logistic(1.0, _subsampled(task, train, seed)),
        "L2 on val, C = 0.01": logistic(0.01, val),
        "shrinkage LDA on val": np.asarray(lda.predict(x)),
        "group-weighted on train + val, C = 0.001": logistic(0.001, both, True),
        "DFR loop, liblinear": _dfr(task, x, seed),
    }
    right = {name: (each == task.target)[test] for name, each in predicted.items()}
    groups = task.groups[test]
    return {name: min(each[groups == g].mean() for g in np.unique(groups)) for name, each in right.items()}


def _subsampled(task: Task, rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    random = np.random.default_rng(seed)
    groups = task.groups[rows]
    fewest = np.bincount(groups).min()
    return np.concatenate([random.permutation(rows[groups == g])[:fewest] for g in np.unique(groups)])


def _dfr(task: Task, x: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """The published loop: C by halves of val, then 20 balanced subsets of it, coefficients averaged."""
    random = np.random.default_rng(seed)
    val = task.splits["val"]

    def model(rows: NDArray[np.int64], c: float) -> LogisticRegression:
        return LogisticRegression(C=c, l1_ratio=1.0, solver="liblinear").fit(x[rows], task.target[rows])

    half = random.permutation(val)
    held_out, tuning = half[: len(half) // 2], half[len(half) // 2 :]
    subset = _subsampled(task, tuning, seed)
    groups = task.groups[held_out]

    def worst(c: float) -> float:
        right = model(subset, c).predict(x[held_out]) == task.target[held_out]
        return min(float(right[groups == g].mean()) for g in np.unique(groups))

    chosen = max((1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01), key=worst)
    fitted = [model(_subsampled(task, val, seed + 1000 + k), chosen) for k in range(20)]
    score = x @ np.mean([m.coef_[0] for m in fitted], axis=0) + np.mean([m.intercept_[0] for m in fitted])
    return np.asarray((score > 0).astype(np.int64))


# Which reference a method must not fall behind.
COUNTERPARTS = {
    "ERM": "ERM",
    "RWG": "group-weighted on train",
    "SUBG": "subsampled groups of train",
    "DFR-val": "DFR loop, liblinear",
    "LLR-group": "L2 on val, C = 0.01",
    "CV-GroupDRO": "group-weighted on train + val, C = 0.001",
}


# scikit-learn's C sums over the rows: l2 = 1 / (C n). `DFR-val` tunes its strength by the counterpart's grid.
ALIKE: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "ERM": lambda train, val: {"l2": 1 / train},
    "RWG": lambda train, val: {"l2": 1 / train},
    "SUBG": lambda train, val: {"l2": 1 / (4 * min(TRAIN))},
    "DFR-val": lambda train, val: {"penalised_intercept": True},
    "LLR-group": lambda train, val: {"l2": 1 / (0.01 * val)},
    "CV-GroupDRO": lambda train, val: {"l2": 1 / (0.001 * (train + val)), "updates": 0, "half_whiten": False},
}


def alike(task: Task, seed: int, names: Sequence[str]) -> dict[str, float]:
    """Worst-group accuracy on test of the methods of that name with the settings of their counterparts."""
    sizes = len(task.splits["train"]), len(task.splits["val"])
    planned = [
        plan(task, name, settings(*sizes), seed=seed) for name, settings in ALIKE.items() if name in names
    ]
    fitted = run_recipes(task, planned, device="cpu")
    test = task.splits["test"]
    found = {}
    for each in fitted:
        right = task.logits([each.head], test)[0].argmax(axis=1) == task.target[test]
        found[each.method] = min(float(right[task.groups[test] == g].mean()) for g in range(4))
    return found


def trial(task: Task, size: Size, name: str, seed: int) -> Trial:
    """A task with a seed, swept and referenced, on one thread."""
    torch.set_num_threads(1)
    swept = sweep(task, methods=size.methods, draws=size.draws, seeds=[seed], device="cpu")
    swept_methods = swept.table["method"].to_pylist()
    return Trial(name, seed, references(task, seed), alike(task, seed, swept_methods), swept)


def trials(data: dict[str, NDArray[np.generic]], size: Size) -> list[Trial]:
    """Every task with every seed, as many at a time as there are cores, each in a process of its own."""
    wanted = [(name, seed) for name in list(PAIRS)[: size.tasks] for seed in range(size.seeds)]
    cores = len(os.sched_getaffinity(0))
    if cores == 1 or size == QUICK:
        return [trial(task_of(data, name, seed), size, name, seed) for name, seed in wanted]
    with ProcessPoolExecutor(min(cores, len(wanted)), get_context("spawn")) as pool:
        running = [pool.submit(trial, task_of(data, name, seed), size, name, seed) for name, seed in wanted]
        return [each.result() for each in running]


def _row(name: str, found: Sequence[Trial], value: Callable[[Trial], float]) -> tuple[object, ...]:
    """Means by task, then over all, and the deviation over seeds of the mean over tasks."""
    by_task: dict[str, list[float]] = {}
    for each in found:
        by_task.setdefault(each.task, []).append(value(each))
    table = np.array(list(by_task.values()))
    spread = float(table.mean(axis=0).std(ddof=1))
    return (name, *(float(each) for each in table.mean(axis=1)), float(table.mean()), spread)


def no_weaker(differences: Sequence[float]) -> float:
    """The chance of so low a mean if the truth were 0: a one-sided paired t-test; 1 where nothing differs."""
    if len(set(differences)) == 1:
        return 1.0 if differences[0] >= 0 else 0.0
    return float(ttest_1samp(differences, 0.0, alternative="less").pvalue)


def run(quick: bool) -> Result:
    """Sweep, reference, choose; every claim is about the same splits."""
    place = os.environ.get("PACS")
    size = QUICK if quick else FULL
    if place and not quick:
        with np.load(place) as stored:
            data = {name: stored[name] for name in ("features", "category", "domain")}
    else:
        data = features_like_pacs()
    if named := os.environ.get("METHODS"):
        size = Size(size.draws, size.seeds, size.tasks, tuple(named.split(",")))
    found = trials(data, size)
    columns = ("", *dict.fromkeys(each.task for each in found), "mean", "sd over seeds")
    names = list(dict.fromkeys(found[0].swept.table["method"].to_pylist()))
    rules = []
    for rule in RULES:
        picks = Counter(each.chosen(rule=rule.name)[0] for each in found).most_common(3)
        row = _row(f"{rule.name}: {rule.sees}", found, lambda each, name=rule.name: each.chosen(rule=name)[1])
        rules.append((*row, ", ".join(f"{name} {count}" for name, count in picks)))
    paired, claims = [], []
    pick = float(np.mean([each.chosen()[1] for each in found]))
    claims.append(Claim.at_least(f"worst group on test, picked by {RULE}", pick, TARGET))
    for name, peer in COUNTERPARTS.items():
        if name in names:
            sides = {
                "settings chosen": [each.chosen(name)[1] for each in found],
                "same settings": [each.alike[name] for each in found],
            }
            theirs = [each.references[peer] for each in found]
            for how, ours in sides.items():
                differences = [mine - other for mine, other in zip(ours, theirs, strict=True)]
                chance = no_weaker(differences)
                paired.append((name, how, peer, float(np.mean(differences)), chance))
                said = f"{name}, {how}, not behind `{peer}`: p of the test"
                claims.append(Claim.at_least(said, chance, SIGNIFICANT))
    stand_in = "" if place and not quick else "PACS is not set: features are made up. "
    return Result(
        tables=[
            Table(
                f"worst-group accuracy on test, settings of each method chosen by {RULE}",
                columns,
                [_row(name, found, lambda each, m=name: each.chosen(m)[1]) for name in names],
            ),
            Table("picked among all methods, by rule", (*columns, "most picked"), rules),
            Table(
                "scikit-learn",
                columns,
                [_row(name, found, lambda each, r=name: each.references[r]) for name in found[0].references],
            ),
            Table("method minus counterpart", ("method", "", "counterpart", "mean", "p, one-sided"), paired),
        ],
        claims=claims,
        notes=[
            f"{stand_in}{size.seeds} splits of {len(columns) - 3} task(s), up to {size.draws} settings a "
            "method; train 110/4/4/110, val 25 and test 50 of each group.",
            "p: paired t-test over tasks and seeds of a mean below 0; a method is behind where p < "
            f"{SIGNIFICANT:g}. Methods that read val are judged out of fold on it.",
        ],
    )
