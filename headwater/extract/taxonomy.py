"""What the folders of an image tell about it: class, split, and the seven levels of the iNaturalist layout.

Only names are looked at here; listing them is folder.py's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headwater.errors import RequestError
from headwater.printable import counted
from headwater.taxonomy import LEVELS, NOT_NAMED_SO, from_folders, names_in

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "labeled": "labeled",
    "labelled": "labeled",
    "unlabeled": "unlabeled",
    "unlabelled": "unlabeled",
    "target": "target",
}
"""Folder names, in lower case, that mean a part of a split, and what the `split` column calls it.

Train, val and test are what heads are trained, chosen and judged on; labeled, unlabeled and target are what
`headwater ambiguity` reads of a store.
"""

Columns = dict[str, list[str | None]]


def folder_columns(keys: Sequence[str]) -> Columns:
    """Annotation columns told by the folders of row keys; None where an image lies in no such folder.

    - Folders that hold every image (`images/` in `images/cat/1.jpg`, `images/dog/2.jpg`) say nothing and are
      passed over, as long as another folder, or a split's name, follows.
    - `split`: where every folder then is, or lies in, one named like a split (`SPLITS`), in any letter case.
    - `class`: the rest of the folder's path; `cat` in `cat/1.jpg`, `cat/indoors` in `cat/indoors/1.jpg`.
    - Where class folders are named like `00000_Animalia_…_Lumbricus_terrestris`, the columns are `LEVELS`
      instead, and the folder's name goes to `taxon`. `species` is genus and epithet, `Lumbricus terrestris`,
      because epithets repeat; a genus shared by two kingdoms keeps its one name. RequestError where some
      are named so and others not, and for a species under two parents.
    """
    folders = [key.rpartition("/")[0] for key in keys]
    parts = {folder: tuple(folder.split("/")) for folder in set(folders) if folder}
    skip = _common_folders(set(parts.values()))
    columns: Columns = {}

    def add(name: str, values: Mapping[str, str]) -> None:
        columns[name] = [values.get(folder) for folder in folders]

    has_split = bool(parts) and all(len(p) > skip and p[skip].lower() in SPLITS for p in parts.values())
    if has_split:
        add("split", {folder: SPLITS[p[skip].lower()] for folder, p in parts.items()})
    names = {folder: readable("/".join(p[skip + has_split :])) for folder, p in parts.items()}
    names = {folder: name for folder, name in names.items() if name}
    taxa = {folder: names_in(name.rpartition("/")[2]) for folder, name in names.items()}
    levels = {folder: found for folder, found in taxa.items() if found}
    if levels:
        _refuse_strays([names[folder] for folder in names if folder not in levels], len(levels))
        taxon = {folder: name.rpartition("/")[2] for folder, name in names.items()}
        from_folders(sorted(set(taxon.values())))  # which refuses what contradicts itself
        add("taxon", taxon)
        for number, level in enumerate(LEVELS):
            add(level, {folder: values[number] for folder, values in levels.items()})
    elif names:
        add("class", names)
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


def _refuse_strays(strays: Sequence[str], taxa: int) -> None:
    if strays:
        more = f", and neither are {len(strays) - 1:,} more," if len(strays) > 1 else ","
        raise RequestError(
            f"the folder {min(strays)!r} {NOT_NAMED_SO}{more} as {counted(taxa, 'folder')} here are; "
            "rename it or move it away"
        )


def readable(name: str) -> str:
    """Bytes that are no UTF-8 as visible escapes: a class name must be text wherever it is shown."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
