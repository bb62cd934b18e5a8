"""What the folders of an image tell about it: class, split, and the seven levels of the iNaturalist layout.

Only names are looked at here; listing them is folder.py's business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LEVELS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names, in lower case, that mean a part of a split, and what the `split` column calls it."""

_TAXON = re.compile(r"\d+_([A-Z][^_]*)" + r"_([^_]+)" * 5 + r"_(.+)", re.DOTALL)

Columns = dict[str, list[str | None]]


def folder_columns(keys: Sequence[str]) -> Columns:
    """Annotation columns told by the folders of row keys; None where an image lies in no such folder.

    - Folders that hold every image (`images/` in `images/cat/1.jpg`, `images/dog/2.jpg`) say nothing and are
      passed over, as long as another folder, or a split's name, follows.
    - `split`: where every folder then is, or lies in, one named like a split (`SPLITS`), in any letter case.
    - `class`: the rest of the folder's path; `cat` in `cat/1.jpg`, `cat/indoors` in `cat/indoors/1.jpg`.
    - Where every class folder is named like `00000_Animalia_…_Lumbricus_terrestris`, the columns are `LEVELS`
      instead, and the folder's name goes to `taxon`. `species` is genus and epithet, `Lumbricus terrestris`,
      because epithets repeat; a genus shared by two kingdoms keeps its one name.
    """
    folders = [tuple(key.split("/")[:-1]) for key in keys]
    distinct = {folder for folder in folders if folder}
    skip = _common_folders(distinct)
    columns: Columns = {}
    has_split = bool(distinct) and all(len(f) > skip and f[skip].lower() in SPLITS for f in distinct)
    if has_split:
        columns["split"] = [SPLITS[folder[skip].lower()] if folder else None for folder in folders]
    below = {folder: folder[skip + has_split :] for folder in set(folders)}
    taxa = {folder: _TAXON.fullmatch(readable(rest[-1])) for folder, rest in below.items() if rest}
    levels = {folder: _levels(match) for folder, match in taxa.items() if match}
    if taxa and len(levels) == len(taxa):
        columns["taxon"] = [readable(folder[-1]) if folder in levels else None for folder in folders]
        for number, level in enumerate(LEVELS):
            columns[level] = [levels[folder][number] if folder in levels else None for folder in folders]
    elif taxa:
        names = {folder: readable("/".join(rest)) or None for folder, rest in below.items()}
        columns["class"] = [names[folder] for folder in folders]
    return columns


def _common_folders(folders: set[tuple[str, ...]]) -> int:
    """How many leading folders are shared by all, are no split's name, and leave a folder below."""
    count = 0
    shortest = min((len(folder) for folder in folders), default=0)
    while (
        count + 1 < shortest
        and len({folder[count] for folder in folders}) == 1
        and next(iter(folders))[count].lower() not in SPLITS
    ):
        count += 1
    return count


def _levels(match: re.Match[str]) -> tuple[str, ...]:
    *upper, epithet = match.groups()
    return (*upper, f"{upper[-1]} {epithet.replace('_', ' ')}")


def readable(name: str) -> str:
    """Bytes that are no UTF-8 as visible escapes: a class name must be text wherever it is shown."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
