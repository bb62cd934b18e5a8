"""Labels bought one by one from a reveal service over HTTP; a row once paid for costs nothing to ask again.

How many may be bought is counted by the service and by the budget, not here.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import tenacity

from headwater.errors import RequestError
from headwater.heads.ambiguity.oracles.labels import Classes, code_of, shown
from headwater.heads.ambiguity.questions import BudgetSpent, OracleError, Question
from headwater.printable import escaped

USERNAME = "HEADWATER_REVEAL_USERNAME"
"""Environment variable of the team's name."""

PASSWORD = "HEADWATER_REVEAL_PASSWORD"
"""Environment variable of the team's password."""
SECONDS = 30.0
"""How long an answer of the service is waited for, unless told."""

_log = logging.getLogger(__name__)
_LONGEST = 1 << 20  # bytes of an answer that is read at all
_HOPS = 4  # redirects within the service
_MOST = 200  # characters of what others say, in a sentence of ours
_SHORT = 3  # characters of a password
_SPENT = re.compile(
    r"budget|already|used up|exhausted|no more|quota"
    r"|\b(limit|maximum|exceed\w*|too many)\b.*\b(reveal|label|question|quer|dat(um|a)|row)"
    r"|\b(reveal|label|question|quer|dat(um|a)|row).*\b(limit|maximum|exceed\w*|too many)\b"
)
# A service that is asked too fast gives more labels later, whatever else it says, and with whatever status.
_TOO_FAST = re.compile(
    r"\brates?\b|slow(er)? down|too many requests|\bper (second|minute|hour)\b|try again (later|in)"
)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


@dataclass(frozen=True)
class Backoff:
    """How often one row is asked about, and the longest pause in seconds between two tries."""

    tries: int = 5
    longest: float = 20.0


@dataclass(frozen=True)
class _Answer:
    """Status, kind and beginning of what came, and the seconds that the service asks to wait."""

    status: int
    kind: str
    content: bytes
    patience: float | None


class _TryAgainError(Exception):
    """This try gave no answer; `sent` says whether the service may have counted it."""

    def __init__(self, why: str, *, sent: bool, pause: float | None = None) -> None:
        super().__init__(why)
        self.sent = sent
        self.pause = pause


class RevealOracle:
    """Asks the service at `url` (with or without its last step, `/reveal/`) for labels of `exercise_id`.

    `username` and `password` come from the environment where they are not given, and appear in no error and
    no log. RequestError where the address or one of them is missing or cannot be meant.
    """

    def __init__(
        self,
        url: str,
        *,
        exercise_id: int | None,
        classes: Classes,
        username: str | None = None,
        password: str | None = None,
        timeout: float = SECONDS,
        backoff: Backoff | None = None,
    ) -> None:
        self._address = _address(url)
        if exercise_id is None:
            raise RequestError(
                f"{self._address} must be told which data set is meant; give the number that it has there"
                " with --exercise"
            )
        self._exercise = exercise_id
        self._classes = classes
        self._username = _secret(username, USERNAME, "user name", "give it with --username, or ")
        self._password = _secret(password, PASSWORD, "password")
        self._timeout = timeout
        self._backoff = backoff or Backoff()
        # Minutes pass between questions: a connection that was kept would be found dead by then.
        self._client = httpx.Client(timeout=timeout, limits=httpx.Limits(max_keepalive_connections=0))
        self._bought: frozenset[int] | None = None
        if self._address.scheme == "http" and self._address.host not in _LOOPBACK:
            _log.warning("%s is not encrypted: the password can be read on its way", self._address)

    @property
    def bought(self) -> frozenset[int] | None:
        """The rows that the service said this team had paid for, at its last answer; None before one."""
        return self._bought

    def ask(self, question: Question) -> int:
        """The row's code.

        BudgetSpent where the service gives no more labels; OracleError where it gave none for another
        reason, `uncertain` where it may have counted the row.
        """
        unsure = False

        def remember(state: tenacity.RetryCallState) -> None:
            nonlocal unsure
            error = state.outcome.exception() if state.outcome else None
            unsure |= isinstance(error, _TryAgainError) and error.sent

        def announce(state: tenacity.RetryCallState) -> None:
            _log.warning(
                "%s gave no answer for row %d: %s; trying again (%d of %d)",
                self._address,
                question.item,
                state.outcome.exception() if state.outcome else None,
                state.attempt_number + 1,
                self._backoff.tries,
            )

        again = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TryAgainError),
            stop=tenacity.stop_after_attempt(self._backoff.tries),
            wait=self._pause,
            after=remember,
            before_sleep=announce,
            reraise=True,
        )
        try:
            return again(self._once, question.item)
        except _TryAgainError as error:
            counts = (
                f"; row {question.item} may have been counted, and asking about it again costs nothing"
                if unsure
                else "; nothing was counted"
            )
            raise OracleError(
                f"{self._address} gave no answer for row {question.item} in"
                f" {self._backoff.tries} tries: {error}{counts}",
                uncertain=unsure,
            ) from None
        except OracleError as error:
            raise OracleError(str(error), uncertain=unsure or error.uncertain) from None

    def _once(self, item: int) -> int:
        """One try."""
        answer = self._post(item)
        status, said = answer.status, _parsed(answer.content)
        if _asks_for_patience(status, self._words(said)):
            raise _TryAgainError(f"it asks for patience ({status})", sent=False, pause=answer.patience)
        if status >= 500 or (status < 400 and said is None):
            raise _TryAgainError(f"it answered {_named(status)} with {answer.kind or 'no text'}", sent=True)
        if said is not None and "label" in said and status < 400:
            return self._label(item, said)
        self._remember(said)
        raise self._refusal(item, status, self._words(said))

    def _label(self, item: int, said: Mapping[str, Any]) -> int:
        for name, asked in (("exercise_id", self._exercise), ("datum_id", item)):
            if name in said and str(said[name]) != str(asked):
                raise OracleError(
                    f"{self._address} was asked for {name} {asked} and answered for"
                    f" {self._clean(said[name])}; its answer is not used",
                    uncertain=True,
                )
        self._remember(said)
        code = code_of(said["label"], self._classes)
        if code is None:
            raise OracleError(
                f"{self._address} says that row {item} is {self._clean(said['label'])}, which is none of the"
                f" classes {shown(self._classes)}; check that --exercise {self._exercise} is this data set's"
                " number there",
                uncertain=True,
            )
        return code

    def _remember(self, said: Mapping[str, Any] | None) -> None:
        told = None if said is None else said.get("previously revealed", said.get("previously_revealed"))
        if isinstance(told, list):
            rows = [
                each for each in told if type(each) is int or (isinstance(each, str) and each.isdecimal())
            ]
            self._bought = frozenset(map(int, rows))

    def _refusal(self, item: int, status: int, words: str) -> Exception:
        told = f" ({words})" if words else ""
        if status == HTTPStatus.UNAUTHORIZED or (
            status == HTTPStatus.FORBIDDEN and "password" in words.lower()
        ):
            return OracleError(
                f"{self._address} refused the user name or the password{told}; check --username (or"
                f" {USERNAME}) and {PASSWORD}"
            )
        if _SPENT.search(words.lower()):
            return BudgetSpent(f"{self._address} gives no label for row {item}, and no further ones{told}")
        if status == HTTPStatus.NOT_FOUND and not words:
            return OracleError(f"there is no reveal service at {self._address} (404); check the address")
        return OracleError(
            f"{self._address} refused row {item} of exercise {self._exercise} with {_named(status)}{told};"
            " check --exercise"
        )

    def _post(self, item: int) -> _Answer:
        """What the service answers, there or where it sends its callers within itself."""
        form = {
            "username": self._username,
            "password": self._password,
            "exercise_id": str(self._exercise),
            "datum_id": str(item),
        }
        address = self._address
        try:
            for _ in range(_HOPS):
                with self._client.stream("POST", address, data=form) as response:
                    if not response.is_redirect:
                        return _read(response, self._timeout)
                    address = self._moved(address, response)
                    # A wrong ending or a missing encryption is the service's to correct once.
                    self._address = address
        except _NEVER_SENT as error:
            raise _TryAgainError(self._clean(error) or type(error).__name__, sent=False) from None
        except httpx.TimeoutException:
            raise _TryAgainError(f"no answer in {self._timeout:g} s", sent=True) from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _TryAgainError(self._clean(error) or type(error).__name__, sent=True) from None
        raise OracleError(f"{self._address} sends its callers in a circle; check the address")

    def _moved(self, address: httpx.URL, response: httpx.Response) -> httpx.URL:
        """Where to post instead: the same page of the same service, and nothing that unveils the password."""
        try:
            to = address.join(response.headers["location"])
        except httpx.InvalidURL:
            to = httpx.URL("")
        same = (
            to.host == address.host
            and to.path.rstrip("/") == address.path.rstrip("/")
            and (to.port == address.port or to.scheme != address.scheme)
            and to.scheme in (address.scheme, "https")
            and response.status_code != HTTPStatus.SEE_OTHER
        )
        if not same:
            shown_to = self._clean(to.copy_with(userinfo=b"", query=None, fragment=None))
            raise OracleError(
                f"{address} sends its callers elsewhere, to {shown_to},"
                " and the password is not sent there; give that address if it is the service's"
            )
        return to

    def _words(self, said: Mapping[str, Any] | None) -> str:
        """What the service says of its refusal, short and without secrets."""
        found = (
            next((said[name] for name in ("error", "detail", "message") if name in said), "") if said else ""
        )
        return self._clean(found) if found else ""

    def _clean(self, said: object) -> str:
        text = str(said)
        for secret in (self._password, self._username):
            # A short one, or a name, is part of many a word that does not give it away.
            around = r"\w*" if secret is self._password and len(secret) > _SHORT else ""
            for form in (secret, quote(secret), quote_plus(secret), repr(secret)[1:-1]):
                text = re.sub(rf"(?<!\w){around}{re.escape(form)}{around}(?!\w)", "…", text)
        return _shortened(escaped(text), _MOST)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.pause if isinstance(error, _TryAgainError) else None
        if asked is not None:
            return min(asked, self._backoff.longest)
        return tenacity.wait_random_exponential(
            multiplier=self._backoff.longest / 40, max=self._backoff.longest
        )(state)


def _address(url: str) -> httpx.URL:
    """The address to post to. RequestError where it is none, or holds what would show in messages."""
    try:
        address = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise RequestError(
            f"the reveal service's address is none ({escaped(str(error))}); give one such as https://host"
        ) from None
    if address.userinfo:
        raise RequestError(
            f"the address of the reveal service at {address.host} holds a user name or password, which would"
            f" show in messages; give them in {USERNAME} and {PASSWORD}"
        )
    if address.scheme not in ("http", "https") or not address.host:
        raise RequestError(f"{escaped(url)!r} is no http or https address; give one such as https://host")
    if address.query or address.fragment:
        raise RequestError(f"{escaped(url)!r} must end with its path; leave out what follows ? or #")
    path = address.path.rstrip("/")
    return address.copy_with(path=f"{path if path.endswith('/reveal') else path + '/reveal'}/")


def _secret(given: str | None, variable: str, noun: str, or_else: str = "") -> str:
    found = os.environ.get(variable, "") if given is None else given
    if not found:
        raise RequestError(
            f"a reveal service wants a {noun}; {or_else}set the environment variable {variable}"
        )
    return found


def _shortened(text: str, most: int) -> str:
    """The text, or as many of its first words as fit; cut within a word only where that alone is too long."""
    if len(text) <= most:
        return text
    return (text[:most].rpartition(" ")[0].rstrip() or text[:most]) + " …"


def _read(response: httpx.Response, seconds: float) -> _Answer:
    """The answer as far as it is wanted; one that drips for longer than `seconds` is none."""
    deadline = time.monotonic() + seconds
    content = b""
    for chunk in response.iter_bytes():
        content += chunk
        if time.monotonic() > deadline:
            raise _TryAgainError(f"no whole answer in {seconds:g} s", sent=True)
        if len(content) > _LONGEST:
            content = b""
            break
    kind = escaped(response.headers.get("content-type", "").partition(";")[0])
    patience = response.headers.get("retry-after", "")
    return _Answer(response.status_code, kind, content, float(patience) if patience.isdecimal() else None)


def _parsed(content: bytes) -> Mapping[str, Any] | None:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _asks_for_patience(status: int, words: str) -> bool:
    """Whether a refusal is of this request alone, as one too soon, and not of all that may follow."""
    said = words.lower()
    if status == HTTPStatus.TOO_MANY_REQUESTS and not re.search("budget|already", said):
        return True
    return 400 <= status < 500 and _TOO_FAST.search(said) is not None
