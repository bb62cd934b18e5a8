"""Features on disk: the file format, reading and writing it, annotations, verification, import and export.

The face of the room; `FORMAT.md` beside it describes the files.
"""

from headwater.store.annotate import add_columns, annotate, drop_annotations
from headwater.store.annotations import Annotations
from headwater.store.columns import Column, column_from_values
from headwater.store.features import Features
from headwater.store.keys import show_key
from headwater.store.plan import Plan
from headwater.store.reader import Store, open_store
from headwater.store.shard import ROW_FAILED, ROW_OK, ShardRows
from headwater.store.writer import StoreWriter

__all__ = [
    "ROW_FAILED",
    "ROW_OK",
    "Annotations",
    "Column",
    "Features",
    "Plan",
    "ShardRows",
    "Store",
    "StoreWriter",
    "add_columns",
    "annotate",
    "column_from_values",
    "drop_annotations",
    "open_store",
    "show_key",
]
