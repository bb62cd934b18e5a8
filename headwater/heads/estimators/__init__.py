"""The methods as scikit-learn classifiers; what a method does lives in `headwater.heads.methods`."""

from headwater.heads.estimators.base import InvalidDataError
from headwater.heads.estimators.classifiers import (
    AFR,
    DFR,
    ERM,
    JTT,
    RWG,
    RWY,
    SUBG,
    SUBY,
    GroupDRO,
    RobustClassifier,
)
from headwater.heads.estimators.scoring import worst_group_score

__all__ = [
    "AFR",
    "DFR",
    "ERM",
    "JTT",
    "RWG",
    "RWY",
    "SUBG",
    "SUBY",
    "GroupDRO",
    "InvalidDataError",
    "RobustClassifier",
    "worst_group_score",
]
