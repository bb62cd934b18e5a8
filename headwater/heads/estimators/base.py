"""What all classifiers share: checking arrays once, running a method on them, predicting with its head.

A classifier adds its method's name and settings, nothing else.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from headwater.errors import RequestError
from headwater.heads.estimators.arrays import as_task, group_columns, held_out, joined, on_host
from headwater.heads.methods import find_method, parse_settings, plan
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.tasks.columns import CodedColumn
from headwater.heads.tasks.task import Task
from headwater.printable import listed

_DTYPES = (np.float64, np.float32, np.float16)  # others become the first


class InvalidDataError(RequestError, ValueError):
    """What cannot be fitted, in one sentence; a ValueError too, as scikit-learn's own refusals are."""


class HeadClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A linear classifier fitted by one of the methods of `headwater.heads.methods`.

    A subclass names the method in `_method` and takes the method's settings as its parameters. Common to all
    are `random_state`, which decides which rows are drawn, and `device`: `auto`, `cpu` or `cuda`. Those that
    may have to choose by validation rows also take `validation_fraction`, the part of every group that is
    held out for it where `val` is not given.

    Fitted: `classes_`; `coef_` (1 or classes, features) and `intercept_`, on raw features; `head_`, the same
    as a LinearHead; `convergence_` and `n_iter_`; `choices_`, what the method chose; `groups_`, the names of
    the groups; `n_features_in_`, `feature_names_in_`.
    """

    _method: ClassVar[str]
    validation_fraction: float

    def __init__(self, *, random_state: Any = None, device: str = "auto") -> None:
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: Any, groups: Any = None, val: Any = None) -> HeadClassifier:
        """Fit on `X` (rows, features) and `y` (rows,).

        `groups`: (rows,) or (rows, columns) of names or whole numbers, crossed with the classes; None: the
        groups are the classes. `val`: (X, y) or (X, y, groups) of further rows for what the method does on
        validation data. Without, a method that only learns from validation data (DFR) learns from the rows
        given, and one that chooses by them holds `validation_fraction` of every group out.

        Raises InvalidDataError, a ValueError, before any training for anything that cannot be fitted. Warns
        with scikit-learn's ConvergenceWarning when a head did not converge, and with a UserWarning when a
        method that needs groups, or learns from validation data, was given none.
        """
        try:
            return self._fit(X, y, groups, val)
        except InvalidDataError:
            raise
        except RequestError as error:
            raise InvalidDataError(str(error)) from error

    def _method_and_settings(self) -> tuple[str, dict[str, Any]]:
        fields = find_method(self._method).settings.model_fields
        return self._method, {name: getattr(self, name) for name in fields}

    def _fit(self, X: Any, y: Any, groups: Any, val: Any) -> HeadClassifier:
        name, settings = self._method_and_settings()
        settings = parse_settings(find_method(name), settings).model_dump()
        # The seed first: a RandomState is used up by drawing one, as it is in scikit-learn.
        seed = self._seed()
        task = self._task(name, settings, (X, y, groups), val, seed)
        (fitted,) = run_recipes(task, [plan(task, name, settings, seed=seed)], device=self.device)
        if fitted.unconverged:
            how = fitted.obstacle or f"raise max_iterations, now {settings['max_iterations']}"
            warnings.warn(
                f"{name} did not converge ({fitted.unconverged} of {fitted.trained} heads): {how}",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.head_ = fitted.head
        self.convergence_ = fitted.convergence
        self.n_iter_ = fitted.convergence.iterations
        self.choices_ = dict(fitted.choices)
        self.groups_ = np.array(task.group_names)
        weight, bias = fitted.head.weight.astype(np.float64), fitted.head.bias.astype(np.float64)
        if len(self.classes_) == 2:
            weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
        self.coef_, self.intercept_ = weight, bias
        return self

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _task(
        self, name: str, settings: dict[str, Any], given: tuple[Any, Any, Any], val: Any, seed: int
    ) -> Task:
        found = find_method(name)
        needs = found.needs(parse_settings(found, settings))
        features, labels = validate_data(self, on_host(given[0]), on_host(given[1]), dtype=_DTYPES)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        names = tuple(str(label) for label in self.classes_.tolist())
        if len(names) < 2:
            raise InvalidDataError(f"y has one class only, {names[0]!r}; a classifier needs at least two")
        columns = group_columns(given[2], len(labels))
        rows = np.arange(len(labels))
        splits = {"train": rows}
        if val is not None:
            val_features, val_codes, val_columns = self._validation(val)
            features = np.concatenate([features, val_features.astype(features.dtype)])
            columns = joined(columns, val_columns, (len(rows), len(val_codes)))
            codes = np.concatenate([codes, val_codes])
            splits["val"] = np.arange(len(rows), len(codes))
        if needs.groups_on and not columns:
            warnings.warn(
                f"{name} is a method for groups and was given none, so its groups are the classes; "
                "give fit groups=…",
                UserWarning,
                stacklevel=4,
            )
        target = CodedColumn("y", codes.astype(np.int64), names)
        task = as_task(features, target, columns, splits)
        if val is not None or "val" not in needs.reads:
            return task
        if "train" in (*needs.classes_on, *needs.groups_on):
            random = np.random.default_rng([seed, 1])  # another stream than the method's
            splits = held_out(task, needs, name, self.validation_fraction, random)
        else:
            warnings.warn(
                f"{name} learns from validation data and was given none, so it learns from the rows of X, "
                "which its paper keeps for other things; give fit val=(X, y, groups)",
                UserWarning,
                stacklevel=4,
            )
            splits = {"train": rows, "val": rows}
        return as_task(features, target, columns, splits)

    def _validation(self, val: Any) -> tuple[NDArray[Any], NDArray[np.int64], list[CodedColumn]]:
        if not isinstance(val, (tuple, list)) or len(val) not in (2, 3):
            raise InvalidDataError("val must be (X, y) or (X, y, groups)")
        features, labels = validate_data(self, on_host(val[0]), on_host(val[1]), dtype=_DTYPES, reset=False)
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise InvalidDataError(
                f"val has rows of {listed(unknown.tolist())}, a class that y does not have"
            )
        columns = group_columns(val[2] if len(val) == 3 else None, len(labels))
        return features, np.searchsorted(self.classes_, labels), columns

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores: (rows,) of the second class against the first, or (rows, classes)."""
        check_is_fitted(self)
        features = validate_data(self, on_host(X), dtype=_DTYPES, reset=False)
        scores = features.astype(np.float64) @ self.coef_.T + self.intercept_
        return np.asarray(scores[:, 0] if len(self.classes_) == 2 else scores)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """The softmax of the scores, shape (rows, classes)."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.stack([np.zeros_like(scores), scores], axis=1)
        return np.asarray(softmax(scores, axis=1))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class with the highest score, shape (rows,), as it is written in `y`."""
        scores = self.decision_function(X)
        return np.asarray(
            self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]
        )
