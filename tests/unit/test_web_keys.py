"""Keys in requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.records import Record
from streamapp.serde.ordered_keys import encode_key
from streamapp.web.answers import to_json
from streamapp.web.keys import expected, key_of_json, keys_of_segment
from streamapp.web.scan import Cursor


class Place(Record, frozen=True):
    city: str
    floor: int = 0


@pytest.mark.parametrize(
    ("text", "key_type", "keys"),
    [
        ("ada", str, ("ada",)),
        ("7", str, ("7",)),
        ("7", int, (7,)),
        ("-7", int, (-7,)),
        ("0", int, (0,)),
        ("1.5", float, (1.5,)),
        ("1", float, (1.0,)),
        ("true", bool, (True,)),
        ("aGk", bytes, (b"hi",)),
        ("_-8", bytes, (b"\xff\xef",)),
        ("7", Any, ("7", 7)),
        ("07", Any, ("07",)),
        ("-0", Any, ("-0",)),
        ("ada", Any, ("ada",)),
    ],
)
def test_a_segment_means(text: str, key_type: object, keys: tuple[object, ...]) -> None:
    got = keys_of_segment(text, key_type)
    assert got == keys
    assert [type(key) for key in got] == [type(key) for key in keys]


@pytest.mark.parametrize(
    ("text", "key_type"),
    [
        ("07", int), ("+7", int), ("-0", int), ("7.0", int), (" 7", int), ("\u0667", int),
        ("1" * 101, int), ("NaN", float), ("x", float), ("True", bool), ("x!", bytes),
        ("ä", bytes), ("a", bytes), ('{"city": "x"}', Place), ("x", tuple[str, int]),
    ],
)  # fmt: skip
def test_a_segment_that_is_no_key(text: str, key_type: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it carries the text only
        keys_of_segment(text, key_type)


@pytest.mark.parametrize(
    ("text", "key_type", "key"),
    [
        ('"7"', Any, "7"),
        ("7", Any, 7),
        ("7.0", Any, 7.0),
        ("null", Any, None),
        ('["a", 1]', Any, ("a", 1)),
        ('["a", 1]', tuple[str, int], ("a", 1)),
        ('["a", 1]', list[str | int], ["a", 1]),
        ('{"city": "Graz"}', Place, Place("Graz")),
        ('"aGk="', bytes, b"hi"),
    ],
)
def test_json_means(text: str, key_type: object, key: object) -> None:
    got = key_of_json(text, key_type)
    assert got == key
    assert type(got) is type(key)


@pytest.mark.parametrize(
    ("text", "key_type"),
    [("", Any), ("{", Any), ("NaN", float), ('"7"', int), ("[1]", tuple[str]), ("[" * 9_999, Any)],
)
def test_json_that_is_no_key(text: str, key_type: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it carries the text only
        key_of_json(text, key_type)


_PARTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)


@given(_PARTS | st.lists(_PARTS).map(tuple))
def test_what_an_answer_shows_finds_the_row_again(key: object) -> None:
    assert encode_key(key_of_json(to_json(key).decode(), Any)) == encode_key(key)


@pytest.mark.parametrize(
    ("key_type", "words"),
    [(int, "an int"), (Any, "a text or an integer"), (Place, "JSON of Place")],
)
def test_the_expected_type_has_a_name(key_type: object, words: str) -> None:
    assert expected(key_type) == words


@given(st.integers(0, 1_000), st.binary())
def test_a_cursor_survives_its_text(partition: int, raw_key: bytes) -> None:
    cursor = Cursor(partition, raw_key)
    assert Cursor.parse(str(cursor)) == cursor


@given(st.text())
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except ValueError:
        return
    assert isinstance(cursor.partition, int)
    assert isinstance(cursor.raw_key, bytes)
