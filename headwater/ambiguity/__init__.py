"""From an ambiguous data set to a report or a submission: `hw.ambiguity.scan` and `hw.ambiguity.solve`.

Reads data sets, has their features extracted, and writes what comes out; the thinking is done in
`headwater.heads.ambiguity`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.ambiguity.dataset import Dataset
    from headwater.ambiguity.datasets import open_dataset
    from headwater.ambiguity.features import Extraction
    from headwater.ambiguity.scanning import Scanned, scan
    from headwater.ambiguity.scoring import score
    from headwater.ambiguity.solving import Solved, Telling, solve
    from headwater.ambiguity.submission import write_submission
    from headwater.heads.ambiguity.questions import Oracle, Question

_HOMES = {
    "Dataset": "dataset",
    "Extraction": "features",
    "Oracle": "solving",
    "Question": "solving",
    "Scanned": "scanning",
    "Solved": "solving",
    "Telling": "solving",
    "open_dataset": "datasets",
    "scan": "scanning",
    "score": "scoring",
    "solve": "solving",
    "write_submission": "submission",
}

__all__ = [
    "Dataset",
    "Extraction",
    "Oracle",
    "Question",
    "Scanned",
    "Solved",
    "Telling",
    "open_dataset",
    "scan",
    "score",
    "solve",
    "write_submission",
]


def __getattr__(name: str) -> Any:
    # Loaded when first used: scores can be added up without importing torch.
    if name in _HOMES:
        return getattr(importlib.import_module(f"headwater.ambiguity.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'headwater.ambiguity' has no attribute {name!r}")
