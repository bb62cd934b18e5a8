"""Features on disk: the file format, reading and writing it, annotations, verification, import and export.

The face of the room; `FORMAT.md` beside it describes the files.
"""

from headwater.store.annotate import add_columns, annotate, drop_annotations, set_levels
from headwater.store.annotations import Annotations
from headwater.store.columns import Column, column_from_values
from headwater.store.exports import export
from headwater.store.features import Features
from headwater.store.imports import ImportReport, import_features
from headwater.store.keys import show_key
from headwater.store.numpy_files import read_arrays
from headwater.store.packed import pack
from headwater.store.plan import Plan
from headwater.store.reader import Store, open_store
from headwater.store.shard import ROW_FAILED, ROW_OK, ShardRows
from headwater.store.splits import DrawnSplit, draw_split
from headwater.store.summary import info
from headwater.store.tables import csv_values, read_table
from headwater.store.verify import Problem, VerifyReport, verify
from headwater.store.writer import StoreWriter, check_resumable

__all__ = [
    "ROW_FAILED",
    "ROW_OK",
    "Annotations",
    "Column",
    "DrawnSplit",
    "Features",
    "ImportReport",
    "Plan",
    "Problem",
    "ShardRows",
    "Store",
    "StoreWriter",
    "VerifyReport",
    "add_columns",
    "annotate",
    "check_resumable",
    "column_from_values",
    "csv_values",
    "draw_split",
    "drop_annotations",
    "export",
    "import_features",
    "info",
    "open_store",
    "pack",
    "read_arrays",
    "read_table",
    "set_levels",
    "show_key",
    "verify",
]
