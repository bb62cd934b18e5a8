"""Which members of an archive become rows.

Keys, order and what is left out are as for the folder that the archive would unpack to. What members may be
called and link to is said in `headwater.members`; how they are listed and read, in the other files here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headwater.extract.folder import has_image_name, is_hidden
from headwater.members import Member, end_of, inside, led_to

FOLDER = "a folder, not a file"
NO_SUCH_FILE = "no such file (a link to none of the archive's images)"


@dataclass(frozen=True)
class Rows:
    """The rows of an archive in the order of their keys' bytes.

    `places`: (place, size) of each row's content. `problems`: why rows have none, by key. `skipped`: how many
    files and hidden folders were left out. `folder_links`: how many links to folders were not followed.
    """

    keys: Sequence[str]
    places: Sequence[tuple[int, int]]
    problems: Mapping[str, str]
    skipped: int
    folder_links: int


@dataclass
class _Found:
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)

    def add_folder(self, key: str) -> None:
        """A folder, which is a row that fails where it has an image's name."""
        self.folders.add(key)
        if is_image(key):
            self.problems[key] = FOLDER

    def forget(self, key: str) -> None:
        """A later member of the same name replaces the earlier, as unpacking would."""
        self.others.discard(key)
        for known in (self.files, self.problems, self.links):
            known.pop(key, None)


def choose_rows(members: Iterable[Member], archive: str) -> Rows:
    """Choose the members that are rows.

    Args:
        members: all members, in the archive's order.
        archive: what to call the archive in errors.

    Raises:
        RequestError: a member's name or link leads out of the archive.
    """
    found = _Found()
    for member in members:
        key = inside(member.name, archive)
        if not key:
            continue
        if (hidden := _hidden_part(key)) is not None:
            found.hidden.add(hidden)
            continue
        found.forget(key)
        for folder in _folders_of(key, found.folders):  # few archives name every folder
            found.add_folder(folder)
        image = is_image(key)
        if member.kind in ("symbolic link", "hard link"):
            found.links[key] = led_to(key, member, archive)
        elif member.kind == "folder":
            found.add_folder(key)
        elif not image:
            found.others.add(key)
        elif member.problem:
            found.problems[key] = member.problem
        else:
            found.files[key] = (member.place, member.size)
    return _with_links(found)


def is_image(name: str) -> bool:
    """Whether a member of this name is a row."""
    return has_image_name(name.rpartition("/")[2].encode("utf-8", "surrogateescape"))


def _hidden_part(key: str) -> str | None:
    """The first hidden file or folder of a path, up to and with its name."""
    at = 0
    for part in key.split("/"):
        at += len(part) + 1
        if is_hidden(part.encode("utf-8", "surrogateescape")):
            return key[: at - 1]
    return None


def _folders_of(key: str, known: set[str]) -> list[str]:
    """The folders above a path that are not known yet."""
    new = []
    while (key := key.rpartition("/")[0]) and key not in known:
        new.append(key)
    return new


def _with_links(found: _Found) -> Rows:
    rows, problems = dict(found.files), dict(found.problems)
    folder_links, skipped = 0, len(found.hidden) + len(found.others)
    for key in found.links:
        end = end_of(key, found.links)
        if end is not None and (end in found.folders or not end):
            folder_links += 1
        if not is_image(key):
            skipped += 1
        elif end in found.files:
            rows[key] = found.files[end]
        elif end is None:
            problems[key] = "a symbolic link that leads back to itself"
        elif end in found.problems:
            problems[key] = found.problems[end]
        else:
            problems[key] = FOLDER if end in found.folders or not end else NO_SUCH_FILE
    keys = sorted([*rows, *problems], key=lambda key: key.encode("utf-8", "surrogateescape"))
    return Rows(keys, [rows.get(key, (0, 0)) for key in keys], problems, skipped, folder_links)
