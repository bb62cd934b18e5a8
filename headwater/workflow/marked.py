"""YAML as plain values together with the line that each stands on; what the values mean is not known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from headwater.errors import RequestError
from headwater.store.files import explained_reading

Place = tuple[str | int, ...]

_MOST_NODES = 100_000  # a file of a few kilobytes can name its own parts over and over


@dataclass(frozen=True)
class Marked:
    """A file's `values`, of plain types, and the line (from 1) of every key and item by its place."""

    file: str
    values: dict[str, Any]
    lines: Mapping[Place, int] = field(default_factory=dict)

    def line(self, *place: str | int) -> int:
        """The line of what stands at `place`, or of the nearest thing around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, place: Sequence[str | int], sentence: str) -> RequestError:
        """The sentence as an error that names the file and the line."""
        return RequestError(f"{self.file}:{self.line(*place)}: {sentence}")


def read_marked(path: str | Path) -> Marked:
    """Read a file whose outermost level is a mapping.

    RequestError, naming the line, for what is no YAML, for a key that stands twice and for one that is no
    text.
    """
    path = Path(path)
    file = str(path)
    if path.is_dir() or not path.exists():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise RequestError(
            f"{file!r} {what}; give a config file, or print one with `headwater run --example`"
        )
    with explained_reading(path):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RequestError(f"{file}:{line}: the file is no text in UTF-8; save it so") from None
    return parse_marked(text, file)


def parse_marked(text: str, file: str) -> Marked:
    """The same of a text; `file` is what to call it."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            raise RequestError(
                f"{file}:1: the file is empty; print an example with `headwater run --example`"
            )
        if not isinstance(node, yaml.MappingNode):
            raise RequestError(
                f"{file}:{_line(node)}: the file must hold `key: value` lines, not {_kind(node)}"
            )
        reader = _Reader(loader, file)
        return Marked(file, reader.value(node, ()), reader.lines)
    except yaml.YAMLError as error:
        raise RequestError(f"{file}:{_error_line(error)}: this is no YAML: {_problem(error)}") from None


class _Reader:
    def __init__(self, loader: yaml.SafeLoader, file: str) -> None:
        self._loader, self._file = loader, file
        self._left = _MOST_NODES
        self._inside: set[int] = set()
        self.lines: dict[Place, int] = {(): 1}

    def value(self, node: yaml.Node, place: Place) -> Any:
        self._left -= 1
        if self._left < 0 or id(node) in self._inside:
            raise RequestError(
                f"{self._file}:{_line(node)}: an anchor stands for itself, or for far too much"
            )
        self.lines.setdefault(place, _line(node))
        if not isinstance(node, yaml.CollectionNode):
            return self._loader.construct_object(node)
        self._inside.add(id(node))
        if isinstance(node, yaml.MappingNode):
            found: Any = self._mapping(node, place)
        else:
            found = [self.value(each, (*place, number)) for number, each in enumerate(node.value)]
        self._inside.discard(id(node))
        return found

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        written: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise RequestError(f"{self._file}:{_line(key)}: a key must be a word, not {_kind(key)}")
            if key.value in written and key.tag != _MERGE:
                raise RequestError(f"{self._file}:{_line(key)}: the key {key.value!r} stands here twice")
            written.add(key.value)
        self._loader.flatten_mapping(node)
        found: dict[str, Any] = {}
        for key, each in node.value:
            name = str(key.value)
            spot = (*place, name)
            self.lines[spot] = _line(key)
            found[name] = self.value(each, spot)
        return found


_MERGE = "tag:yaml.org,2002:merge"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else f"{node.value!r}"


def _error_line(error: yaml.YAMLError) -> int:
    mark = getattr(error, "problem_mark", None)
    return 1 if mark is None else int(mark.line) + 1


def _problem(error: yaml.YAMLError) -> str:
    said = getattr(error, "problem", None) or str(error)
    return " ".join(str(said).split())
