"""Features to heads: tasks, methods, training, metrics, head files and their export into a network.

The public names load their module when first used, so that importing this package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.heads.bank.head_bank import HeadBank
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
    from headwater.heads.measures.many import ManyFigures, measure_many
    from headwater.heads.measures.metrics import GroupReport
    from headwater.heads.methods import find_method, plan
    from headwater.heads.methods.hierarchy_sampler import BalancedSampler, HierarchicalSampler
    from headwater.heads.methods.recipes import FittedHead, run_recipes
    from headwater.heads.specs.head import Convergence, LinearHead
    from headwater.heads.specs.spec import HeadSpec
    from headwater.heads.sweeps.results import SweepResult, load_sweep
    from headwater.heads.sweeps.sweeping import sweep
    from headwater.heads.tasks.task import Task

_HOMES = {
    "AFR": "estimators",
    "DFR": "estimators",
    "ERM": "estimators",
    "JTT": "estimators",
    "RWG": "estimators",
    "RWY": "estimators",
    "SUBG": "estimators",
    "SUBY": "estimators",
    "BalancedSampler": "methods.hierarchy_sampler",
    "Convergence": "specs.head",
    "FitResult": "fitting",
    "FittedHead": "methods.recipes",
    "GroupDRO": "estimators",
    "GroupReport": "measures.metrics",
    "HeadBank": "bank.head_bank",
    "HeadInfo": "checkpoint",
    "HeadSpec": "specs.spec",
    "HierarchicalSampler": "methods.hierarchy_sampler",
    "LinearHead": "specs.head",
    "ManyFigures": "measures.many",
    "RobustClassifier": "estimators",
    "SweepResult": "sweeps.results",
    "Task": "tasks.task",
    "evaluate": "evaluation",
    "export_head": "export",
    "fit": "fitting",
    "fit_many": "fitting",
    "load_head": "checkpoint",
    "load_sweep": "sweeps.results",
    "find_method": "methods",
    "measure_many": "measures.many",
    "plan": "methods",
    "report_on": "evaluation",
    "run_recipes": "methods.recipes",
    "save_head": "checkpoint",
    "sweep": "sweeps.sweeping",
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
    "BalancedSampler",
    "Convergence",
    "FitResult",
    "FittedHead",
    "GroupDRO",
    "GroupReport",
    "HeadBank",
    "HeadInfo",
    "HeadSpec",
    "HierarchicalSampler",
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
