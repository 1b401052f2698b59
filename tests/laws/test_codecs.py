"""Laws of the codecs: round trips, one error for any bytes, batches equal to single records."""

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.json_corpus import ACCEPT, REJECT

from streamapp.errors import DecodeError, EncodeError
from streamapp.records import Record
from streamapp.serde.codecs import (
    Bad,
    decode_batch,
    key_decoder,
    key_encoder,
    value_decoder,
    value_encoder,
)
from streamapp.serde.strict_json import MAX_DEPTH


class Item(Record):
    sku: str
    count: int = 0


class Rich(Record):
    name: str
    items: list[Item]
    by_name: dict[str, float]
    when: datetime
    day: date
    took: timedelta
    price: Decimal
    ident: UUID
    data: bytes
    best: Item | None = None


Maker = Callable[..., Callable[[Any], Any]]
Values = st.SearchStrategy[Any]
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INT64 = st.integers(-(2**63), 2**64 - 1)
INTS = st.integers(-(2**80), 2**80)
ITEMS = st.builds(Item, TEXT, INT64)
RICH = st.builds(
    Rich,
    TEXT,
    st.lists(ITEMS, max_size=3),
    st.dictionaries(TEXT, FLOATS, max_size=3),
    st.datetimes(timezones=st.just(UTC)).map(lambda when: when.replace(fold=0)),
    st.dates(),
    st.timedeltas(timedelta(days=-9_999), timedelta(days=9_999)),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.binary(max_size=20),
    st.none() | ITEMS,
)


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return what JSON can hold over some leaves."""
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
        max_leaves=12,
    )


JSON = trees(st.none() | st.booleans() | INTS | FLOATS | TEXT)
CODED: list[tuple[Any, str | None, Values]] = [
    (None, None, JSON),
    (None, "msgpack", trees(st.none() | st.booleans() | INT64 | FLOATS | TEXT | st.binary())),
    (None, "raw", st.binary()),
    (None, "str", TEXT),
    *[(str, codec, TEXT) for codec in (None, "json", "raw", "str", "msgpack")],
    *[(bytes, codec, st.binary()) for codec in (None, "json", "raw", "msgpack")],
    *[(int, codec, INTS) for codec in (None, "json", "raw", "str")],
    (int, "msgpack", INT64),
    *[(float, codec, FLOATS) for codec in (None, "json", "raw", "str", "msgpack")],
    *[(Rich, codec, RICH) for codec in (None, "msgpack")],
    *[(list[Item], codec, st.lists(ITEMS, max_size=4)) for codec in (None, "msgpack")],
]
DECODERS: list[tuple[Maker, Any, str | None]] = [
    *[(value_decoder, declared, codec) for declared, codec, _ in CODED],
    *[(key_decoder, declared, None) for declared in (None, str, int, float, Item)],
]


def changed(data: bytes, at: int, new: bytes) -> bytes:
    """Return the text with the byte at a place replaced or taken out."""
    return data[:at] + new + data[at + 1 :]


#: Bytes near to what is valid: cut, joined and changed good texts, and plain noise.
TEXTS = st.sampled_from([data for data, _ in ACCEPT] + [data for data in REJECT if len(data) < 400])
NOISE = (
    st.binary(max_size=40)
    | TEXTS
    | st.builds(bytes.__add__, TEXTS, TEXTS)
    | st.builds(lambda data, n: data[:n], TEXTS, st.integers(0, 40))
    | st.builds(changed, TEXTS, st.integers(0, 9), st.binary(max_size=1))
    | st.text(r"""[]{},:"\u0dDeE+-.1 tfn""", max_size=30).map(str.encode)
)


def same(left: object, right: object) -> bool:
    """Compare by value and kind: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if "msgspec.msgpack.Ext object at" in repr(left):  # where it is in memory says nothing
        return left == right
    return repr(left) == repr(right)


@pytest.mark.parametrize(("declared", "codec", "values"), CODED)
@pytest.mark.parametrize(
    ("encoder", "decoder"), [(value_encoder, value_decoder), (key_encoder, key_decoder)]
)
def test_round_trip(
    encoder: Maker, decoder: Maker, declared: object, codec: str | None, values: Values
) -> None:
    encode, decode = encoder(declared, codec), decoder(declared, codec)
    as_dicts_may_be_reordered = encoder is key_encoder

    @given(values)
    def law(value: object) -> None:
        if declared is None and codec is None and encoder is key_encoder:
            value = repr(value).encode()  # an undeclared key is raw
        got = decode(encode(value))
        assert got == value
        assert as_dicts_may_be_reordered or same(got, value)

    law()


@pytest.mark.parametrize(("make", "declared", "codec"), DECODERS)
def test_any_bytes_give_a_value_or_a_decode_error(
    make: Maker, declared: object, codec: str | None
) -> None:
    decode = make(declared, codec)

    @given(NOISE)
    def law(data: bytes) -> None:
        try:
            decode(data)
        except DecodeError as error:
            text = str(error)
        else:
            text = ""
        assert text.isprintable() or not text
        assert len(text) < 1_300

    law()


def naive(decode: Callable[[bytes], object], value: bytes | None, *, allow_null: bool) -> object:
    if value is None:
        return None if allow_null else "bad"
    try:
        return decode(value)
    except DecodeError as error:
        return f"bad: {error}"


@pytest.mark.parametrize(("declared", "codec", "values"), CODED)
def test_a_batch_equals_its_records(declared: object, codec: str | None, values: Values) -> None:
    decode, encode = value_decoder(declared, codec), value_encoder(declared, codec)

    @given(st.lists(values.map(encode) | NOISE | st.none(), max_size=6), st.booleans())
    def law(batch: list[bytes | None], allow_null: bool) -> None:
        got = decode_batch(decode, batch, allow_null=allow_null).values
        assert len(got) == len(batch)
        for value, have in zip(batch, got, strict=True):
            want = naive(decode, value, allow_null=allow_null)
            if isinstance(have, Bad):
                assert value is None or f"bad: {have.error}" == want
                assert want == "bad" if value is None else True
            else:
                assert same(have, want)

    law()


@given(st.lists(NOISE, min_size=1, max_size=4))
@example([b'{"a":"\xc3', b'\xa9"}'])
def test_values_of_a_batch_do_not_complete_each_other(batch: list[bytes]) -> None:
    """The fast path looks at all values at once: the cut of a character must not be hidden."""
    decode = value_decoder()
    kinds = [isinstance(each, Bad) for each in decode_batch(decode, batch).values]
    assert kinds == [isinstance(decode_batch(decode, [each]).values[0], Bad) for each in batch]


def refuse_constant(name: str) -> float:
    raise ValueError(name)


@given(NOISE)
def test_json_agrees_with_the_standard_library(data: bytes) -> None:
    """The stdlib is an independent reader; where it is more lenient, the rule is applied here."""
    try:
        want = json.loads(data.decode(), parse_constant=refuse_constant)
        json.dumps(want, ensure_ascii=False).encode()
        assert all(map(math.isfinite, floats(want)))
        assert depth(want) <= MAX_DEPTH
    except (ValueError, RecursionError, AssertionError):
        want = Bad
    got = decode_batch(value_decoder(), [data]).values[0]
    assert same(Bad if isinstance(got, Bad) else got, want)


def depth(value: object) -> int:
    """Return how many lists and dicts lie inside of each other."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def floats(value: object) -> list[float]:
    """Return every float of a tree."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [each for item in value for each in floats(item)]
    return [value] if isinstance(value, float) else []


@given(st.data())
def test_equal_keys_are_equal_bytes_in_any_order_of_names(data: st.DataObject) -> None:
    key = data.draw(st.dictionaries(TEXT, JSON, max_size=5))
    shuffled = dict(data.draw(st.permutations(list(key.items()))))
    for codec in ("json", "msgpack"):
        encode = key_encoder(None, codec)
        try:
            assert encode(key) == encode(shuffled)
        except EncodeError:
            assert codec == "msgpack"  # an integer beyond 64 bits


@given(trees(st.none() | FLOATS | st.sampled_from([math.nan, math.inf, -math.inf, 2**70, "null"])))
def test_a_value_is_written_iff_all_its_floats_are_finite(value: object) -> None:
    try:
        value_encoder()(value)
        written = True
    except EncodeError:
        written = False
    assert written == all(map(math.isfinite, floats(value)))


@given(st.integers(1, 140), st.integers(1, 140), st.sampled_from([b"", b'"[{"', b"1"]))
def test_depth_is_counted_exactly(arrays: int, objects: int, leaf: bytes) -> None:
    opening = b"[" * arrays + b'{"a]":' * objects
    text = opening + (leaf or b"[]") + b"}" * objects + b"]" * arrays
    levels = arrays + objects + (not leaf)
    assert isinstance(decode_batch(value_decoder(), [text]).values[0], Bad) == (levels > 128)
