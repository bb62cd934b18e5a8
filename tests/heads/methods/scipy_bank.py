"""A bank that solves every spec by scipy in float64: slow, and independent of the solvers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from headwater.heads.specs.criterion import CrossEntropy, GeneralizedCrossEntropy
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.specs.spec import HeadSpec
from headwater.heads.tasks.task import Task

RECORD = Convergence(True, 1, 0.0, 0.0)


class ScipyBank:
    """Weighted mean of cross-entropy or GCE, l2 on the weights or on their distance from the anchor's."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.calls: list[list[HeadSpec]] = []

    def train(self, specs: Sequence[HeadSpec]) -> list[LinearHead]:
        self.calls.append(list(specs))
        return [self._solve(spec) for spec in specs]

    def _solve(self, spec: HeadSpec) -> LinearHead:
        assert spec.risk is None
        assert spec.invariance is None
        assert not spec.penalty.l1
        features = self.task.features.astype("f8")
        n_classes, rows = len(self.task.classes), spec.rows.index
        centre, scale = np.zeros(features.shape[1]), np.ones(features.shape[1])
        if spec.scaler_rows is not None:
            centre = features[spec.scaler_rows.index].mean(axis=0)
            scale = features[spec.scaler_rows.index].std(axis=0)
        x, y = (features[rows] - centre) / scale, self.task.target[rows]
        weights = np.ones(len(rows)) if spec.weights is None else spec.weights.values
        weights = weights / weights.sum()
        # two classes: only the difference of the columns counts, and only it is penalised
        columns = np.array([[-0.5, 0.5]]) if n_classes == 2 else np.eye(n_classes)
        size = (len(columns), features.shape[1] + 1)
        anchor = np.zeros((size[0], features.shape[1]))
        if spec.anchor is not None:
            raw = spec.anchor.weight.astype("f8") * scale
            anchor = raw[1:] - raw[:1] if n_classes == 2 else raw

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            theta = flat.reshape(size)
            z = (x @ theta[:, :-1].T + theta[:, -1]) @ columns
            p = np.exp(z - z.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            of_y = p[np.arange(len(y)), y]
            slope = p - np.eye(n_classes)[y]
            if isinstance(spec.loss, GeneralizedCrossEntropy):
                value = (1 - of_y**spec.loss.q) / spec.loss.q
                slope = slope * (of_y**spec.loss.q)[:, None]
            else:
                assert spec.loss == CrossEntropy()
                value = -np.log(of_y)
            residual = (weights[:, None] * slope) @ columns.T
            away = theta[:, :-1] - anchor
            gradient = np.column_stack([residual.T @ x + spec.penalty.l2 * away, residual.sum(axis=0)])
            return weights @ value + spec.penalty.l2 / 2 * (away**2).sum(), gradient.ravel()

        found = minimize(objective, np.zeros(size).ravel(), jac=True, method="BFGS", options={"gtol": 1e-9})
        theta = found.x.reshape(size)
        raw = columns.T @ (theta[:, :-1] / scale)
        bias = columns.T @ theta[:, -1] - raw @ centre
        return LinearHead(raw.astype("f4"), bias.astype("f4"), RECORD)
