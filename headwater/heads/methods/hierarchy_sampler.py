"""A sampler that balances classes and the groups inside them, and the SGD head that is trained by it.

The sampler knows arrays alone, so that it serves any training loop.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from headwater.checkpoints import load_state_dict
from headwater.errors import RequestError
from headwater.heads.methods.erm import TrainSettings
from headwater.heads.methods.hierarchy import GROUPS_OF_TRAIN
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, LogUniform, method
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.specs.spec import Codes, HeadSpec, Minibatch, Penalty, Rows
from headwater.heads.tasks.task import Task


class HierarchicalSampler:
    """Draws rows so that classes, and the groups inside each class, are balanced: a sampler for PyTorch.

    Of each class every group gives as many rows, without replacement, as the class's smallest group has; they
    are shuffled. The classes take turns, a row each, until it is the turn of one that has no more. Iterating
    yields row numbers, Python integers, and draws anew each time; give it as a DataLoader's `sampler`.

    `target` (rows,) and `groups` (rows,) are whole numbers; a group that two classes have counts as one of
    each. `random`: a generator or a seed. RequestError where they differ in length or are empty.
    """

    def __init__(
        self, target: ArrayLike, groups: ArrayLike, *, random: np.random.Generator | int = 0
    ) -> None:
        classes, owned = np.asarray(target), np.asarray(groups)
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
        order = self._random.permutation(len(self._target))
        order = order[np.argsort(self._group[order], kind="stable")]
        group = self._group[order]
        kept = order[np.arange(len(order)) - self._starts[group] < self._allowed[group]]
        kept = self._random.permutation(kept)
        kept = kept[np.argsort(self._target[kept], kind="stable")]
        of_class = self._target[kept]
        counts = np.bincount(of_class)
        turn = np.arange(len(kept)) - (np.cumsum(counts) - counts)[of_class]
        taking_turns = np.lexsort((of_class, turn))
        return np.asarray(kept[taking_turns[: len(self)]], dtype=np.int64)


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
    return Outcome(head, {"rows_per_epoch": len(sampler), "rows_seen": len(seen)})


def starting_head(path: str, task: Task) -> LinearHead:
    """The last layer, `fc`, of a checkpoint, or a head file's; RequestError where it has another shape."""
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
