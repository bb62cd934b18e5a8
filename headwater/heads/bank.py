"""The bank: checks a list of head specs against the data, trains them together, and returns raw-feature heads.

How a group of heads is solved lives in `headwater.heads.solvers`; what a method asks for lives in its recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from headwater.errors import RequestError
from headwater.heads.head import Convergence, LinearHead
from headwater.heads.spec import HeadSpec


class HeadBank:
    """Trains many linear heads on one feature matrix.

    `features`: (rows, dim) float16 or float32, an array, a memory map or a store's `Features`.
    `target`: (rows,) class codes 0..n_classes-1; -1 where unknown (no head may train on such a row).
    """

    def __init__(
        self, features: Any, target: NDArray[np.integer[Any]], n_classes: int, *, device: str = "auto"
    ):
        self._features = features
        self._target = np.asarray(target, dtype=np.int64)
        self._n_classes = n_classes
        self._device = device

    def train(self, specs: Sequence[HeadSpec]) -> list[LinearHead]:
        """One head per spec, in order; equal specs are trained once."""
        trained: dict[HeadSpec, LinearHead] = {}
        for spec in specs:
            if spec not in trained:
                trained[spec] = self._train_one(spec)
        return [trained[spec] for spec in specs]

    def _train_one(self, spec: HeadSpec) -> LinearHead:
        rows = spec.rows.index
        y = self._target[rows]
        if (y < 0).any() or (y >= self._n_classes).any():
            raise RequestError("a head was asked to train on rows whose target is unknown")
        x = np.asarray(self._features[rows], dtype=np.float64)
        if not np.isfinite(x).all():
            raise RequestError("the features hold NaN or infinite values")
        mean, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
        if spec.scaler_rows is not None:
            base = np.asarray(self._features[spec.scaler_rows.index], dtype=np.float64)
            mean, scale = base.mean(axis=0), base.std(axis=0)
            scale[scale == 0] = 1
        x = (x - mean) / scale
        weights = np.ones(len(rows)) if spec.weights is None else spec.weights.values
        weights = weights / weights.sum()
        n, d = x.shape
        k = 1 if self._n_classes == 2 else self._n_classes
        onehot = np.eye(self._n_classes)[y]
        l1, l2 = spec.penalty.l1, spec.penalty.l2

        def both(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            positive, negative = theta[: d * k].reshape(d, k), theta[d * k : 2 * d * k].reshape(d, k)
            w, b = positive - negative, theta[2 * d * k :]
            z = x @ w + b
            logits = np.hstack([-z / 2, z / 2]) if k == 1 else z
            logits = logits - logits.max(axis=1, keepdims=True)
            log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            residual = weights[:, None] * (np.exp(log_p) - onehot)
            residual = residual[:, 1:] if k == 1 else residual
            value = (
                -(weights * log_p[np.arange(n), y]).sum()
                + l2 / 2 * (w**2).sum()
                + l1 * (positive + negative).sum()
            )
            gw = x.T @ residual + l2 * w
            return value, np.concatenate([(gw + l1).ravel(), (l1 - gw).ravel(), residual.sum(axis=0)])

        if l1 == 0:

            def smooth(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
                value, g = both(np.concatenate([theta[: d * k], np.zeros(d * k), theta[d * k :]]))
                return value, np.concatenate([g[: d * k], g[2 * d * k :]])

            found = minimize(
                smooth,
                np.zeros(d * k + k),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": 5000, "ftol": 1e-12, "gtol": 1e-8},
            )
            w, b = found.x[: d * k].reshape(d, k), found.x[d * k :]
        else:
            bounds = [(0, None)] * (2 * d * k) + [(None, None)] * k
            found = minimize(
                both,
                np.zeros(2 * d * k + k),
                jac=True,
                bounds=bounds,
                method="L-BFGS-B",
                options={"maxiter": 5000, "ftol": 1e-12, "gtol": 1e-8},
            )
            w, b = (found.x[: d * k] - found.x[d * k : 2 * d * k]).reshape(d, k), found.x[2 * d * k :]
        if k == 1:
            w, b = np.hstack([-w / 2, w / 2]), np.concatenate([-b / 2, b / 2])
        raw = w / scale[:, None]
        return LinearHead(
            weight=np.ascontiguousarray(raw.T, dtype=np.float32),
            bias=(b - mean @ raw).astype(np.float32),
            convergence=Convergence(
                bool(found.success), int(found.nit), float(found.fun), float(np.abs(found.jac).max())
            ),
        )
