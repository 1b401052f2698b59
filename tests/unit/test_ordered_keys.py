import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.errors import InputError
from streamapp.serde.ordered_keys import decode_key, encode_key, encode_keys, encode_prefix

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False)
    | st.binary(max_size=6)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
)
keys = scalars | st.lists(scalars, max_size=4).map(tuple)


@given(keys)
def test_round_trip_keeps_value_and_kind(key: object) -> None:
    again = decode_key(encode_key(key))
    assert again == key
    assert type(again) is type(key)


@given(st.lists(keys, max_size=5) | st.lists(st.text("aé\x00\x01", max_size=3), max_size=5))
def test_keys_that_are_encoded_at_once_are_those_encoded_singly(some: list[object]) -> None:
    assert encode_keys(some) == [*map(encode_key, some)]


@given(st.lists(st.integers(-300, 300) | st.integers(-(1 << 70), 1 << 70), max_size=20))
def test_integers_sort_by_value(numbers: list[int]) -> None:
    assert [decode_key(k) for k in sorted(map(encode_key, numbers))] == sorted(numbers)


@given(st.lists(st.floats(allow_nan=False), max_size=20))
def test_floats_sort_by_value(numbers: list[float]) -> None:
    assert [decode_key(k) for k in sorted(map(encode_key, numbers))] == sorted(numbers)


@given(st.lists(st.text("a\x00\x01b\xff", max_size=4), max_size=20))
def test_text_sorts_by_code_point(texts: list[str]) -> None:
    assert [decode_key(k) for k in sorted(map(encode_key, texts))] == sorted(texts)


@given(st.lists(st.tuples(st.text("a\x00b", max_size=3), st.integers(-3, 3)), max_size=20))
def test_tuples_sort_by_their_parts(pairs: list[tuple[str, int]]) -> None:
    assert [decode_key(k) for k in sorted(map(encode_key, pairs))] == sorted(pairs)


@given(st.text("ab\x00", max_size=3), st.text("ab\x00", max_size=5))
def test_prefix_is_the_prefix_of_exactly_the_keys_that_start_so(prefix: str, key: str) -> None:
    assert encode_key(key).startswith(encode_prefix(prefix)) == key.startswith(prefix)


def test_equal_numbers_of_different_kinds_are_different_keys() -> None:
    assert len([*{encode_key(key): key for key in [1, 1.0, True, "1"]}]) == 4


def test_negative_zero_is_zero() -> None:
    assert encode_key(-0.0) == encode_key(0.0)


@pytest.mark.parametrize("key", [math.nan, "\ud800", object(), ((1,),)])
def test_what_cannot_be_a_key_says_so(key: object) -> None:
    with pytest.raises(InputError, match=r"key"):
        encode_key(key)
