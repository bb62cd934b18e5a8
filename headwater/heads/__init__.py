"""Features to heads: tasks, methods, training, metrics, head files and their export into a network.

The public names load their module when first used, so that importing this package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.heads.bank import HeadBank
    from headwater.heads.checkpoint import HeadInfo, load_head, save_head
    from headwater.heads.estimators import (
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
        worst_group_score,
    )
    from headwater.heads.evaluation import evaluate, report_on
    from headwater.heads.export import export_head
    from headwater.heads.fitting import FitResult, fit, fit_many
    from headwater.heads.head import Convergence, LinearHead
    from headwater.heads.many import ManyFigures, measure_many
    from headwater.heads.methods import find_method, plan
    from headwater.heads.metrics import GroupReport
    from headwater.heads.recipes import FittedHead, run_recipes
    from headwater.heads.results import SweepResult, load_sweep
    from headwater.heads.spec import HeadSpec
    from headwater.heads.sweeping import sweep
    from headwater.heads.task import Task

_HOMES = {
    "AFR": "estimators",
    "DFR": "estimators",
    "ERM": "estimators",
    "JTT": "estimators",
    "RWG": "estimators",
    "RWY": "estimators",
    "SUBG": "estimators",
    "SUBY": "estimators",
    "Convergence": "head",
    "FitResult": "fitting",
    "FittedHead": "recipes",
    "GroupDRO": "estimators",
    "GroupReport": "metrics",
    "HeadBank": "bank",
    "HeadInfo": "checkpoint",
    "HeadSpec": "spec",
    "LinearHead": "head",
    "ManyFigures": "many",
    "RobustClassifier": "estimators",
    "SweepResult": "results",
    "Task": "task",
    "evaluate": "evaluation",
    "export_head": "export",
    "fit": "fitting",
    "fit_many": "fitting",
    "load_head": "checkpoint",
    "load_sweep": "results",
    "find_method": "methods",
    "measure_many": "many",
    "plan": "methods",
    "report_on": "evaluation",
    "run_recipes": "recipes",
    "save_head": "checkpoint",
    "sweep": "sweeping",
    "worst_group_score": "estimators",
}

__all__ = [
    "AFR",
    "DFR",
    "ERM",
    "JTT",
    "RWG",
    "RWY",
    "SUBG",
    "SUBY",
    "Convergence",
    "FitResult",
    "FittedHead",
    "GroupDRO",
    "GroupReport",
    "HeadBank",
    "HeadInfo",
    "HeadSpec",
    "LinearHead",
    "ManyFigures",
    "RobustClassifier",
    "SweepResult",
    "Task",
    "evaluate",
    "export_head",
    "find_method",
    "fit",
    "fit_many",
    "load_head",
    "load_sweep",
    "measure_many",
    "plan",
    "report_on",
    "run_recipes",
    "save_head",
    "sweep",
    "worst_group_score",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"headwater.heads.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'headwater.heads' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
