"""The same method by us and by the libraries people use, on the same features: worst group and seconds.

Peers: scikit-learn, skglm, imbalanced-learn, SpuCo (`pip install skglm imbalanced-learn spuco`). One that is
absent, or that fails, is printed as such with its own words. Waterbirds-shaped features
are made; `PACS` in the environment, as for the benchmark `pacs`, takes its first task instead.
"""

from __future__ import annotations

import importlib
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.common import Claim, Result, Table
from benchmarks.pacs import PAIRS, balanced, task_of
from benchmarks.waterbirds import waterbirds_like
from headwater.heads.methods import methods, plan
from headwater.heads.methods.dfr import halved
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.methods.subsampling import balanced_subset
from headwater.heads.tasks.task import Task

L2 = 0.01  # of every head but those of DFR; C = 1/(l2 n) in scikit-learn, weight decay in SpuCo
C_VALUES = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
MARGIN = 0.03  # worst-group accuracy; subsets and SGD are drawn differently on either side

Predict = Callable[[], NDArray[np.int64]]  # class codes of the rows of test


@dataclass(frozen=True)
class Size:
    """Of the Waterbirds-shaped task, and how long SpuCo's loops run."""

    share: float
    dim: int
    subsets: int
    epochs: int


FULL = Size(1.0, 2048, 20, 20)
QUICK = Size(0.06, 48, 3, 1)


@dataclass(frozen=True)
class World:
    """A task with its features standardised by train, as every peer gets them."""

    task: Task
    x: NDArray[np.float32]
    size: Size

    @property
    def train(self) -> NDArray[np.int64]:
        """Rows of train."""
        return self.task.splits["train"]

    @property
    def val(self) -> NDArray[np.int64]:
        """Rows of val."""
        return self.task.splits["val"]

    def worst(self, predicted: NDArray[np.int64], split: str = "test") -> float:
        """The lowest accuracy over the groups of a split."""
        rows = self.task.splits[split]
        right, groups = predicted == self.task.target[rows], self.task.groups[rows]
        return min(float(right[groups == g].mean()) for g in np.unique(groups))


def world(size: Size) -> World:
    """The features of this run."""
    place = os.environ.get("PACS")
    if place and size is FULL:
        with np.load(place) as stored:
            task = task_of({name: stored[name] for name in stored.files}, next(iter(PAIRS)), 0)
    else:
        task = waterbirds_like(dim=size.dim, share=size.share)
    x = np.asarray(task.features, dtype=np.float32)
    train = x[task.splits["train"]]
    scale = train.std(axis=0)
    return World(task, (x - train.mean(axis=0)) / np.where(scale > 0, scale, 1), size)


def ours(here: World, name: str, **settings: Any) -> Predict:
    """A method of the bank."""

    def predict() -> NDArray[np.int64]:
        (fitted,) = run_recipes(here.task, [plan(here.task, name, settings)], device="cpu")
        return np.asarray(fitted.head.predict(here.task.features[here.task.splits["test"]]))

    return predict


def logistic(
    here: World, rows: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """scikit-learn's logistic regression on rows."""
    model = LogisticRegression(C=1 / (L2 * len(rows)), max_iter=2_000)
    model.fit(here.x[rows], here.task.target[rows], weights)
    return np.asarray(model.predict(here.x[here.task.splits["test"]]))


def undersampled(here: World, codes: NDArray[np.int64]) -> Predict:
    """imbalanced-learn's sampler, then scikit-learn; `codes` is what is made equally frequent."""
    sampler = importlib.import_module("imblearn.under_sampling").RandomUnderSampler(random_state=0)

    def predict() -> NDArray[np.int64]:
        place, _ = sampler.fit_resample(np.arange(len(here.train))[:, None], codes[here.train])
        return logistic(here, here.train[place.ravel()])

    return predict


Sparse = Callable[[NDArray[np.float32], NDArray[np.int64], float], tuple[NDArray[Any], float]]


def liblinear(x: NDArray[np.float32], y: NDArray[np.int64], c: float) -> tuple[NDArray[Any], float]:
    """One sparse head of scikit-learn."""
    model = LogisticRegression(C=c, l1_ratio=1.0, solver="liblinear", random_state=0).fit(x, y)
    return model.coef_[0], float(model.intercept_[0])


def skglm_head(x: NDArray[np.float32], y: NDArray[np.int64], c: float) -> tuple[NDArray[Any], float]:
    """One sparse head of skglm, whose penalty stands beside the mean loss."""
    model = importlib.import_module("skglm").SparseLogisticRegression(alpha=1 / (c * len(y)))
    model.fit(np.asarray(x, dtype=np.float64), y)
    return model.coef_.ravel(), float(np.ravel(model.intercept_)[0])


def skglm_ready(here: World) -> Predict:
    """The loops around skglm once it has been compiled, which takes far longer than a head."""
    skglm_head(here.x[here.val][:, :8], here.task.target[here.val], 1.0)
    return dfr(here, skglm_head)


def dfr(here: World, head: Sparse) -> Predict:
    """The published loops of DFR on val around any sparse head."""

    def predict() -> NDArray[np.int64]:
        task, random = here.task, np.random.default_rng(0)
        tuning, held_out = halved(here.val, task.groups[here.val], random)
        subset = balanced_subset(tuning, task.groups[tuning], random).index

        def worst(c: float) -> float:
            coef, bias = head(here.x[subset], task.target[subset], c)
            right = (here.x[held_out] @ coef + bias > 0) == task.target[held_out]
            groups = task.groups[held_out]
            return min(float(right[groups == g].mean()) for g in np.unique(groups))

        chosen = max(C_VALUES, key=worst)
        drawn = [
            balanced_subset(here.val, task.groups[here.val], random).index for _ in range(here.size.subsets)
        ]
        fitted = [head(here.x[rows], task.target[rows], chosen) for rows in drawn]
        coef = np.mean([each for each, _ in fitted], axis=0)
        score = here.x[task.splits["test"]] @ coef + np.mean([bias for _, bias in fitted])
        return np.asarray((score > 0).astype(np.int64))

    return predict


class _Labelled(torch.utils.data.Dataset[Any]):
    """Rows as SpuCo's trainers want them: (features, class), or with the group as a third."""

    def __init__(self, here: World, rows: NDArray[np.int64], *, groups: bool) -> None:
        self.x = torch.from_numpy(here.x[rows])
        self.y = torch.from_numpy(here.task.target[rows])
        self.g = torch.from_numpy(here.task.groups[rows]) if groups else None
        codes = here.task.groups[rows]
        self.group_partition = {(int(g), 0): np.flatnonzero(codes == g).tolist() for g in np.unique(codes)}

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, ...]:
        both = (self.x[place], self.y[place])
        return both if self.g is None else (*both, self.g[place])


def spuco_train(here: World, name: str) -> Predict:
    """One of SpuCo's trainers on a linear layer: SGD with momentum, their batches."""
    module = importlib.import_module("spuco.robust_train")

    def predict() -> NDArray[np.int64]:
        torch.manual_seed(0)
        rows = _Labelled(here, here.train, groups=name == "GroupDRO")
        model = torch.nn.Linear(here.x.shape[1], len(here.task.classes))
        given: dict[str, Any] = {
            "model": model,
            "trainset": rows,
            "batch_size": 128,
            "optimizer": torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=L2),
            "num_epochs": here.size.epochs,
        }
        if name in ("GroupBalanceBatchERM", "DownSampleERM"):
            given["group_partition"] = rows.group_partition
        getattr(module, name)(**given).train()
        with torch.no_grad():
            scores = model(torch.from_numpy(here.x[here.task.splits["test"]]))
        return np.asarray(scores.argmax(1).numpy())

    return predict


def spuco_dfr(here: World) -> Predict:
    """SpuCo's last-layer retraining with its defaults: half of val to tune, 20 heads."""
    retrain = importlib.import_module("spuco.last_layer_retrain").DFR
    wrapper = importlib.import_module("spuco.datasets").GroupLabeledDatasetWrapper

    def predict() -> NDArray[np.int64]:
        rows = _Labelled(here, here.val, groups=False)
        model = torch.nn.Module()
        model.backbone = torch.nn.Identity()
        found = retrain(
            wrapper(rows, rows.group_partition), model, n_lin_models=here.size.subsets, data_for_scaler=None
        )
        found.train()
        _, coef, bias, _ = found.linear_model
        return np.asarray((here.x[here.task.splits["test"]] @ coef[0] + bias[0] > 0).astype(np.int64))

    return predict


def contests(here: World) -> list[tuple[str, dict[str, Any], str, Callable[[], Predict]]]:
    """Our method with its settings, the peer's name, and what makes the peer ready."""
    task, plain = here.task, {"l2": L2}
    tuned = {"subsets": here.size.subsets}
    return [
        ("ERM", plain, "scikit-learn", lambda: lambda: logistic(here, here.train)),
        ("ERM", plain, "SpuCo ERM", lambda: spuco_train(here, "ERM")),
        (
            "RWG",
            plain,
            "scikit-learn sample_weight",
            lambda: lambda: logistic(here, here.train, balanced(task.groups[here.train])),
        ),
        ("RWG", plain, "SpuCo GroupBalanceBatchERM", lambda: spuco_train(here, "GroupBalanceBatchERM")),
        ("SUBY", plain, "imbalanced-learn", lambda: undersampled(here, task.target)),
        ("SUBG", plain, "imbalanced-learn", lambda: undersampled(here, task.groups)),
        ("SUBG", plain, "SpuCo DownSampleERM", lambda: spuco_train(here, "DownSampleERM")),
        ("DFR-val", tuned, "scikit-learn liblinear", lambda: dfr(here, liblinear)),
        *([] if here.size == QUICK else [("DFR-val", tuned, "skglm", lambda: skglm_ready(here))]),
        ("DFR-val", tuned, "SpuCo DFR", lambda: spuco_dfr(here)),
        ("GroupDRO", plain, "SpuCo GroupDRO", lambda: spuco_train(here, "GroupDRO")),
    ]


@dataclass(frozen=True)
class Measured:
    """Worst group and seconds of one side; `said` is why there are none."""

    worst: float | None = None
    seconds: float | None = None
    said: str = ""


def measured(here: World, ready: Callable[[], Predict]) -> Measured:
    """Get one side ready, untimed, then fit and predict, timed. A peer's failure is a finding of its own."""
    try:
        predict = ready()
    except ImportError as error:
        return Measured(said=f"absent: {error}")
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predicted = predict()
    except (TypeError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
        return Measured(said=f"fails: {type(error).__name__}: {error}".splitlines()[0])
    return Measured(here.worst(predicted), time.perf_counter() - start)


def run(quick: bool) -> Result:
    """Every contest on the same features; each of our methods is run once."""
    here = world(QUICK if quick else FULL)
    known, mine = methods(), {}
    rows: list[Sequence[Any]] = []
    claims = []
    for name, settings, peer, ready in contests(here):
        if name not in known:
            continue
        if name not in mine:
            mine[name] = measured(here, lambda n=name, s=settings: ours(here, n, **s))
            if mine[name].said:
                raise RuntimeError(f"{name} {mine[name].said}")
        we, they = mine[name], measured(here, ready)
        rows.append((name, we.worst, we.seconds, peer, they.worst, they.seconds, they.said))
        if we.worst is not None and they.worst is not None:
            claims.append(
                Claim.at_least(f"{name}: worst group minus that of {peer}", we.worst - they.worst, -MARGIN)
            )
    for lower, higher in (("ERM", "RWG"), ("ERM", "SUBG"), ("RWG", "DFR-val"), ("ERM", "GroupDRO")):
        if lower not in mine or higher not in mine:
            continue
        gap = (mine[higher].worst or 0.0) - (mine[lower].worst or 0.0)
        claims.append(Claim.at_least(f"{higher} above {lower}, as published: worst group", gap, 0.0))
    counts = ", ".join(f"{name} {len(index)}" for name, index in here.task.splits.items())
    return Result(
        tables=[
            Table(
                "the same method, twice",
                ("method", "worst group", "seconds", "peer", "its worst group", "its seconds", ""),
                rows,
            )
        ],
        claims=claims,
        notes=[
            f"Rows: {counts}; {here.task.dim} features. Seconds fit and predict, once, one after the other; "
            "scaling and imports are not counted for the peers, scaling is for ours.",
            f"SpuCo steps by SGD for {here.size.epochs} epochs of batches of 128 instead of solving; its own "
            "loaders start four processes an epoch.",
        ],
    )
