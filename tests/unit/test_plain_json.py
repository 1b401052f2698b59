"""The compiled reader of JSON where it could go wrong: bounds, numbers of texts, references."""

from __future__ import annotations

import gc
import struct
import sys
from itertools import product
from typing import Any

import pytest
from support.plain_records import BOOL, FLOAT, INT, TEXT, reader_module

PlainJson = reader_module().PlainJson
BOUND = 1 << 20


def reader(*kinds: int) -> Any:
    return PlainJson([(b"%c" % (97 + i), kind, 0) for i, kind in enumerate(kinds)], BOUND)


def read_all(kind: int, texts: list[bytes]) -> tuple[list[Any], list[int]]:
    columns, closer = reader(kind).read([b'{"a":%b}' % text for text in texts], 1)
    return list(columns[0]), closer


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_columns_hold_the_wanted_fields_only() -> None:
    values = [b'{"a":1,"b":2.5,"c":"x","d":true}', b'{"d":false,"c":"","b":-0.0,"a":-3}']
    fields = reader(INT, FLOAT, TEXT, BOOL)
    columns, closer = fields.read(values, 15)
    assert [list(column) for column in columns] == [[1, -3], [2.5, -0.0], ["x", ""], [True, False]]
    assert [getattr(column, "typecode", None) for column in columns] == ["q", "d", None, None]
    assert closer == []
    ints, floats, texts, bools = fields.read(values, 0b1010)[0]
    assert (ints, list(floats), texts, bools) == (None, [2.5, -0.0], None, [True, False])


def test_what_is_left_has_no_value() -> None:
    values = [b'{"a":"x","b":true}', b'{"a":"y","b":tru}', None, b'{"b":true,"a":"z"}', b""]
    columns, closer = reader(TEXT, BOOL).read(values, 3)
    assert closer == [1, 2, 4]
    assert [columns[0][row] for row in (0, 2, 3, 4)] == ["x", "", "z", ""]
    assert [columns[1][row] for row in (0, 2, 3, 4)] == [True, None, True, None]


@pytest.mark.parametrize(
    ("kind", "value"), [(INT, b"1"), (FLOAT, b"1.5"), (TEXT, b'"x"'), (BOOL, b"true")]
)
def test_a_repeated_field_is_left(kind: int, value: bytes) -> None:
    """The last one counts, and a list has one place."""
    twice = b'{"a":%b,"a":%b}' % (value, value)
    assert reader(kind).read([twice, b'{"a":%b,"b":1,"b":2}' % value], 1)[1] == [0]


def test_integers_are_taken_up_to_64_bits() -> None:
    most = 2**63 - 1
    good = [0, 9, -1, 10**17, 10**18 - 1, 10**18, most, -most]
    assert read_all(INT, [b"%d" % number for number in good]) == (good, [])
    beyond = [2**63, 2**64 - 1, 2**64, 2**64 + 1, 10**19 - 1, 10**19, 10**400, -(2**63) - 1]
    assert read_all(INT, [b"%d" % number for number in beyond])[1] == [*range(len(beyond))]


def test_floats_are_rounded_as_python_rounds_them() -> None:
    wholes = [0, 1, 3, 7, 12345, 10**15 + 1, 2**53 - 1, 2**53, 2**53 + 1, 10**17 - 1, 2**63, 2**64]
    texts = [
        f"{sign}{whole}.{'0' * zeros}{rest}"
        for sign, whole, zeros, rest in product(("", "-"), wholes, range(25), (1, 3, 99, 2**53 - 1))
    ]
    texts += [f"{number!r}" for number in (0.1, 5e-324, 1.7976931348623157e308, 2.0**-1022)]
    found, closer = read_all(FLOAT, [text.encode() for text in texts])
    expected = [*map(float, texts)]
    assert closer == []
    assert struct.pack(f"{len(found)}d", *found) == struct.pack(f"{len(found)}d", *expected)


def test_texts_are_taken_if_they_are_utf8() -> None:
    first = [bytes([one]) for one in range(0x80, 0x100)]
    edges = [bytes([one]) for one in (0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)]
    texts = [b"".join(each) for n in range(4) for each in product(first, *[edges] * n)]
    column, closer = read_all(TEXT, [b'"%b"' % text for text in texts])
    assert closer == [n for n, text in enumerate(texts) if not is_text(text)]
    left = {*closer}
    assert len(left) < len(texts)
    assert all(column[n] == text.decode() for n, text in enumerate(texts) if n not in left)


def test_a_skipped_text_is_checked_too() -> None:
    values = [b'{"x":"\xe9","a":1}', b'{"\xe9":0,"a":1}', b'{"x":"\n","a":1}']
    assert reader(INT).read([*values, '{"x":"é","é":"é","a":1}'.encode()], 1)[1] == [0, 1, 2]


def test_names_need_not_be_ascii() -> None:
    fields = PlainJson([("größe".encode(), INT, 0)], BOUND)
    columns, closer = fields.read(['{"größe":1,"größer":2}'.encode()], 1)
    assert (list(columns[0]), closer) == ([1], [])


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"y":', b"}")])
def test_values_are_passed_over_down_to_a_depth(opening: bytes, closing: bytes) -> None:
    depths = [0, 1, 30, 31, 32, 33, 200, 100_000]
    values = [b'{"x":%b0%b,"a":1}' % (opening * n, closing * n) for n in depths]
    assert reader(INT).read(values, 1)[1] == [4, 5, 6, 7]


@pytest.mark.parametrize("size", [1, 8, 32, 33, 34, 35, 36, 37, 40, 41, 48, 100])
def test_ways_of_any_length_are_learnt_and_forgotten(size: int) -> None:
    """The bytes up to a value are remembered up to forty of them."""
    names = [b"x" * size, b"x" * (size - 1) + b"y", b"z"]
    fields = PlainJson([(name, INT, 0) for name in names], BOUND)
    one = b'{"%b":1,"%b":2,"%b":3}' % (*names,)
    other = b'{ "%b":1,"%b":2 ,"%b":3}' % (*names[::-1],)
    near = one.replace(names[1], names[1][:-1] + b"w")
    last = one.replace(b":3", b":3,")
    columns, closer = fields.read([one, one, other, near, one, other, other, last, one], 7)
    assert closer == [3, 7]
    rows = [[column[row] for row in (0, 1, 2, 4, 5, 6, 8)] for column in columns]
    assert rows == [[1, 1, 3, 1, 3, 3, 1], [2] * 7, [3, 3, 1, 3, 1, 1, 3]]


def test_more_members_than_are_remembered() -> None:
    names = [b"f%d" % n for n in range(63)]
    members = [*[b'"s%d":0' % n for n in range(100)], *[b'"f%d":%d' % (n, n) for n in range(63)]]
    value = b"{%b}" % b",".join(members)
    columns, closer = PlainJson([(name, INT, 0) for name in names], BOUND).read(
        [value] * 3, 2**63 - 1
    )
    assert closer == []
    assert [list(column) for column in columns] == [[n] * 3 for n in range(63)]


def test_texts_that_share_a_place_stay_apart() -> None:
    """There are 65,536 places: each text takes the one of another in the end."""
    fields = reader(TEXT)
    for size in (64, 65, 1):
        texts = [f"{n:0{size}}" for n in range(150_000)]
        values = [b'{"a":"%b"}' % text.encode() for text in texts]
        for order in (1, -1):
            columns, closer = fields.read(values[::order], 1)
            assert closer == []
            assert columns[0] == texts[::order]


@pytest.mark.parametrize("count", [1, 7, 8, 15, 16, 17, 33])
def test_texts_wait_for_no_more_than_their_record_or_batch(count: int) -> None:
    fields = PlainJson([(b"f%d" % n, TEXT, 0) for n in range(count)], BOUND)
    rows = [[f"{row % 3}-{n % 5}" for n in range(count)] for row in range(9)]
    form = b"{%b}" % b",".join(b'"f%d":"%%b"' % n for n in range(count))
    values = [form % (*[text.encode() for text in row],) for row in rows]
    values[4] = values[4].replace(b'"}', b"}")
    columns, closer = fields.read(values, (1 << count) - 1)
    assert closer == [4]
    taken = [row for row in range(9) if row != 4]
    assert [[column[row] for column in columns] for row in taken] == [rows[row] for row in taken]
    assert columns[-1][4] == ""


def values_of(numbers: range) -> list[bytes]:
    return [b'{"a":"%d"}' % number for number in numbers]


def test_texts_live_as_long_as_their_columns() -> None:
    fields = reader(TEXT)
    column = fields.read(values_of(range(1_000)), 1)[0][0]
    texts, before = column.texts, sys.getrefcount(column.texts)
    assert fields.read(values_of(range(500, 1_500)), 1)[0][0].texts is texts
    for _ in range(2):  # the list is left at the first batch behind so many
        later = fields.read(values_of(range(1_000, 300_000)), 1)[0][0]
    assert later.texts is not texts
    assert sys.getrefcount(texts) == before - 1
    assert column == [*map(str, range(1_000))]


def test_no_more_bytes_of_texts_are_kept_than_a_few_batches_have() -> None:
    fields = reader(TEXT)
    for n in range(60):
        column = fields.read([b'{"a":"%d-%d%b"}' % (n, i, b"x" * 10_000) for i in range(50)], 1)[0][
            0
        ]
        assert sum(map(len, column.texts)) < 5_000_000
    assert column[49] == f"59-49{'x' * 10_000}"


@pytest.mark.parametrize("text", ["", "x", "é" * 13, "x" * 27, "x" * 28, "é" * 14, "x" * 255])
def test_a_text_is_the_same_object_again(text: str) -> None:
    column, _ = read_all(TEXT, [b'"%b"' % text.encode()] * 2)
    assert column[0] is column[1]
    assert column[0] == text


@pytest.mark.parametrize("size", [1, 7, 8, 9, 26, 27, 28, 29, 100])
def test_texts_that_differ_in_one_byte_stay_apart(size: int) -> None:
    texts = ["x" * n + "y" + "x" * (size - n - 1) for n in range(size)] * 2
    column, closer = read_all(TEXT, [b'"%b"' % text.encode() for text in texts])
    assert (column, closer) == (texts, [])


def test_references_are_given_back() -> None:
    fields = reader(TEXT, BOOL)
    values: list[Any] = [b'{"a":"some text","b":true}', b'{"a":"some text","b":tr', None]
    text = fields.read(values, 3)[0][0][0]
    counted = [text, *values[:2]]
    before = [*map(sys.getrefcount, counted)]
    found = [fields.read(values, 3) for _ in range(100)]
    assert [*map(sys.getrefcount, counted)] == before
    del found, fields
    assert sys.getrefcount(text) == before[0] - 1  # the list's


def test_a_record_that_fails_behind_its_texts_gives_back_none() -> None:
    fields, before = reader(TEXT, BOOL), sys.getrefcount(None)
    fields.read([b'{"a":"x","b":tr'] * 10_000, 3)
    assert abs(sys.getrefcount(None) - before) < 1_000


def test_columns_are_known_to_the_collector() -> None:
    assert gc.is_tracked(reader(BOOL).read([b'{"a":true}'], 1)[0][0])


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector never runs in a call there")
def test_values_that_change_meanwhile_are_refused() -> None:
    """New lists may start the collector, and that any code."""
    fields, values, kept = reader(*[BOOL] * 60), [b"{}"] * 3, []
    thresholds = gc.get_threshold()

    def clear(*_: object) -> None:
        values.clear()

    def read_on() -> None:
        for _ in range(10):
            values.extend([b"{}"] * (3 - len(values)))
            kept.append(fields.read(values, 2**60 - 1))

    gc.set_threshold(10)
    gc.callbacks.append(clear)
    try:
        with pytest.raises(RuntimeError, match="changed"):
            read_on()
    finally:
        gc.callbacks.remove(clear)
        gc.set_threshold(*thresholds)


@pytest.mark.parametrize(
    "fields",
    [
        *([], [(b"%d" % n, INT, 0) for n in range(64)], [(b"a", 4, 0)], [(b"a", -1, 0)]),
        *([(b"a", 0)], [("a", INT, 0)], [(b"a", INT, 4)]),
    ],
)
def test_fields_that_are_none_are_refused(fields: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        PlainJson(fields, BOUND)


def test_a_reader_is_made_once() -> None:
    fields = reader(TEXT)
    with pytest.raises(ValueError, match="1 to 63"):
        fields.__init__([(b"b", INT, 0)], BOUND)
    assert fields.read([b'{"a":"x"}'], 1) == ([["x"]], [])


def test_values_are_a_list() -> None:
    assert reader(TEXT).read([], 1) == ([[]], [])
    for values in ((b'{"a":"x"}',), None):
        with pytest.raises(TypeError):
            reader(TEXT).read(values, 1)
