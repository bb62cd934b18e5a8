"""Files of the hub, fetched from a server on this machine that speaks its protocol."""

from __future__ import annotations

import io
import logging
import tarfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from safetensors.torch import save

from headwater.cli.extract import register
from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.extract import hub as ours
from headwater.extract.archives import ArchiveSource
from headwater.extract.sources import open_source
from headwater.extract.weights import load_backbone
from headwater.store import open_store

from .fake_hub import COMMIT, FakeHub, serve
from .tiny import BROKEN, TINY, build, run

library = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")

CONTENT = bytes(range(256)) * 4000
MODEL, DATA = "someone/net/weights.bin", "datasets/someone/birds/data/train.tar.gz"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)  # what is less is lost when a transfer ends
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        server.files = {MODEL: CONTENT, DATA: CONTENT[::-1]}
        yield server


def leftovers(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").rglob("*.incomplete"))


def test_files_of_models_and_data_sets_are_fetched_once(hub: FakeHub) -> None:
    for name in (MODEL, DATA):
        path = ours.fetch(f"hf://{name}")
        assert path.read_bytes() == hub.files[name]
        assert path.name == name.rpartition("/")[2]
    assert len(hub.ranges()) == 4  # of each, the address and where it leads
    for name in (MODEL, DATA):
        assert ours.fetch(f"hf://{name}").read_bytes() == hub.files[name]
    assert len(hub.ranges()) == 4


def test_the_library_itself_finds_what_was_fetched(hub: FakeHub) -> None:
    path = ours.fetch(f"hf://{MODEL}")
    found = library.try_to_load_from_cache("someone/net", "weights.bin", cache_dir=constants.HF_HUB_CACHE)
    assert Path(found) == path
    assert COMMIT in path.parts


def test_a_revision_is_asked_for_by_its_name(hub: FakeHub) -> None:
    ours.fetch("hf://someone/net@v1/weights.bin")
    assert hub.asked[0][1] == "someone/net/resolve/v1/weights.bin"
    sent = [path for method, path, _ in hub.asked if method == "GET"]
    assert sent[0] == f"someone/net/resolve/{COMMIT}/weights.bin"  # which no later commit changes
    with pytest.raises(RequestError, match="revision 'v2', which someone/net does not have"):
        ours.fetch("hf://someone/net@v2/weights.bin")


def test_a_transfer_that_is_cut_off_goes_on_where_it_was(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut = [300_000, 100, 700_000]
    assert ours.fetch(f"hf://{MODEL}").read_bytes() == CONTENT
    assert [asked for asked in hub.ranges() if asked] == [
        f"bytes={have}-" for have in (300_000, 300_100, 1_000_100) for _ in ("the address", "where it leads")
    ]
    assert not leftovers(tmp_path)


def test_a_stopped_download_goes_on_in_the_next_run(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.cut = [400_000] + [0] * 100
    with pytest.raises(
        HeadwaterError, match=r"cut off after 400,000 of 1,024,000 bytes .*goes on from there"
    ):
        ours.fetch(f"hf://{MODEL}")
    assert [path.stat().st_size for path in leftovers(tmp_path)] == [400_000]
    hub.cut, hub.asked = [], []
    assert ours.fetch(f"hf://{MODEL}").read_bytes() == CONTENT
    assert set(hub.ranges()) == {"bytes=400000-"}
    assert not leftovers(tmp_path)


def test_what_is_not_what_the_hub_states_is_thrown_away(hub: FakeHub, tmp_path: Path) -> None:
    hub.small = {MODEL}
    for name in (MODEL, DATA):
        hub.spoiled = True
        with pytest.raises(HeadwaterError, match="does not have the checksum"):
            ours.fetch(f"hf://{name}")
        assert not leftovers(tmp_path)
        hub.spoiled = False
        assert ours.fetch(f"hf://{name}").read_bytes() == hub.files[name]


def test_a_leftover_of_a_larger_file_is_not_trusted(hub: FakeHub, tmp_path: Path) -> None:
    blobs = tmp_path / "cache/models--someone--net/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hub.etag(MODEL)}.headwater.incomplete").write_bytes(CONTENT + b"more")
    assert ours.fetch(f"hf://{MODEL}").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://someone/net", "names no file on the hub; write hf://owner"),
        ("hf://datasets/someone/birds", "names no file on the hub; write hf://datasets/owner"),
        ("hf://someone//weights.bin", "names no file"),
        ("hf://someone/net/../weights.bin", "names no file"),
        ("hf://someone/net/other.bin", "someone/net on the hub has no file 'other.bin'"),
        ("hf://someone/birds/data/train.tar.gz", "no model repository someone/birds"),
        ("hf://datasets/someone/fish/a.zip", "no dataset repository someone/fish"),
        ("hf://secret/net/a.bin", "agree there and log in"),
    ],
)
def test_what_is_not_there_is_said(hub: FakeHub, address: str, said: str) -> None:
    hub.files["secret/net/a.bin"] = b""
    hub.gated = {"secret/net"}
    with pytest.raises(RequestError) as caught:
        ours.fetch(address)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("trouble", ["no connection", "broken", "no hub", "HF_HUB_OFFLINE"])
def test_without_the_hub_the_copy_is_taken_at_once_and_else_it_fails_at_once(
    trouble: str, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours.fetch(f"hf://{MODEL}")
    if trouble == "no connection":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    elif trouble == "broken":
        hub.broken = True
    elif trouble == "HF_HUB_OFFLINE":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setattr(library, "get_hf_file_metadata", lambda *_, **__: _answer_of_no_hub())
    began = time.monotonic()
    if trouble == "no hub":
        with pytest.raises(HeadwaterError, match="does not answer as a hub"):
            ours.fetch(f"hf://{MODEL}")
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert ours.fetch(f"hf://{MODEL}").read_bytes() == CONTENT
        ours.fetch(f"hf://someone/net@{COMMIT}/weights.bin")  # which can have no newer copy
    said = [str(each.message) for each in told if issubclass(each.category, HeadwaterWarning)]
    assert len(said) == (trouble != "HF_HUB_OFFLINE")
    assert all(f"'hf://{MODEL}' is the copy fetched before" in each for each in said)
    with pytest.raises(HeadwaterError, match="cannot be fetched from the hub") as caught:
        ours.fetch(f"hf://{DATA}")
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 5
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_file_without_a_checksum_is_told_and_etags_that_no_file_can_have_are_refused(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.etags = {MODEL: "d41d8cd98f00b204e9800998ecf8427e"}
    with pytest.warns(HeadwaterWarning, match=f"states no checksum of 'hf://{MODEL}'"):
        assert ours.fetch(f"hf://{MODEL}").read_bytes() == CONTENT
    before = set(tmp_path.rglob("*"))
    for etag in ("../../../../escaped", "/escaped", "a b", "..", "g" * 64):
        hub.etags = {DATA: etag}
        with pytest.raises(HeadwaterError, match="does not answer as a hub"):
            ours.fetch(f"hf://{DATA}")
    assert set(tmp_path.rglob("*")) == before


def test_the_command_tells_once_that_a_copy_may_be_old(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = MODEL.replace(".bin", ".npz")
    hub.files[name] = b"no weights"
    ours.fetch(f"hf://{name}")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    command = typer.Typer()
    register(command)
    with pytest.raises(HeadwaterError):  # since these are no weights
        command(
            [str(tmp_path), "--out", str(tmp_path / "s"), "--weights", f"hf://{name}"], standalone_mode=False
        )
    told = capsys.readouterr().err
    assert told.startswith("warning: the hub cannot be reached (")
    assert told.count("warning: ") == 1


def _answer_of_no_hub() -> object:
    return SimpleNamespace(commit_hash=None, etag=None, size=None)


def test_too_little_room_is_said_before_anything_is_fetched(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours.shutil, "disk_usage", lambda _: type("", (), {"free": 1000})())
    with pytest.raises(HeadwaterError, match=r"needs 1,024,000 bytes more in .*, where 1,000 are free"):
        ours.fetch(f"hf://{MODEL}")
    assert hub.ranges() == []


def test_a_store_from_an_archive_and_weights_of_the_hub(hub: FakeHub, images: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(images, "images")
    hub.files[DATA] = buffer.getvalue()
    network = build()
    hub.files[MODEL.replace(".bin", ".safetensors")] = save(network.state_dict())
    address, weights = f"hf://{DATA}", f"hf://{MODEL}".replace(".bin", ".safetensors")
    report = run(address, tmp_path / "hub.store", weights=weights)  # type: ignore[arg-type]
    assert {key for key, _ in report.failed} == {f"images/{key}" for key in BROKEN}
    store = open_store(tmp_path / "hub.store")
    assert store.plan.source == address
    assert store.plan.details["weights"] == weights
    assert sorted(set(store.annotations["class"].texts())) == ["cat", "dog"]
    (tmp_path / "net.safetensors").write_bytes(save(network.state_dict()))
    assert (
        store.plan.recipe["weights_sha256"]
        == load_backbone(TINY, tmp_path / "net.safetensors").weights_sha256
    )


def test_sources_on_the_hub_are_archives_and_arrays(hub: FakeHub) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("cat/1.jpg"))
    hub.files["datasets/someone/birds/a.tar"] = buffer.getvalue()
    source = open_source("hf://datasets/someone/birds/a.tar")
    assert isinstance(source, ArchiveSource)
    assert source.name == "hf://datasets/someone/birds/a.tar"
    hub.asked = []
    with pytest.raises(RequestError, match="is no source of images: name an archive"):
        open_source("hf://datasets/someone/birds/train.parquet")
    assert hub.asked == []
