"""A task: features with their classes, groups and splits, checked before any work.

How a store's columns are read into one is here; what is trained on it is not.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import RequestError
from headwater.heads.specs.spec import Rows
from headwater.heads.tasks.arrays import (
    check_finite,
    check_rows,
    checked_features,
    checked_views,
    digest_of,
)
from headwater.heads.tasks.columns import (
    FRACTIONS,
    SPLITS,
    CodedColumn,
    check_classes,
    coded,
    crossed,
    refuse_twins,
    split_names,
)
from headwater.heads.tasks.hierarchy import Hierarchy, two_levels
from headwater.heads.tasks.levels import LevelsGiven, Placed, asked_levels, column_called, place
from headwater.heads.tasks.views import WithViews
from headwater.printable import counted, listed, nearest
from headwater.taxonomy import levels_of

if TYPE_CHECKING:
    from headwater.heads.specs.head import LinearHead
    from headwater.store import Store

_REMEMBERED = 16  # single heads whose scores are kept
_BLOCK = 1024  # rows gathered at once when heads are applied, so that they stay in the caches

SCORES_AT_ONCE = 32_000_000
"""How many scores to ask of `Task.logits` at once, so that memory stays bounded: 128 MB."""


@dataclass(frozen=True)
class Origin:
    """Where the features came from, kept with every head; `content` is the store's, `store` itself open."""

    path: str = ""
    fingerprint: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    content: str = ""
    store: Store | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class LeftOut:
    """How many rows take no part, by reason; a row is counted once, for the first reason that holds."""

    failed: int = 0
    without_target: int = 0
    without_split: int = 0

    def describe(self) -> str:
        """For people, such as `3 rows left out: 2 failed, 1 without target`; empty when there are none."""
        parts = {
            "failed": self.failed,
            "without target": self.without_target,
            "without split": self.without_split,
        }
        total = sum(parts.values())
        said = ", ".join(f"{count:,} {reason}" for reason, count in parts.items() if count)
        return f"{counted(total, 'row')} left out: {said}" if total else ""


@dataclass(frozen=True, eq=False)
class Task:
    """What heads are trained and measured on.

    `features` (rows, dim); `target` (rows,) class codes into `classes`, -1 where the row takes no part;
    `groups` (rows,) codes into `group_names`, -1 where unknown; `splits` row numbers by name, ascending.
    A group is a combination of the target and the group columns that occurs in the data, so each group lies
    within one class; `domains` (rows,) are codes of what the group columns alone say, -1 where unknown.
    `hierarchy` is the tree that the groups are leaves of, where the target is a level of one; `tree` has one
    for every task. `groups_may_lack_rows`: no method refuses the task because a split has no row of a group,
    as many have none of thousands of species. With augmented `views`, row r + v·images is view v of image r,
    and train holds all of them; other splits hold images alone. `from_store` and `from_arrays` build a task.
    """

    features: Any
    target: NDArray[np.int64]
    classes: tuple[str, ...]
    groups: NDArray[np.int64]
    group_names: tuple[str, ...]
    domains: NDArray[np.int64]
    splits: Mapping[str, NDArray[np.int64]]
    target_name: str = "class"
    group_columns: tuple[str, ...] = ()
    split_name: str = "split"
    left_out: LeftOut = LeftOut()
    origin: Origin = Origin()
    hierarchy: Hierarchy | None = None
    views: int = 0
    groups_may_lack_rows: bool = False

    @classmethod
    def from_store(
        cls,
        store: Store,
        target: str | int = "class",
        groups: Sequence[str | int] = (),
        split: str = "split",
        *,
        classes: Sequence[str] | None = None,
        views: bool = False,
    ) -> Task:
        """Read a task from an open store's annotation columns.

        Rows that failed to extract, or have no target or no split, are left out and counted. `groups` empty:
        the groups are the classes. `classes` fixes the class names and their order, for a head trained
        elsewhere. `views`: train on the store's augmented views of each image of train, too.

        Where the target is one of the store's levels, given by name or number, the groups may be any level
        below it: classes and groups are then nodes of the tree, homonyms kept apart, the classes in the order
        of their paths, and `hierarchy` is filled.

        Raises RequestError, in one sentence, for a column that is absent or cannot play its part, and for a
        level of `groups` above the target's.
        """
        names = list(store.annotations.names)
        levels = levels_of(store.annotations)
        target, *groups = (column_called(each, names, levels) for each in (target, *groups))
        for name, role in ((target, "target"), *((g, "group") for g in groups)):
            if name not in names:
                raise RequestError(f"the store has no column {name!r} for the {role}{nearest(name, names)}")
        if split not in names:
            raise RequestError(
                f"the store has no split column {split!r}{nearest(split, names)}; "
                f"draw one with `headwater store split {quote(str(store.path))} {FRACTIONS}`"
            )
        read = {
            name: coded(name, store.annotations[name])
            for name in dict.fromkeys([*levels, target, *groups, split])
        }
        if views and not store.views:
            raise RequestError(
                f"{store.path} has no augmented views to train on; extract the images again with --views"
            )
        placed = None
        if target in levels:
            placed = place(
                {name: read[name] for name in levels}, target, [name for name in groups if name in levels]
            )
        return cls._build(
            store.features,
            read[target] if placed is None else placed.target(classes),
            [read[name] for name in groups if name != target and (placed is None or name not in levels)],
            read[split],
            usable=np.asarray(store.ok, dtype=bool),
            classes=classes,
            origin=Origin(
                path=str(store.path),
                fingerprint=store.fingerprint,
                recipe=dict(store.plan.recipe),
                content=store.content,
                store=store,
            ),
            placed=placed,
            views=[store.augmented(view) for view in range(1, store.views + 1)] if views else (),
        )

    @classmethod
    def from_arrays(
        cls,
        features: Any,
        target: ArrayLike | str | int,
        groups: ArrayLike | Mapping[str, ArrayLike] | str | Sequence[str | int] | None = None,
        split: ArrayLike | None = None,
        *,
        levels: LevelsGiven | None = None,
        views: ArrayLike | None = None,
        classes: Sequence[str] | None = None,
        target_name: str = "class",
        split_name: str = "split",
    ) -> Task:
        """Build a task from arrays: `features` (rows, dim), `target` (rows,) of strings or whole numbers.

        `groups`: one array or several by name (they are crossed with the target); None: the groups are the
        classes. `split`: names or 0/1/2 per row; None: every row is train. -1, None and "" mean missing.

        `levels`: names of every row at each level of a taxonomy, by the level's name from the root, or a
        `Taxonomy` and each row's node. `target` and `groups` are then names or numbers of levels, `groups`
        one or several, and classes and groups are as in `from_store`.

        `views`: the features (views, rows, dim) of augmented views of each row, for those of train.
        """
        features = checked_features(features)
        augmented = checked_views(views, features)
        rows = int(features.shape[0])
        placed = None
        if levels is not None:
            placed = place(levels, *asked_levels(target, groups))
            check_rows("levels", len(placed.node), rows)
            first, named = placed.target(classes), []
        else:
            first = coded(target_name, target)
            given = groups if groups is None or isinstance(groups, Mapping) else {"group": groups}
            named = [coded(name, values) for name, values in (given or {}).items()]
        last = coded(split_name, np.full(rows, SPLITS[0]) if split is None else split)
        for column in (first, *named, last):
            check_rows(f"column {column.name!r}", len(column.codes), rows)
        usable = np.ones(rows, dtype=bool)
        task = cls._build(
            features, first, named, last, usable=usable, classes=classes, placed=placed, views=augmented
        )
        # A store's features are finite, and those of train are looked at by the bank.
        for name in task.splits:
            if name != SPLITS[0]:
                check_finite(features, task.splits[name], name)
        return task

    @classmethod
    def _build(
        cls,
        features: Any,
        target: CodedColumn,
        groups: Sequence[CodedColumn],
        split: CodedColumn,
        *,
        usable: NDArray[np.bool_],
        classes: Sequence[str] | None,
        origin: Origin | None = None,
        placed: Placed | None = None,
        views: Sequence[Any] = (),
    ) -> Task:
        if classes is not None:
            target = target.in_terms_of(classes)
        named = split_names(split)
        has_target, has_split = target.codes >= 0, np.isin(split.codes, list(named.values()))
        taking_part = usable & has_target & has_split
        left_out = LeftOut(
            failed=int((~usable).sum()),
            without_target=int((usable & ~has_target).sum()),
            without_split=int((usable & has_target & ~has_split).sum()),
        )
        if not taking_part.any():
            raise RequestError(
                f"no row has features, a {target.name!r} and a {split.name!r} "
                f"({left_out.failed} failed, {left_out.without_target} without target, "
                f"{left_out.without_split} without split)"
            )
        target = target.only(taking_part, keep_names=classes is not None)
        if len(target.names) < 2:
            raise RequestError(
                f"column {target.name!r} has one class only, {target.names[0]!r}; a head needs at least two "
                "(empty cells and -1 count as missing)"
            )
        if placed is not None:
            made, hierarchy = placed.groups(taking_part, groups)
        else:
            if classes is None:
                check_classes(target)
            made, hierarchy = crossed(target, [column.only(taking_part) for column in groups]), None
        refuse_twins(made.names, "groups")
        splits = {
            name: np.flatnonzero(taking_part & (split.codes == code)).astype(np.int64)
            for name, code in named.items()
        }
        train = splits.get(SPLITS[0])
        if views and train is not None:
            splits[SPLITS[0]] = np.concatenate([train + v * len(usable) for v in range(len(views) + 1)])
        return cls(
            features=WithViews([features, *views]) if views else features,
            target=np.tile(target.codes, len(views) + 1),
            classes=target.names,
            groups=np.tile(made.codes, len(views) + 1),
            group_names=made.names,
            domains=np.tile(made.domains, len(views) + 1),
            splits={name: rows for name, rows in splits.items() if len(rows)},
            target_name=target.name,
            group_columns=(*(placed.group_levels if placed else ()), *(column.name for column in groups)),
            split_name=split.name,
            left_out=left_out,
            origin=origin or Origin(),
            hierarchy=hierarchy,
            views=len(views),
            groups_may_lack_rows=hierarchy is not None,
        )

    @property
    def dim(self) -> int:
        """How many features a row has."""
        return int(self.features.shape[1])

    @property
    def images(self) -> int:
        """How many rows there are that are no augmented views; row r shows image r modulo this."""
        return len(self.target) // (self.views + 1)

    @cached_property
    def content(self) -> str:
        """An id of the features: their store's, which knows the keys, too, else a digest of the array."""
        return self.origin.content or digest_of(self.features)

    @cached_property
    def tree(self) -> Hierarchy:
        """The task's hierarchy, or where it has none its classes with their groups below them."""
        if self.hierarchy is not None:
            return self.hierarchy
        known = self.groups >= 0
        of_group = np.full(len(self.group_names), -1, dtype=np.int64)
        of_group[self.groups[known]] = self.target[known]
        below = ", ".join(self.group_columns) or "group"
        return two_levels(self.classes, self.group_names, of_group, (self.target_name, below))

    @cached_property
    def _rows(self) -> dict[str, Rows]:
        return {}

    @cached_property
    def kept(self) -> dict[Hashable, Any]:
        """What recipes found out about the task and would find again, such as clusters, by their keys."""
        return {}

    def rows(self, split: str) -> Rows:
        """The rows of a split, the same object every time, so that specs sharing it are compared at once.

        RequestError where the split has no rows.
        """
        if split not in self.splits:
            raise RequestError(
                f"no rows are in split {split!r}; column {self.split_name!r} has {listed(self.splits)}"
            )
        if split not in self._rows:
            self._rows[split] = Rows(self.splits[split])
        return self._rows[split]

    def plain(self, split: str) -> NDArray[np.int64]:
        """The row numbers of a split without augmented views, for figures: every image once, ascending."""
        rows = self.rows(split).index
        return rows if self.views == 0 else rows[rows < self.images]

    def with_views(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of these images and then of their augmented views."""
        return np.concatenate([images + view * self.images for view in range(self.views + 1)])

    def class_counts(self, split: str) -> NDArray[np.int64]:
        """Images per class in a split, shape (classes,); augmented views are not counted."""
        return np.bincount(self.target[self.plain(split)], minlength=len(self.classes))

    def group_counts(self, split: str) -> NDArray[np.int64]:
        """Images per group in a split, shape (groups,); those whose group is unknown are not counted."""
        groups = self.groups[self.plain(split)]
        return np.bincount(groups[groups >= 0], minlength=len(self.group_names))

    def logits(self, heads: Sequence[LinearHead], rows: ArrayLike) -> NDArray[np.float32]:
        """Scores of many heads on the same rows, shape (heads, rows, classes); the features are read once.

        Read-only. What a single head says is remembered for a while: in a sweep many recipes ask for the
        same first head and then for its scores.
        """
        index = np.asarray(rows, dtype=np.int64)
        if len(heads) != 1:
            return self._score(heads, index)
        key = (heads[0], Rows(index))
        if key not in self._remembered:
            self._remembered[key] = self._score(heads, index)
            while len(self._remembered) > _REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
        return self._remembered[key]

    @cached_property
    def _remembered(self) -> dict[tuple[LinearHead, Rows], NDArray[np.float32]]:
        return {}

    def _score(self, heads: Sequence[LinearHead], index: NDArray[np.int64]) -> NDArray[np.float32]:
        import torch  # noqa: PLC0415  (slow to import, but NumPy widens float16 number by number)

        weight = np.concatenate([head.weight for head in heads]).T
        bias = np.concatenate([head.bias for head in heads])
        out = np.empty((len(heads), len(index), len(self.classes)), dtype=np.float32)
        for first in range(0, len(index), _BLOCK):
            narrow = np.asarray(self.features[index[first : first + _BLOCK]])
            block = torch.from_numpy(narrow).float().numpy()
            scores = (block @ weight + bias).reshape(len(block), len(heads), -1)
            out[:, first : first + len(block)] = scores.transpose(1, 0, 2)
        out.flags.writeable = False
        return out

    def predict(self, heads: Sequence[LinearHead], rows: ArrayLike) -> NDArray[np.int64]:
        """Class codes that many heads predict for the same rows, shape (heads, rows)."""
        predicted: NDArray[np.int64] = self.logits(heads, rows).argmax(axis=2)
        return predicted
