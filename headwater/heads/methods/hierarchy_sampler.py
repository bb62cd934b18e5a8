"""Samplers that balance over classes and groups, or over a tree, and the SGD head that is trained by one.

Samplers know arrays and trees alone, so that they serve any training loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from headwater.checkpoints import load_state_dict
from headwater.errors import RequestError
from headwater.heads.methods.erm import TrainSettings
from headwater.heads.methods.hierarchy import EVERY, GROUPS_OF_TRAIN, balanced_masses
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, LogUniform, method
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.specs.spec import Codes, HeadSpec, Minibatch, Penalty, Rows
from headwater.heads.tasks.task import Task
from headwater.store import Column
from headwater.taxonomy import Taxonomy


class HierarchicalSampler:
    """Draws rows so that classes, and the groups inside each class, are balanced: a sampler for PyTorch.

    Of each class every group gives as many rows, without replacement, as the class's smallest group has; they
    are shuffled. The classes take turns, a row each, until it is the turn of one that has no more. Iterating
    yields row numbers, Python integers, and draws anew each time; give it as a DataLoader's `sampler`.

    `target` (rows,) and `groups` (rows,) are whole numbers, or columns of a store; a group that two classes
    have counts as one of each. `random`: a generator or a seed. RequestError where they differ in length, are
    empty, or a column has no value in some row.
    """

    def __init__(
        self, target: ArrayLike | Column, groups: ArrayLike | Column, *, random: np.random.Generator | int = 0
    ) -> None:
        classes, owned = _codes_of(target), _codes_of(groups)
        if classes.ndim != 1 or classes.shape != owned.shape or not len(classes):
            raise RequestError(
                f"a sampler needs a class and a group for each row, not arrays of shapes {classes.shape} and"
                f" {owned.shape}"
            )
        _, self._target = np.unique(classes, return_inverse=True)
        pairs, self._group = np.unique(np.stack([self._target, owned], axis=1), axis=0, return_inverse=True)
        self._group = self._group.reshape(-1)
        sizes, of_class = np.bincount(self._group), pairs[:, 0].astype(np.int64)
        smallest = np.full(len(np.unique(of_class)), len(classes), dtype=np.int64)
        np.minimum.at(smallest, of_class, sizes)
        self._allowed = smallest[of_class]
        rows = np.bincount(of_class, weights=self._allowed).astype(np.int64)
        self._turns = int(rows.min())
        self._last = int(rows.argmin())
        self._starts = np.cumsum(sizes) - sizes
        self._random = np.random.default_rng(random)

    def __len__(self) -> int:
        return self._turns * (int(self._target.max()) + 1) + self._last

    def __iter__(self) -> Iterator[int]:
        return iter(self.draw().tolist())

    def draw(self) -> NDArray[np.int64]:
        """One epoch's rows in order, (len(self),)."""
        order = _shuffled_by(self._group, self._random)
        group = self._group[order]
        kept = order[np.arange(len(order)) - self._starts[group] < self._allowed[group]]
        kept = self._random.permutation(kept)
        kept = kept[np.argsort(self._target[kept], kind="stable")]
        of_class = self._target[kept]
        counts = np.bincount(of_class)
        turn = np.arange(len(kept)) - (np.cumsum(counts) - counts)[of_class]
        taking_turns = np.lexsort((of_class, turn))
        return np.asarray(kept[taking_turns[: len(self)]], dtype=np.int64)


class BalancedSampler:
    """Draws rows so that the nodes of a tree share an epoch as `HierRW` has them share weight: for PyTorch.

    Each node gets its part of the rows, but for less than one row, and inside it a row comes at most once
    more often than another; all are shuffled. Iterating yields row numbers, Python integers, and draws anew
    each time; give it as a DataLoader's `sampler`. Rows of small groups come several times in an epoch.

    `tree` and `node` (rows,), the node right at which each row lies, are what `taxonomy.from_columns` gives.
    `level`: a level whose nodes share alike, by name or number, or `every` for all levels from the roots
    down. `temper` in [0, 1]: 0 makes nodes equal, 1 the groups; `smoothing`: the images that a group needs
    for half of its weight, so that endless smoothing draws rows alike. `rows`: how many an epoch draws, None
    for as many as there are. `random`: a generator or a seed. RequestError for numbers out of these ranges,
    rows without a node and a level that the tree lacks.
    """

    def __init__(
        self,
        tree: Taxonomy,
        node: ArrayLike,
        *,
        level: int | str = EVERY,
        temper: float = 0.0,
        smoothing: float = 0.0,
        rows: int | None = None,
        random: np.random.Generator | int = 0,
    ) -> None:
        self._node: NDArray[np.int64] = np.asarray(node, dtype=np.int64)
        if self._node.ndim != 1 or not len(self._node):
            raise RequestError(
                f"a sampler needs the node of each row, not an array of shape {self._node.shape}"
            )
        outside = (self._node < 0) | (self._node >= len(tree))
        if outside.any():
            row = int(outside.argmax())
            raise RequestError(
                f"row {row} has the node {self._node[row]}, and the tree has 0 to {len(tree) - 1}; leave out "
                "rows without a place in it"
            )
        self._rows = len(self._node) if rows is None else rows
        if not 0 <= temper <= 1 or not 0 <= smoothing < np.inf or self._rows < 1:
            raise RequestError(
                f"a sampler needs a temper from 0 to 1, a smoothing of at least 0 and a row to draw, not"
                f" {temper:g}, {smoothing:g} and {self._rows}"
            )
        self._counts = np.bincount(self._node, minlength=len(tree))
        masses = balanced_masses(tree, self._counts.astype(np.float64), level, temper, smoothing)
        ends = masses.cumsum()
        self._ends = ends / ends[-1]
        self._random = np.random.default_rng(random)

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        return iter(self.draw().tolist())

    def draw(self) -> NDArray[np.int64]:
        """One epoch's rows in order, (len(self),)."""
        # Even steps from one random start: each node's count is right on average, and never off by a row.
        ends = np.minimum(np.floor(self._ends * self._rows + self._random.random()), self._rows)
        times = np.diff(ends.astype(np.int64), prepend=0)
        order = _shuffled_by(self._node, self._random)
        node = self._node[order]
        turn = np.arange(len(order)) - (self._counts.cumsum() - self._counts)[node]
        every, left = np.divmod(times, np.maximum(self._counts, 1))
        drawn = np.repeat(order, every[node] + (turn < left[node]))
        return np.asarray(self._random.permutation(drawn), dtype=np.int64)


def _codes_of(values: ArrayLike | Column) -> NDArray[Any]:
    if not isinstance(values, Column):
        return np.asarray(values)
    codes, _ = values.codes()
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        raise RequestError(
            f"column {values.name!r} has no value in row {row}; sample from the rows "
            "that have one, as column.take(rows) gives them"
        )
    return codes


def _shuffled_by(code: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """The places of codes, ascending by code and shuffled among those of one."""
    order = random.permutation(len(code))
    return np.asarray(order[np.argsort(code[order], kind="stable")], dtype=np.int64)


class HierSamplerSettings(TrainSettings):
    """As published: SGD without momentum on features as they are, from the network's own last layer."""

    l2: float = Field(0.0, ge=0, description="weight decay, beside the mean loss")
    standardise: bool = Field(False, description="train on features of mean 0 and deviation 1 over train")
    epochs: int = Field(20, ge=1, description="how many times the sampler is run through")
    batch: int = Field(1024, ge=1, description="rows of a step; an epoch's last has what is left")
    rate: float = Field(0.01, gt=0, description="learning rate, constant")
    momentum: float = Field(0.0, ge=0, lt=1, description="of the steps")
    start: str = Field(
        "", description="a head or a network's checkpoint to start at the fc of; empty: at zero"
    )


@method(
    "HierSampler",
    settings=HierSamplerSettings,
    needs=GROUPS_OF_TRAIN,
    paper="Nafisi 2024, Hierarchical Group Robustness (solution of the Rayan AI contest)",
    space={"rate": LogUniform(1e-2, 1.0), "epochs": Among((20, 200))},
    checks={"start": lambda task, start: starting_head(start, task) if start else None},
)
def hier_sampler(task: Task, settings: HierSamplerSettings, random: np.random.Generator) -> Recipe:
    """SGD on batches balanced over classes and over the groups in each, every group cut to the smallest.

    The sampler is `HierarchicalSampler`; it draws anew in every epoch.
    """
    images = task.plain("train")
    sampler = HierarchicalSampler(task.target[images], task.groups[images], random=random)
    drawn = images[np.concatenate([sampler.draw() for _ in range(settings.epochs)])]
    if task.views:  # an image is drawn as one of its views, as a transform makes another each time
        drawn = drawn + task.images * random.integers(task.views + 1, size=len(drawn))
    seen, order = np.unique(drawn, return_inverse=True)
    spec = HeadSpec(
        rows=Rows(seen),
        penalty=Penalty(l2=settings.l2),
        scaler_rows=task.rows("train") if settings.standardise else None,
        start=starting_head(settings.start, task) if settings.start else None,
        minibatch=Minibatch(
            epochs=settings.epochs,
            batch=settings.batch,
            rate=settings.rate,
            momentum=settings.momentum,
            order=Codes(order),
        ),
        max_iterations=settings.max_iterations,
    )
    (head,) = yield [spec]
    if not (np.isfinite(head.weight).all() and np.isfinite(head.bias).all()):
        raise RequestError(
            f"HierSampler's steps ran off beyond all numbers within {settings.epochs} epochs; lower its "
            f"rate, now {settings.rate:g}"
        )
    return Outcome(head, {"rows_per_epoch": len(sampler), "rows_seen": len(seen)})


def starting_head(path: str, task: Task) -> LinearHead:
    """The last layer, `fc`, of a checkpoint, or a head file's; RequestError where it has another shape.

    Of a file that stays as it is the task keeps it.
    """
    try:
        at = Path(path).stat()
    except OSError:  # which reading it puts into words
        return _starting_head(path, task)
    key = ("start", path, at.st_mtime_ns, at.st_size)
    if key not in task.kept:
        task.kept[key] = _starting_head(path, task)
    head: LinearHead = task.kept[key]
    return head


def _starting_head(path: str, task: Task) -> LinearHead:
    state = load_state_dict(path)
    names = ("fc.weight", "fc.bias") if "fc.weight" in state else ("weight", "bias")
    if not set(names) <= set(state):
        raise RequestError(
            f"{path!r} has no last layer `fc` to start from; leave `start` out to start at zero"
        )
    weight, bias = (state[name].float().numpy() for name in names)
    wanted = (len(task.classes), task.dim)
    if weight.shape != wanted or bias.shape != wanted[:1]:
        raise RequestError(
            f"the fc of {path!r} has the shape {weight.shape}, and {wanted[0]} classes on {wanted[1]} "
            f"features need {wanted}; leave `start` out to start at zero"
        )
    return LinearHead(weight, bias, Convergence(False, 0, float("nan"), float("nan"), f"as it is in {path}"))
