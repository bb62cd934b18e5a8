"""An archive of images as a source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headwater.errors import RequestError
from headwater.extract.archives.names import choose_rows
from headwater.extract.archives.readers import open_reader
from headwater.extract.files import LARGEST_FILE
from headwater.extract.folder import SUFFIXES
from headwater.extract.rows import ReadError
from headwater.extract.taxonomy import Columns, folder_columns
from headwater.printable import counted
from headwater.store import show_key


class ArchiveSource:
    """The images of a tar or zip, with the keys, order and columns of the folder that it would unpack to.

    Nothing is unpacked to a folder: members of a zip or plain tar are read where they lie, those of a gzipped
    tar from points on the way (`inflating.py`), and of a tar in any other compression from a nameless
    temporary file (`spool.py`). Names and links that lead out of the archive are refused; links within it are
    followed, except to folders. A compressed tar is read through when it is opened, which finds any damage.
    """

    def __init__(self, path: Path, *, name: str | None = None) -> None:
        self.name = name or str(path)
        shown = show_key(self.name)
        if not path.is_file():  # opening a named pipe would wait for someone to write into it
            raise RequestError(f"the archive {shown} is not a regular file; give one that is")
        try:
            self._reader = open_reader(path, shown)
            rows = choose_rows(self._reader.members(), shown)
            self._places = self._reader.settle(rows.places)
        except OSError as error:
            raise RequestError(
                f"cannot read the archive {shown} ({error.strerror or error}); check its permissions"
            ) from error
        if not rows.keys:
            raise RequestError(
                f"no images in the archive {shown} ({rows.skipped} other files); names must end in"
                f" {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
            )
        self.keys: Sequence[str] = rows.keys
        self.annotations: Columns = folder_columns(self.keys)
        self.skipped = rows.skipped
        self._problems = rows.problems
        self.notes: tuple[str, ...] = ()
        if rows.folder_links:
            said = f"{counted(rows.folder_links, 'link')} to folders in the archive"
            self.notes = (f"left out what lies behind {said}; unpack it and give the folder to follow them",)

    def load(self, row: int) -> bytes:
        """The bytes of a row's member; ReadError when they cannot be had."""
        if (problem := self._problems.get(self.keys[row])) is not None:
            raise ReadError(problem)
        place, size = self._places[row]
        if size > LARGEST_FILE:
            raise ReadError(f"the file has {size:,} bytes, more than any picture ({LARGEST_FILE:,})")
        return self._reader.read(place, size)
