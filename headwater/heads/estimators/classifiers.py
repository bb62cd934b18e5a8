"""One class per main method, and `RobustClassifier` for all the others.

A class is its method's name and settings, with the method's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headwater.heads.estimators.base import HeadClassifier
from headwater.heads.methods import find_method
from headwater.heads.methods.afr import AFRSettings
from headwater.heads.methods.dfr import DFRValSettings
from headwater.heads.methods.dro import GroupDROSettings
from headwater.heads.methods.erm import TrainSettings
from headwater.heads.methods.jtt import JTTSettings

_TRAIN, _JTT = TrainSettings.model_validate({}), JTTSettings.model_validate({})
_DRO = GroupDROSettings.model_validate({})
_DFR, _AFR = DFRValSettings.model_validate({}), AFRSettings.model_validate({})


class RobustClassifier(HeadClassifier):
    """Any method by its name, with its `settings` as a mapping; see `headwater heads methods`."""

    def __init__(
        self,
        method: str = "ERM",
        *,
        settings: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.2,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        super().__init__(random_state=random_state, device=device)
        self.validation_fraction = validation_fraction
        self.method = method
        self.settings = settings

    def _method_and_settings(self) -> tuple[str, dict[str, Any]]:
        return find_method(self.method).name, dict(self.settings or {})


class _Weighted(HeadClassifier):
    """The parameters of a method that trains on train with weight decay `l2` beside the mean loss.

    scikit-learn's `C` is 1/(l2·rows), on the features that come out of a StandardScaler if `standardise`.
    """

    def __init__(
        self,
        *,
        l2: float = _TRAIN.l2,
        standardise: bool = _TRAIN.standardise,
        max_iterations: int = _TRAIN.max_iterations,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        super().__init__(random_state=random_state, device=device)
        self.l2 = l2
        self.standardise = standardise
        self.max_iterations = max_iterations


class ERM(_Weighted):
    """Logistic regression, every row the same. `l2`: weight decay, scikit-learn's 1/(C·rows)."""

    _method = "ERM"


class RWG(_Weighted):
    """Every group has the same total weight (Idrissi et al. 2022). `l2`: weight decay."""

    _method = "RWG"


class RWY(_Weighted):
    """Every class has the same total weight (Idrissi et al. 2022). `l2`: weight decay."""

    _method = "RWY"


class SUBG(_Weighted):
    """Every group is cut to the size of the smallest (Idrissi et al. 2022). `l2`: weight decay."""

    _method = "SUBG"


class SUBY(_Weighted):
    """Every class is cut to the size of the smallest (Idrissi et al. 2022). `l2`: weight decay."""

    _method = "SUBY"


class DFR(HeadClassifier):
    """Deep feature reweighting (Kirichenko et al. 2023): the mean of sparse heads on group-balanced subsets.

    `C`: strengths to choose from by the worst group, or one. `penalty`: l1 or l2. `subsets`: heads averaged.
    `scaler`: train or val, what standardises. `halvings`: random halvings over which `C` is chosen.
    `penalised_intercept`: as liblinear does, with L1. It learns from `val` where that is given, else from the
    rows it is fitted on, which are then both.
    """

    _method = "DFR-val"

    def __init__(
        self,
        *,
        C: Any = _DFR.C,
        penalty: str = _DFR.penalty,
        subsets: int = _DFR.subsets,
        scaler: str = _DFR.scaler,
        halvings: int = _DFR.halvings,
        penalised_intercept: bool = _DFR.penalised_intercept,
        max_iterations: int = _DFR.max_iterations,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        super().__init__(random_state=random_state, device=device)
        self.C = C
        self.penalty = penalty
        self.subsets = subsets
        self.scaler = scaler
        self.halvings = halvings
        self.penalised_intercept = penalised_intercept
        self.max_iterations = max_iterations


class AFR(HeadClassifier):
    """Automatic feature reweighting (Qiu et al. 2023): a second head for what the first is unsure of.

    `gamma`, `strength`: the second head's weighting and tie to the first; several values are chosen from by
    the worst group on validation rows. `share` of the rows, kept for the second head. `stopping`: stands in
    for the authors' early stopping. `l2`: weight decay of the first head.
    """

    _method = "AFR"

    def __init__(
        self,
        *,
        gamma: Any = _AFR.gamma,
        strength: Any = _AFR.strength,
        share: float = _AFR.share,
        stopping: float = _AFR.stopping,
        l2: float = _AFR.l2,
        standardise: bool = _AFR.standardise,
        max_iterations: int = _AFR.max_iterations,
        validation_fraction: float = 0.2,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        super().__init__(random_state=random_state, device=device)
        self.validation_fraction = validation_fraction
        self.gamma = gamma
        self.strength = strength
        self.share = share
        self.stopping = stopping
        self.l2 = l2
        self.standardise = standardise
        self.max_iterations = max_iterations


class GroupDRO(HeadClassifier):
    """The least loss of the worst group (Sagawa et al. 2020), at its exact minimum.

    `adjustment`: C, by which C/√n is added to a group's loss; `l2`: weight decay.
    """

    _method = "GroupDRO"

    def __init__(
        self,
        *,
        adjustment: float = _DRO.adjustment,
        l2: float = _DRO.l2,
        standardise: bool = _DRO.standardise,
        max_iterations: int = _DRO.max_iterations,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        super().__init__(random_state=random_state, device=device)
        self.adjustment = adjustment
        self.l2 = l2
        self.standardise = standardise
        self.max_iterations = max_iterations


class JTT(HeadClassifier):
    """Just train twice (Liu et al. 2021): the first head's errors count `upweight` times in the second.

    `identification_l2`: weight decay of the first head, which stands in for stopping it early; `l2`: of the
    second.
    """

    _method = "JTT"

    def __init__(
        self,
        *,
        upweight: float = _JTT.upweight,
        identification_l2: float = _JTT.identification_l2,
        l2: float = _JTT.l2,
        standardise: bool = _JTT.standardise,
        max_iterations: int = _JTT.max_iterations,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        super().__init__(random_state=random_state, device=device)
        self.upweight = upweight
        self.identification_l2 = identification_l2
        self.l2 = l2
        self.standardise = standardise
        self.max_iterations = max_iterations

    def __sklearn_tags__(self) -> Any:
        """Where errors count many times, a few wrong labels decide: accuracy is not what it is for."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        return tags
