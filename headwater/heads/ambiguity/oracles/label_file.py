"""Files with one label a row: the one reader of what oracles answer from and what was written to hand in.

Which classes the labels mean is `labels`' business.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.heads.ambiguity.oracles.labels import Classes, code_of
from headwater.store.keys import show_key
from headwater.store.numpy_files import read_arrays


def labels_of_file(path: Path) -> NDArray[Any]:
    """The labels of an .npy file as they are, or of a CSV file (of any other name) as text (rows,).

    RequestError where the file is absent, holds something else, or does not hold one label a line.
    """
    shown = show_key(str(path))
    if not path.is_file():
        raise RequestError(f"there is no file {shown}; give a CSV file or an .npy file with one label a row")
    if path.suffix.lower() == ".npy":
        found = read_arrays(path)
        if not isinstance(found, np.ndarray):
            raise RequestError(f"{shown} holds several arrays; give an .npy file of labels alone")
        return found
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{shown} cannot be read as CSV ({error}); give one label a line") from error
    while lines and not "".join(lines[-1]).strip():
        lines.pop()
    odd = next((number for number, line in enumerate(lines, 1) if len(line) != 1), None)
    if odd is not None:
        raise RequestError(
            f"{shown} has not one label in line {odd}; write one a line, without an index, and in quotes"
            " where it has a comma"
        )
    return np.array([line[0].strip() for line in lines], dtype=np.str_)


def without_heading(labels: NDArray[Any], classes: Classes, rows: int) -> NDArray[Any]:
    """The labels of a text without its first line, where that is one too many and no class."""
    is_text = labels.dtype.kind == "U" and labels.ndim == 1
    heading = is_text and len(labels) == rows + 1 and code_of(labels[0], classes) is None
    return labels[1:] if heading else labels
