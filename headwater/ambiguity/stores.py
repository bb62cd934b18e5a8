"""A store's features as a data set: its columns say which rows are labeled, unlabeled and target."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.folder import check_varied, useful_unlabeled
from headwater.ambiguity.items import common_scale, survey
from headwater.ambiguity.labels import Label
from headwater.ambiguity.pictures import store_pictures
from headwater.errors import RequestError
from headwater.heads.ambiguity.problem import Problem
from headwater.printable import counted, listed, nearest
from headwater.store import Column, Store, open_store

LABELED = ("labeled", "labelled", "train")
UNLABELED = ("unlabeled", "unlabelled")
TARGET = ("target", "test", "val")
"""Values of the split column that stand for the three kinds of rows, the first one there is taken."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a store say what: the labels, the split, and which of its values mean which rows.

    An empty value is the first one there is of `LABELED`, `UNLABELED`, `TARGET`.
    """

    label: str = "class"
    split: str = "split"
    labeled: str = ""
    unlabeled: str = ""
    target: str = ""


def read_store(place: Path, columns: Columns) -> Dataset:
    """A store's features as a problem; rows without features are left out, labeled ones without a label, too.

    Raises:
        RequestError: a column or a value of it is not there, or no labeled or target row can be used, or the
            labels are of one class.
    """
    store = open_store(place)
    columns = _named(store, columns)
    rows = _rows_by_kind(store, columns)
    column = store.annotations[_known_column(store, columns.label, "--target")]
    codes, names = _codes(column)
    good = store.ok
    labeled = rows["labeled"][good[rows["labeled"]] & (codes[rows["labeled"]] >= 0)]
    unlabeled = rows["unlabeled"][good[rows["unlabeled"]]]
    target = rows["target"][good[rows["target"]]]
    for kind, kept in (("labeled", labeled), ("target", target)):
        if not len(kept):
            raise RequestError(
                f"none of the {counted(len(rows[kind]), f'{kind} row')} in {store.path} can be used: "
                f"they have no features{' or no label' * (kind == 'labeled')}; look at `headwater store info`"
            )
    present = np.unique(codes[labeled])
    if len(present) < 2:
        raise RequestError(
            f"the labeled rows of {store.path} all have the {columns.label} {names[present[0]]!r}; "
            "there have to be two classes at least to tell apart"
        )
    recode = np.full(len(names) + 1, -1, dtype=np.int64)
    recode[present] = np.arange(len(present))
    x = {
        kind: np.asarray(store.features[kept], dtype=np.float32)
        for kind, kept in (("labeled", labeled), ("unlabeled", unlabeled), ("target", target))
    }
    surveys = {kind: survey(f"{store.path} ({kind} rows)", items) for kind, items in x.items()}
    check_varied(surveys.values())
    x = common_scale(x, surveys)
    hashes = {kind: found.hashes for kind, found in surveys.items()}
    rest, notes = useful_unlabeled(x["unlabeled"], x["target"], hashes["unlabeled"], hashes["labeled"])
    problem = Problem(
        x["labeled"], recode[codes[labeled]], rest, x["target"], tuple(names[code] for code in present)
    )
    truth = recode[codes[target]]
    keys = store.keys
    return Dataset(
        place=place,
        problem=problem,
        content=_content(store, problem, (labeled, unlabeled, target)),
        items=np.flatnonzero(good[rows["target"]]),
        target_rows=len(rows["target"]),
        picture=store_pictures(store.plan.source, [str(keys[row]) for row in target]),
        notes=(*notes, *_left_out(rows, labeled, unlabeled, target)),
        truth=truth if (truth >= 0).any() else None,
        recipe=str(store.plan.recipe.get("backbone", "features")),
        columns=asdict(columns),
        target_keys=[str(keys[row]) for row in rows["target"]],
    )


def _left_out(rows: dict[str, NDArray[np.int64]], *kept: NDArray[np.int64]) -> list[str]:
    notes = []
    for (kind, every), used in zip(rows.items(), kept, strict=True):
        lost = len(every) - len(used)
        if lost and kind == "target":
            notes.append(
                f"{counted(lost, 'target row')} without features cannot be told apart; they get the class "
                "that most others have"
            )
        elif lost:
            missing = "features or label" if kind == "labeled" else "features"
            notes.append(f"{counted(lost, f'{kind} row')} without {missing} left out")
    return notes


def _codes(column: Column) -> tuple[NDArray[np.int64], tuple[Label, ...]]:
    """Codes of a column, -1 where it has no value, and what was given for each code."""
    codes, names = column.codes()
    if column.kind == "int":
        return codes, tuple(map(int, names))
    if column.kind == "float":
        raise RequestError(
            f"column {column.name!r} holds fractional numbers, and labels are names or whole numbers; "
            "name another column with --target"
        )
    return codes, names


def _named(store: Store, columns: Columns) -> Columns:
    """The columns with the values of the split that mean which rows; none means unlabeled where none is."""
    _, names = store.annotations[_known_column(store, columns.split, "--split")].codes()
    found = {}
    wanted = {
        "labeled": (columns.labeled, LABELED),
        "unlabeled": (columns.unlabeled, UNLABELED),
        "target": (columns.target, TARGET),
    }
    for kind, (asked, usual) in wanted.items():
        found[kind] = asked or next((each for each in usual if each in names), "")
        if asked and asked not in names:
            raise RequestError(
                f"no row of {store.path} has the {columns.split} {asked!r}{nearest(asked, names)}"
            )
        if not found[kind] and kind != "unlabeled":
            raise RequestError(
                f"none of the {columns.split}s {listed(names)} of {store.path} is called {listed(usual)}; "
                f"say with --{kind}-rows which rows are {kind}"
            )
    return replace(columns, **found)


def _rows_by_kind(store: Store, columns: Columns) -> dict[str, NDArray[np.int64]]:
    codes, names = store.annotations[columns.split].codes()
    found = {
        kind: np.flatnonzero(codes == names.index(name)) if name else np.array([], dtype=np.int64)
        for kind, name in asdict(columns).items()
        if kind not in ("label", "split")
    }
    taken: dict[int, str] = {}
    for kind, rows in found.items():
        if len(rows) and taken.setdefault(int(codes[rows[0]]), kind) != kind:
            raise RequestError(
                f"the {kind} rows and the {taken[int(codes[rows[0]])]} rows are both those whose "
                f"{columns.split} is {names[codes[rows[0]]]!r}; give each kind a value of its own"
            )
    return found


def _known_column(store: Store, name: str, option: str) -> str:
    there = list(store.annotations)
    if name not in there:
        has = (
            f"{nearest(name, there)}; name another with {option}"
            if there
            else ("; add columns with `headwater store annotate`")
        )
        raise RequestError(f"{store.path} has no column {name!r}{has}")
    return name


def _content(store: Store, problem: Problem, rows: Sequence[NDArray[np.int64]]) -> str:
    whole = hashlib.sha256(repr((store.content, problem.classes)).encode())
    for each in (problem.labels, *rows):
        whole.update(len(each).to_bytes(8, "little") + each.tobytes())
    return whole.hexdigest()
