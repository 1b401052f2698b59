"""Codecs by type: values, keys, refused declarations, Faust records, batches."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass
from decimal import Decimal
from typing import Any, TypedDict

import faust
import numpy as np
import pytest

from streamapp.errors import ConfigError, DecodeError, EncodeError
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


@pytest.mark.parametrize("encoder", [value_encoder, key_encoder])
def test_a_declared_number_takes_those_of_a_batch(encoder: Callable[..., Any]) -> None:
    total, mean = np.array([1, 2]).sum(), np.array([1, 2]).mean()
    assert [encoder(int)(total), encoder(float)(mean)] == [b"3", b"1.5"]
    assert float(encoder(float)(total)) == 3.0
    with pytest.raises(EncodeError, match="expected int"):
        encoder(int)(mean)


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
    got = decode_batch(value_decoder(Order), [b'{"user":"a"}', b"{", b'{"user":"b"}', b""]).values
    assert got[::2] == [Order("a"), Order("b")]
    assert all(isinstance(each, Bad) and isinstance(each.error, DecodeError) for each in got[1::2])


def test_tombstones_are_bad_unless_allowed() -> None:
    values = [b'{"user":"a"}', None]
    found = decode_batch(value_decoder(Order), values, allow_null=True)
    assert found == ([Order("a"), None], False)
    bad = decode_batch(value_decoder(Order), values).values[1]
    assert "null value (tombstone)" in str(bad.error)
    assert "allow_empty=True" in str(bad.error)


def test_an_empty_raw_value_is_no_tombstone() -> None:
    found = decode_batch(value_decoder(bytes), [b"", None], allow_null=True)
    assert found == ([b"", None], False)


def test_any_function_may_decode_a_batch() -> None:
    def decode(data: bytes) -> int:
        if data == b"bad":
            raise DecodeError("bad")  # noqa: EM101 - a user's one-liner
        return len(data)

    assert decode_batch(decode, []) == ([], False)
    got = decode_batch(decode, [b"a", b"bad", b"ccc"]).values
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
