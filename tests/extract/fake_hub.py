"""A server on this machine that speaks the hub's download protocol, and misbehaves when it is told to."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "1234567890" * 4


@dataclass
class FakeHub:
    """Files by `owner/repository/path`, with `datasets/` in front for data sets.

    `small`: names of those that Git holds itself, whose etag is Git's own hash. `gated`: names of
    repositories that need a login. `cut`: after how many bytes the next transfers are cut off, one each.
    `spoiled`: whether a byte is changed on the way. `broken`: whether all requests fail. `etags`: what is
    stated by name instead of a checksum. `asked`: (method, path, Range) of all requests.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    small: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    cut: list[int] = field(default_factory=list)
    spoiled: bool = False
    broken: bool = False
    etags: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    endpoint: str = ""

    def etag(self, name: str) -> str:
        if name in self.etags:
            return self.etags[name]
        content = self.files[name]
        if name in self.small:
            return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return hashlib.sha256(content).hexdigest()

    def ranges(self) -> list[str | None]:
        """The Range of every transfer of content."""
        return [asked for method, _, asked in self.asked if method == "GET"]


@contextmanager
def serve() -> Iterator[FakeHub]:
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(b"")

        def do_GET(self) -> None:
            self.answer(None)

        def answer(self, only: bytes | None) -> None:
            path = unquote(self.path).lstrip("/")
            hub.asked.append((self.command, path, self.headers.get("Range")))
            if hub.broken:
                self.refuse(503, "")
            elif path.startswith("cdn/"):
                self.content(path.removeprefix("cdn/"), only)
            else:
                self.resolve(path, only)

        def resolve(self, path: str, only: bytes | None) -> None:
            repository, _, rest = path.partition("/resolve/")
            revision, _, file = rest.partition("/")
            name = f"{repository}/{file}"
            if repository in hub.gated:
                self.refuse(403, "GatedRepo")
            elif not any(known.startswith(f"{repository}/") for known in hub.files):
                self.refuse(404, "RepoNotFound")
            elif revision not in ("main", "v1", COMMIT):
                self.refuse(404, "RevisionNotFound")
            elif name not in hub.files:
                self.refuse(404, "EntryNotFound")
            elif name in hub.small:
                self.content(name, only)
            else:
                self.send_response(302)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("X-Linked-Etag", f'"{hub.etag(name)}"')
                self.send_header("X-Linked-Size", str(len(hub.files[name])))
                self.send_header("Location", f"{hub.endpoint}/cdn/{name}")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def content(self, name: str, only: bytes | None) -> None:
            content = hub.files[name]
            first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            part = bytearray(content[first:])
            if hub.spoiled:
                part[len(part) // 2] ^= 1
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hub.etag(name)}"')
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if only is not None:
                return
            if hub.cut:
                self.wfile.write(part[: hub.cut.pop(0)])
                self.close_connection = True
            else:
                self.wfile.write(part)

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
