"""The target rows' labels as a table, with the rows' keys and how sure each label is."""

from __future__ import annotations

import csv
import io

import numpy as np
from numpy.typing import NDArray

from headwater.ambiguity.dataset import Dataset

TABLE = "--table"
"""The option that names the file."""

_SETTLED = ("solved_label", "solved_probability")


def table_text(dataset: Dataset, codes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> str:
    """A CSV of all target rows: `path` (a store's key; of a folder `row`, a number), label and probability.

    `codes` (target rows,) are class codes; `probabilities` (t, classes) are of the problem's target rows. A
    row without features has no probability. `headwater store annotate --allow-missing` adds it to the store,
    where it is columns of its own: nothing that the store knows is taken for what was settled.
    """
    known = dict(zip(dataset.items.tolist(), probabilities, strict=True))
    keys = dataset.target_keys
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["row" if keys is None else "path", *_SETTLED])
    for row, code in enumerate(codes.tolist()):
        sure = f"{known[row][code]:.6f}" if row in known else ""
        lines.writerow([row if keys is None else keys[row], dataset.problem.classes[code], sure])
    return file.getvalue()
