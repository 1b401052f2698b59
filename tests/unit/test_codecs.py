"""Codecs: the JSON that is taken and refused, and the texts of the refusals."""

import json
import math
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from support.json_corpus import ACCEPT, REJECT, nested

from streamapp.errors import DecodeError, EncodeError, InputError
from streamapp.records import Record
from streamapp.serde.codecs import (
    Bad,
    decode_batch,
    key_encoder,
    value_decoder,
    value_encoder,
)


class Order(Record):
    user: str
    amount: float = 0.0


class Count(Record):
    n: int


class Loose(Record):
    n: Any = None


@dataclass
class Plain:
    a: int


class Opaque:
    pass


class Tree(Record):
    children: list["Tree"] = []  # noqa: RUF012 - msgspec copies empty defaults


def _name(data: bytes) -> str:
    return repr(data[:30])


# --- JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "value"), ACCEPT, ids=[_name(data) for data, _ in ACCEPT])
def test_json_takes_and_keeps(data: bytes, value: object) -> None:
    got = value_decoder()(data)
    assert got == value
    assert repr(got) == repr(value)  # tells 0 from 0.0, -0.0 and False


@pytest.mark.parametrize("data", REJECT, ids=_name)
@pytest.mark.parametrize("declared", [None, Order, Loose, dict[str, int], list[Any], str])
def test_json_refuses(data: bytes, declared: object) -> None:
    decode = value_decoder(declared, "json")
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert len(str(caught.value)) < 1_300  # 200 bytes, escaped, and a reason
    assert str(caught.value).isprintable()
    assert [type(each) for each in decode_batch(decode, [data]).values] == [Bad]


@pytest.mark.parametrize(
    "data",
    [b"NaN", b"01", b'"\xff"', b'"\\ud800"', b"[1,]", b"[" * 128 + b"]" * 128, b"tru", b"[1"],
    ids=_name,
)
def test_skipped_fields_are_held_to_the_grammar(data: bytes) -> None:
    decode = value_decoder(Order)
    text = b'{"user":"a","skipped":' + data + b"}"
    with pytest.raises(DecodeError):
        decode(text)
    assert [type(each) for each in decode_batch(decode, [text]).values] == [Bad]


def test_depth_does_not_depend_on_the_callers_depth() -> None:
    text = b"[" * 128 + b"]" * 128

    def at(frames: int) -> object:
        return value_decoder()(text) if frames == 0 else at(frames - 1)

    assert at(0) == at(600)


def test_deep_texts_are_refused_even_if_the_interpreter_would_not() -> None:
    text = b"[" * 300 + b"]" * 300
    assert msgspec.json.decode(text)
    with pytest.raises(DecodeError, match="deeper than 128"):
        value_decoder()(text)


def test_brackets_in_strings_are_no_nesting() -> None:
    value = {"[" * 300: "{" * 300, 'quote"[[': '\\"[' * 200}
    assert value_decoder()(value_encoder()(value)) == value


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**40, 2**53 + 1])
def test_integers_are_exact_whether_declared_or_not(number: int) -> None:
    text = b'{"n":%d}' % number
    assert value_decoder()(text) == {"n": number}
    assert value_decoder(Count)(text) == Count(number)
    assert value_decoder(Loose)(text) == Loose(number)
    assert value_decoder(dict[str, int | float])(text) == {"n": number}
    assert value_encoder(Count)(Count(number)) == text


@pytest.mark.parametrize("text", [b"1.0", b"1e2", b'"1"', b"true", b"null", b"[]", b"1e400"])
def test_an_int_is_an_integer_only(text: bytes) -> None:
    with pytest.raises(DecodeError):
        value_decoder(int)(text)


def test_a_float_may_be_written_as_an_integer() -> None:
    value = value_decoder(float)(b"3")
    assert (value, type(value)) == (3.0, float)


def test_the_bound_on_bytes_comes_before_parsing() -> None:
    decode = value_decoder(None, max_bytes=10)
    assert decode(b'"' + b"a" * 8 + b'"') == "a" * 8
    for data in (b'"' + b"a" * 9 + b'"', b"[" * 11):
        with pytest.raises(DecodeError, match="11 bytes, more than the bound of 10"):
            decode(data)
        assert [type(each) for each in decode_batch(decode, [b"1", data]).values] == [int, Bad]


@pytest.mark.parametrize("codec", ["json", "msgpack", "str"])
def test_what_could_not_be_read_back_is_not_written(codec: str) -> None:
    encode = value_encoder(None, codec, max_bytes=10)
    assert encode("a" * 8)
    with pytest.raises(EncodeError, match="more than the bound of 10"):
        encode("a" * 11)


def test_an_error_names_type_path_and_the_start_of_the_bytes() -> None:
    with pytest.raises(DecodeError) as caught:
        value_decoder(Order)(b'{"user":7,"pad":"' + b"z" * 1_000 + b'\xc3\xa9"}')
    text = str(caught.value)
    assert text.startswith("not valid JSON for Order: Expected `str`, got `int` - at `$.user`: b'")
    assert text.endswith("...")
    assert text.count("z") == 200 - len(b'{"user":7,"pad":"')


def test_control_characters_of_a_message_do_not_reach_the_error_raw() -> None:
    class Strange(Record):
        a: str

        def __post_init__(self) -> None:
            raise ValueError(self.a)

    with pytest.raises(DecodeError) as caught:
        value_decoder(Strange)(b'{"a":"\\r\\n\\u001b[31mforged line"}')
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_reason_that_repeats_the_message_is_bounded() -> None:
    class Echo(Record):
        a: str

        def __post_init__(self) -> None:
            raise ValueError(self.a)

    with pytest.raises(DecodeError) as caught:
        value_decoder(Echo)(b'{"a":"' + b"z" * 100_000 + b'"}')
    assert str(caught.value).count("z") < 400


def test_whatever_a_class_raises_is_a_decode_error() -> None:
    class Fussy(Record):
        a: dict[str, int]

        def __post_init__(self) -> None:
            self.a["missing"]

    with pytest.raises(DecodeError, match="missing"):
        value_decoder(Fussy)(b'{"a":{}}')


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        [1.5, None, math.nan],
        {"a": {"b": [math.inf]}},
        Order("a", math.nan),
        [Order("null", 1.0), Order("b", -math.inf)],
        {"big": 2**70, "bad": math.nan},
        Plain(math.nan),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_nan_and_infinity_are_not_written(value: object) -> None:
    for encode in (value_encoder(), key_encoder(None, "json")):
        with pytest.raises(EncodeError, match=r"JSON has no -?(nan|inf).*send null"):
            encode(value)


def test_the_path_of_a_nan_is_named() -> None:
    with pytest.raises(EncodeError, match=r"at \$\.a\[1\]\.amount"):
        value_encoder()({"a": [1, Order("x", math.nan)]})


@pytest.mark.parametrize(
    "value", [None, [None, 1.5], {"null": "null"}, Loose(), 2**70, [2**70, None]]
)
def test_honest_nulls_are_written(value: object) -> None:
    text = value_encoder()(value)
    assert json.loads(text) == value_decoder()(text)
    assert b"null" in text or value == 2**70


def test_raw_json_is_embedded_as_it_is() -> None:
    raw = msgspec.Raw(b'{"x":null,"s":"\xcb\x7f\xf8"}'.decode("latin-1").encode())
    assert value_encoder()({"after": raw, "n": None}).startswith(b'{"after":{"x":null')


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Opaque(), "Opaque"),
        ([Opaque()], "Opaque"),
        (1 + 2j, "complex"),
        ("\ud800", "surrogate"),
        ({"\udfff": 1}, "surrogate"),
        ({(1, 2): 3}, "dict"),
        (10**5000, "digits"),
        (nested(129), "deeper than 128"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_has_no_json_form_is_an_input_error_that_says_why(value: object, reason: str) -> None:
    with pytest.raises(EncodeError, match=reason) as caught:
        value_encoder()(value)
    assert isinstance(caught.value, InputError)
    assert f"a value of type {type(value).__qualname__} is not valid JSON" in str(caught.value)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_a_value_that_contains_itself_is_refused(codec: str) -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(EncodeError, match="contains itself"):
        value_encoder(None, codec)(value)


def test_subclasses_are_written_as_their_kind() -> None:
    class Name(str):
        __slots__ = ()

    encode = value_encoder()
    assert encode([Name("a")]) == b'["a"]'
