"""Which rule decides a sweep where none is named, what a rule needs of the task, and what it is after."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.heads.sweeps.design import Design
from headwater.heads.sweeps.measuring import LIKELIHOOD, MOST_GROUPS
from headwater.heads.sweeps.selection import Aim, aim_of, default_rule, find_rule
from headwater.printable import listed


def judged_on(design: Design) -> str:
    """The split whose rows honest rules go by: val, or train where that is cut for want of one."""
    return design.folds.split if design.folds.of_train else "val"


def deciding(design: Design, name: str | None) -> str:
    """The name of the rule that decides; RequestError where the task has not what it looks at."""
    task, where = design.task, judged_on(design)
    if name is None:
        if where not in task.splits:
            raise RequestError(
                f"{design.folds.obstacle}, and every honest rule selects by such rows; draw another split, "
                "or say select = 'oracle' to look at test"
            )
        return default_rule(_counts(design, where), in_taxonomy=task.hierarchy is not None)
    rule = find_rule(name)
    wanted = where if rule.honest else rule.split
    if wanted not in task.splits:
        why = design.folds.obstacle if rule.honest else f"column {task.split_name!r} has no such rows"
        raise RequestError(
            f"rule {rule.name!r} looks at split {wanted!r}, and {why}; there is only {listed(task.splits)}: "
            "draw another split or choose another rule"
        )
    if rule.needs_groups and not len(_counts(design, wanted)):
        raise RequestError(
            f"rule {rule.name!r} needs groups, and no row of split {wanted!r} has one; choose 'worst_class'"
        )
    if rule.figure == LIKELIHOOD and len(task.group_names) > MOST_GROUPS:
        raise RequestError(
            f"rule {rule.name!r} is for at most {MOST_GROUPS} groups, and there are "
            f"{len(task.group_names):,}; choose 'cv_worst_area'"
        )
    return rule.name


def aimed_at(design: Design, rule: str) -> Aim:
    """The figure on test that a rule is after, see `selection.aim_of`."""
    where = "test" if "test" in design.task.splits else judged_on(design)
    in_taxonomy = design.task.hierarchy is not None
    return aim_of(find_rule(rule), _counts(design, where), in_taxonomy=in_taxonomy)


def _counts(design: Design, split: str) -> NDArray[np.int64]:
    """The rows of each group that has any in a split."""
    counts = design.task.group_counts(split)
    return counts[counts > 0]
