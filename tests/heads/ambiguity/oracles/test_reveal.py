"""The reveal client against a real server that counts, fails and misleads."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from headwater.errors import RequestError
from headwater.heads.ambiguity.budget import Budget
from headwater.heads.ambiguity.oracles.reveal import Backoff, RevealOracle
from headwater.heads.ambiguity.questions import BudgetSpent, OracleError
from tests.heads.ambiguity.oracles.asking import question
from tests.heads.ambiguity.oracles.reveal_server import Faults, Reveals, application, serving

SECRET = "pass word&ä"
LABELS = [0, 3, 3, 0, 0, 3, 3, 3, 0, 0]


@pytest.fixture(scope="module")
def running() -> Iterator[SimpleNamespace]:
    reveals = Reveals({3: LABELS, 5: ["cat", "bird"]}, {"my_team": SECRET, "other": "x"})
    faults = Faults()
    with serving(application(reveals, faults)) as address:
        yield SimpleNamespace(reveals=reveals, faults=faults, address=address)


@pytest.fixture
def service(running: SimpleNamespace) -> SimpleNamespace:
    running.reveals.revealed.clear()
    running.faults.coming.clear()
    running.faults.seen.clear()
    return running


class Late(httpx.HTTPTransport):
    """Loses the answers to requests that the service is to hang: time runs out without a clock to race.

    The service does its part in full, so that what it counts is the same on any machine.
    """

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        late = bool(self._faults.coming) and self._faults.coming[0] in ("late", "late after")
        answer = super().handle_request(request)
        if late:
            answer.close()
            raise httpx.ReadTimeout("timed out", request=request)
        return answer


def oracle(service: SimpleNamespace, **changed: object) -> RevealOracle:
    given: dict[str, object] = {
        "url": service.address,
        "exercise_id": 3,
        "classes": (0, 3),
        "username": "my_team",
        "password": SECRET,
        "backoff": Backoff(tries=3, longest=0.02),
        **changed,
    }
    made = RevealOracle(given.pop("url"), **given)
    made._client = httpx.Client(transport=Late(service.faults), timeout=made._client.timeout)
    return made


@pytest.mark.parametrize("ending", ["", "/", "/reveal", "/reveal/"])
def test_the_address_may_end_with_reveal_or_not(service: SimpleNamespace, ending: str) -> None:
    asked = oracle(service, url=service.address + ending)
    assert [asked.ask(question(item)) for item in (0, 1)] == [0, 1]
    assert service.faults.seen == [("POST", "/reveal/", 0), ("POST", "/reveal/", 1)]
    assert asked.bought == {0}


def test_names_are_classes_too(service: SimpleNamespace) -> None:
    assert oracle(service, exercise_id=5, classes=("bird", "cat")).ask(question(0)) == 1


def test_team_and_password_come_from_the_environment(
    service: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_REVEAL_USERNAME", "my_team")
    monkeypatch.delenv("HEADWATER_REVEAL_PASSWORD", raising=False)
    with pytest.raises(RequestError, match="HEADWATER_REVEAL_PASSWORD"):
        RevealOracle(service.address, exercise_id=3, classes=(0, 3))
    monkeypatch.setenv("HEADWATER_REVEAL_PASSWORD", SECRET)
    opened = RevealOracle(service.address, exercise_id=3, classes=(0, 3))
    assert opened.ask(question(1)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        *("late after", "500 after", "200 html", "half", "huge", "html", "late"),
        *("429", "429 rate", "429 limit", "403 rate"),
    ],
)
def test_the_same_row_is_asked_again_and_costs_once(service: SimpleNamespace, fault: str) -> None:
    service.faults.coming.extend([fault, fault])
    assert oracle(service).ask(question(5)) == 1
    assert [row for _, _, row in service.faults.seen] == [5, 5, 5]
    assert service.reveals.revealed == {("my_team", 3): [5]}


@pytest.mark.parametrize(
    ("fault", "uncertain", "says"),
    [
        ("late after", True, r"no answer in 30 s; row 5 may have been counted"),
        ("500 after", True, "500 Internal Server Error with text/html; row 5 may have been counted"),
        ("200 html", True, "200 OK with text/html"),
        ("429", False, "patience.*nothing was counted"),
    ],
)
def test_tries_end_and_say_whether_it_may_have_counted(
    service: SimpleNamespace, fault: str, uncertain: bool, says: str
) -> None:
    service.faults.coming.extend([fault] * 3)
    with pytest.raises(OracleError, match=says) as caught:
        oracle(service).ask(question(5))
    assert caught.value.uncertain is uncertain


def test_every_further_try_is_announced_and_no_other(
    service: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    service.faults.coming.extend(["500 after"] * 3)
    asked = oracle(service)
    caplog.clear()  # of the address, which is not encrypted
    with caplog.at_level(logging.WARNING, "headwater"), pytest.raises(OracleError, match="in 3 tries"):
        asked.ask(question(5))
    said = [each.getMessage() for each in caplog.records if each.name.startswith("headwater")]
    assert [text.partition(" gave ")[2] for text in said] == [
        "no answer for row 5: it answered 500 Internal Server Error with text/html; trying again (2 of 3)",
        "no answer for row 5: it answered 500 Internal Server Error with text/html; trying again (3 of 3)",
    ]


def test_a_silent_service_is_waited_for_no_longer_than_was_said(running: SimpleNamespace) -> None:
    faults = Faults(coming=deque(["silence"]))
    with serving(application(running.reveals, faults)) as address:
        silent = SimpleNamespace(address=address, faults=faults)
        with pytest.raises(OracleError, match=r"in 1 tries: no answer in 0\.2 s; row 5 may have") as caught:
            oracle(silent, timeout=0.2, backoff=Backoff(tries=1)).ask(question(5))
    assert caught.value.uncertain


@pytest.mark.parametrize("later", ["see other", "429"])
def test_doubt_outlasts_a_later_refusal(service: SimpleNamespace, later: str) -> None:
    """That the last try was refused, or not counted, says nothing of the first."""
    service.faults.coming.extend(["late after", later, later])
    with pytest.raises(OracleError) as caught:
        oracle(service).ask(question(5))
    assert caught.value.uncertain


def test_no_other_row_is_asked_before_a_doubtful_one_is_known(
    service: SimpleNamespace, tmp_path: Path
) -> None:
    service.faults.coming.extend(["late after", "500 after", "500 after"])
    budget = Budget(oracle(service), 2, tmp_path / "journal", "data")
    with pytest.raises(OracleError):
        budget.ask(question(5))
    service.faults.coming.extend(["html"] * 3)
    with pytest.raises(OracleError):
        budget.ask(question(1))
    again = Budget(oracle(service), 2, tmp_path / "journal", "data")
    assert again.ask(question(1)) == 1
    assert [row for _, _, row in service.faults.seen] == [5] * 7 + [1]
    assert dict(again.answers) == {5: 1, 1: 1}


def test_a_kill_in_the_middle_of_a_request_costs_nothing_twice(
    service: SimpleNamespace, tmp_path: Path
) -> None:
    service.faults.coming.append("silence")
    child = os.fork()
    if not child:
        Budget(oracle(service), 5, tmp_path / "journal", "data").ask(question(6))
        os._exit(0)
    while not service.reveals.revealed:
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    budget = Budget(oracle(service), 5, tmp_path / "journal", "data")
    assert (budget.left, dict(budget.answers)) == (4, {})
    for item in (0, 1, 2, 3):
        budget.ask(question(item))
    assert service.reveals.revealed == {("my_team", 3): [6, 0, 1, 2, 3]}
    assert (dict(budget.answers)[6], budget.left) == (1, 0)


def test_labels_that_the_team_bought_before_count(
    service: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for item in (8, 9):
        service.reveals.reveal("my_team", SECRET, 3, item)
    budget = Budget(oracle(service), 5, tmp_path / "journal", "data")
    with caplog.at_level(logging.WARNING):
        budget.ask(question(0))
    assert (budget.left, budget.bought) == (2, (8, 9))
    assert "[8, 9]" in caplog.text


def test_a_spent_service_is_a_spent_budget(service: SimpleNamespace, tmp_path: Path) -> None:
    for item in range(5):
        service.reveals.reveal("my_team", SECRET, 3, item)
    budget = Budget(oracle(service), 5, tmp_path / "journal", "data")
    with pytest.raises(BudgetSpent, match=r"row 7.*budget used up"):
        budget.ask(question(7))
    assert (budget.left, budget.asked, budget.bought) == (0, (), (0, 1, 2, 3, 4))
    assert budget.ask(question(1)) == 1


@pytest.mark.parametrize("fault", ["429 spent", "400 spent"])
def test_a_service_that_says_so_in_other_words_is_spent_too(service: SimpleNamespace, fault: str) -> None:
    service.faults.coming.append(fault)
    with pytest.raises(BudgetSpent, match="no further ones"):
        oracle(service).ask(question(7))
    assert len(service.faults.seen) == 1


@pytest.mark.parametrize(
    ("changed", "item", "says"),
    [
        ({"password": "wrong"}, 0, "refused the user name or the password .*HEADWATER_REVEAL_PASSWORD"),
        ({"username": "nobody"}, 0, "refused the user name or the password"),
        ({"exercise_id": 77}, 0, "row 0 of exercise 77 with 404 Not Found .there is no exercise 77"),
        ({"exercise_id": 3}, 10, "row 10 of exercise 3 with 400 Bad Request .exercise 3 has no datum 10"),
        ({"path": "/nothing"}, 0, "no reveal service at .*/nothing/reveal/ .404"),
    ],
)
def test_refusals_are_one_sentence_and_are_not_repeated(
    service: SimpleNamespace, changed: dict[str, object], item: int, says: str
) -> None:
    path = changed.pop("path", "") if "path" in changed else ""
    with pytest.raises(OracleError, match=says) as caught:
        oracle(service, url=service.address + path, **changed).ask(question(item))
    assert not caught.value.uncertain
    assert len(service.faults.seen) <= 1
    assert not any(service.reveals.revealed.values())


def test_nobody_there(service: SimpleNamespace) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OracleError, match="refused; nothing was counted") as caught:
            oracle(service, url=f"http://127.0.0.1:{unused.getsockname()[1]}").ask(question(0))
    assert not caught.value.uncertain


def test_answers_for_something_else_are_not_used(service: SimpleNamespace) -> None:
    service.faults.coming.append("other datum")
    with pytest.raises(OracleError, match="asked for datum_id 2 and answered for 999") as caught:
        oracle(service).ask(question(2))
    assert caught.value.uncertain


def test_a_label_that_is_no_class(service: SimpleNamespace) -> None:
    service.faults.coming.append("other class")
    with pytest.raises(OracleError, match="row 2 is 7, which is none of the classes 0, 3") as caught:
        oracle(service).ask(question(2))
    assert caught.value.uncertain
    service.faults.coming.append("text")
    assert oracle(service, classes=(0, 1)).ask(question(2)) == 1


@pytest.mark.parametrize("fault", ["see other", "loop", "away"])
def test_a_redirect_never_turns_into_a_get_or_leaves_the_service(
    service: SimpleNamespace, fault: str
) -> None:
    other = Faults()
    with serving(application(service.reveals, other)) as elsewhere:
        service.faults.elsewhere = f"{elsewhere}/reveal/"
        service.faults.coming.extend([fault] * 9)
        with pytest.raises(OracleError, match=r"elsewhere|circle"):
            oracle(service).ask(question(2))
    assert other.seen == []
    assert {method for method, _, _ in service.faults.seen} == {"POST"}
    assert not service.reveals.revealed


def test_a_missing_slash_is_the_services_to_add(service: SimpleNamespace) -> None:
    asked = oracle(service)
    asked._address = asked._address.copy_with(path="/reveal")
    assert asked.ask(question(1)) == 1
    assert service.faults.seen == [("POST", "/reveal/", 1)]


def test_another_name_of_the_same_machine_is_another_service(service: SimpleNamespace) -> None:
    service.faults.elsewhere = service.address.replace("127.0.0.1", "localhost") + "/reveal/"
    service.faults.coming.extend(["away"])
    with pytest.raises(OracleError, match="elsewhere, to http://localhost"):
        oracle(service).ask(question(1))
    assert len(service.faults.seen) == 1


def test_another_path_of_the_same_host_is_another_service(service: SimpleNamespace) -> None:
    with pytest.raises(
        OracleError, match=r"elsewhere, to http://127.*/reveal/, and the password is not sent"
    ):
        oracle(service, url=f"{service.address}/moved").ask(question(1))
    assert service.faults.seen == []


def test_secrets_stay_secret(
    service: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = []
    for fault in ("echo", "500 after", "late", "away", "other datum", ""):
        # What a service puts into its own headers is in the HTTP library's log at its lowest level.
        with caplog.at_level(logging.INFO if fault == "away" else logging.DEBUG):
            service.faults.elsewhere = f"http://my_team:{SECRET}@example.org/reveal/?p={SECRET}"
            service.faults.coming.extend([fault] * (3 if fault in ("500 after", "late") else 1))
            budget = Budget(oracle(service), 5, tmp_path / f"of {fault}", "data")
            try:
                budget.ask(question(4))
            except OracleError as error:
                said.append(f"{error} {error!r} {error.__cause__}")
    assert len(said) == 5
    everything = " ".join([*said, caplog.text, *(file.read_text() for file in tmp_path.glob("of*"))])
    assert "400 Bad Request" in everything
    for secret in (SECRET, "pass word", "pass+word", "pass%20word", "my_team", "\x1b"):
        assert secret not in everything


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://", "no http or https address"),
        ("https://team:hidden@host/", "would show in messages"),
        ("http://host/?a=1", r"leave out what follows \?"),
        ("http://host:port/", "address is none"),
    ],
)
def test_addresses_that_cannot_be_meant(url: str, says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        RevealOracle(url, exercise_id=3, classes=(0, 1), username="a", password="b")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Name or service not known: me, of me&name", "Name or service not known: …, of …&name"),
        ("the hunters of hunter2s hunt", "the hunters of … hunt"),
        ("row " * 60, ("row " * 50).strip() + " …"),
        ("known " * 40 + "hunter2", ("known " * 33).strip() + " …"),
        ("x" * 300, "x" * 200 + " …"),
    ],
)
def test_what_others_say_is_cut_between_words(said: str, shown: str) -> None:
    oracle = RevealOracle(
        "http://localhost", exercise_id=3, classes=(0, 1), username="me", password="hunter2"
    )
    assert oracle._clean(said) == shown


def test_the_exercise_must_be_told() -> None:
    with pytest.raises(RequestError, match="with --exercise"):
        RevealOracle("http://localhost", exercise_id=None, classes=(0, 1), username="a", password="b")


def test_a_password_in_the_clear_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    for url, warned in (("http://leaderboard.example", True), ("https://leaderboard.example", False)):
        caplog.clear()
        RevealOracle(url, exercise_id=3, classes=(0, 1), username="a", password="b")
        assert ("not encrypted" in caplog.text) is warned
