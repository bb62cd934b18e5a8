"""What a run remembers of itself in `run.json`: what it was asked for, and which files and columns it made.

A file or column that is as the run left it may be made anew; any other is its user's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headwater._version import __version__
from headwater.errors import RequestError
from headwater.store import Column
from headwater.store.files import explained_reading, make_folder_of, write_whole

FILE = "run.json"
FORMAT = 1


@dataclass
class Record:
    """The memory of the run in `folder`, kept on disk with every change.

    `made`: by step or file, `{"request": digest, "sha256": digest, …}`; `folders`: by kind, the names of the
    stores, or of the folders of heads, that this run began, each with its request. `former`: by step and
    path, files that it made where it makes others now.
    """

    folder: Path
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    folders: dict[str, dict[str, Any]] = field(default_factory=dict)
    former: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Record:
        """What is remembered there, nothing where no run has been; RequestError for a damaged file."""
        file = folder / FILE
        if not file.exists():
            return cls(folder)
        with explained_reading(file):
            content = file.read_bytes()
        try:
            found = json.loads(content)
            if found["format"] > FORMAT:
                raise RequestError(
                    f"{str(file)!r} was written by a newer headwater ({found['headwater']}); upgrade this one"
                )
            return cls(folder, dict(found["made"]), dict(found["folders"]), dict(found.get("former", {})))
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(
                f"{str(file)!r} is damaged; delete it, and the run takes the files beside it for its user's"
            ) from error

    def keep(self) -> None:
        """Write it."""
        content = {
            "format": FORMAT,
            "headwater": __version__,
            "made": self.made,
            "folders": self.folders,
            "former": self.former,
        }
        file = self.folder / FILE
        make_folder_of(file)
        write_whole(file, (json.dumps(content, indent=1) + "\n").encode())

    def remember(self, name: str, request: str, path: Path | None = None, **more: Any) -> None:
        """Note what was made for which request; of a file its content."""
        made = {
            "request": request,
            **({} if path is None else {"path": self._place(path), "sha256": file_digest(path)}),
            **more,
        }
        if self.made.get(name) != made:
            self.made[name] = made
            self.keep()

    def expect(self, name: str, path: Path) -> None:
        """Note that a file is about to be made, lest one that was cut short be taken for its user's."""
        before, place = self.made.get(name, {}), self._place(path)
        former = self.former.setdefault(name, {})
        former.pop(place, None)
        if before.get("path", place) != place:
            former[before["path"]] = before
        self.made[name] = {"path": place, "pending": True}
        self.keep()

    def forget(self, name: str) -> None:
        """Note that it is gone."""
        if self.made.pop(name, None) is not None:
            self.keep()

    def is_ours(self, name: str, path: Path) -> bool:
        """Whether a file is as this run wrote it."""
        known = self._known(name, path)
        if not known or not path.is_file():
            return False
        return bool(known.get("pending")) or known.get("sha256") == file_digest(path)

    def _known(self, name: str, path: Path) -> Mapping[str, Any]:
        """What is remembered of a file that a step makes now, or made before it was to make another."""
        place, now = self._place(path), self.made.get(name, {})
        found: Mapping[str, Any] = (
            now if now.get("path") == place else self.former.get(name, {}).get(place, {})
        )
        return found

    def _place(self, path: Path) -> str:
        """Where a file is, seen from the folder: both may be moved together."""
        return os.path.relpath(path.absolute(), self.folder.absolute())

    def is_done(self, name: str, request: str, path: Path) -> bool:
        """Whether a file is what this request made."""
        return self._known(name, path).get("request") == request and self.is_ours(name, path)

    def place_for(self, kind: str, request: str, plain: str) -> str:
        """The name of the folder for a request: the one that had it before, else a name that is free.

        `plain` names the first; a folder of that name that nobody remembers is taken for it.
        """
        known = self.folders.setdefault(kind, {})
        for name, its in known.items():
            if its == request:
                return name
        return self.free_name(kind, plain)

    def free_name(self, kind: str, plain: str, *, new: bool = False) -> str:
        """The first of `plain`, `plain-2`, … that this run does not use; only the first may be there already.

        `new`: not even that.
        """
        known = self.folders.setdefault(kind, {})
        stem, dot, ending = plain.partition(".")
        for number in range(1, 10_000):
            name = plain if number == 1 else f"{stem}-{number}{dot}{ending}"
            there = (self.folder / name).exists()
            if name not in known and (not there or (number == 1 and not new)):
                return name
        raise RequestError(f"{str(self.folder)!r} holds too many runs; choose another `out`")

    def begin(self, kind: str, name: str, request: str) -> None:
        """Note whose the folder is, before anything is in it."""
        if self.folders.setdefault(kind, {}).get(name) != request:
            self.folders[kind][name] = request
            self.keep()


def digest_of(*parts: Any) -> str:
    """A digest of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Sha256 of a file's content."""
    digest = hashlib.sha256()
    with explained_reading(path), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_of(text: str) -> str | None:
    """Sha256 of the file that a text names; None where it names none on this machine."""
    return file_digest(Path(text)) if "\0" not in text and Path(text).is_file() else None


def column_digest(column: Column) -> str:
    """A digest of a column's values, whatever its categories' order."""
    return digest_of(column.kind, column.texts())


def request_of(section: Any, *leave_out: str) -> Mapping[str, Any]:
    """A section of the config as plain values, without what does not change what comes out."""
    found: dict[str, Any] = section.model_dump(mode="json", exclude=set(leave_out))
    return found
