"""The source's columns on their way into a store: adding those it lacks, naming those that differ.

What a column is and how it is kept is the store's business.
"""

from __future__ import annotations

from pathlib import Path

from headwater.extract.archives import ArchiveSource
from headwater.extract.datasets import DatasetSource
from headwater.extract.folder import FolderSource
from headwater.extract.sources import Source
from headwater.store import Store, annotate, column_from_values, open_store, set_levels
from headwater.taxonomy import LEVELS

_KEY = "\0key"  # a name that no column of a source can have


def add_source_columns(path: Path, source: Source) -> list[str]:
    """Add the source's columns that the store lacks, and return their names.

    Those that it has stay as they are, since its user may have changed them.
    """
    given = source.annotations
    store = open_store(path, unfinished=True)
    new = {name: values for name, values in given.items() if name not in store.annotations.names}
    if not new:
        return []
    added = annotate(path, {_KEY: list(source.keys), **new}, key=_KEY, allow_missing=True)
    if set(LEVELS) <= set(added):
        set_levels(path, LEVELS)
    return added


def restore_columns(path: Path, source: Source) -> list[str]:
    """Add all of the source's columns to a finished store whose annotations file is gone; says so, if any."""
    store = open_store(path)
    # A record of no columns spares a data set without labels from being read through for nothing.
    if (path / "annotations.h5").exists() or store.runs[-1].get("columns") == []:
        return []
    added = add_source_columns(path, source)
    return (
        [f"the annotations were gone; added the source's columns again: {', '.join(added)}"] if added else []
    )


def differing_columns(path: Path, source: Source) -> list[str]:
    """What to say about columns whose values are not the store's: [] or one sentence."""
    # A folder's columns follow from the keys, which the plan holds; a data set may have to be read through.
    if isinstance(source, FolderSource | ArchiveSource | DatasetSource):
        return []
    store = open_store(path)
    names = [name for name in source.annotations if name in store.annotations.names]
    if not names:
        return []
    other = [name for name in names if not _same(store, source, name)]
    if not other:
        return []
    which = f"columns {', '.join(other)} differ" if len(other) > 1 else f"column {other[0]} differs"
    return [
        f"the source's {which} from the store's, which were kept; "
        "annotate with `headwater store annotate --replace` to take them"
    ]


def _same(store: Store, source: Source, name: str) -> bool:
    rows = store.rows_of(source.keys)
    given = column_from_values(name, source.annotations[name])
    return store.annotations[name].take(rows).texts() == given.texts()
