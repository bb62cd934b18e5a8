"""Balance over a tree of groups as row weights: at one level of it, or at every level.

The tree is the task's (`Task.tree`); samplers that balance live in `hierarchy_sampler`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.errors import RequestError
from headwater.heads.methods.erm import TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, LogUniform, Needs, method
from headwater.heads.specs.spec import Weights
from headwater.heads.tasks.task import Task
from headwater.taxonomy import Taxonomy

EVERY, TARGET = "every", "target"

# Species that only the test split has are no reason to refuse: they weigh nothing.
GROUPS_OF_TRAIN = Needs(groups_on=("train",), rows_per_group=0)


class HierarchySettings(TrainSettings):
    """Which nodes share weight, and how.

    A group of n images has the size n/(n + smoothing), and a node is as large as the groups below it
    together. Nodes claim weight by size^temper, so that 0 makes siblings equal and 1 the groups; a node of
    few images also by N/(N + smoothing) to the power of 1 - temper. Groups claim it by their size.

    The defaults were chosen on the features that the benchmark of hierarchies simulates, on other seeds than
    those it judges by; its part `choose` makes such a choice again.
    """

    l2: float = Field(5e-3, ge=0, description="weight decay, beside the mean loss")
    level: int | str = Field(
        TARGET, description="balance the nodes of this level: target, a name, a number; every: of all levels"
    )
    temper: float = Field(0.5, ge=0, le=1, description="0: the nodes weigh the same; 1: the groups do")
    smoothing: float = Field(
        0.0, ge=0, description="images that a group needs for half of its weight; the more, the nearer to ERM"
    )


def balanced_masses(
    tree: Taxonomy,
    counts: NDArray[np.float64],
    level: int | str,
    temper: float = 0.0,
    smoothing: float = 0.0,
) -> NDArray[np.float64]:
    """The mass (nodes,), 1 in all, of the group of `counts` (nodes,) images that lies right at each node.

    Level `every`: mass runs from the roots down, from each node to its children by what they claim (see
    `HierarchySettings`); a group right at a node with children stands beside these. A level: all of its nodes
    share the mass by their claims, and the groups below one share it by their sizes; a line that skips the
    level is balanced at its next node above, and lines that begin below it are balanced as one. RequestError
    for a level that the tree lacks.
    """
    size = _damped(counts, smoothing)
    if level == EVERY:
        return tree.down(_claims(tree.up(size), tree.up(counts), temper, smoothing), size)
    at = tree.within(np.arange(len(tree)), level) + 1
    sizes, images = (np.bincount(at, each, len(tree) + 1).astype(np.float64) for each in (size, counts))
    claims = _claims(sizes, images, temper, smoothing)
    share = np.divide(claims / claims.sum(), sizes, out=np.zeros_like(sizes), where=sizes > 0)
    return np.asarray(size * share[at])


def _damped(counts: NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    return np.divide(counts, counts + smoothing, out=np.zeros_like(counts), where=counts > 0)


def _claims(
    sizes: NDArray[np.float64], images: NDArray[np.float64], temper: float, smoothing: float
) -> NDArray[np.float64]:
    present = images > 0  # 0 to the power of 0 is 1
    return np.where(present, sizes**temper * _damped(images, smoothing) ** (1 - temper), 0.0)


def balanced_weights(task: Task, settings: HierarchySettings) -> Weights:
    """A weight for every row of train, by the balance that the settings ask for."""
    node = nodes_of_train(task)
    hierarchy = task.tree
    rows = np.bincount(node, minlength=len(hierarchy.tree)).astype(np.float64)
    images = rows / (task.views + 1)
    level = level_in(task, settings.level)
    mass = balanced_masses(hierarchy.tree, images, level, settings.temper, settings.smoothing)
    return Weights(mass[node] / rows[node])


def level_in(task: Task, level: int | str) -> int | str:
    """The number of a level of the task's tree, or `every`; RequestError where it has no such level."""
    hierarchy = task.tree
    if level == EVERY:
        return EVERY
    return hierarchy.target_level if level == TARGET else hierarchy.tree.level_number(level)


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


@method(
    "HierRW",
    settings=HierarchySettings,
    needs=GROUPS_OF_TRAIN,
    paper="none, this project's own; after Idrissi et al. 2022, Simple data balancing",
    space={
        # Few, so that many draws weigh alike and are solved as one path of penalties.
        "temper": Among((0.25, 0.5, 0.75)),
        "smoothing": Among((0.0, 1.0)),
        "l2": LogUniform(1e-4, 0.1),
    },
    checks={"level": level_in},
)
def hier_rw(task: Task, settings: HierarchySettings, random: np.random.Generator) -> Recipe:
    """Reweighting over a tree: classes, or nodes of another level or of every, share the weight by temper.

    Equal classes are right too often for rare phyla and too seldom for the many species of large ones; equal
    groups, which is RWG, the other way round. In between both are nearly as well off, and what counts the
    worst groups of all classes gains. Level `every` and `temper` 0: each node shares its weight equally
    among its children, from the roots down.
    """
    (head,) = yield [train_spec(task, settings, weights=balanced_weights(task, settings))]
    return Outcome(head)
