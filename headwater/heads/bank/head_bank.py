"""The bank: trains a list of head specs together and returns heads that act on raw features.

It decides what is solved with what; how a stack is solved lives in `headwater.heads.solvers`, what is
refused in `checks`, and what a method asks for in its recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headwater.devices import choose_device
from headwater.heads.bank.checks import check_features, check_memory, check_specs, check_target
from headwater.heads.bank.folding import Frame
from headwater.heads.bank.general import train_general
from headwater.heads.bank.groups import Group, group_specs
from headwater.heads.bank.records import record
from headwater.heads.bank.stacking import SmoothGroup
from headwater.heads.bank.threads import threads
from headwater.heads.bank.workspace import SMALL, Workspace
from headwater.heads.rows.reader import FeatureReader
from headwater.heads.solvers.sparse import solve_sparse
from headwater.heads.solvers.stack import Stack
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec

# Products of fewer multiplications than this run on one thread.
_LIGHT = 100_000_000
_LIGHT_ROWS = 10_000
# The logit buffers of sparse heads may take this share of the features' memory, or this many bytes.
_LOGITS_SHARE, _LOGITS_BYTES = 1.3, 1 << 28


class HeadBank:
    """Trains many linear heads on one feature matrix.

    `features`: (rows, dim) float16 or float32, an array, a memory map or a store's `Features`.
    `target`: (rows,) class codes 0..n_classes-1; -1 where unknown (no head may train on such a row).
    `memory`: bytes that training may take beside features that are in memory already; features of which no
    copy fits are read anew in every iteration. None: a quarter of the machine's.

    What comes out is the same whatever is trained beside it, to the tolerance each spec asks for, and the
    same bit for bit when the same list is trained again on the same machine. Raises RequestError, before
    any training, for anything that cannot be trained.
    """

    def __init__(
        self,
        features: Any,
        target: Any,
        n_classes: int,
        *,
        device: str = "auto",
        memory: int | None = None,
    ) -> None:
        rows, self._dim = check_features(features)
        check_memory(memory)
        self._target = check_target(target, rows, n_classes)
        self._n_classes = n_classes
        self._device = choose_device(device)
        size = rows * self._dim * np.dtype(features.dtype).itemsize
        self._reader = FeatureReader(
            features, self._device, unmapped=memory is not None and size > memory // 2
        )
        self._workspace = Workspace(self._reader, memory)

    @property
    def rows_read(self) -> int:
        """How many rows have been read from the features so far, those read again counted again."""
        return self._reader.rows_read

    def train(self, specs: Sequence[HeadSpec]) -> list[LinearHead]:
        """One head per spec, in order; equal specs are trained once."""
        wanted = list(dict.fromkeys(specs))
        check_specs(wanted, self._target, self._dim, self._n_classes)
        indices = [
            rows.index
            for spec in wanted
            for rows in (spec.rows, spec.scaler_rows, spec.coupling.rows if spec.coupling else None)
            if rows is not None
        ]
        used = np.zeros(len(self._target), dtype=bool)
        for index in indices:
            used[index] = True
        with threads(1 if int(used.sum()) < _LIGHT_ROWS else None):
            for scaler in dict.fromkeys(spec.scaler_rows for spec in wanted):
                if scaler is not None:  # measured anyway, and checked in the same reading
                    self._reader.moments(scaler)
            self._reader.check_finite(np.flatnonzero(used))
        trained: dict[HeadSpec, LinearHead] = {}
        stepped = [spec for spec in wanted if spec.minibatch is not None]
        general = [spec for spec in wanted if not spec.is_plain and spec.minibatch is None]
        if general:
            trained.update(
                zip(
                    general,
                    train_general(self._workspace, self._target, self._n_classes, general),
                    strict=True,
                )
            )
        plain = [spec for spec in wanted if spec.is_plain]
        for group in group_specs(plain + stepped, self._target, self._n_classes, self._dim):
            with threads(1 if self._is_light(group) else None):
                trained.update(zip(group.specs, self._solve(group), strict=True))
        return [trained[spec] for spec in specs]

    def _is_spanned(self, group: Group) -> bool:
        return not group.sparse and len(group.rows) < self._dim

    def _is_small(self, group: Group) -> bool:
        rows = len(group.rows)
        return rows * (rows if self._is_spanned(group) else self._dim) <= SMALL

    def _is_light(self, group: Group) -> bool:
        if group.sparse:  # most of its time goes into small systems of equations
            return len(group.rows) < _LIGHT_ROWS
        return len(group.rows) * self._dim * group.columns * len(group.specs) < _LIGHT or self._is_small(
            group
        )

    def _solve(self, group: Group) -> list[LinearHead]:
        scaler = group.specs[0].scaler_rows
        if group.sparse:
            prepared = self._workspace.prepare(group.rows, scaler)
            frame = Frame(prepared.centre, prepared.scale, group.classes, group.columns, self._n_classes)
            stack = self._stack(group, prepared.x, frame)
            shift = None
            if group.specs[0].penalty.bias:
                shift = torch.tensor(self._workspace.shift(prepared, scaler)).to(prepared.x)
            solved = solve_sparse(stack, self._widest(prepared.x, group.columns), shift)
        else:
            smooth = SmoothGroup(self._workspace, self._reader, group, self._target, self._n_classes)
            frame, solved = smooth.frame, smooth.solve()
        return [
            frame.unfold(
                solved.weight[:, :, h].double().cpu().numpy(),
                solved.bias[:, h].double().cpu().numpy(),
                record(solved, h, spec),
            )
            for h, spec in enumerate(group.specs)
        ]

    def _widest(self, x: Tensor, columns: int) -> int:
        """How many sparse heads may be solved at once: three buffers of logits each."""
        room = max(_LOGITS_SHARE * x.nbytes, _LOGITS_BYTES)
        return max(1, int(room / (3 * len(x) * columns * x.element_size())))

    def _stack(self, group: Group, x: Tensor, frame: Frame) -> Stack:
        device, dtype = x.device, x.dtype
        weight, bias, cold = frame.fold_all([spec.start for spec in group.specs])
        return Stack(
            x=x,
            target=torch.tensor(group.codes(self._target), device=device),
            row_weights=torch.tensor(group.weights, device=device).to(dtype),
            weight_of=torch.tensor(group.weight_of, device=device),
            columns=group.columns,
            l1=_numbers([spec.penalty.l1 for spec in group.specs], device),
            l2=_numbers([spec.penalty.l2 for spec in group.specs], device),
            weight=torch.tensor(weight, device=device).to(dtype),
            bias=torch.tensor(bias, device=device).to(dtype),
            cold=torch.tensor(cold, device=device),
            tolerance=_numbers([spec.tolerance for spec in group.specs], device),
            max_iterations=torch.tensor([spec.max_iterations for spec in group.specs], device=device),
        )


def _numbers(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)
