"""Losses of groups drawn toward those of what lies above them in a tree, and the way back for weights.

It is linear in the losses, by two walks over the tree; what is made of the losses lives in `worst_groups`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Ladder:
    """A tree above G groups, its N nodes in order of depth, the root of all first.

    `above` (G,) is the node right over each group; `parent` (N,) each node's; nodes of depth k lie between
    `starts[k]` and `starts[k + 1]`. `rows` (G,) and `below` (N,) float64 say how many training rows, by
    weight, a group and a node have.
    """

    above: Tensor
    parent: Tensor
    starts: tuple[int, ...]
    rows: Tensor
    below: Tensor

    @staticmethod
    def of_tree(parent: NDArray[np.int64], above: NDArray[np.int64], rows: Tensor) -> Ladder:
        """From parents (nodes,) and `above` (groups,), -1 for the root of all, and the groups' rows (G,).

        Nodes without rows are left out, and so are groups beyond those of `above`, by having none.
        """
        count = np.zeros(len(parent) + 1)  # the root of all first
        mass = rows.cpu().numpy()
        np.add.at(count, above + 1, mass[: len(above)])
        up = np.append(-1, parent + 1)
        depth = np.zeros(len(up), dtype=np.int64)
        at = up
        while (at >= 0).any():
            depth[at >= 0] += 1
            at = np.where(at >= 0, up[at], -1)
        order = np.argsort(depth, kind="stable")
        for level in range(int(depth.max()), 0, -1):
            nodes = np.flatnonzero(depth == level)
            np.add.at(count, up[nodes], count[nodes])
        kept = order[count[order] > 0]
        place = np.zeros(len(up), dtype=np.int64)
        place[kept] = np.arange(len(kept))
        starts = np.searchsorted(depth[kept], np.arange(depth[kept].max() + 2))
        hung = np.zeros(len(mass), dtype=np.int64)
        hung[: len(above)] = place[above + 1]
        device = rows.device
        return Ladder(
            torch.tensor(hung, device=device),
            torch.tensor(place[up[kept]], device=device),
            tuple(starts.tolist()),
            rows,
            torch.tensor(count[kept], device=device),
        )

    def shrink(self, losses: Tensor, strength: Tensor) -> Tensor:
        """(G, H) mean losses of groups, each node's being (n·own + strength·its parent's) / (n + strength).

        `strength` (H,); n are the rows below the node, whose mean loss is its own.
        """
        nodes = self._gathered(self.rows.unsqueeze(1) * losses)
        for level in reversed(self._levels()):
            nodes.index_add_(0, self.parent[level], nodes[level].clone())
        nodes /= self.below.unsqueeze(1)
        pull = _pull(self.below, strength)
        for level in self._levels():
            nodes[level] = nodes[level].lerp(nodes.index_select(0, self.parent[level]), pull[level])
        return losses.lerp(nodes.index_select(0, self.above), _pull(self.rows, strength))

    def back(self, weights: Tensor, strength: Tensor) -> Tensor:
        """What weights (G, H) of shrunk losses are as weights of the groups' own: the transposed map."""
        away = _pull(self.rows, strength) * weights
        nodes = self._gathered(away)
        pull = _pull(self.below, strength)
        for level in reversed(self._levels()):
            passed = pull[level] * nodes[level]
            nodes[level] -= passed
            nodes.index_add_(0, self.parent[level], passed)
        nodes /= self.below.unsqueeze(1)
        for level in self._levels():
            nodes[level] += nodes.index_select(0, self.parent[level])
        return weights - away + self.rows.unsqueeze(1) * nodes.index_select(0, self.above)

    def _levels(self) -> list[slice]:
        """Where the nodes of each depth lie, from right below the root of all."""
        return [slice(*ends) for ends in zip(self.starts[1:-1], self.starts[2:], strict=True)]

    def _gathered(self, values: Tensor) -> Tensor:
        """(N, H) from (G, H): the sums over the groups right below each node."""
        return values.new_zeros(len(self.below), values.shape[1]).index_add_(0, self.above, values)


def _pull(rows: Tensor, strength: Tensor) -> Tensor:
    """How far a mean over so many rows goes toward the one above, (…, H)."""
    return strength / (rows.unsqueeze(1) + strength).clamp_min(1e-300)
