"""Row keys: any bytes but NUL survive, messages show them safely, hints tell near keys apart."""

from __future__ import annotations

import hashlib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.store import show_key
from headwater.store.keys import (
    difference,
    encode_key,
    encode_keys,
    hash_keys,
    join_keys,
    nearest,
    split_keys,
)

any_bytes = st.binary(max_size=30).map(lambda raw: raw.replace(b"\0", b"\xff"))


@given(st.lists(any_bytes, unique=True))
def test_any_bytes_but_nul_survive_the_key_file(raw):
    content = b"".join(key + b"\0" for key in raw)
    keys = split_keys(content)
    assert [key.encode("utf-8", "surrogateescape") for key in keys] == raw
    assert join_keys(encode_keys(keys)) == content
    assert hash_keys(content) == hashlib.sha256(content).hexdigest()


@given(any_bytes)
def test_a_shown_key_is_one_printable_line_and_distinct(raw):
    shown = show_key(raw.decode("utf-8", "surrogateescape"))
    assert shown.isprintable()
    assert shown.encode("utf-8")  # no surrogate left


@given(any_bytes, any_bytes)
def test_different_keys_are_shown_differently(one, other):
    first, second = (show_key(raw.decode("utf-8", "surrogateescape")) for raw in (one, other))
    assert (first == second) == (one == other)


def test_shown_forms():
    assert show_key("a b/é.jpg") == "'a b/é.jpg'"
    assert show_key("line\nbreak\t") == r"'line\nbreak\t'"
    assert show_key(b"caf\xe9".decode("utf-8", "surrogateescape")) == r"'caf\xe9'"
    assert show_key("it's \\") == r"'it\'s \\'"


@pytest.mark.parametrize(
    ("key", "said"), [("a\0b", "NUL"), ("a\ud800b", "lone surrogate")], ids=["nul", "surrogate"]
)
def test_keys_without_bytes_are_refused(key, said):
    with pytest.raises(RequestError, match=said):
        encode_key(key)


def test_equal_bytes_are_the_same_key_even_when_the_text_differs():
    escaped = "é".encode().decode("ascii", "surrogateescape")
    assert escaped != "é"
    with pytest.raises(RequestError, match="more than once"):
        encode_keys(["é", "other", escaped])


def test_twins_by_case_and_normalisation_are_two_keys():
    twins = ["Bird.jpg", "bird.jpg", unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")]
    assert split_keys(join_keys(encode_keys(twins))) == twins


@pytest.mark.parametrize(
    ("unknown", "known", "said"),
    [
        (unicodedata.normalize("NFD", "é.jpg"), "é.jpg", "Unicode normalisation"),
        ("Bird.JPG", "bird.jpg", "letter case"),
        ("/bird.jpg", "bird.jpg", "leading /"),
        ("images/a/bird.jpg", "a/bird.jpg", "lack the leading folder 'images/'"),
        ("bird.jpg", "images/a/bird.jpg", "start with the leading folder 'images/a/'"),
    ],
)
def test_hints_say_what_tells_the_keys_apart(unknown, known, said):
    assert said in difference([unknown], ["other", known])


def test_no_hint_where_there_is_none():
    assert difference(["bird.jpg"], ["cat.jpg"]) == ""


def test_the_nearest_key_is_named():
    assert nearest("a/brid.jpg", ["a/bird.jpg", "b/cat.jpg"]) == "a/bird.jpg"
    assert nearest("zzz", ["a/bird.jpg"]) is None
