"""What headwater is measured beside: two that ignore the unlabeled rows, and DivDis and D-BAT.

All networks share one trunk, optimiser and number of steps. DivDis (Lee, Yao and Finn 2022) and D-BAT
(Pagliardini et al. 2023) learn from unlabeled and target rows, ask about the target rows on which their two
heads differ most, as many as may be asked, and keep the head that is right most often.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional

from headwater.heads.ambiguity.problem import Problem

Ask = Callable[[int], int]
Codes = NDArray[np.int64]

DIVERSITY = 10.0  # DivDis: of the mutual information, and of the pull of a head's mean to the labels' shares
# D-BAT, whose paper tunes it from task to task. Of 1, 0.1, 0.01 and 0.001 these served it best.
DISAGREEMENT, DISAGREEMENT_LINEAR = 0.1, 0.01
BATCH, UNLABELED_BATCH = 128, 128
PASSES, FEWEST, MOST = 25, 250, 800  # passes over labeled rows, and bounds on the number of steps


@dataclass(frozen=True)
class Said:
    """A peer's class codes of the target rows, (t,), and how many labels it asked for."""

    labels: Codes
    asked: int


def linear(problem: Problem, ask: Ask, *, budget: int, seed: int) -> Said:
    """A logistic head on the labeled rows' numbers, standardised; scikit-learn's default strength."""
    del ask, budget
    labeled, _, target = standardised(problem)
    model = LogisticRegression(max_iter=200, random_state=seed)
    model.fit(labeled.reshape(len(labeled), -1), problem.labels)
    return Said(np.asarray(model.predict(target.reshape(len(target), -1)), dtype=np.int64), 0)


def network(problem: Problem, ask: Ask, *, budget: int, seed: int) -> Said:
    """The trunk with one head, trained on the labeled rows alone."""
    del ask, budget
    data = _Data.of(problem, seed)
    return Said(_probabilities(_erm(data), data.target)[:, 0].argmax(axis=1), 0)


def divdis(problem: Problem, ask: Ask, *, budget: int, seed: int, has_trunk: bool = True) -> Said:
    """Two heads on one trunk: small mutual information of what they say of unlabeled rows."""
    data = _Data.of(problem, seed)
    model = _Network(data, 2, has_trunk)
    shares = torch.bincount(data.labels, minlength=data.classes) / len(data.labels)

    def loss(labeled: Tensor, labels: Tensor, unlabeled: Tensor) -> Tensor:
        both = model(torch.cat([labeled, unlabeled]))
        fit = sum(functional.cross_entropy(both[: len(labels), h], labels) for h in range(2)) / 2
        first, second = both[len(labels) :].softmax(dim=2).unbind(1)
        apart = mutual_information(first, second)
        mean = torch.stack([first.mean(dim=0), second.mean(dim=0)])
        pull = (mean * (mean.clamp_min(1e-12) / shares.clamp_min(1e-12)).log()).sum(dim=1).mean()
        return torch.as_tensor(fit + DIVERSITY * (apart + pull))

    _train(model, data, loss)
    return _settle(_probabilities(model, data.target), ask, budget)


def dbat(problem: Problem, ask: Ask, *, budget: int, seed: int, has_trunk: bool = True) -> Said:
    """Two networks in turn: the second disagrees with the first about unlabeled rows."""
    data = _Data.of(problem, seed)
    first = _erm(data, has_trunk)
    fixed = torch.from_numpy(_probabilities(first, data.unlabeled)[:, 0])
    second = _Network(data, 1, has_trunk)
    strength = DISAGREEMENT if has_trunk else DISAGREEMENT_LINEAR

    def loss(labeled: Tensor, labels: Tensor, unlabeled: Tensor, rows: Tensor) -> Tensor:
        both = second(torch.cat([labeled, unlabeled]))[:, 0]
        fit = functional.cross_entropy(both[: len(labels)], labels)
        p, code = fixed[rows].max(dim=1)
        q = both[len(labels) :].softmax(dim=1).gather(1, code[:, None])[:, 0]
        apart = -(p * (1 - q) + q * (1 - p)).clamp_min(1e-7).log().mean()
        return fit + strength * apart

    _train(second, data, loss, with_rows=True)
    found = [_probabilities(each, data.target) for each in (first, second)]
    return _settle(np.concatenate(found, axis=1), ask, budget)


PEERS: dict[str, Callable[..., Said]] = {
    "linear on labeled": linear,
    "network on labeled": network,
    "DivDis": divdis,
    "D-BAT": dbat,
}


def mutual_information(first: Tensor, second: Tensor) -> Tensor:
    """Of two heads' classes, in nats, by their probabilities (rows, classes) of the same rows."""
    joint = first.T @ second / len(first)
    apart = first.mean(dim=0)[:, None] * second.mean(dim=0)
    return (joint * (joint.clamp_min(1e-12) / apart.clamp_min(1e-12)).log()).sum()


def standardised(problem: Problem) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Labeled, unlabeled and target rows; images less their mean pixel by its deviation, vectors by unit."""
    axis = (0, 2, 3) if problem.are_images else 0
    mean = problem.unlabeled.mean(axis=axis, keepdims=True, dtype=np.float64).astype(np.float32)
    scale = np.maximum(problem.unlabeled.std(axis=axis, keepdims=True), np.float32(1e-6))
    return (
        (problem.labeled - mean) / scale,
        (problem.unlabeled - mean) / scale,
        (problem.target - mean) / scale,
    )


@dataclass(frozen=True)
class _Data:
    """Standardised rows as tensors; `unlabeled` holds unlabeled and target rows."""

    labeled: Tensor
    labels: Tensor
    unlabeled: Tensor
    target: Tensor
    classes: int
    random: torch.Generator

    @classmethod
    def of(cls, problem: Problem, seed: int) -> _Data:
        labeled, unlabeled, target = (torch.from_numpy(each) for each in standardised(problem))
        return cls(
            labeled,
            torch.from_numpy(problem.labels),
            torch.cat([unlabeled, target]),
            target,
            len(problem.classes),
            torch.Generator().manual_seed(seed),
        )


class _Network(nn.Module):
    """Logits (rows, heads, classes): two strided convolutions or one layer, 64 units, heads."""

    def __init__(self, data: _Data, heads: int, has_trunk: bool = True) -> None:
        super().__init__()
        self.heads, self.classes = heads, data.classes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=data.random)))
            shape = data.labeled.shape[1:]
            if not has_trunk:
                self.trunk, units = nn.Sequential(nn.Flatten()), int(np.prod(shape))
            elif len(shape) == 1:
                layers = (nn.Linear(shape[0], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
                self.trunk, units = nn.Sequential(*layers), 64
            else:
                self.trunk, units = _convolutions(*shape), 64
            self.head = nn.Linear(units, heads * data.classes)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.trunk(x))
        return found.reshape(len(x), self.heads, self.classes)


def _convolutions(channels: int, height: int, width: int) -> nn.Sequential:
    down, across = ((((each - 3) // 2) - 3) // 2 for each in (height, width))
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * down * across, 64),
        nn.ReLU(),
    )


def _erm(data: _Data, has_trunk: bool = True) -> _Network:
    model = _Network(data, 1, has_trunk)

    def loss(labeled: Tensor, labels: Tensor, unlabeled: Tensor) -> Tensor:
        del unlabeled
        return functional.cross_entropy(model(labeled)[:, 0], labels)

    _train(model, data, loss)
    return model


def _train(model: _Network, data: _Data, loss: Callable[..., Tensor], with_rows: bool = False) -> None:
    """Adam at a rate of 0.001."""
    steps = min(MOST, max(FEWEST, PASSES * len(data.labeled) // BATCH))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        some = torch.randint(len(data.labeled), (BATCH,), generator=data.random)
        rows = torch.randint(len(data.unlabeled), (UNLABELED_BATCH,), generator=data.random)
        adam.zero_grad()
        extra = (rows,) if with_rows else ()
        loss(data.labeled[some], data.labels[some], data.unlabeled[rows], *extra).backward()
        adam.step()


@torch.no_grad()
def _probabilities(model: _Network, x: Tensor) -> NDArray[np.float32]:
    return np.concatenate([model(block).softmax(dim=2).numpy() for block in x.split(2_000)])


def _settle(found: NDArray[np.float32], ask: Ask, budget: int) -> Said:
    """Ask where two heads' probabilities (t, 2, classes) differ most; the head that is right most often."""
    apart = np.abs(found[:, 0] - found[:, 1]).sum(axis=1)
    items = np.argsort(-apart, kind="stable")[:budget]
    answers = np.array([ask(int(item)) for item in items], dtype=np.int64)
    right = (found[items].argmax(axis=2) == answers[:, None]).sum(axis=0)
    return Said(found[:, int(right.argmax())].argmax(axis=1), len(items))
