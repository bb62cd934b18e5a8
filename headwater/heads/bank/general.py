"""Trains the heads whose criterion is more than the weighted mean of cross-entropy.

Specs that share rows, scaler and classes present are solved together, whatever their criterion. What they
minimise is built in `objectives`, how in `solvers.general` and, for risks that need weights of their own, in
`solvers.minmax`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.heads.bank.folding import Frame
from headwater.heads.bank.groups import codes_of, present
from headwater.heads.bank.records import record
from headwater.heads.bank.threads import threads
from headwater.heads.bank.workspace import SMALL, Prepared, Workspace
from headwater.heads.objectives.build import Layout, kind_of, objective_of
from headwater.heads.objectives.joint import JointObjective
from headwater.heads.solvers.general import Problem, solve_general
from headwater.heads.solvers.preconditioner import Directions
from headwater.heads.specs.coupling import as_set, members_of
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec, Rows

# What the heads solved at once may hold: logits, gradients and the solver's memory of its last steps.
_ROOM = 1 << 29
_LOGITS, _STEPS = 8, 40  # about how many arrays of each size a solver holds


def train_general(
    workspace: Workspace, target: NDArray[np.int64], n_classes: int, specs: Sequence[HeadSpec]
) -> list[LinearHead]:
    """One head per spec, in order; what `checks` refuses must not come here."""
    groups: dict[Hashable, list[HeadSpec]] = defaultdict(list)
    unique: dict[Rows, Rows] = {}
    seen = _seen(specs)
    for spec in specs:
        rows = seen[spec]
        if rows not in unique:
            unique[rows] = Rows(np.unique(rows.index))
        tied = None if spec.coupling is None else spec.coupling.members
        key = unique[rows], spec.scaler_rows, present(spec, target).tobytes(), tied
        groups[key].append(spec)
    trained: dict[HeadSpec, LinearHead] = {}
    for members in groups.values():
        rows, classes = unique[seen[members[0]]], present(members[0], target)
        codes = codes_of(target[rows.index], classes)
        layout = Layout(rows, codes, classes, columns=1 if n_classes == 2 else len(classes))
        prepared = workspace.prepare(rows, members[0].scaler_rows)
        trained.update(zip(members, _solve(prepared, layout, n_classes, members), strict=True))
    return [trained[spec] for spec in specs]


def _seen(specs: Sequence[HeadSpec]) -> dict[HeadSpec, Rows]:
    """The rows that each spec is solved on; sets tied on the same rows share the union of all they see.

    Their own labeled rows differ in few, as those held out, and weigh nothing where they are not a set's.
    """
    together: dict[Rows, list[HeadSpec]] = defaultdict(list)
    seen = {}
    for spec in specs:
        if spec.coupling is None:
            seen[spec] = spec.rows
        else:
            together[spec.coupling.rows].append(spec)
    for tied, members in together.items():
        parts = {spec.rows: spec.rows.index for spec in members}
        union = Rows(np.unique(np.concatenate([tied.index, *parts.values()])))
        seen.update(dict.fromkeys(members, union))
    return seen


@dataclass(frozen=True)
class _Coordinates:
    """The features in the coordinates that are solved in, and weights into them and out of them."""

    x: Tensor
    directions: Directions
    into: Callable[[Tensor], Tensor]
    out: Callable[[Tensor], Tensor]

    @staticmethod
    def of(prepared: Prepared) -> _Coordinates:
        if prepared.is_spanned:
            span = prepared.span
            return _Coordinates(span.rows, Directions(None, span.basis.values), span.into, span.out)
        return _Coordinates(
            prepared.x, prepared.directions_for(), lambda weight: weight, lambda weight: weight
        )


def _solve(prepared: Prepared, layout: Layout, n_classes: int, specs: Sequence[HeadSpec]) -> list[LinearHead]:
    """Train specs on the prepared rows, as many at a time as there is room for, kinds next to each other."""
    frame = Frame(prepared.centre, prepared.scale, layout.classes, layout.columns, n_classes)
    coordinates = _Coordinates.of(prepared)
    rows, dim = coordinates.x.shape
    kinds: dict[Hashable, list[HeadSpec]] = defaultdict(list)
    for spec in specs:
        kinds[_kind(spec)].append(spec)
    batches: list[list[HeadSpec]] = [[]]
    room = _ROOM
    for spec in (spec for members in kinds.values() for spec in members):
        seen = len(spec.rows) if spec.mixing is not None else rows
        columns = layout.columns * (1 if spec.coupling is None else spec.coupling.members)
        needed = columns * (_LOGITS * seen + _STEPS * dim) * coordinates.x.element_size()
        if batches[-1] and needed > room:
            batches.append([])
            room = _ROOM
        batches[-1].append(spec)
        room -= needed
    trained: dict[HeadSpec, LinearHead] = {}
    with threads(1 if rows * dim <= SMALL else None):
        for batch in batches:
            heads = _solve_together(coordinates, prepared, frame, layout, batch)
            trained.update(zip(batch, heads, strict=True))
    return [trained[spec] for spec in specs]


def _kind(spec: HeadSpec) -> Hashable:
    # Mixtures are pairs of a spec's own rows, in its order; for all others the set of rows is enough.
    return kind_of(spec), None if spec.mixing is None else spec.rows


def _objective(specs: Sequence[HeadSpec], layout: Layout, x: Tensor) -> JointObjective:
    """That of specs whose kinds lie next to each other."""
    runs = [list(members) for _, members in groupby(specs, key=_kind)]
    made = [objective_of(members, layout, x.device, x.dtype) for members in runs]
    return JointObjective.of_parts(made, [len(members) for members in runs])


def _solve_together(
    coordinates: _Coordinates, prepared: Prepared, frame: Frame, layout: Layout, specs: Sequence[HeadSpec]
) -> list[LinearHead]:
    x = coordinates.x
    members = 1 if specs[0].coupling is None else specs[0].coupling.members
    anchor, _, free = _folded(frame, [spec.anchor for spec in specs], members)
    weight, bias, _ = _folded(frame, [spec.start or spec.anchor for spec in specs], members)
    near = torch.tensor(anchor, device=x.device).to(x.dtype)
    offset = None
    if not free.all():
        flat = prepared.x @ near.reshape(len(near), -1)
        offset = flat.view(len(flat), *near.shape[1:])
    problem = Problem(
        x=x,
        directions=coordinates.directions,
        objective=_objective(specs, layout, x),
        l2=torch.tensor([spec.penalty.l2 for spec in specs], dtype=torch.float64, device=x.device),
        weight=coordinates.into(torch.tensor(weight - anchor, device=x.device).to(x.dtype)),
        bias=torch.tensor(bias, device=x.device).to(x.dtype),
        tolerance=torch.tensor([spec.tolerance for spec in specs], dtype=torch.float64, device=x.device),
        max_iterations=torch.tensor([spec.max_iterations for spec in specs], device=x.device),
        offset=offset,
    )
    solved = solve_general(problem)
    weights = anchor + coordinates.out(solved.weight).double().cpu().numpy()
    biases = solved.bias.double().cpu().numpy()
    convex = problem.objective.flags("is_convex").tolist()
    out = []
    for h, spec in enumerate(specs):
        ending = record(solved, h, spec, convex=convex[h])
        blocks = zip(np.split(weights[:, :, h], members, 1), np.split(biases[:, h], members), strict=True)
        out.append(as_set([frame.unfold(weight, bias, ending) for weight, bias in blocks]))
    return out


def _folded(
    frame: Frame, heads: Sequence[LinearHead | None], members: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """See `Frame.fold_all`; the columns of sets are their members', one after the other."""
    split = [None if head is None else members_of(head, members) for head in heads]
    blocks = [
        frame.fold_all([None if parts is None else parts[member] for parts in split])
        for member in range(members)
    ]
    weights, biases, missing = zip(*blocks, strict=True)
    return np.concatenate(weights, axis=1), np.concatenate(biases), missing[0]
