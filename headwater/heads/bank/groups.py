"""Sorts head specs into groups that share one working copy of the features, and lines up their row weights.

Heads share a group when they share the scaler, the classes present and the kind of penalty, and their rows:
the same ones, or so nearly that running every head over the union, with weight zero outside its own, costs
less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.heads.specs.spec import HeadSpec, Rows

# Over a union of rows, arithmetic may grow by this factor against separate copies of the features.
_WASTE = 1.5
# In the span of few rows, by this one.
_SPAN_WASTE = 3.0
# Sparse heads leave the rows of others out of most of their work.
_SPARSE_WASTE = 6.0


@dataclass(frozen=True)
class Group:
    """Specs to solve together. `rows` are unique and ascending; `weights` (n, U) has columns that sum to 1.

    `weight_of` (H,) is the column of each spec; `families` (H,) numbers sets that differ only in their
    penalty. `classes` are the codes present; `columns` is 1 for a two-class problem, else their number.
    """

    specs: list[HeadSpec]
    rows: Rows
    weights: NDArray[np.float64]
    weight_of: NDArray[np.int64]
    families: NDArray[np.int64]
    classes: NDArray[np.int64]
    columns: int
    sparse: bool

    def codes(self, target: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `codes_of`, of this group's rows of `target`."""
        return codes_of(target[self.rows.index], self.classes)


@dataclass(frozen=True)
class _Part:
    """The specs on one set of unique rows."""

    rows: Rows
    specs: list[HeadSpec]


def codes_of(target: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each row's class among the `classes` present, (n,); rows of others weigh nothing."""
    return np.searchsorted(classes, target).clip(max=len(classes) - 1)


def present(spec: HeadSpec, target: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes, ascending, that a spec's rows of `target` have, those of weight zero left out.

    In mixtures these count too: they are partners of others.
    """
    index = spec.rows.index
    if spec.weights is not None and spec.mixing is None:
        index = index[spec.weights.values > 0]
    return np.unique(target[index])


def _unique_rows(specs: Sequence[HeadSpec]) -> dict[Rows, Rows]:
    """The sorted, unique rows of each spec's rows; sets that are equal become one object."""
    unique: dict[Rows, Rows] = {}
    for spec in specs:
        if spec.rows not in unique:
            unique[spec.rows] = Rows(np.unique(spec.rows.index))
    same = {rows: rows for rows in reversed(list(unique.values()))}
    return {rows: same[found] for rows, found in unique.items()}


def _merge(parts: list[_Part], dim: int) -> list[_Part]:
    """Joins parts of nearly the same rows, largest first.

    Fewer rows than `dim` are solved in their span, and never joined to more than it. There many small
    stacks cost more in their steps than in their arithmetic, and rather different rows are joined.
    """
    merged: list[_Part] = []
    sparse = parts[0].specs[0].penalty.l1 > 0
    for part in sorted(parts, key=lambda part: len(part.rows), reverse=True):
        few = len(part.rows) < dim
        in_span = few and not sparse
        waste = (_SPARSE_WASTE if sparse else _SPAN_WASTE) if few else _WASTE
        power = 2 if in_span else 1  # a span has as many coordinates as rows
        for i, other in enumerate(merged):
            union = np.union1d(other.rows.index, part.rows.index)
            if in_span and len(union) >= dim:
                continue
            apart = len(other.rows) ** power * len(other.specs) + len(part.rows) ** power * len(part.specs)
            if len(union) ** power * (len(other.specs) + len(part.specs)) <= waste * apart:
                merged[i] = _Part(Rows(union), other.specs + part.specs)
                break
        else:
            merged.append(part)
    return merged


def group_specs(
    specs: Sequence[HeadSpec], target: NDArray[np.int64], n_classes: int, dim: int
) -> list[Group]:
    """Groups covering every spec once, in an order that depends on the specs alone."""
    unique = _unique_rows(specs)
    kinds: dict[Hashable, dict[Rows, list[HeadSpec]]] = defaultdict(lambda: defaultdict(list))
    classes: dict[Hashable, NDArray[np.int64]] = {}
    for spec in specs:
        found = present(spec, target)
        stepped = spec.minibatch is not None
        scaler = (spec.scaler_rows, spec.half_whitened)
        key: Hashable = (scaler, found.tobytes(), spec.penalty.l1 > 0, spec.penalty.bias, stepped)
        classes[key] = found
        kinds[key][unique[spec.rows]].append(spec)
    groups = []
    for key, by_rows in kinds.items():
        for part in _merge([_Part(rows, members) for rows, members in by_rows.items()], dim):
            groups.append(_line_up(part, classes[key], n_classes))
    return groups


def _line_up(part: _Part, classes: NDArray[np.int64], n_classes: int) -> Group:
    columns: dict[Hashable, int] = {}
    weights: list[NDArray[np.float64]] = []
    families: dict[Hashable, int] = {}
    weight_of, family = [], []
    for spec in part.specs:
        key: Hashable = (spec.rows, spec.weights)
        if key not in columns:
            columns[key] = len(weights)
            place = np.searchsorted(part.rows.index, spec.rows.index)
            values = None if spec.weights is None else spec.weights.values / spec.weights.values.max()
            column = np.bincount(place, values, minlength=len(part.rows)).astype(np.float64)
            weights.append(column / column.sum())
        weight_of.append(columns[key])
        family.append(families.setdefault(key, len(families)))
    return Group(
        specs=part.specs,
        rows=part.rows,
        weights=np.stack(weights, axis=1),
        weight_of=np.array(weight_of, dtype=np.int64),
        families=np.array(family, dtype=np.int64),
        classes=classes,
        columns=1 if n_classes == 2 else len(classes),
        sparse=part.specs[0].penalty.l1 > 0,
    )
