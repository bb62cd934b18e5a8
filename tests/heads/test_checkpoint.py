"""Head files: what is written comes back, and what is no head, damaged or newer is refused in one
sentence.
"""

from __future__ import annotations

import dataclasses
import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from headwater._version import __version__
from headwater.errors import HeadwaterError, RequestError
from headwater.heads.checkpoint import FORMAT, HeadInfo, load_head, save_head
from headwater.heads.methods.recipes import FittedHead
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.tasks.task import Task


def _head(classes: int = 2, dim: int = 5) -> LinearHead:
    random = np.random.default_rng(0)
    record = Convergence(False, 17, 0.25, 1e-5, "max_iterations reached")
    return LinearHead(
        random.normal(size=(classes, dim)).astype("f4"), random.normal(size=classes).astype("f4"), record
    )


def _info(**changes: Any) -> HeadInfo:
    info = HeadInfo(
        classes=("heron\n", "caf\udce9"),  # a line break, and a byte that is no valid UTF-8
        target="class",
        group_columns=("place",),
        group_names=("heron, land", "heron, water"),
        train_counts=(5, 7),
        split="split",
        store_path="/data/b\udcffirds.store",
        store_fingerprint="ab" * 32,
        store_recipe={"backbone": "resnet50", "preprocessing": {"crop": 224}},
        method="DFR-val",
        settings={"C": [1.0, 0.1]},
        seed=3,
        choices={"C": 0.1},
        summary={"val": {"overall": 0.5}},
        seconds=1.5,
        rounds=2,
        trained=27,
        unconverged=1,
    )
    return dataclasses.replace(info, **changes)


def test_a_head_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "head.safetensors"
    save_head(path, _head(), _info())
    head, info = load_head(path)
    np.testing.assert_array_equal(head.weight, _head().weight)
    np.testing.assert_array_equal(head.bias, _head().bias)
    assert head.convergence == _head().convergence
    assert info == _info()
    assert info.headwater == __version__
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # nothing temporary is left


def test_the_record_of_a_task_says_what_the_task_is(task: Task) -> None:
    fitted = FittedHead(_head(2, 12), "ERM", {"l2": 0.1}, 4, {}, 0.5, 1, 1, 0)
    info = HeadInfo.of(task, fitted)
    assert (info.classes, info.target, info.split) == (("landbird", "waterbird"), "class", "split")
    assert info.group_columns == ("place",)
    assert dict(zip(info.group_names, info.train_counts, strict=True)) == {
        "landbird, land": 60,
        "landbird, water": 9,
        "waterbird, land": 12,
        "waterbird, water": 70,
    }
    assert (info.method, info.settings, info.seed) == ("ERM", {"l2": 0.1}, 4)


def test_nothing_is_silently_replaced(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    path.write_text("mine")
    with pytest.raises(RequestError, match="exists already; choose another name, or say --replace"):
        save_head(path, _head(), _info())
    assert path.read_text() == "mine"
    save_head(path, _head(), _info(), replace=True)
    assert load_head(path)[1] == _info()
    with pytest.raises(RequestError, match="is a folder"):
        save_head(tmp_path, _head(), _info(), replace=True)


def test_a_failed_write_leaves_the_old_head(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_head(path, _head(), _info())

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(HeadwaterError, match="the file size limit was reached: could not write head"):
            save_head(path, _head(), _info(seed=9), replace=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert load_head(path)[1].seed == 3
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    for under in ("head.safetensors", "deeper/head.safetensors"):
        with pytest.raises(RequestError, match=r"file' is a file, so .* cannot be in it; choose another"):
            save_head(tmp_path / "file" / under, _head(), _info())
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(HeadwaterError, match=r"no permission to write head.safetensors in .*; change its"):
        save_head(tmp_path / "new" / "head.safetensors", _head(), _info())
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def _rewrite(path: Path, **changes: Any) -> None:
    with safe_open(path, framework="numpy") as file:
        content = json.loads(file.metadata()["headwater"])
        tensors = {name: file.get_tensor(name) for name in ("weight", "bias")}
    for name in ("weight", "bias"):
        tensors[name] = changes.pop(name, tensors[name])
    for name, value in changes.items():
        if value is None:
            del content[name]
        else:
            content[name] = value
    save_file(tensors, path, metadata={"headwater": json.dumps(content)})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": FORMAT + 1}, f"is of head format {FORMAT + 1}, and headwater {__version__} reads up to"),
        ({"format": None}, "has damaged metadata"),
        ({"classes": None}, "has damaged metadata"),
        ({"seed": None}, "has damaged metadata"),
        ({"seen": {"val": "AAAA"}}, "has damaged metadata"),
        ({"seen": ["val"]}, "has damaged metadata"),
        ({"convergence": {"converged": True}}, "has damaged metadata"),
        ({"classes": ["one", "two", "three"]}, "for 3 classes"),
        ({"bias": np.zeros(3, "f4")}, "has damaged metadata"),
        ({"weight": np.full((2, 5), np.nan, "f4")}, "weights that are not finite"),
        ({"weight": np.zeros((2, 5, 1), "f4")}, "has damaged metadata"),
    ],
)
def test_a_changed_file_is_refused(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_head(path, _head(), _info())
    _rewrite(path, **changes)
    with pytest.raises(RequestError) as error:
        load_head(path)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_entries_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_head(path, _head(), _info())
    _rewrite(path, mood="good")
    assert load_head(path)[1] == _info()


def test_a_head_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "head.safetensors"
    save_head(path, _head(), _info())

    def refused(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("io.open", refused)
    with pytest.raises(HeadwaterError, match="may not be read; change its permissions"):
        load_head(path)


def test_what_is_no_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no head at"):
        load_head(tmp_path / "none.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"weight": np.zeros((2, 2), "f4"), "bias": np.zeros(2, "f4")}, other)
    with pytest.raises(RequestError, match="holds no headwater head"):
        load_head(other)
    for content in (b"", b"\x80\x04cos\nsystem\n", b"x" * 1000):
        other.write_bytes(content)
        with pytest.raises(RequestError, match="damaged or no head file"):
            load_head(other)
    path = tmp_path / "head.safetensors"
    save_head(path, _head(), _info())
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(RequestError, match="damaged or no head file"):
            load_head(path)
