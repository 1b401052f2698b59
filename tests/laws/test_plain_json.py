"""The compiled reader of JSON is right by msgspec: what it takes, msgspec takes as the same values.

It may leave any record to msgspec, so there is a law for usual ones too: these it takes.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import plain_records as drawn
from support.json_corpus import ACCEPT, REJECT
from support.plain_records import BOOL, FLOAT, INT, TEXT, Shape

from streamapp.core.text_column import TextColumn
from streamapp.errors import DecodeError
from streamapp.records import Record
from streamapp.serde.codecs import value_decoder
from streamapp.serde.coders import MAX_BYTES
from streamapp.serde.columnar import plain_reader

PlainJson = drawn.reader_module().PlainJson
RANDOMS = st.integers(0, 2**32).map(Random)  # many records of few draws


def same(left: object, right: object) -> bool:
    """Compare kinds and bits: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("d", left) == struct.pack("d", right)
    return type(left) is type(right) and left == right


def is_column(column: object, kind: int, size: int) -> bool:
    if kind in (INT, FLOAT):
        code = "q" if kind == INT else "d"
        return isinstance(column, array) and column.typecode == code and len(column) == size
    return type(column) is (TextColumn if kind == TEXT else list) and len(column) == size


def decoded(decode: Callable[[bytes], Any], value: Any) -> Any:
    """Return what msgspec makes of a value, ``None`` if it is refused or no bytes."""
    if type(value) is not bytes:
        return None
    try:
        return decode(value)
    except DecodeError:
        return None


def check(reader: Any, shape: Shape, values: list[Any], wanted: int, bound: int = MAX_BYTES) -> int:
    """Compare a reading with msgspec's; return how many records were taken."""
    columns, closer = reader.read(values, wanted)
    decode = value_decoder(drawn.record_type(shape), max_bytes=bound)
    assert closer == sorted({*closer})
    assert not closer or 0 <= closer[0] <= closer[-1] < len(values)
    assert len(columns) == len(shape)
    for i, (_, kind) in enumerate(shape):
        if wanted >> i & 1:
            assert is_column(columns[i], kind, len(values))
        else:
            assert columns[i] is None
    left = {*closer}
    for row, value in enumerate(values):
        if row in left:
            continue
        expected = decoded(decode, value)
        assert expected is not None, value
        for i, column in enumerate(columns):
            assert column is None or same(column[row], getattr(expected, f"f{i}")), value
    return len(values) - len(closer)


@given(RANDOMS)
def test_what_is_taken_msgspec_takes_as_the_same_values(random: Random) -> None:
    shape = drawn.draw_shape(random)
    reader = PlainJson(drawn.declared(shape), MAX_BYTES)
    for _ in range(3):  # it remembers the records of the batch before
        wanted = random.choice([(1 << 64) - 1, (1 << len(shape)) - 1, random.getrandbits(64), 0])
        check(reader, shape, drawn.draw_batch(random, shape, 40), wanted)


@given(RANDOMS)
def test_usual_records_are_taken(random: Random) -> None:
    shape = drawn.draw_shape(random)
    reader = PlainJson(drawn.declared(shape), MAX_BYTES)
    records = [drawn.draw_usual(random, shape) for _ in range(random.randint(1, 8))]
    columns, closer = reader.read([each.data for each in records], (1 << len(shape)) - 1)
    assert closer == []
    for row, each in enumerate(records):
        for column, expected in zip(columns, each.values, strict=True):
            assert same(column[row], expected)


@given(RANDOMS)
def test_what_is_wanted_changes_no_more_than_the_columns_returned(random: Random) -> None:
    shape = drawn.draw_shape(random)[:5]
    values = drawn.draw_batch(random, shape, 6)
    fields = drawn.declared(shape)
    everything, expected = PlainJson(fields, MAX_BYTES).read(values, 31)
    taken = [row for row in range(len(values)) if row not in expected]
    again = PlainJson(fields, MAX_BYTES)
    for wanted in range(1 << len(shape)):
        columns, closer = again.read(values, wanted)
        assert closer == expected
        for i, column in enumerate(columns):
            if column is not None:
                assert all(same(column[row], everything[i][row]) for row in taken)


@given(RANDOMS)
def test_what_was_read_before_changes_nothing(random: Random) -> None:
    shape = drawn.draw_shape(random)
    fields, wanted = drawn.declared(shape), (1 << len(shape)) - 1
    values = drawn.draw_batch(random, shape, 30)
    columns, closer = PlainJson(fields, MAX_BYTES).read(values, wanted)
    for row, value in enumerate(values):
        alone, refused = PlainJson(fields, MAX_BYTES).read([value], wanted)
        assert bool(refused) is (row in closer)
        if not refused:
            pairs = zip(columns, alone, strict=True)
            assert all(same(column[row], one[0]) for column, one in pairs)


@given(RANDOMS)
def test_a_longer_record_than_the_bound_is_left(random: Random) -> None:
    shape = drawn.draw_shape(random)
    values = [drawn.draw_usual(random, shape).data for _ in range(4)]
    bound = len(random.choice(values)) + random.choice([-1, 0, 1])
    reader = PlainJson(drawn.declared(shape), bound)
    assert reader.read(values, 0)[1] == [n for n, value in enumerate(values) if len(value) > bound]
    check(reader, shape, values, 1, bound)


@pytest.mark.parametrize("kind", [INT, FLOAT, TEXT, BOOL])
def test_the_corpus_of_json_is_read_as_msgspec_reads_it(kind: int) -> None:
    shape = [("a", kind)]
    texts = [*[data for data, _ in ACCEPT], *REJECT]
    reader = PlainJson(drawn.declared(shape), MAX_BYTES)
    for form in (b"%b", b'{"a":%b}', b'{"b":%b,"a":1}', b'{"b":%b,"a":"x"}', b'{"a":true,"b":%b}'):
        check(reader, shape, [form % text for text in texts], 1)


def test_all_endings_of_a_record_are_refused() -> None:
    shape = [("id", INT), ("user", TEXT), ("amount", FLOAT), ("gone", BOOL)]
    data = '{"id":-12,"user":"zoë","amount":1.25e3,"gone":false,"more":[{"a":null}]}'.encode()
    reader = PlainJson(drawn.declared(shape), MAX_BYTES)
    values = [data, *[data[:n] for n in range(len(data))], data]
    assert check(reader, shape, values, 15) == 2


class Optional(Record):
    """Each kind of field, where it may be null, missing, or both."""

    a: int
    b: float | None
    c: str = "none"
    d: bool | None = None
    e: int | None = 7
    f: str | None = None


_ONES: dict[str, list[object]] = {
    "a": [1, None],
    "b": [1.5, 2, None, "x"],
    "c": ["x", "", None],
    "d": [True, False, None, 0],
    "e": [3, None, 2.5],
    "f": ["é", None, []],
}


@given(
    st.lists(
        st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in _ONES.items()}),
        max_size=8,
    ),
    st.integers(0, 63),
)
def test_fields_that_may_be_null_or_missing(records: list[dict[str, object]], wanted: int) -> None:
    """Where a column is wanted each record has a value, else the type is all that counts."""
    decode, names = value_decoder(Optional), [*_ONES]
    reader = plain_reader(decode, Optional)
    assert reader is not None
    values = [msgspec.json.encode(record) for record in records]
    columns, closer = reader._reader.read(values, wanted)
    asked = [name for i, name in enumerate(names) if wanted >> i & 1]
    for row, (record, value) in enumerate(zip(records, values, strict=True)):
        expected = decoded(decode, value)
        has_all = all(record.get(name) is not None for name in asked)
        assert (row not in closer) is (expected is not None and has_all)
        if row not in closer:
            for i, column in enumerate(columns):
                assert column is None or same(column[row], getattr(expected, names[i]))
