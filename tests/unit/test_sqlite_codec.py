"""Packed batches: what goes in comes out, and damage never passes for records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.batch import TP, Headers, OutRecord
from streamapp.errors import BrokerError
from streamapp.transport.sqlite.codec import Columns, pack, unpack
from streamapp.transport.sqlite.log import ROW_BYTES, ROW_RECORDS, draft, pack_rows

maybe_bytes = st.none() | st.binary(max_size=6)
headers = st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=4)), max_size=3).map(tuple)
rows = st.lists(
    st.tuples(
        st.integers(1, 9), st.integers(-(2**63), 2**63 - 1), maybe_bytes, maybe_bytes, headers
    ),
    min_size=1,
    max_size=20,
)
Stored = tuple[int, int, bytes | None, bytes | None, Headers]


def columns_of(rows: list[Stored], base: int) -> Columns:
    gaps, timestamps, keys, values, headers = zip(*rows, strict=True)
    offsets = [base + sum(gaps[1 : i + 1]) for i in range(len(rows))]
    return Columns(offsets, timestamps, keys, values, headers)


def flat(columns: Columns) -> list[tuple[object, ...]]:
    headers = columns.headers or [()] * len(columns.offsets)
    return list(zip(*columns[:4], headers, strict=True))


@given(rows, st.integers(0, 2**40))
def test_records_come_back_as_they_were(rows: list[Stored], base: int) -> None:
    columns = columns_of(rows, base)
    packed = pack(columns)
    back = unpack(packed.data, base, base + packed.last, packed.seal(base))
    assert flat(back) == flat(columns)
    assert packed.last == columns.offsets[-1] - base
    assert packed.count == len(rows)


@given(rows, st.data())
def test_any_flipped_bit_is_noticed(rows: list[Stored], data: st.DataObject) -> None:
    packed = pack(columns_of(rows, 5))
    damaged = bytearray(packed.data)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BrokerError):
        unpack(bytes(damaged), 5, 5 + packed.last, packed.seal(5))


@given(rows, st.integers(0, 400))
def test_any_cut_is_noticed(rows: list[Stored], keep: int) -> None:
    packed = pack(columns_of(rows, 5))
    if keep < len(packed.data):
        with pytest.raises(BrokerError):
            unpack(packed.data[:keep], 5, 5 + packed.last, packed.seal(5))


def test_row_at_another_offset_is_noticed() -> None:
    packed = pack(Columns([5], [0], [None], [b"v"], None))
    with pytest.raises(BrokerError, match="checksum"):
        unpack(packed.data, 6, 6, packed.seal(5))


def test_columns_without_information_cost_nothing() -> None:
    count = 100
    plain = Columns(range(count), [0] * count, [None] * count, [b"v"] * count, [()] * count)
    assert len(pack(plain).data) == 5 + count * (8 + 4 + 1)
    keyed = plain._replace(keys=[b"k"] * count)
    assert len(pack(keyed).data) == len(pack(plain).data) + count * (4 + 1)


def test_rows_are_bounded_in_records() -> None:
    count = 2 * ROW_RECORDS + 1
    columns = Columns(range(count), [0] * count, [None] * count, [b""] * count, None)
    assert [row.count for row in pack_rows(columns)] == [ROW_RECORDS, ROW_RECORDS, 1]


def test_rows_are_bounded_in_bytes_down_to_one_record() -> None:
    large = b"x" * (ROW_BYTES // 3)
    columns = Columns(range(5), [0] * 5, [None] * 5, [large] * 4 + [b"x" * (2 * ROW_BYTES)], None)
    rows = list(pack_rows(columns))
    assert [row.count for row in rows] == [2, 1, 1, 1]


def test_draft_keeps_the_order_within_each_partition() -> None:
    a, b = TP("t", 0), TP("t", 1)
    records = [OutRecord(tp, None, b"%d" % i, 0) for i, tp in enumerate((a, b, a, a, b))]
    made = draft(records)
    assert made.count == 5
    assert {share.tp: list(share.indexes) for share in made.shares} == {a: [0, 2, 3], b: [1, 4]}
