"""The worst of many groups, whose losses a tree draws toward those of their relatives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.heads.methods.dro import robust_spec
from headwater.heads.methods.erm import TrainSettings
from headwater.heads.methods.hierarchy import GROUPS_OF_TRAIN, nodes_of_train
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, LogUniform, method
from headwater.heads.specs.criterion import GroupRisk, GroupTree, Shrinking
from headwater.heads.specs.spec import Codes
from headwater.heads.tasks.task import Task


class HierDROSettings(TrainSettings):
    """`share` 0 is GroupDRO's single worst group.

    `strength` is in images: a group of so many has half of its own loss and half of its parent's. The
    defaults were chosen as those of HierRW were.
    """

    l2: float = Field(1e-2, ge=0, description="weight decay, beside the worst groups' mean loss")
    share: float = Field(0.3, ge=0, le=1, description="the share of groups, the worst, that count; 0: one")
    strength: float = Field(
        30.0, ge=0, description="images that a node's parent counts for in its loss; 0: groups stand alone"
    )


def group_tree(task: Task) -> tuple[Codes, GroupTree]:
    """A code for every row of train among the groups that train has, and the tree above these."""
    node = nodes_of_train(task)
    tree = task.tree.tree
    present, codes = np.unique(node, return_inverse=True)
    part, number = tree.part(present)
    above: NDArray[np.int64] = tree.parent[present]
    return Codes(codes), GroupTree(Codes(part.parent), Codes(np.where(above >= 0, number[above], -1)))


@method(
    "HierDRO",
    settings=HierDROSettings,
    needs=GROUPS_OF_TRAIN,
    paper="none, this project's own; after Sagawa et al. 2020, Distributionally robust neural networks, and "
    "Rockafellar & Uryasev 2000, Optimization of conditional value-at-risk",
    space={
        "share": Among((0.1, 0.3, 0.5)),
        "strength": Among((3.0, 30.0, 300.0)),
        "l2": LogUniform(3e-3, 0.3),
    },
)
def hier_dro(task: Task, settings: HierDROSettings, random: np.random.Generator) -> Recipe:
    """GroupDRO for thousands of groups: the worst share of them, tiny ones' losses drawn toward relatives'.

    The single worst of many groups is one of few images, and odd: what is learned is that image. Here a
    group's loss is drawn toward its parent's in the tree, the more the fewer its images, as the parent's is
    toward its own parent's, and the worst share of the groups counts alike.
    """
    codes, tree = group_tree(task)
    groups = int(codes.values.max()) + 1
    strength = settings.strength * (task.views + 1)  # in images
    risk = GroupRisk(
        codes,
        (0.0,) * groups,
        share=settings.share or None,
        shrinking=Shrinking(tree, strength) if strength else None,
    )
    (head,) = yield [robust_spec(task, settings, risk)]
    return Outcome(head)
