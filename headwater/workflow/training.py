"""Heads as the file asks for them, fitted or swept; what is there already for the same request is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import RequestError
from headwater.heads import HeadInfo, LinearHead, Task, load_head
from headwater.heads.checkpoint import SUFFIX
from headwater.heads.fitting import fit_many
from headwater.heads.methods import find_method, parse_settings
from headwater.heads.sweeps.design import TRAINING, Design
from headwater.heads.sweeps.run_folder import check_folder, differences, take_over
from headwater.heads.sweeps.sweeping import SweepProgress, design_sweep, run_design
from headwater.printable import counted
from headwater.store import open_store
from headwater.workflow.config import Asked, Fit, Sweep
from headwater.workflow.contest import METHOD, check_start
from headwater.workflow.features import local
from headwater.workflow.record import Record, content_of, digest_of
from headwater.workflow.settings import check_on_task, wanted_methods

if TYPE_CHECKING:
    from headwater.heads.sweeps.results import SweepResult

Now = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """The heads of a run: their `folder`, each method's file, and the one that was `picked`, if one was.

    `chosen`: the method whose the picked one is. `done` says what was done, [] where everything was there;
    `said` what there is now; `failed` which heads there are not, and why.
    """

    folder: Path
    heads: Mapping[str, Path]
    picked: Path | None
    done: list[str]
    said: str
    sweep: SweepResult | None = None
    chosen: str | None = None
    failed: tuple[tuple[str, str], ...] = ()

    def loaded(self) -> list[tuple[LinearHead, HeadInfo]]:
        """The heads with what their files say."""
        return [load_head(path) for path in self.heads.values()]


def task_of(asked: Asked, store: Path) -> Task:
    """The task that the file asks for, of the store's columns."""
    config = asked.config
    opened = open_store(store)
    section: Fit | Sweep | None = config.fit or config.sweep
    views = section is not None and section.views
    with asked.at("groups" if config.groups else "target"):
        return Task.from_store(opened, config.target, config.groups, config.split.column, views=views)


def train(asked: Asked, task: Task, record: Record, now: Now) -> Trained:
    """Fit or sweep, whichever the file asks for; settings that the task cannot have are told before."""
    check_on_task(asked, task)
    return (
        _fit(asked, task, record, now) if asked.config.fit is not None else _sweep(asked, task, record, now)
    )


def _fit(asked: Asked, task: Task, record: Record, now: Now) -> Trained:
    section = asked.config.fit
    assert section is not None
    wanted = wanted_methods(asked)
    if asked.contest:
        wanted[METHOD]["start"] = local(wanted[METHOD]["start"])
    identity = digest_of(identity_of(task), section.views)
    name = record.place_for("heads", identity, "heads")
    folder = record.folder / name
    record.begin("heads", name, identity)
    files = {method: folder / f"{method}{SUFFIX}" for method in wanted}
    requests = {
        method: digest_of(identity, method, _full(method, given), section.seed, _contents(given))
        for method, given in wanted.items()
    }
    missing = [
        each for each in wanted if not record.is_done(_key(files[each], record), requests[each], files[each])
    ]
    for each in missing:
        if files[each].exists() and not record.is_ours(_key(files[each], record), files[each]):
            raise asked.error(
                ("out",), f"{str(files[each])!r} is there and was not made by this run; move it away"
            )
    done = _drop_others(folder, files, record)
    if missing:
        if asked.contest:
            check_start(asked.marked, wanted[METHOD]["start"], task.classes)
        for each in missing:
            record.expect(_key(files[each], record), files[each])
        with asked.at("fit"):
            fit_many(
                task,
                methods=[(each, wanted[each]) for each in missing],
                seed=section.seed,
                out=[files[each] for each in missing],
                replace=True,
                device=asked.config.device,
                progress=lambda number, heads: now(f"round {number}: training {counted(heads, 'head')}"),
            )
        for each in missing:
            record.remember(_key(files[each], record), requests[each], files[each])
        done.append(f"fitted {', '.join(missing)}")
    chosen = chosen_method(asked, list(files))
    picked = None if chosen is None else files[chosen]
    said = f"{counted(len(files), 'head')} in {folder}"
    return Trained(folder, files, picked, done, said, chosen=chosen)


def chosen_method(asked: Asked, names: Sequence[str]) -> str | None:
    """Whose head is exported, or stands for the run, where no rule picks one; None: that of no one.

    RequestError where several could be exported and none is named, or one that is not trained.
    """
    export = asked.config.export
    if export is not None and export.method is not None:
        with asked.at("export", "method"):
            name = find_method(export.method).name
            if name not in names:
                raise RequestError(f"{name} is not among the methods: {', '.join(names)}")
            return name
    if export is not None and len(names) > 1:
        raise asked.error(
            ("export",),
            f"{len(names)} methods are fitted and one head can be exported; name it, such as "
            f"`method: {names[0]}`, or give `sweep` instead of `fit`, which selects one",
        )
    return names[0] if len(names) == 1 else None


def _drop_others(folder: Path, files: Mapping[str, Path], record: Record) -> list[str]:
    """Delete heads that this run fitted there and that are not asked for any more; all others stay."""
    dropped = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        key = _key(path, record)
        if path not in files.values() and record.is_ours(key, path):
            path.unlink()
            record.forget(key)
            dropped.append(path.name.removesuffix(SUFFIX))
    return [f"deleted {', '.join(dropped)}, not asked for any more"] if dropped else []


def _key(path: Path, record: Record) -> str:
    return str(path.relative_to(record.folder))


def identity_of(task: Task) -> str:
    """A digest of all that a head, or its figures, depend on besides its method, settings and seed."""
    digest = hashlib.sha256()
    for array in (task.target, task.groups, *(task.splits[name] for name in sorted(task.splits))):
        digest.update(array.tobytes())
    columns = (task.target_name, task.group_columns, task.split_name, sorted(task.splits))
    names = (task.classes, task.group_names)
    return digest_of(digest.hexdigest(), columns, names, task.origin.fingerprint, task.content, TRAINING)


def _full(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return parse_settings(find_method(method), given).model_dump(mode="json")


def _contents(given: Mapping[str, Any]) -> list[str | None]:
    """What is in files that settings name, such as a checkpoint to start from."""
    return [content_of(value) for value in given.values() if isinstance(value, str)]


def _sweep(asked: Asked, task: Task, record: Record, now: Now) -> Trained:
    section = asked.config.sweep
    assert section is not None
    with asked.at("sweep"):
        design = design_sweep(
            task,
            methods=section.methods,
            draws=16 if section.draws is None else section.draws,
            grid=section.grid or None,
            settings=section.set,
            seeds=section.seeds,
            folds=section.folds,
        )
    folder, begun = _sweep_folder(design, record)
    heads_before = _heads_there(folder)

    def tell(at: SweepProgress) -> None:
        what = f"round {at.round}: training {counted(at.heads, 'head')}" if at.heads else "measuring"
        now(f"{what}; {at.ended:,} of {at.recipes:,} recipes done")

    with asked.at("sweep"):
        result = run_design(
            design, select=section.select, out=folder, device=asked.config.device, progress=tell
        )
    said = f"{counted(result.table.num_rows, 'head')} in {folder}, {result.rule} picks {_pick_of(result)}"
    if result.failed:
        said += f", {len(result.failed):,} failed, such as {result.failed[0][0]}: {result.failed[0][1]}"
    done = [begun] if begun else []
    done += [] if result.already_done and heads_before == _heads_there(folder) else ["swept"]
    files = {path.name.removesuffix(SUFFIX): path for path in sorted((folder / "heads").glob(f"*{SUFFIX}"))}
    export = asked.config.export
    picked = folder / f"picked{SUFFIX}"
    chosen = None if result.pick is None else result.pick.method
    if export is not None and export.method is not None:
        chosen = chosen_method(asked, list(files)) or ""
        picked = files[chosen]
    return Trained(
        folder,
        files,
        picked if picked.exists() else None,
        done,
        said,
        result,
        chosen,
        failed=tuple(result.failed),
    )


def _pick_of(result: SweepResult) -> str:
    return "none" if result.pick is None else result.pick.id


def _heads_there(folder: Path) -> Sequence[tuple[str, int]]:
    return [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.glob(f"**/*{SUFFIX}"))]


def _sweep_folder(design: Design, record: Record) -> tuple[Path, str]:
    """The folder of this run whose sweep is this one or a part of it, else one that is free.

    A new one beside others begins with what they trained of the same; the second says so, for people.
    """
    request = design.request()
    earlier = list(record.folders.get("sweep", {}))
    for name in earlier:
        try:
            check_folder(record.folder / name, request)
        except RequestError:
            continue
        return record.folder / name, ""
    name = record.free_name("sweep", "sweep")
    try:
        check_folder(record.folder / name, request)
    except RequestError:  # what is there is not this run's
        name = record.free_name("sweep", "sweep", new=True)
    record.begin("sweep", name, "")
    folder = record.folder / name
    if not earlier:
        return folder, ""
    taken = take_over(design, [record.folder / each for each in earlier], folder)
    near = min(earlier, key=lambda each: len(differences(record.folder / each, request)))
    other = differences(record.folder / near, request)
    why = f"another sweep, which differs in {', '.join(other)}," if other else "a sweep of more or of others"
    used = f"; {taken:,} of {len(list(design.jobs())):,} recipes were trained there and are used again"
    return (
        folder,
        f"began {folder}, since {record.folder / near} holds {why} and stays{used if taken else ''}",
    )
