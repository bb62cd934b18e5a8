"""Writing a store shard by shard: starting or resuming it, and finishing it.

All under the store's lock. What a shard looks like inside is `shard.py`'s business.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from headwater.errors import HeadwaterError, RequestError
from headwater.store.files import explained, refuse_unwritable, remove_leftovers, sync_folder, write_whole
from headwater.store.index import write_index
from headwater.store.keys import decode_key, encode_keys, hash_keys, join_keys, show_keys
from headwater.store.lock import holding
from headwater.store.plan import Plan, plan_differences, render_plan
from headwater.store.reader import INDEX, KEYS, PLAN, RUNS, read_keys_content, read_plan
from headwater.store.sealed import broken_seal
from headwater.store.shard import ShardRows, shard_name, write_shard

LOCK = "store"
_log = logging.getLogger(__name__)


def check_resumable(path: str | os.PathLike[str], plan: Plan, keys: Sequence[str]) -> None:
    """Raise what `StoreWriter` would where the store at `path` is not one for this plan; writes nothing."""
    _resumed(Path(path), plan, encode_keys(keys))


def _resumed(path: Path, plan: Plan, raw: Sequence[bytes]) -> tuple[Plan, list[bytes], tuple[str, ...]]:
    """The plan in place, its keys, and those of them that are no longer given."""
    old = read_plan(path)
    differences = plan_differences(old, plan)
    if differences:
        raise RequestError(
            f"{path} holds features of another recipe ({'; '.join(differences[:6])}); "
            "choose another --out, or repeat the job with the recipe that it has"
        )
    content = read_keys_content(path, old)
    planned = content.split(b"\0")[:-1]
    given = set(raw)
    new = given.difference(planned)
    gone = [decode_key(each) for each in planned if each not in given]
    if new:
        first = [decode_key(each) for each in raw if each in new]
        fewer = f" and lacks {len(gone):,} of its rows" if gone else ""
        raise RequestError(
            f"{path} was planned without {len(new):,} of the rows now given: {show_keys(first)} "
            f"(the source has {len(given):,} rows now, the plan {old.rows:,}{fewer}); "
            "choose another --out for the new rows"
        )
    return old, planned, tuple(gone)


class StoreWriter:
    """Creates a store or resumes one, as a context manager that holds the store's lock.

    With a plan already in place, that plan is the one that counts (`plan`): its row order, its shards.
    RequestError when its recipe, dim, dtype or views differ from the given plan's, or when there are keys
    that it does not have. Keys of the plan that are no longer given are allowed and listed in `gone`: their
    rows are still to be written, as failed ones. HeadwaterError when another process holds the lock or the
    disk refuses.
    """

    def __init__(self, path: str | os.PathLike[str], plan: Plan, keys: Sequence[str]) -> None:
        self.path = Path(path)
        raw = encode_keys(keys)
        if (len(raw), hash_keys(join_keys(raw))) != (plan.rows, plan.keys_sha256):
            raise RequestError(
                f"the plan is for {plan.rows:,} other rows than the {len(raw):,} keys handed over"
            )
        self.plan = plan
        self.gone: tuple[str, ...] = ()
        self._raw = raw
        self._held = ExitStack()
        self._make_folder()
        with ExitStack() as opening:
            opening.enter_context(holding(self.path, LOCK))
            for leftover in remove_leftovers(self.path, ("shard-", PLAN, KEYS, INDEX)):
                _log.info("removed %s, left by a writer that died", leftover)
            if (self.path / PLAN).exists():
                self.plan, self._raw, self.gone = _resumed(self.path, plan, raw)
            else:
                self._start()
            self.missing: list[int] = [shard for shard in range(self.plan.shards) if not self._there(shard)]
            self._held = opening.pop_all()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock; what was written stays."""
        self._held.close()

    def keys(self, shard: int) -> list[str]:
        """The keys of a shard's rows, in order."""
        start, stop = self.plan.shard_range(shard)
        return [decode_key(raw) for raw in self._raw[start:stop]]

    def write(self, shard: int, rows: ShardRows) -> None:
        """Write one shard; when this returns it is on the disk, and when it raises nothing of it is there."""
        start, stop = self.plan.shard_range(shard)
        write_shard(self.path / shard_name(shard), self.plan, shard, self._raw[start:stop], rows)
        if shard in self.missing:
            self.missing.remove(shard)

    def finish(self, run: Mapping[str, Any]) -> None:
        """Record this run (rates, seconds, machine, …) and, when every shard is there, write the index."""
        if not self.missing:
            write_index(self.path / INDEX, self.plan)
        self.record(run)

    def _make_folder(self) -> None:
        if not self.path.exists():
            refuse_unwritable(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise RequestError(f"{self.path} is a file, and a store is a folder; choose another path")
        if self.path.is_dir() and not (self.path / PLAN).exists():
            strange = sorted(entry.name for entry in self.path.iterdir() if not self._ours(entry.name))
            if strange:
                raise RequestError(
                    f"{self.path} is a folder with other things in it ({show_keys(strange)}); "
                    "choose a new or empty one"
                )
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def _ours(name: str) -> bool:
        return name == KEYS or name.startswith((f".{LOCK}.", f".{KEYS}.", f".{PLAN}."))

    def _start(self) -> None:
        write_whole(self.path / KEYS, join_keys(self._raw))
        # Last, because a store begins to exist when its plan does.
        write_whole(self.path / PLAN, render_plan(self.plan))
        with explained(self.path):
            sync_folder(self.path.resolve().parent)

    def _there(self, shard: int) -> bool:
        file = self.path / shard_name(shard)
        if not file.exists():
            return False
        problem = broken_seal(file, "shard", deep=False)
        if problem is not None:
            _log.warning("%s counts as missing and is made again: %s", file, problem)
        return problem is None

    def record(self, run: Mapping[str, Any]) -> None:
        """Append one run to the store's log.

        HeadwaterError where `run` is no plain JSON, or the disk refuses.
        """
        file = self.path / RUNS
        try:
            line = json.dumps(dict(run), sort_keys=True, ensure_ascii=True, allow_nan=False).encode("ascii")
        except (TypeError, ValueError) as error:
            raise HeadwaterError(
                f"the record of this run cannot be kept, since it is no plain JSON: {error}"
            ) from None
        with explained(file), file.open("a+b") as log:
            size = log.seek(0, os.SEEK_END)
            if size and not self._ends_line(log, size):
                line = b"\n" + line
            log.write(line + b"\n")
            log.flush()
            os.fsync(log.fileno())

    @staticmethod
    def _ends_line(log: Any, size: int) -> bool:
        log.seek(size - 1)
        return bool(log.read(1) == b"\n")
