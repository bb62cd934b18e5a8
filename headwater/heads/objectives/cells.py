"""Rows shared out among cells of set sizes: what one member of a pair says and what the other says.

Entropic optimal transport in its semi-dual: a number per cell, found by Newton steps, makes the mean
assignment what it has to be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

_STEPS = 50
_EXACT = 1e-6
_RIDGE = 1e-9
# Where rows are sure of their cells the dual hardly bends; by the shares that are off, steps stay bounded.
_LIFT = 0.1


@dataclass(frozen=True)
class CellsTie:
    """min over assignments q of mean_i Σ_c q_ic (cost_ic + τ log q_ic), mean_i q_ic = `shares` (cells, H).

    `strength` and `temperature` τ (H,). Cells are numbered a·K + b. `found` (cells, H) float64 is where the
    numbers of the cells were last, and is written to: the next search begins there.
    """

    strength: Tensor
    temperature: Tensor
    shares: Tensor
    found: Tensor
    is_convex: bool = False

    @property
    def scale(self) -> Tensor:
        """See TieOf."""
        return self.strength

    def of(self, keep: Tensor) -> CellsTie:
        """See TieOf."""
        return replace(
            self,
            strength=self.strength[keep],
            temperature=self.temperature[keep],
            shares=self.shares[:, keep],
            found=self.found[:, keep],
        )

    def at(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """See TieOf: by Danskin's theorem the derivative is that of the cost at the best assignment."""
        rows, _, classes, sets = log_p.shape
        gain = (log_p[:, 0].unsqueeze(2) + log_p[:, 1].unsqueeze(1)).flatten(1, 2)
        value, assigned = transported(gain, self.shares, self.temperature, self.found)
        pull = (assigned * (-self.strength / rows).to(gain.dtype)).view(rows, classes, classes, sets)
        return self.strength * value, torch.stack([pull.sum(2), pull.sum(1)], dim=1)


def transported(gain: Tensor, shares: Tensor, temperature: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """The least cost (H,) float64 and its assignments (m, cells, H) at costs -`gain` (m, cells, H).

    max over v of Σ_c s_c v_c - τ mean_i log Σ_c exp((v_c + gain_ic)/τ) is concave in v, which is looked for
    from `found` (cells, H) on and left there.
    """
    rows, cells, _ = gain.shape
    tau = temperature.to(gain.dtype)
    scaled = gain / tau
    v = found
    value, q = _dual(scaled, shares, v, temperature)
    eye = torch.eye(cells, dtype=torch.float64, device=gain.device)
    for _ in range(_STEPS):
        mean = q.mean(0, dtype=torch.float64)  # (cells, H)
        off = shares - mean
        size = off.abs().sum(0)
        wrong = size > _EXACT
        if not bool(wrong.any()):
            break
        by_set = q.permute(2, 1, 0)
        bent = torch.diag_embed(mean.T) - (by_set @ by_set.transpose(1, 2)).double() / rows
        lift = (_LIFT * size + _RIDGE).view(-1, 1, 1) * eye
        newton = torch.linalg.solve(bent + lift, off.T.unsqueeze(2)).squeeze(2).T
        tried = v + torch.where(wrong, newton * temperature, 0.0)
        ahead, assigned = _dual(scaled, shares, tried, temperature)
        worse = ~(ahead >= value - _RIDGE * value.abs())
        if bool(worse.any()):  # Sinkhorn's step never is
            scaling = temperature * (shares / mean.clamp_min(1e-30)).log()
            tried = torch.where(worse, v + scaling, tried)
            ahead, assigned = _dual(scaled, shares, tried, temperature)
        v, value, q = tried, ahead, assigned
    found.copy_(v)
    return value, q


def _dual(scaled: Tensor, shares: Tensor, v: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """The dual at `v` (cells, H), and the assignments (m, cells, H) that go with it."""
    raised = scaled + (v / temperature).to(scaled.dtype)
    top = raised.logsumexp(1, keepdim=True)
    value = (shares * v).sum(0) - temperature * top.squeeze(1).mean(0, dtype=torch.float64)
    return value, (raised - top).exp_()
