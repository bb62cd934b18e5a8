"""From a group of specs without L1 to their solved stack: what is copied, what preconditions, how wide it is.

How stacks are solved lives in `solvers`; what is solved together was decided in `groups`.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.heads.bank.folding import Frame
from headwater.heads.bank.groups import Group
from headwater.heads.bank.workspace import Passes, Prepared, Workspace
from headwater.heads.rows.blocks import Blocks, Resident, Streamed
from headwater.heads.rows.reader import FeatureReader
from headwater.heads.solvers.minibatch import Stepped, solve_minibatch
from headwater.heads.solvers.onepass import MeanLoss
from headwater.heads.solvers.path import Room, solve_path
from headwater.heads.solvers.preconditioner import Directions
from headwater.heads.solvers.smooth import MEMORY
from headwater.heads.solvers.span import Span
from headwater.heads.solvers.stack import SmoothStack, Solved
from headwater.heads.specs.spec import Minibatch

# The heads solved at once may take this share of the memory, and no more than this many bytes.
_HEADS_SHARE, _HEADS_BYTES = 6, 3 << 26
# Iterations that a stack is expected to take, for judging what a preconditioner may cost.
_EXPECTED = 8
# Rows that do not fit in memory are approached on a random part of them, which takes this share of it, if
# that is at least so many rows for each feature, and to a tolerance that such a part deserves.
_SAMPLE_SHARE, _SAMPLE_PER_DIM, _ROUGHLY = 4, 4, 1e-4
# Newton steps are taken from so many rows for each feature, and at least so many, where there are several
# times more: an estimate of the gap is as good as the metric, and the metric as the sample.
_SAMPLED_PER_DIM, _SAMPLED_LEAST, _SAMPLED_PART = 4, 4096, 4


class SmoothGroup:
    """One group of specs without L1 penalty on the rows of a workspace."""

    def __init__(
        self,
        workspace: Workspace,
        reader: FeatureReader,
        group: Group,
        target: NDArray[np.int64],
        n_classes: int,
    ) -> None:
        self._workspace, self._reader, self._group = workspace, reader, group
        scaler, half_whitened = group.specs[0].scaler_rows, group.specs[0].half_whitened
        rows, dim = len(group.rows), reader.shape[1]
        self._spanned = rows < dim and group.specs[0].minibatch is None
        if self._spanned:
            self._passes: Passes = workspace.prepare(group.rows, scaler, half_whitened)
        else:
            columns = group.columns * len(group.specs)
            self._passes = workspace.passes(group.rows, scaler, columns, half_whitened)
        centre, scale = self._passes.centre, self._passes.scale
        whitening = self._passes.whitening
        self.frame = Frame(centre, scale, group.classes, group.columns, n_classes, whitening)
        self._stack = self._stacked(self._passes.rows, group.codes(target))

    def _stacked(self, rows: Blocks, codes: NDArray[np.int64]) -> SmoothStack:
        group, device, dtype = self._group, rows.device, rows.dtype
        theta = torch.zeros((len(group.specs), group.columns, rows.shape[1] + 1), dtype=dtype, device=device)
        for place, spec in enumerate(group.specs):
            if spec.start is not None:
                weight, bias = self.frame.fold(spec.start)
                theta[place, :, :-1] = torch.from_numpy(weight.T.copy())
                theta[place, :, -1] = torch.from_numpy(bias.copy())
        weights = torch.tensor(group.weights.T, dtype=dtype, device=device).contiguous()

        def numbers(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        return SmoothStack(
            loss=MeanLoss(rows, torch.tensor(codes, device=device), weights, group.columns),
            weight_of=torch.tensor(group.weight_of, device=device),
            l2=numbers([spec.penalty.l2 for spec in group.specs]),
            theta=theta,
            cold=torch.tensor([spec.start is None for spec in group.specs], device=device),
            tolerance=numbers([spec.tolerance for spec in group.specs]),
            max_iterations=torch.tensor([spec.max_iterations for spec in group.specs], device=device),
        )

    def solve(self) -> Solved:
        """The group's heads, in order."""
        stack, passes, families = self._stack, self._passes, self._group.families
        _, columns, numbers = stack.theta.shape
        taken = min(_HEADS_BYTES, self._workspace.memory // _HEADS_SHARE)
        widest = max(1, taken // ((2 * MEMORY + 8) * columns * numbers * stack.theta.element_size()))
        if self._group.specs[0].minibatch is not None:
            return self._by_minibatches()
        if self._spanned and isinstance(passes, Prepared):
            return _solve_in_span(stack, passes.span, families, Room(widest))
        if isinstance(passes.rows, Streamed) and self._reader.unmapped:
            stack = self._approached(stack, passes.rows, families, Room(widest))
        rows, dim = passes.rows.shape
        directions = passes.directions_for(2 * _EXPECTED * rows * dim * columns * stack.heads)
        room, sampled = Room(widest), max(_SAMPLED_LEAST, _SAMPLED_PER_DIM * dim)
        # A sample and its logits are not counted in a memory that was asked for.
        if rows >= _SAMPLED_PART * sampled and not self._reader.unmapped:
            room = Room(widest, sampled, self._workspace.holds(rows))
        return solve_path(stack, directions, families, room)

    def _approached(
        self, stack: SmoothStack, rows: Streamed, families: NDArray[np.int64], room: Room
    ) -> SmoothStack:
        """Cold heads of a stack, started from their optimum on as many random rows as fit in memory.

        They then run side by side in few passes over the file, not as a path in many.
        """
        count, dim = rows.shape
        fitting = self._workspace.memory // (_SAMPLE_SHARE * 4 * dim)
        cold = torch.nonzero(stack.cold).flatten()
        if fitting >= count or fitting < _SAMPLE_PER_DIM * dim or len(cold) == 0:
            return stack
        chosen = np.sort(np.random.default_rng(0).choice(count, fitting, replace=False))
        sample = self._reader.load(rows.index[chosen], rows.centre, rows.scale, torch.float32)
        places = torch.from_numpy(chosen).to(rows.device)
        weights = stack.loss.weights[:, places]
        inner = stack.of(cold)
        loss = dataclasses.replace(
            stack.loss,
            rows=Resident(sample),
            target=stack.loss.target[places],
            weights=weights / weights.sum(1, keepdim=True).clamp_min(1e-30),
        )
        inner = dataclasses.replace(inner, loss=loss, tolerance=inner.tolerance.clamp_min(_ROUGHLY))
        leading = Directions.sketched(inner.loss.rows)
        found = solve_path(inner, leading, families[cold.cpu().numpy()], room)
        theta = stack.theta.clone()
        theta[cold] = torch.cat([found.weight, found.bias.unsqueeze(0)]).permute(2, 1, 0)
        return dataclasses.replace(stack, theta=theta, cold=torch.zeros_like(stack.cold))

    def _by_minibatches(self) -> Solved:
        """Heads that draw the same batches from the same rows step together."""
        group, stack = self._group, self._stack
        together: dict[Hashable, list[int]] = defaultdict(list)
        for place, spec in enumerate(group.specs):
            plan = spec.minibatch or Minibatch(1, 1, 1.0)
            drawn = dataclasses.replace(plan, rate=1.0, momentum=0.0)
            together[spec.rows, drawn].append(place)
        answers = Solved.into(torch.zeros_like(stack.theta))
        directions = self._passes.directions_for()
        shift = torch.tensor(self._workspace.shift(self._passes, group.specs[0].scaler_rows))
        for places in together.values():
            first = group.specs[places[0]]
            chosen = torch.tensor(places, device=stack.theta.device)
            plans = [spec.minibatch for spec in (group.specs[place] for place in places) if spec.minibatch]
            sequence = np.searchsorted(group.rows.index, first.rows.index)
            stepped = Stepped(self._rows_at(), sequence, shift.to(stack.theta))
            answers.put(chosen, solve_minibatch(stack.of(chosen), plans, stepped, directions))
        return answers

    def _rows_at(self) -> Callable[[NDArray[np.int64]], Tensor]:
        passes = self._passes
        if isinstance(passes, Prepared):
            x = passes.x
            return lambda places: x[torch.from_numpy(places).to(x.device)]
        index, frame = self._group.rows.index, self.frame
        return lambda places: self._reader.load(index[places], frame.centre, frame.scale, torch.float32)


def _solve_in_span(stack: SmoothStack, span: Span, families: NDArray[np.int64], room: Room) -> Solved:
    """Solve heads with fewer rows than features exactly, in coordinates of the rows' span."""
    weight = span.into(stack.theta[..., :-1].permute(2, 1, 0)).permute(2, 1, 0)
    inner = dataclasses.replace(
        stack,
        loss=dataclasses.replace(stack.loss, rows=Resident(span.rows)),
        theta=torch.cat([weight, stack.theta[..., -1:]], dim=2),
    )
    solved = solve_path(inner, span.basis, families, room)
    return dataclasses.replace(solved, weight=span.out(solved.weight))
