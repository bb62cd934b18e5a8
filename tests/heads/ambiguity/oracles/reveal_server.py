"""A small reference of the reveal service: teams, passwords, five labels an exercise, and faults on demand.

`Reveals` is the rules alone; `application` is its web face; `serving` runs it on a real port for a test.
"""

from __future__ import annotations

import asyncio
import hmac
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route


class RefusedError(Exception):
    """No label: the status, the sentence, and what the team had revealed before, where it is the team."""

    def __init__(self, status: int, sentence: str, revealed: Sequence[int] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.revealed = revealed


@dataclass
class Reveals:
    """Who may see which label: `exercises` maps ids to labels, `teams` names to passwords."""

    exercises: Mapping[int, Sequence[int | str]]
    teams: Mapping[str, str]
    limit: int = 5
    revealed: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reveal(self, username: str, password: str, exercise: int, datum: int) -> tuple[int | str, list[int]]:
        """The label, and the rows that this team had revealed before; a row counts once."""
        known = self.teams.get(username, "")
        if not hmac.compare_digest(known.encode(), password.encode()) or not known:
            raise RefusedError(401, "wrong username or password")
        if exercise not in self.exercises:
            raise RefusedError(404, f"there is no exercise {exercise}")
        labels = self.exercises[exercise]
        if not 0 <= datum < len(labels):
            raise RefusedError(400, f"exercise {exercise} has no datum {datum}")
        with self.lock:
            before = self.revealed.setdefault((username, exercise), [])
            told = list(before)
            if datum not in before:
                if len(before) >= self.limit:
                    raise RefusedError(403, "budget used up: all labels of this exercise are revealed", told)
                before.append(datum)
            return labels[datum], told


@dataclass
class Faults:
    """What goes wrong with the next requests, in turn; an empty text is a request where nothing does."""

    coming: deque[str] = field(default_factory=deque)
    seen: list[tuple[str, str, int | None]] = field(default_factory=list)
    elsewhere: str = ""


def application(reveals: Reveals, faults: Faults | None = None) -> Starlette:
    """The service as `POST /reveal/`; without `faults` nothing goes wrong."""
    faults = faults or Faults()

    async def reveal(request: Request) -> Response:
        form = await request.form()
        try:
            exercise, datum = (int(str(form[name])) for name in ("exercise_id", "datum_id"))
        except (KeyError, ValueError):
            faults.seen.append((request.method, request.url.path, None))
            return JSONResponse({"error": "exercise_id and datum_id are whole numbers"}, 400)
        faults.seen.append((request.method, request.url.path, datum))
        fault = faults.coming.popleft() if faults.coming else ""
        if fault in _BEFORE:
            return await _BEFORE[fault](request, faults)
        try:
            label, before = reveals.reveal(
                str(form.get("username")), str(form.get("password")), exercise, datum
            )
        except RefusedError as error:
            known = {} if error.revealed is None else {"previously revealed": error.revealed}
            return JSONResponse({"error": str(error), **known}, error.status)
        answer = {"exercise_id": exercise, "datum_id": datum, "label": label, "previously revealed": before}
        if fault:
            return await _after(fault, answer, request, form)
        return JSONResponse(answer)

    return Starlette(
        routes=[
            Route("/reveal/", reveal, methods=["POST"]),
            Route("/moved/reveal/", _moved, methods=["GET", "POST"]),
            Route("/reveal", lambda request: RedirectResponse("/reveal/", 301), methods=["GET", "POST"]),
        ]
    )


async def _html(request: Request, faults: Faults) -> Response:
    return HTMLResponse("<h1>Server Error (500)</h1>", 500)


async def _late(request: Request, faults: Faults) -> Response:
    return HTMLResponse("late", 504)


async def _patience(request: Request, faults: Faults) -> Response:
    return JSONResponse({"detail": "slow down"}, 429, headers={"Retry-After": "0"})


async def _too_fast(request: Request, faults: Faults) -> Response:
    said = {"error": "Rate limit exceeded: too many requests, 10 per minute at most"}
    return JSONResponse(said, 429, headers={"Retry-After": "0"})


async def _too_fast_forbidden(request: Request, faults: Faults) -> Response:
    return JSONResponse({"error": "You have exceeded a secondary rate limit"}, 403)


async def _too_fast_unsaid(request: Request, faults: Faults) -> Response:
    return JSONResponse({"error": "Limit of data requests exceeded."}, 429)


async def _spent(request: Request, faults: Faults) -> Response:
    return JSONResponse({"error": "You have already revealed 5 labels"}, 429)


async def _spent_limit(request: Request, faults: Faults) -> Response:
    return JSONResponse({"error": "Maximum number of reveals reached"}, 400)


async def _loop(request: Request, faults: Faults) -> Response:
    return RedirectResponse("/reveal/", 307)


async def _away(request: Request, faults: Faults) -> Response:
    return RedirectResponse(faults.elsewhere, 307)


async def _see_other(request: Request, faults: Faults) -> Response:
    return RedirectResponse("/reveal/", 303)


async def _moved(request: Request) -> Response:
    return RedirectResponse("/reveal/", 302)


_BEFORE = {
    "html": _html,
    "late": _late,
    "429": _patience,
    "429 rate": _too_fast,
    "429 limit": _too_fast_unsaid,
    "403 rate": _too_fast_forbidden,
    "429 spent": _spent,
    "400 spent": _spent_limit,
    "loop": _loop,
    "away": _away,
    "see other": _see_other,
}


async def _after(
    fault: str, answer: dict[str, object], request: Request, form: Mapping[str, object]
) -> Response:
    """Faults of a row that was counted; `silence` lasts until the caller has left."""
    if fault == "silence":
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
    if fault in ("silence", "late after"):
        return JSONResponse(answer)
    broken = {
        "500 after": HTMLResponse("<h1>Server Error (500)</h1>", 500),
        "200 html": HTMLResponse("<p>label: 1</p>"),
        "half": Response('{"exercise_id": 3, "dat', media_type="application/json"),
        "huge": Response(b" " * 3_000_000 + b"{}", media_type="application/json"),
        "echo": JSONResponse({"error": f"no: {form['username']} {form['password']!r}\x1b[31m"}, 400),
    }
    if fault in broken:
        return broken[fault]
    changed = {"other datum": {"datum_id": 999}, "other class": {"label": 7}, "text": {"label": "1"}}[fault]
    return JSONResponse({**answer, **changed})


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """The app on a free port of this machine; gives its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=5)
