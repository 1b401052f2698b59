"""Batches take effect as single events do: whatever the records, the cuts, the errors, the ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.feeds import P0, batch, plan, stream_of
from support.tables import TableBench
from support.twins import Twins

import streamapp
from streamapp.core import columns_fold
from streamapp.core.columns import ColumnType, chosen, column, fields, listed, numbered, part
from streamapp.core.columns_fold import grow_at_once, grow_singly
from streamapp.engine.batch import Batch, Origin, Schema
from streamapp.engine.chunk_feed import ChunkFeed
from streamapp.engine.policy import ErrorPolicy
from streamapp.engine.window_feed import WindowFeed
from streamapp.errors import InputError
from streamapp.state.scope import EventScope, Instant, Outcome, current_scope

#: Rows of a table are told apart by type, too; a dict takes the first three for one.
KEYS = (1, 1.0, True, 2, "a", "é", b"a", ("a", 1))
#: Sums of these pass 64 bits, or depend on the order in which they are added.
NUMBERS = (0, 1, -3, 2**62, -(2**62), 0.1, 0.2, 1e16, -1e16, -0.0)

rows_of = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(NUMBERS)), max_size=30)


class Order(streamapp.Record):
    user: Any
    amount: float | None


class Row(streamapp.Record):
    kept: str = "kept"
    n: int = 0
    some: int = 0
    # As the amounts are: what is declared a float is read back as one, and adds up as one.
    total: int | float = 0
    least: int | float | None = None
    greatest: int | float | None = None


GROWN = {
    "n": streamapp.count(),
    "some": streamapp.count("amount"),
    "total": streamapp.sum("amount"),
    "least": streamapp.min("amount"),
    "greatest": streamapp.max("amount"),
}


def grow(row: Row, amount: float | None) -> None:
    row.n += 1
    if amount is not None:
        row.some += 1
        row.total += amount
        row.least = amount if row.least is None else min(row.least, amount)
        row.greatest = amount if row.greatest is None else max(row.greatest, amount)


def batch_of(orders: list[Order]) -> Batch:
    schema = Schema({}, ColumnType(), ColumnType(), has_gaps=False, decode_key=lambda raw: raw)
    raw = batch(0, [1] * max(len(orders), 1))
    return Batch(schema, Origin(raw, raw.timestamps, range(len(orders))), orders)


@pytest.mark.parametrize("size", [3, 300])
@pytest.mark.parametrize("more", [-1, 1])
def test_keys_that_are_not_as_many_as_the_records_are_refused(size: int, more: int) -> None:
    twins = Twins(default=Row, value_type=Row)
    orders = batch_of([Order(user="a", amount=1.0)] * size)
    total = streamapp.sum("amount")
    with pytest.raises(ValueError, match=r"zip|broadcast"):
        twins.event(
            lambda table: table.aggregate(orders, ["a"] * (size + more), total=total),
            tracked=False,
        )
    twins.assert_same()


@pytest.mark.parametrize("tracked", [False, True])
def test_a_key_that_cannot_be_stored_is_refused_and_nothing_is_written(*, tracked: bool) -> None:
    twins = Twins(default=int)
    with pytest.raises(InputError, match="not valid Unicode"):
        twins.event(lambda table: table.add(["a", "\ud800"], [1, 1]), tracked=tracked)
    orders, grown = batch_of([Order("\ud800", 1.0)]), {"n": streamapp.count()}
    with pytest.raises(InputError, match="not valid Unicode"):
        twins.event(lambda table: table.aggregate(orders, "user", **grown), tracked=tracked)
    twins.assert_same()


steps = st.sampled_from(("", "cut", "reopen", "rotate", "fail"))


@given(st.lists(st.tuples(rows_of, steps, st.booleans()), max_size=5))
def test_amounts_added_by_columns_are_added_one_by_one(
    batches: list[tuple[list[tuple[Any, Any]], str, bool]],
) -> None:
    twins = Twins(default=int)
    for rows, step, tracked in batches:
        if step == "fail":

            def fail(table: Any, rows: Any = rows) -> None:
                table.add([key for key, _ in rows], [x for _, x in rows])
                raise ZeroDivisionError

            with suppress(ZeroDivisionError):
                twins.event(fail, tracked=tracked)
            continue
        twins.event(
            lambda table, rows=rows: table.add([key for key, _ in rows], [x for _, x in rows]),
            tracked=tracked,
        )
        with twins.single.event():
            for key, amount in rows:
                twins.single.table[key] += amount
        twins.between(step)
    twins.assert_same()


@given(
    st.lists(st.tuples(rows_of, steps, st.booleans()), max_size=4),
    st.booleans(),
    st.sampled_from((0, 256)),
)
def test_fields_of_rows_grow_as_record_by_record(
    batches: list[tuple[list[tuple[Any, Any]], str, bool]],
    with_gaps: bool,
    few: int,
) -> None:
    twins = Twins(default=Row, value_type=Row)
    for rows, step, tracked in batches:
        gap = 1 if with_gaps else None
        orders = [Order(key, None if amount == gap else amount) for key, amount in rows]
        with patch.object(columns_fold, "_FEW", few):
            twins.event(
                lambda table, orders=orders: table.aggregate(batch_of(orders), "user", **GROWN),
                tracked=tracked,
            )
        with twins.single.event():
            for order in orders:
                row = twins.single.table[order.user]
                grow(row, order.amount)
                twins.single.table[order.user] = row
        twins.between(step)
    ours, single = (
        [(key, [plain(x) for x in row.asdict().values()]) for key, row in bench.table.items()]
        for bench in (twins.ours, twins.single)
    )
    assert ours == single


def plain(x: object) -> object:
    """Make one zero of the two: which one an extreme is does not count."""
    return repr(x + 0) if isinstance(x, float) else x


@given(
    st.sampled_from(("sum", "min", "max")),
    st.lists(st.sampled_from((None, *NUMBERS)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from((None, *NUMBERS))), max_size=30),
)
def test_numbers_grow_in_arrays_as_in_a_loop(
    operation: Any, held: list[Any], rows: list[tuple[int, Any]]
) -> None:
    slots = np.array([slot % len(held) for slot, _ in rows], np.int64)
    values = [x for _, x in rows]
    one = grow_singly(operation, held, slots.tolist(), values)
    many = grow_at_once(operation, held, slots, values)
    assert [*map(plain, one)] == [*map(plain, many)]
    assert one == many


def test_columns_of_an_event_that_waits_are_seen_by_no_other() -> None:
    bench = TableBench(default=int)
    scope = EventScope(tracks_always=True)
    scope.enter(Instant(0), 0, 1)
    token = current_scope.set(scope)
    bench.table.add(["a", "b"], 1)
    current_scope.reset(token)
    with bench.event():
        assert [*bench.table.items()] == []
        bench.table["b"] = 5
    assert scope.finish() is Outcome.CONFLICT
    assert [*bench.table.items()] == [("b", 5)]


# --- the records that an agent gets ------------------------------------------------------------


@settings(max_examples=100)  # each is an event loop
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=1, max_size=6),
    st.sets(st.integers(0, 9), max_size=3),
    st.integers(1, 12),
    st.lists(st.integers(0, 6), max_size=4),
)
def test_each_good_record_counts_once_and_bad_ones_are_alone(
    puts: list[list[int]], bad: set[int], most: int, crashes: list[int]
) -> None:
    asyncio.run(_each_once(puts, bad, most, crashes))


@pytest.mark.parametrize("kind", [ChunkFeed, WindowFeed])
async def test_a_batch_that_fails_is_halved_down_to_the_bad_record(kind: Any) -> None:
    # Were it tried again as a whole, it would pause for longer than the test may take.
    feed = kind(plan(ErrorPolicy(retries=0, backoff_ms=600_000, then="skip")))
    feed.start(P0, 0, 0)
    feed.put(batch(0, [*range(10)]))
    sizes, done = [], set()
    batches = (stream := STREAM.of(feed)).batches(8)
    while len(done) < 10:
        rows = (await asyncio.wait_for(anext(batches), 5)).values.tolist()
        sizes.append(len(rows))
        if 2 in rows:
            await stream.fail(ValueError("bad"))
            await batches.aclose()
            batches = stream.batches(8)
        if 2 not in rows or len(rows) == 1:
            done.update(rows)
    await batches.aclose()
    # Several in hand come back behind those that wait; effects are in order all the same.
    assert sizes == ([8, 4, 2, 2, 1, 1, 4, 2] if kind is ChunkFeed else [8, 4, 4, 2, 2, 1, 1, 2])
    assert (feed.stats.skipped, feed.stats.retries) == (1, 3)


async def test_event_time_outlives_records_that_are_let_go() -> None:
    feed = ChunkFeed(plan())
    feed.start(P0, 0, 0)
    feed.put(batch(0, [1, 2, 3], times=[100, 1, 1]))
    feed.put(batch(3, [4], times=[2]))
    batches = STREAM.of(feed).batches(2)
    seen = [[*(await anext(batches))] for _ in range(2)]
    assert seen == [[1, 2], [3, 4]]
    assert (feed.position(P0), feed.scope.now_ms) == (2, 100)
    await batches.aclose()


async def _each_once(puts: list[list[int]], bad: set[int], most: int, crashes: list[int]) -> None:
    """Let an agent sum values up; it dies after as many batches as ``crashes`` say, each time."""
    values = [value for put in puts for value in put]
    bench = TableBench(partitions=2, default=list)
    skipped, position = 0, 0
    for patience in [*crashes, None]:
        feed = ChunkFeed(plan(ErrorPolicy(retries=0, then="skip")))
        feed.start(P0, position, 0)
        offset = 0
        for put in puts:
            feed.put(batch(offset, put))
            offset += len(put)
        await _sum_up(feed, bench, bad, most, patience)
        position = feed.position(P0)
        feed.revoke([P0])
        skipped += feed.stats.skipped
    assert position == len(values)
    assert skipped == len([value for value in values if value in bad])
    good = [[offset, value] for offset, value in enumerate(values) if value not in bad]
    assert bench.table.get("seen", []) == good


async def _sum_up(
    feed: ChunkFeed, bench: TableBench, bad: set[int], most: int, patience: int | None
) -> None:
    batches = STREAM.of(feed).batches(most)
    while patience is None or patience > 0:
        task = asyncio.ensure_future(anext(batches))
        while not task.done() and (feed._queue or feed.chunk is not None):  # noqa: ASYNC110 - it runs dry
            await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return
        rows = task.result()
        assert 0 < len(rows) <= most
        token = current_scope.set(feed.scope)
        seen = zip(rows.offsets.tolist(), rows.values.tolist(), strict=True)
        bench.table["seen"] = [*bench.table["seen"], *map(list, seen)]
        current_scope.reset(token)
        if bad.intersection(rows.values.tolist()):
            await feed.fail(feed.chunk, ValueError("bad"))
            await batches.aclose()
            batches = STREAM.of(feed).batches(most)
        if patience is not None:
            patience -= 1
    if feed.chunk is not None and feed.chunk.given:
        feed.hand_back()


class _Streams:
    """Streams over feeds, of one application: an application for each would be slow."""

    def __init__(self) -> None:
        self._stream: Any = None

    def of(self, feed: ChunkFeed) -> Any:
        self._stream = self._stream or stream_of(feed)
        stream = self._stream.clone()
        stream.feed = feed
        return stream


STREAM = _Streams()


# --- columns -------------------------------------------------------------------------------------

TYPES = {int: (0, -1, 2**62), float: (0.5, -1.0, 3), bool: (True, False), str: ("", "é")}


@settings(max_examples=100)  # few cases, with long lists
@given(st.sampled_from([*TYPES]), st.booleans(), st.data())
def test_columns_hold_what_the_records_hold(kind: type, has_gaps: bool, data: Any) -> None:
    some = st.sampled_from((*TYPES[kind], None) if has_gaps else TYPES[kind])
    records = data.draw(st.lists(st.builds(lambda x: {"x": x} if x is not None else {}, some)))
    values = [record.get("x") for record in records]
    made = column(fields("x", records), ColumnType(kind, has_gaps=has_gaps), "x")
    assert listed(made) == values
    mask = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    few = part(made, chosen(np.array(mask, bool), len(values)))
    assert listed(few) == [x for x, is_in in zip(values, mask, strict=True) if is_in]
    assert few.dtype == made.dtype
    for array in (made, few):
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = array[:1]
    keys, rows = numbered(values)
    assert [keys[row] for row in rows] == values
    assert keys == [*dict.fromkeys(values)]
