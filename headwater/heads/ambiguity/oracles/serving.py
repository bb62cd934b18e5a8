"""A page on the loopback interface that nobody but the person at this machine can read or answer.

What the page asks is the oracle's business; here are its address, its guards and its requests.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import socket
import threading
import time
from importlib import resources
from typing import Any, Protocol
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headwater.errors import HeadwaterError

_HOSTS = ("127.0.0.1", "localhost")
_POLL = 0.05  # seconds between two looks at what a page waits for
_LONGEST_WAIT = 20.0  # seconds after which a waiting page is answered anyhow
_LARGEST = 1000  # bytes of an answer
_COMMON = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Asked(Protocol):
    """What the page shows and where its answers go; every method may be called from another thread."""

    @property
    def version(self) -> int:
        """Grows with every change."""
        ...

    def state(self, page: int) -> dict[str, Any]:
        """What the page numbered `page` shows now, as plain data."""
        ...

    def picture(self, item: int) -> bytes | None:
        """The PNG of a row on the page."""
        ...

    def answer(self, item: int, code: int) -> bool:
        """Take an answer, or refuse it."""
        ...


class Loopback:
    """Serves `asked` in a thread of its own, at `address`, until `stop`.

    The address holds a secret. Requests are refused that lack it, that name another host (a page elsewhere
    could have its name point here), or that another page sends.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._token = secrets.token_urlsafe(24)
        self._seen: dict[int, float] = {}
        files = resources.files("headwater.heads.ambiguity.oracles")
        self._page = (files / "browser.html").read_text("utf-8")
        self._style = (files / "browser.css").read_text("utf-8")
        listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listening.getsockname()[1]}/{self._token}/"
        config = uvicorn.Config(
            self._app(),
            log_config=None,
            access_log=False,  # it would write the secret
            server_header=False,
            lifespan="off",
            loop="asyncio",
            http="h11",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listening],), name="headwater page", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise HeadwaterError("the page of questions could not be served; use the oracle `terminal`")
            time.sleep(0.01)

    def pages(self, within: float) -> set[int]:
        """The pages that were heard of in so many seconds, or are waiting for news."""
        now = time.monotonic()
        return {page for page, seen in self._seen.items() if seen > now - within}

    def stop(self) -> None:
        """Stop serving; returns when it has stopped."""
        self._server.should_exit = True
        self._thread.join(timeout=5)

    def _app(self) -> Starlette:
        app = Starlette(
            routes=[
                Route("/{token}/", self._show, methods=["GET"]),
                Route("/{token}/style.css", self._show_style, methods=["GET"]),
                Route("/{token}/state", self._tell, methods=["GET"]),
                Route("/{token}/picture/{item:int}.png", self._show_picture, methods=["GET"]),
                Route("/{token}/answer", self._take, methods=["POST"]),
            ]
        )
        app.router.redirect_slashes = False
        return app

    def _refused(self, request: Request, *, opening: bool = False) -> Response | None:
        """A refusal, or None where the request is this page's own; opening it may begin at any link."""
        host = request.headers.get("host", "")
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "none")
        followed = opening and request.headers.get("sec-fetch-mode") == "navigate"
        if not hmac.compare_digest(request.path_params["token"].encode(), self._token.encode()):
            return _answer("nothing is here", 404)
        if urlsplit(f"//{host}").hostname not in _HOSTS:
            return _answer("this page is only for the machine that it is on", 403)
        foreign = origin is not None and origin != f"http://{host}"
        if not followed and (foreign or site not in ("same-origin", "none")):
            return _answer("another page may not ask or answer here", 403)
        return None

    async def _show(self, request: Request) -> Response:
        refused = self._refused(request, opening=True)
        if refused is not None:
            return refused
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:;"
            " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        page = self._page.replace("{{ nonce }}", nonce)
        return _answer(page, kind="text/html", more={"Content-Security-Policy": policy})

    async def _show_style(self, request: Request) -> Response:
        return self._refused(request) or _answer(self._style, kind="text/css")

    async def _show_picture(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        picture = self._asked.picture(request.path_params["item"])
        return _answer("no such picture", 404) if picture is None else _answer(picture, kind="image/png")

    async def _tell(self, request: Request) -> Response:
        """The state, as soon as it is no longer the version that the page knows."""
        refused = self._refused(request)
        if refused is not None:
            return refused
        try:
            page, known = (int(request.query_params.get(name, "0")) for name in ("page", "known"))
        except ValueError:
            return _answer("no such page", 400)
        deadline = time.monotonic() + _LONGEST_WAIT
        while self._asked.version == known and time.monotonic() < deadline and not self._server.should_exit:
            self._seen[page] = time.monotonic()
            await asyncio.sleep(_POLL)
        self._seen[page] = time.monotonic()
        return JSONResponse(self._asked.state(page), headers=_COMMON)

    async def _take(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return _answer("an answer is JSON", 415)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST:
                return _answer("too long for an answer", 413)
        try:
            given = json.loads(body)
            item, code = given["item"], given["code"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return _answer("that is no answer", 400)
        if type(item) is not int or type(code) is not int:
            return _answer("that is no answer", 400)
        taken = self._asked.answer(item, code)
        return _answer("taken") if taken else _answer("that is not asked", 409)


def _answer(
    content: str | bytes, status: int = 200, *, kind: str = "text/plain", more: dict[str, str] | None = None
) -> Response:
    return Response(content, status, headers={**_COMMON, **(more or {})}, media_type=kind)
