"""Codecs: which bytes each declared type has, what is refused, and the text of the refusals."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass
from decimal import Decimal
from typing import Any, TypedDict

import faust
import msgspec
import numpy as np
import pytest
from support.json_corpus import ACCEPT, REJECT, nested

from streamapp.errors import ConfigError, DecodeError, EncodeError, InputError
from streamapp.records import Record
from streamapp.serde.codecs import (
    ATOMS,
    Bad,
    decode_batch,
    key_decoder,
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


class Row(TypedDict):
    a: int


class Opaque:
    pass


class Tree(Record):
    children: list["Tree"] = []  # noqa: RUF012 - msgspec copies empty defaults


class FaustLine(faust.Record):
    sku: str
    count: int = 1


class FaustOrder(faust.Record, coerce=True):
    user: str
    line: FaustLine
    price: Decimal = Decimal(0)


class FaustPlain(faust.Record, include_metadata=False):
    a: int
    data: dict = None  # type: ignore[type-arg,assignment]


class Blessed(faust.Record, allow_blessed_key=True):
    evil: int = 0


class Packed(faust.Record, serializer="msgpack", include_metadata=False):
    a: int


class Pickled(faust.Record, serializer="pickle"):
    a: int


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
    assert [type(each) for each in decode_batch(decode, [data])] == [Bad]


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
    assert [type(each) for each in decode_batch(decode, [text])] == [Bad]


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
        assert [type(each) for each in decode_batch(decode, [b"1", data])] == [int, Bad]


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
        np.float64("nan"),
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
        (np.zeros(2), "ndarray"),
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


def test_numpy_scalars_and_subclasses_are_written_as_their_kind() -> None:
    class Name(str):
        __slots__ = ()

    encode = value_encoder()
    assert encode([np.int64(3), np.float64(1.5), Name("a")]) == b'[3,1.5,"a"]'
    assert key_encoder(int)(np.int64(7).item()) == b"7"


# --- types -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "codec", "value", "data"),
    [
        (None, None, {"a": 1}, b'{"a":1}'),
        (Any, None, [1, "x"], b'[1,"x"]'),
        (str, None, "é", "é".encode()),
        (str, "json", "é", '"é"'.encode()),
        (bytes, None, b"\xff\x00", b"\xff\x00"),
        (bytes, "json", b"\xff", b'"/w=="'),
        (int, None, 7, b"7"),
        (float, None, 1.5, b"1.5"),
        (bool, None, True, b"true"),
        (int, "raw", -7, b"-7"),
        (int, "str", 2**70, b"1180591620717411303424"),
        (float, "str", 0.1, b"0.1"),
        (None, "raw", b"\x00", b"\x00"),
        (None, "str", "a", b"a"),
        (int, "msgpack", 7, b"\x07"),
        (None, "msgpack", {"a": b"\x00"}, b"\x81\xa1a\xc4\x01\x00"),
        (Order, None, Order("a"), b'{"user":"a","amount":0.0}'),
        (Plain, None, Plain(1), b'{"a":1}'),
        (Row, None, {"a": 1}, b'{"a":1}'),
        (list[Order], None, [Order("a", 1.0)], b'[{"user":"a","amount":1.0}]'),
        (Order | None, None, None, b"null"),
        (Tree, None, Tree([Tree()]), b'{"children":[{"children":[]}]}'),
        (tuple[int, str], None, (1, "a"), b'[1,"a"]'),
    ],
)
def test_values(declared: object, codec: str | None, value: object, data: bytes) -> None:
    assert value_encoder(declared, codec)(value) == data
    got = value_decoder(declared, codec)(data)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("declared", "codec", "key", "data"),
    [
        (None, None, b"\x00k", b"\x00k"),
        (bytes, None, b"", b""),
        (str, None, "é", "é".encode()),
        (int, None, -12, b"-12"),
        (int, None, 2**70, b"1180591620717411303424"),
        (float, None, 1.5, b"1.5"),
        (bool, None, True, b"true"),
        (Order, None, Order("a", 2.0), b'{"user":"a","amount":2.0}'),
        (tuple[str, int], None, ("a", 1), b'["a",1]'),
        (dict[str, int], None, {"b": 1, "a": 2}, b'{"a":2,"b":1}'),
        (None, "json", {"b": {"d": 1, "c": 2}, "a": 3}, b'{"a":3,"b":{"c":2,"d":1}}'),
        (str, "json", "a", b'"a"'),
        (None, "msgpack", {"b": 1, "a": 2}, b"\x82\xa1a\x02\xa1b\x01"),
    ],
)
def test_keys(declared: object, codec: str | None, key: object, data: bytes) -> None:
    assert key_encoder(declared, codec)(key) == data
    assert key_decoder(declared, codec)(data) == key


def test_an_undeclared_raw_key_may_be_text() -> None:
    assert key_encoder()("é") == "é".encode()


@pytest.mark.parametrize(
    "data", [b"", b" 7", b"7\n", b"07", b"+7", b"-0", b"7.0", b"1_0", b"true", b"\xd9\xa1"]
)
def test_an_integer_key_has_one_spelling(data: bytes) -> None:
    with pytest.raises(DecodeError):
        key_decoder(int)(data)


def test_a_set_in_a_key_is_sorted() -> None:
    names = {f"name-{i}" for i in range(50)}
    assert json.loads(key_encoder(None, "json")(names)) == sorted(names)


def test_key_bytes_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "from streamapp.serde.codecs import key_encoder;"
        "print([key_encoder(None, c)({'b': {'y', 'x', 'z'}, 'a': 1}) for c in ('json', 'msgpack')])"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


def test_names_that_have_no_order_are_refused_in_a_key() -> None:
    with pytest.raises(EncodeError, match="str"):
        key_encoder(None, "json")({1: 2, "a": 3})


@pytest.mark.parametrize(
    ("declared", "value"),
    [(int, "7"), (int, 7.0), (int, True), (str, b"a"), (bytes, "a"), (float, "1"), (bool, 1)],
)
def test_a_declared_scalar_takes_no_other_type(declared: type, value: object) -> None:
    with pytest.raises(EncodeError, match=f"expected {declared.__name__}"):
        value_encoder(declared)(value)


@pytest.mark.parametrize("value", [None, 7, 1.5, ["a"]])
def test_raw_takes_bytes_and_text_only(value: object) -> None:
    with pytest.raises(EncodeError, match="expected bytes"):
        key_encoder()(value)


def test_a_float_text_is_finite_both_ways() -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(EncodeError):
            key_encoder(float)(value)
    for data in (b"nan", b"NaN", b"inf", b"1e999"):
        with pytest.raises(DecodeError):
            key_decoder(float)(data)


# --- declarations ------------------------------------------------------------------------------

MAKERS = [value_decoder, value_encoder, key_decoder, key_encoder]


@pytest.mark.parametrize("make", MAKERS)
def test_an_unknown_codec_is_a_config_error_with_the_list(make: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match=r"unknown codec 'yaml'.*json, msgpack, raw, str"):
        make(Order, "yaml")


@pytest.mark.parametrize("make", MAKERS)
def test_pickle_is_not_shipped(make: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match="'pickle' is not shipped: it runs code"):
        make(Order, "pickle")
    with pytest.raises(ConfigError, match="not shipped"):
        make(Pickled)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("declared", [Opaque, list[Opaque], dict[str, Opaque | None], "Nowhere"])
def test_a_type_without_a_form_is_refused_at_declaration(
    make: Callable[..., object], declared: object
) -> None:
    with pytest.raises(ConfigError):
        make(declared)


@pytest.mark.parametrize("codec", ["raw", "str"])
@pytest.mark.parametrize("declared", [Order, list[int], FaustPlain])
def test_plain_bytes_cannot_hold_structures(codec: str, declared: object) -> None:
    with pytest.raises(ConfigError, match=f"codec '{codec}' cannot hold"):
        value_decoder(declared, codec)


def test_codecs_do_not_import_faust() -> None:
    program = (
        "import sys, streamapp.serde.codecs, streamapp.records;"
        "sys.exit(any(n in sys.modules for n in ('faust', 'pickle5', 'yaml')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# --- Faust records -----------------------------------------------------------------------------


def test_faust_records_round_trip() -> None:
    order = FaustOrder("ada", FaustLine("x", 2), Decimal("1.50"))
    got = value_decoder(FaustOrder)(value_encoder(FaustOrder)(order))
    assert got == order
    assert type(got.line) is FaustLine
    assert got.price == Decimal("1.50")


def test_faust_records_are_written_as_faust_writes_them() -> None:
    for value in (FaustPlain(1), FaustOrder("a", FaustLine("x"))):
        assert json.loads(value_encoder()(value)) == json.loads(value.dumps(serializer="json"))


def test_faust_records_inside_other_types() -> None:
    decode = value_decoder(list[FaustPlain])
    assert decode(value_encoder()([FaustPlain(1), FaustPlain(2)])) == [FaustPlain(1), FaustPlain(2)]


def test_a_faust_records_own_serializer_is_its_default() -> None:
    assert value_encoder(Packed)(Packed(1)) == b"\x81\xa1a\x01"
    assert value_decoder(Packed)(b"\x81\xa1a\x01") == Packed(1)


def test_a_message_cannot_choose_its_class() -> None:
    namespace = {"ns": Blessed._options.namespace}
    evil = json.dumps({"a": 1, "__faust": namespace}).encode()
    assert type(FaustPlain.from_data(json.loads(evil), preferred_type=FaustPlain)) is Blessed
    assert type(value_decoder(FaustPlain)(evil)) is FaustPlain
    assert value_decoder()(evil)["__faust"] == namespace
    inside = json.dumps({"user": "a", "line": {"sku": "x", "__faust": namespace}}).encode()
    assert type(value_decoder(FaustOrder)(inside).line) is FaustLine


def test_a_message_cannot_replace_a_faust_records_methods() -> None:
    got = value_decoder(FaustPlain)(b'{"a":1,"asdict":2,"to_representation":3,"self":4}')
    assert got.asdict() == {"a": 1, "data": None}


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"a"', b"{}", b'{"data":{}}', b"{"])
def test_bad_faust_records_are_decode_errors(data: bytes) -> None:
    with pytest.raises(DecodeError):
        value_decoder(FaustPlain)(data)


def test_bad_nested_faust_data_is_found_at_the_edge() -> None:
    with pytest.raises(DecodeError):
        value_decoder(FaustOrder)(b'{"user":"a","line":{"count":2}}')
    with pytest.raises(DecodeError):
        value_decoder(FaustOrder)(b'{"user":"a","line":{"sku":"x"},"price":"no number"}')


# --- batches -----------------------------------------------------------------------------------


def test_a_bad_record_harms_no_other() -> None:
    got = decode_batch(value_decoder(Order), [b'{"user":"a"}', b"{", b'{"user":"b"}', b""])
    assert got[::2] == [Order("a"), Order("b")]
    assert all(isinstance(each, Bad) and isinstance(each.error, DecodeError) for each in got[1::2])


def test_tombstones_are_bad_unless_allowed() -> None:
    values = [b'{"user":"a"}', None]
    assert decode_batch(value_decoder(Order), values, allow_null=True) == [Order("a"), None]
    bad = decode_batch(value_decoder(Order), values)[1]
    assert "null value (tombstone)" in str(bad.error)
    assert "allow_empty=True" in str(bad.error)


def test_an_empty_raw_value_is_no_tombstone() -> None:
    assert decode_batch(value_decoder(bytes), [b"", None], allow_null=True) == [b"", None]


def test_any_function_may_decode_a_batch() -> None:
    def decode(data: bytes) -> int:
        if data == b"bad":
            raise DecodeError("bad")  # noqa: EM101 - a user's one-liner
        return len(data)

    assert decode_batch(decode, []) == []
    got = decode_batch(decode, [b"a", b"bad", b"ccc"])
    assert (got[0], type(got[1]), got[2]) == (1, Bad, 3)


def test_an_error_in_a_users_function_is_not_hidden() -> None:
    def broken(data: bytes) -> object:
        raise KeyError(data)

    with pytest.raises(KeyError):
        decode_batch(broken, [b"a"])


def test_bad_is_frozen() -> None:
    bad = Bad(DecodeError("x"))
    with pytest.raises(FrozenInstanceError):
        bad.error = DecodeError("y")  # type: ignore[misc]


def test_atoms_are_exact_immutable_types() -> None:
    assert {int, str, bytes, type(None), Decimal} <= ATOMS
    assert not ATOMS & {list, dict, set, bytearray, tuple, Order}
