"""The page of questions in a real browser, where one is installed, and its guards against everyone else."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from headwater.heads.ambiguity.budget import Budget
from headwater.heads.ambiguity.oracles import browser as module
from headwater.heads.ambiguity.oracles.browser import BrowserOracle
from headwater.heads.ambiguity.questions import BudgetSpent, OracleError
from tests.heads.ambiguity.oracles.asking import OPINIONS, Scripted, question

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
OUTCOME = "Settled: 4 of 5 readings are out."


class Visited:
    """An oracle whose questions are asked in the background, and the address of its page."""

    def __init__(self, classes: tuple[int | str, ...] = (0, 3), timeout: float = 120.0) -> None:
        self._there = threading.Event()
        self._address = ""
        self.oracle = BrowserOracle(classes, timeout=timeout, visit=self._visit)
        self._pool = ThreadPoolExecutor(1)
        self.http = httpx

    def _visit(self, address: str) -> None:
        self._address = address
        self._there.set()

    def start(self, work: Callable[[], Any]) -> Future[Any]:
        return self._pool.submit(work)

    @property
    def address(self) -> str:
        assert self._there.wait(60)
        return self._address


@contextmanager
def visited(**given: Any) -> Iterator[Visited]:
    asked = Visited(**given)
    try:
        yield asked
    finally:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_FAREWELL", 0.0)  # the pages are closed, and would be waited for in vain
            asked.oracle.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open pages hear that it is over, however busy the machine is."""
    monkeypatch.setattr(module, "_FAREWELL", 60.0)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        yield browser
        browser.close()


@contextmanager
def opened(chromium: Any, address: str, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """The page, watched: it must report nothing, load nothing from elsewhere, and never scroll sideways."""
    phone = width < 500
    context = chromium.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=phone, is_mobile=phone
    )
    context.set_default_timeout(60_000)
    page = context.new_page()
    said: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.said = said
    page.goto(address)
    yield page
    assert said == []
    assert hosts <= {urlsplit(address).netloc, ""}
    seen, needed = page.evaluate(
        "[document.documentElement.clientWidth, document.documentElement.scrollWidth]"
    )
    assert (seen, needed) == (width, width)
    context.close()


def wait_for(page: Any, text: str) -> None:
    page.get_by_role("heading", name=text).wait_for()


SHOWN = """async () => {
  const image = document.getElementById("image"), canvas = document.createElement("canvas");
  await image.decode();
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const found = image.getBoundingClientRect();
  return {
    pixels: [...context.getImageData(0, 0, canvas.width, canvas.height).data],
    width: found.width, height: found.height, scaling: getComputedStyle(image).imageRendering,
  };
}"""


def clicked(page: Any, number: int, item: int, code: int) -> None:
    """Check all that the page shows of a question, choose the wrong class, then the right one."""
    wait_for(page, f"Question {number} of at most 6")
    shown = page.evaluate(SHOWN)
    seen = np.array(shown["pixels"]).reshape(28, 56, 4)[..., 0]
    np.testing.assert_array_equal(seen, question(item).picture)
    factor = shown["width"] / 56
    assert (factor, shown["height"] / 28, shown["scaling"]) == (round(factor), factor, "pixelated")
    assert factor >= 5
    text = page.inner_text("main")
    for part in ("Your answer decides 300 target rows", "the left half: 0", "61 %", "8 %"):
        assert part in text
    assert page.locator("#answered li").count() == number - 1
    assert page.locator("#confirm").is_disabled()
    page.locator("#choices button").nth(1 - code).click()
    page.locator("#choices button").nth(code).click()
    page.locator("#confirm").click()


@in_a_browser
def test_five_questions_are_clicked_through_after_a_restart_in_two_windows(
    chromium: Any, tmp_path: Path, patient: None
) -> None:
    items, codes = [417, 3, 1188, 60, 7], [1, 0, 0, 1, 1]
    Budget(Scripted(1), 6, tmp_path / "journal", "data").ask(question(77))
    with visited() as asked:
        budget = Budget(asked.oracle, 6, tmp_path / "journal", "data", n_classes=2)

        def work() -> list[int]:
            found = [budget.ask(question(item)) for item in items]
            with pytest.raises(BudgetSpent):
                budget.ask(question(9))
            budget.close(OUTCOME)
            return found

        answers = asked.start(work)
        with opened(chromium, asked.address) as desk, opened(chromium, asked.address, 390, "dark") as phone:
            wait_for(desk, "Question 2 of at most 6")
            decoded = "async image => { await image.decode(); return image.naturalWidth; }"
            assert desk.locator("#answered img").evaluate(decoded) == 56
            assert desk.locator("#answered li").inner_text().split() == ["3", "row", "77"]
            # What is answered in one window is answered in the other.
            for number, (item, code) in enumerate(zip(items, codes, strict=True), 2):
                clicked((desk, phone)[number % 2], number, item, code)
            for page, colour in ((desk, "rgb(252, 252, 250)"), (phone, "rgb(20, 25, 29)")):
                page.get_by_text(OUTCOME).wait_for()
                assert page.locator("#answered li b").all_inner_texts() == ["3", "3", "0", "0", "3", "3"]
                assert page.evaluate("getComputedStyle(document.body).backgroundColor") == colour
        assert answers.result(60) == codes
    assert dict(budget.answers) == {77: 1, **dict(zip(items, codes, strict=True))}


@in_a_browser
def test_the_keyboard_alone_is_enough(chromium: Any) -> None:
    with visited(classes=("bird", "cat")) as asked:
        answers = asked.start(lambda: [asked.oracle.ask(question(item)) for item in (1, 2)])
        with opened(chromium, asked.address) as page:
            wait_for(page, "row 1:")
            for key in ("Enter", "x", "b", "c", "Enter"):
                page.keyboard.press(key)
            wait_for(page, "row 2:")
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            page.keyboard.press("Enter")
            assert answers.result(60) == [1, 0]
            page.get_by_text("The answer is being taken in").wait_for()


@in_a_browser
def test_names_are_text_and_rows_may_have_no_picture(chromium: Any) -> None:
    hostile = ("<img src=x onerror=alert(1)>" * 4, "Myotis_lucifugus_" * 9)
    hardly = [replace(OPINIONS[0], name=name, belief=0.001) for name in ("second", "third")]
    given = question(
        1, opinions=(OPINIONS[0], *hardly), picture=None, notes=("<b>Of its 10 nearest</b>",), speaks_for=1
    )
    with visited(classes=hostile) as asked:
        answer = asked.start(lambda: asked.oracle.ask(given))
        with opened(chromium, asked.address, 390) as page:
            wait_for(page, "row 1:")
            assert page.locator("#choices button").all_inner_texts()[0].startswith(hostile[0][:20])
            assert "<b>Of its 10 nearest</b>" in page.inner_text("main")
            assert page.locator("#picture").is_hidden()
            assert page.locator("#opinions li").count() == 3
            assert page.locator("#opinions li").nth(2).inner_text().split("\n") == [
                "another reading is meant",
                "39 %",
            ]
            page.locator("#choices button").nth(1).click()
            page.locator("#confirm").click()
            assert answer.result(60) == 1
            page.locator("#answered li").wait_for()


@in_a_browser
def test_the_page_says_when_time_has_run_out(chromium: Any, patient: None) -> None:
    with visited(timeout=1.0) as asked:
        answer = asked.start(lambda: asked.oracle.ask(question(8, number=3)))
        with opened(chromium, asked.address) as page:
            with pytest.raises(
                OracleError, match=r"question 3 .row 8. has no answer, since nobody"
            ) as caught:
                answer.result(60)
            assert not caught.value.uncertain
            wait_for(page, "One moment")  # the page has heard of something: it is not left out now
            asked.oracle.close()
            page.get_by_text("Question 3 has no answer, since nobody gave one in 1 s").wait_for()


@in_a_browser
def test_the_page_says_when_the_program_died(chromium: Any, tmp_path: Path) -> None:
    place = tmp_path / "address"
    child = os.fork()
    if not child:
        BrowserOracle((0, 1), visit=place.write_text).ask(question(1))
        os._exit(0)
    while not place.exists() or not place.read_text():
        time.sleep(0.01)
    context = chromium.new_context()
    page = context.new_page()
    page.goto(place.read_text())
    wait_for(page, "Question 1")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    page.get_by_text("The program has stopped.").wait_for(timeout=60_000)
    context.close()


@pytest.fixture(scope="module")
def waiting() -> Iterator[Visited]:
    """A question about row 5 that nobody answers."""
    with visited() as asked:
        asked.start(lambda: asked.oracle.ask(question(5)))
        asked.http = httpx.Client()
        yield asked
        asked.http.close()


def send(asked: Visited, content: object, address: str | None = None, **headers: str) -> int:
    place = f"{address or asked.address}answer"
    return asked.http.post(place, json=content, headers=headers).status_code


def test_only_who_knows_the_address_is_answered(waiting: Visited) -> None:
    parts = urlsplit(waiting.address)
    assert (parts.hostname, len(parts.path) > 30) == ("127.0.0.1", True)
    for path in ("/", "/guess/", f"{parts.path[:-2]}x/", "/favicon.ico"):
        assert waiting.http.get(f"http://{parts.netloc}{path}").status_code == 404
        assert send(waiting, {"item": 5, "code": 0}, f"http://{parts.netloc}{path}") in (404, 405)
    found = waiting.http.get(waiting.address)
    assert found.status_code == 200
    policy = found.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'nonce-")
    assert "unsafe" not in policy
    assert found.headers["cache-control"] == "no-store"
    assert found.headers["referrer-policy"] == "no-referrer"
    assert found.text.count(policy.split("'nonce-")[1].split("'")[0]) == 1
    assert waiting.http.get(waiting.address).headers["content-security-policy"] != policy
    assert "access-control-allow-origin" not in found.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:80"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_pages_can_neither_read_nor_answer(waiting: Visited, headers: dict[str, str]) -> None:
    assert send(waiting, {"item": 5, "code": 0}, **headers) == 403
    for part in ("state?page=1&known=0", "picture/5.png", "style.css"):
        assert waiting.http.get(waiting.address + part, headers=headers).status_code == 403


def test_a_link_may_open_the_page_but_not_under_another_name(waiting: Visited) -> None:
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert waiting.http.get(waiting.address, headers=followed).status_code == 200
    assert waiting.http.get(waiting.address, headers={**followed, "host": "evil.example"}).status_code == 403
    assert send(waiting, {"item": 5, "code": 0}, **followed) == 403


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({"item": 6, "code": 0}, 409),
        ({"item": 5, "code": 2}, 409),
        ({"item": 5, "code": -1}, 409),
        ({"item": 5, "code": True}, 400),
        ({"item": "5", "code": 0}, 400),
        ({"item": 5}, 400),
        ([5, 0], 400),
        ({"item": 5, "code": 0, "more": "x" * 2000}, 413),
    ],
)
def test_what_is_no_answer_is_refused(waiting: Visited, content: object, status: int) -> None:
    assert send(waiting, content) == status
    assert waiting.http.get(f"{waiting.address}state").json()["question"]["item"] == 5


def test_a_form_of_another_page_is_no_answer(waiting: Visited) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        found = waiting.http.post(
            f"{waiting.address}answer", content='{"item": 5, "code": 0}', headers={"content-type": kind}
        )
        assert found.status_code == 415
    assert waiting.http.get(f"{waiting.address}answer").status_code == 405
    assert waiting.http.get(f"{waiting.address}picture/6.png").status_code == 404


def test_nothing_listens_before_the_first_question_or_after_the_end() -> None:
    with visited() as asked:
        answer = asked.start(lambda: asked.oracle.ask(question(5)))
        address = asked.address
        assert send(asked, {"item": 5, "code": 1}) == 200
        assert answer.result(60) == 1
        assert send(asked, {"item": 5, "code": 0}) == 409
        asked.oracle.close(OUTCOME)
        with pytest.raises(httpx.ConnectError):
            httpx.get(address)
    untouched = BrowserOracle((0, 1))
    untouched.close()


def test_where_there_is_no_desktop_only_the_address_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    visits: list[str] = []
    monkeypatch.setattr(module.webbrowser, "open", visits.append)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME"):
        monkeypatch.delenv(name, raising=False)
    oracle = BrowserOracle((0, 1))
    oracle._open("http://127.0.0.1:1/secret/")
    assert visits == []
    monkeypatch.setenv("DISPLAY", ":0")
    oracle._open("http://127.0.0.1:1/secret/")
    (visit,) = visits
    # What a browser is started with can be read by everyone on the machine.
    assert "secret" not in visit
    door = Path(urlsplit(visit).path)
    assert "url=http://127.0.0.1:1/secret/" in door.read_text("ascii")
    assert [each.stat().st_mode & 0o777 for each in (door, door.parent)] == [0o600, 0o700]
    oracle.close()
    assert not door.parent.exists()
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("Answer the questions at http://127.0.0.1:1/secret/") == 2
