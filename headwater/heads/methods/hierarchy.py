"""Balance over a tree of groups as row weights: at one level of it, or at every level.

The tree is the task's (`Task.tree`); samplers that balance live in `hierarchy_sampler`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.errors import RequestError
from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, Needs, Uniform, method
from headwater.heads.specs.spec import Weights
from headwater.heads.tasks.task import Task
from headwater.taxonomy import Taxonomy

EVERY = "every"

# Species that only the test split has are no reason to refuse: they weigh nothing.
GROUPS_OF_TRAIN = Needs(groups_on=("train",), rows_per_group=0)


class HierarchySettings(TrainSettings):
    """What a node with n rows below claims of its parent's mass: n^temper · (n/(n + smoothing))^(1-temper).

    `temper` 0 and `smoothing` 0: as much as each of its siblings; `temper` 1: in proportion to its rows. A
    `smoothing` of s halves what is claimed for n = s rows, and leaves alone what has many.
    """

    level: int | str = Field(
        EVERY, description="balance the nodes of this level, by name or number from the root, or of every"
    )
    temper: float = Field(0.0, ge=0, le=1, description="0: siblings weigh the same; 1: as many as their rows")
    smoothing: float = Field(0.0, ge=0, description="how many rows a node needs for half of its weight")


def claims(counts: NDArray[np.float64], temper: float = 0.0, smoothing: float = 0.0) -> NDArray[np.float64]:
    """What nodes with `counts` rows below them claim beside their siblings; see `HierarchySettings`."""
    with np.errstate(invalid="ignore"):
        damped = np.where(counts > 0, counts / (counts + smoothing), 0.0)
        return np.asarray(np.where(counts > 0, counts**temper * damped ** (1 - temper), 0.0))


def balanced_masses(
    tree: Taxonomy, counts: NDArray[np.float64], level: int | str, temper: float, smoothing: float
) -> NDArray[np.float64]:
    """The mass (nodes,), 1 in all, of the `counts` (nodes,) rows that lie right at each node.

    Level `every`: each node's mass runs to its children by their claims, from the roots down; rows that lie
    right at a node with children stand beside these as one more. A level: all of its nodes share the mass by
    their claims, and a node's rows share it equally; a line that skips the level is balanced at its next
    node above, and lines that begin below it are balanced as one. RequestError for a level that the tree
    lacks.
    """
    if level == EVERY:
        return tree.down(claims(tree.up(counts), temper, smoothing), claims(counts, temper, smoothing))
    at = tree.within(np.arange(len(tree)), level) + 1
    beneath = np.bincount(at, weights=counts, minlength=len(tree) + 1).astype(np.float64)
    shares = claims(beneath, temper, smoothing)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = np.where(beneath > 0, shares / shares.sum() / beneath, 0.0)
    return np.asarray(counts * each[at])


def balanced_weights(task: Task, settings: HierarchySettings) -> Weights:
    """A weight for every row of train, by the balance that the settings ask for."""
    node = nodes_of_train(task)
    tree = task.tree.tree
    counts = np.bincount(node, minlength=len(tree)) / (task.views + 1)  # of images
    mass = balanced_masses(tree, counts, _level(task, settings.level), settings.temper, settings.smoothing)
    return Weights(mass[node] / counts[node])


def nodes_of_train(task: Task) -> NDArray[np.int64]:
    """The node of each row of train, (rows of train,); RequestError where a group has none."""
    groups = task.groups[task.rows("train").index]
    node = task.tree.node[groups]
    if (node < 0).any():
        name = task.group_names[int(groups[node < 0][0])]
        raise RequestError(
            f"the group {name!r} has no place in the taxonomy; name its levels, or leave it out"
        )
    return np.asarray(node)


def _level(task: Task, level: int | str) -> int | str:
    """Numbers may come as text, from a command line."""
    if isinstance(level, str) and level not in task.tree.tree.level_names and level.isdecimal():
        return int(level)
    return level


@method(
    "HierRW",
    settings=HierarchySettings,
    needs=GROUPS_OF_TRAIN,
    paper="none, this project's own; after Idrissi et al. 2022, Simple data balancing",
    space={
        "level": Among((EVERY,)),
        "temper": Uniform(0.0, 1.0),
        "smoothing": Among((0.0, 1.0, 3.0, 10.0)),
        "l2": L2_SPACE,
    },
)
def hier_rw(task: Task, settings: HierarchySettings, random: np.random.Generator) -> Recipe:
    """Reweighting over a tree: each node shares its weight among its children, at one level or at every.

    `level` every: mass 1 runs from the roots down, at each node to its children, equally unless tempered.
    With another level its nodes share the mass, and the rows of each share alike: that of groups is RWG.
    """
    (head,) = yield [train_spec(task, settings, weights=balanced_weights(task, settings))]
    return Outcome(head)
