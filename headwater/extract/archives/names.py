"""What the members of an archive may be called and link to, and which of them become rows.

Keys, order and what is left out are as for the folder that the archive would unpack to. How members are
listed and read is for the other files of this room.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from headwater.errors import RequestError
from headwater.extract.folder import has_image_name, is_hidden
from headwater.store import show_key

Kind = Literal["file", "folder", "symbolic link", "hard link", "special"]

FOLDER = "a folder, not a file"
NO_SUCH_FILE = "no such file (a link to none of the archive's images)"
_MOST_HOPS = 40  # as many as Linux follows
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class Member:
    """One member as its archive lists it; bytes that are not UTF-8 stand as surrogate escapes.

    `place` and `size` (bytes) say where a file's content is, in whatever way its archive counts. `target` is
    what a link leads to, as written; `problem` why a special member, or a file that cannot be had, is no
    picture.
    """

    name: str
    kind: Kind
    place: int = 0
    size: int = 0
    target: str = ""
    problem: str = ""


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
        if member.kind == "symbolic link":
            found.links[key] = _followed(key, member, archive)
        elif member.kind == "hard link":
            found.links[key] = inside(member.target, archive, link=key)
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


def inside(name: str, archive: str, *, link: str = "") -> str:
    """The key of a member's name: without empty parts and `.`; "" for the archive itself.

    RequestError where the name (or what `link` leads to) is absolute or holds `..`.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or _DRIVE.match(name) or ".." in parts:
        raise _leads_out(link or name, name if link else "", archive)
    return "/".join(parts)


def _leads_out(name: str, target: str, archive: str) -> RequestError:
    what = f"the link {show_key(name)} to {show_key(target)}" if target else f"the member {show_key(name)}"
    return RequestError(
        f"the archive {archive} holds {what}, which leads out of the archive and is not followed; if you"
        " trust it, unpack it yourself and give the folder"
    )


def _followed(key: str, member: Member, archive: str) -> str:
    """The key that a symbolic link leads to; it may go up as long as it stays within the archive."""
    parts = key.split("/")[:-1]
    if member.target.startswith("/") or _DRIVE.match(member.target):
        raise _leads_out(key, member.target, archive)
    for part in member.target.split("/"):
        if part == ".." and not parts:
            raise _leads_out(key, member.target, archive)
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


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
        end = _end_of(key, found.links)
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


def _end_of(key: str, links: Mapping[str, str]) -> str | None:
    """Where a chain of links ends, None where it does not."""
    for _ in range(_MOST_HOPS):
        if key not in links:
            return key
        key = links[key]
    return None
