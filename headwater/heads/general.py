"""Trains the heads whose criterion is more than the weighted mean of cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.heads.head import LinearHead
from headwater.heads.spec import HeadSpec
from headwater.heads.workspace import Workspace


def train_general(
    workspace: Workspace, target: NDArray[np.int64], n_classes: int, specs: Sequence[HeadSpec]
) -> list[LinearHead]:
    """One head per spec, in order."""
    raise RequestError(f"the bank cannot train {specs[0].loss} on {len(target)} rows yet")
