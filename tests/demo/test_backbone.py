"""Fetching weights under a deadline: got, torn, absent or endless, the demo goes on."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from headwater.demo import backbone
from headwater.demo.backbone import LITE0, RESNET50, choose_backbone, fetched

CONTENT = b"weights" * 1000
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/silent"):
            time.sleep(30)
            return
        self.send_response(200 if not self.path.startswith("/gone") else 404)
        self.end_headers()
        self.wfile.write(CONTENT[:100])
        if self.path.startswith("/slow"):
            self.wfile.flush()
            time.sleep(30)
        if not self.path.startswith("/torn"):
            self.wfile.write(CONTENT[100:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_weights_that_come_are_kept(site: str, tmp_path: Path) -> None:
    assert fetched(f"{site}/{NAME}", tmp_path / "cache" / NAME)
    assert (tmp_path / "cache" / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("what", ["torn", "gone", "slow", "silent"])
def test_weights_that_do_not_come_leave_nothing(site: str, tmp_path: Path, what: str) -> None:
    began = time.monotonic()
    assert not fetched(f"{site}/{what}/{NAME}", tmp_path / NAME, connect_seconds=1, fetch_seconds=1)
    assert time.monotonic() - began < 20
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_host_is_given_up(tmp_path: Path) -> None:
    assert not fetched("http://127.0.0.1:9/net-00000000.pth", tmp_path / "net-00000000.pth")


@pytest.mark.parametrize(("cached", "choice"), [(True, RESNET50), (False, LITE0)])
def test_resnet50_is_taken_where_it_is_at_hand(
    cached: bool, choice: backbone.Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(backbone, "fetched", lambda url, place: False)
    if cached:
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "resnet50-11ad3fa6.pth").write_bytes(b"")
    assert choose_backbone() == choice
