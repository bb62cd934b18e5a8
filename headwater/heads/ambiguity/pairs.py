"""Pairs of linear heads that fit the labels and disagree elsewhere, trained by the dozen in one pass.

A pair puts every other row into a cell, "one head says a, the other b"; cells are filled to the shares that a
mix rate gives them, which labeled rows kept apart correct. Which pairs are kept is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

RATE = 0.03  # of learning, at its peak
STEPS = 300
LABELED, REST = 256, 1024  # rows of a batch
KEPT = 0.15  # share of labeled rows kept apart
WARM, ADAPT = 0.2, 0.33  # shares of training: until disagreement counts fully; before mix rates are adapted
ADAPTATIONS = 12  # of mix rates, if they were adapted from the beginning
LEAST_RATE = 0.02
SHARPNESS = 3.0  # of the scores that cells are assigned by
ROUNDS = 3  # of Sinkhorn's scaling
PENALTY = 1e-3
SPREAD = 0.02  # of the weights that heads start from
ANSWER_WEIGHT = 0.2  # of an answered row, the mean of labeled rows being 1


@dataclass(frozen=True)
class Start:
    """What a pair starts from: how many leading components it sees, and the mix rate it assumes at first."""

    components: int
    mix_rate: float


@dataclass(frozen=True, eq=False)
class Told:
    """What is known beside the labels: `answered` rows with their `codes`, which first heads must fit, and
    `wrong` (rest, K), what second heads must say of the rest (None: nothing)."""

    answered: Tensor
    codes: Tensor
    wrong: Tensor | None


@dataclass(frozen=True, eq=False)
class Pairs:
    """Trained pairs: what their heads say of the rest of the rows, (rest, 2, K, pairs) probabilities.

    `errors` (2, pairs) on labeled rows kept apart; `mix_rates` (pairs,), as estimated in the end; `doubt`
    (pairs,) is the mean cross-entropy of the rows' cells, which is small where rows fall apart into cells by
    themselves.
    """

    said: Tensor
    errors: Tensor
    mix_rates: Tensor
    doubt: Tensor


def cell_shares(mix_rates: Tensor, n_classes: int) -> Tensor:
    """Shares (K², pairs) of the cells "one head says a, the other b": 1 - m on the diagonal, m off it."""
    same = torch.eye(n_classes, device=mix_rates.device).flatten()[:, None]
    return (1 - mix_rates) * same / n_classes + mix_rates * (1 - same) / (n_classes * (n_classes - 1))


def assigned(scores: Tensor, shares: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Rows assigned to cells, (rows, cells, pairs): the scores' exponentials scaled by Sinkhorn and Knopp.

    Every row sums to 1, and every cell, nearly, to its share (cells, pairs) of the rows.
    """
    given = torch.softmax(scores, 1).clamp(min=1e-12)
    wanted = shares * len(scores)
    by_row = torch.ones_like(given[:, :1])
    by_cell = torch.ones_like(shares)
    for _ in range(rounds):
        by_cell = wanted / (given * by_row).sum(0)
        by_row = 1 / (given * by_cell).sum(1, keepdim=True)
    return given * by_row * by_cell


def estimated_rate(on_labeled: Tensor, on_rest: Tensor) -> Tensor:
    """Mix rate by how often a pair disagrees on labeled rows kept apart and on the rest.

    Rows like labeled ones do so by mistake, at the same rate as these; crossed rows always do.
    """
    return ((on_rest - on_labeled) / (1 - on_labeled).clamp(min=1e-6)).clamp(0, 1)


def adapted(mix_rates: Tensor, on_labeled: Tensor, on_rest: Tensor) -> Tensor:
    """Mix rates halfway between those in use and the estimated ones, so far as disagreement is mistaken.

    Heads never disagree more often than they are told to. So where labeled rows kept apart see none of it,
    a low estimate says that training is not through yet, not that the rate is too high.
    """
    mistaken = (on_labeled / on_rest.clamp(min=1e-6)).clamp(0, 1)
    estimated = mistaken * estimated_rate(on_labeled, on_rest) + (1 - mistaken) * mix_rates
    return (0.5 * (mix_rates + estimated)).clamp(LEAST_RATE, 1)


def train_pairs(
    labeled: Tensor,
    labels: Tensor,
    rest: Tensor,
    n_classes: int,
    *,
    starts: list[Start],
    seed: int,
    told: Told,
) -> Pairs:
    """Train a pair from each start; columns of rows (·, d) are components of deviation 1, leading first."""
    training = _Training(labeled, labels, rest, n_classes, starts, told, torch.Generator().manual_seed(seed))
    training.run()
    return training.result()


class _Training:
    def __init__(  # noqa: PLR0917 - all of it is kept
        self,
        labeled: Tensor,
        labels: Tensor,
        rest: Tensor,
        n_classes: int,
        starts: list[Start],
        told: Told,
        generator: torch.Generator,
    ):
        self.labeled, self.labels, self.rest, self.told = labeled, labels, rest, told
        self.generator = generator
        dim, device = rest.shape[1], rest.device
        order = torch.randperm(len(labeled), generator=generator)
        kept = int(KEPT * len(order))
        if len(torch.unique(labels[order[kept:]])) < n_classes:
            kept = 0
        self.kept, self.used = order[:kept].to(device), order[kept:]
        self.rates = torch.tensor([each.mix_rate for each in starts], device=device)
        seen = torch.tensor([each.components for each in starts])
        # Pairs come last, so that what is done with few classes runs along many pairs.
        self.shape = dim, 2, n_classes, len(starts)
        self.mask = (torch.arange(dim)[:, None] < seen).float()[:, None, None].to(device)
        drawn = SPREAD * torch.randn(self.shape, generator=generator)
        self.weight = (drawn.to(device) * self.mask).requires_grad_()
        self.bias = torch.zeros(self.shape[1:], device=device, requires_grad=True)
        self.doubt = torch.zeros(len(starts), device=device)

    def logits(self, x: Tensor) -> Tensor:
        """Logits (rows, 2, K, pairs)."""
        return (x @ (self.weight * self.mask).flatten(1)).view(-1, *self.shape[1:]) + self.bias

    def run(self) -> None:
        optimizer = torch.optim.Adam([self.weight, self.bias], lr=RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS + 1)
        for step in range(STEPS):
            loss = self._loss(min(1.0, step / (WARM * STEPS)))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if step > ADAPT * STEPS and step % (STEPS // ADAPTATIONS) == 0:
                self._adapt()

    def _loss(self, share: float) -> Tensor:
        mine = self.used[torch.randperm(len(self.used), generator=self.generator)[:LABELED]]
        others = torch.randperm(len(self.rest), generator=self.generator)[:REST]
        answered = self.told.answered
        x = torch.cat([self.labeled[mine], self.rest[others], self.rest[answered]])
        said = torch.log_softmax(self.logits(x), 2)
        n, r = len(mine), len(others)
        loss = -_given(said[:n], self.labels[mine]).sum() / n
        if len(answered):
            loss = loss - ANSWER_WEIGHT * _given(said[n + r :, :1], self.told.codes).sum()
        said = said[n : n + r]
        if self.told.wrong is not None:
            loss = loss - (self.told.wrong[others][:, :, None] * said[:, 1]).sum() / r
        joint = (said[:, 0, :, None] + said[:, 1, None]).flatten(1, 2)
        with torch.no_grad():
            wanted = assigned(SHARPNESS * joint, cell_shares(self.rates, self.shape[2]))
        apart = -(wanted * joint).sum(1).mean(0)
        self.doubt = apart.detach()
        return loss + share * apart.sum() + PENALTY * (self.weight * self.mask).square().sum()

    def _adapt(self) -> None:
        if not len(self.kept):
            return
        labeled, rest = (self._disagree(x) for x in (self.labeled[self.kept], self.rest))
        self.rates = adapted(self.rates, labeled, rest)

    def _disagree(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            said = self.logits(x).argmax(2)
        return (said[:, 0] != said[:, 1]).float().mean(0)

    def result(self) -> Pairs:
        with torch.no_grad():
            errors, on_labeled = torch.full((2, self.shape[3]), float("nan")), torch.zeros(self.shape[3])
            if len(self.kept):
                codes = self.logits(self.labeled[self.kept]).argmax(2)
                errors = (codes != self.labels[self.kept][:, None, None]).float().mean(0)
                on_labeled = self._disagree(self.labeled[self.kept])
            found = estimated_rate(on_labeled.to(self.rest.device), self._disagree(self.rest))
            return Pairs(torch.softmax(self.logits(self.rest), 2), errors, found, self.doubt)


def _given(said: Tensor, codes: Tensor) -> Tensor:
    """What heads (rows, heads, K, pairs) give the rows' classes, (rows, heads, pairs)."""
    index = codes[:, None, None, None].expand(len(said), said.shape[1], 1, said.shape[3])
    return said.gather(2, index)[:, :, 0]


def told_by(answers: Mapping[int, int], first: int, wrong: Tensor | None, device: torch.device) -> Told:
    """What answers (target row → class code) say, where target rows begin at row `first` of the rest."""
    items = torch.tensor([first + item for item in answers], dtype=torch.int64, device=device)
    return Told(items, torch.tensor(list(answers.values()), dtype=torch.int64, device=device), wrong)
