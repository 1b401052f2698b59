"""Batch agents in whole workers: what users see of restarts, errors, partitions and frames."""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from support.engine_app import Bench, running, until
from support.idioms import Order, put, values

import streamapp
from streamapp.core.batch import TP
from streamapp.errors import ConfigError, UsageError
from streamapp.serde.ordered_keys import encode_key
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from collections.abc import Callable


class Event(streamapp.Record):
    user: str
    amount: float
    count: int = 1
    discount: float | None = None
    is_new: bool = False


@pytest.fixture
def bench() -> Bench:
    return Bench()


def collect(bench: Bench, work: Callable[[Any], Any], **options: Any) -> streamapp.App:
    """Return an application whose agent does the work for each batch of ``in``."""
    app = bench.app(topic_partitions=1)

    @app.agent(app.topic("in", key_type=str, value_type=Event), **options)
    async def agent(stream: Any) -> None:
        async for batch in stream.batches():
            work(batch)

    return app


async def test_columns_are_typed_as_the_record_says(bench: Bench) -> None:
    seen: list[Any] = []
    app = collect(bench, seen.append)
    async with running(app):
        put(bench, "in", ("k1", {"user": "ann", "amount": 1, "count": 2, "discount": 0.5}))
        put(bench, "in", (None, {"user": "bob", "amount": 2.5, "is_new": True}), timestamp_ms=77)
        await until(lambda: sum(map(len, seen)) == 2)
    for batch in seen:
        columns = [batch.user, batch.amount, batch.count, batch.discount, batch.is_new, batch.keys]
        assert [column.dtype.str[1:] for column in columns] == ["O", "f8", "i8", "f8", "b1", "O"]
        assert batch.offsets.dtype == batch.times_ms.dtype == "int64"
        assert (batch.topic, batch.partition) == ("in", 0)
        with pytest.raises(AttributeError, match="They have: user, amount"):
            _ = batch.amuont
        with pytest.raises(UsageError, match="cannot choose among"):
            batch.where([1, 2, 3])
    listed = [
        [*zip(b.user, b.discount.tolist(), b.keys, b.timestamps_ms.tolist(), strict=True)]
        for b in seen
    ]
    assert [*chain.from_iterable(listed)] == [("ann", 0.5, "k1", 1_000), ("bob", None, None, 77)]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_bad_records_are_dead_letters_alone_and_the_rest_count(
    bench: Bench, concurrency: int
) -> None:
    app = bench.app()
    spent = app.Table("spent", default=float)
    out = app.topic("out", key_type=str, value_type=Event)
    told: list[str] = []

    async def tell(_: Any, exc: Exception) -> None:
        told.append(str(exc))

    policy = streamapp.ErrorPolicy(retries=2, backoff_ms=1)

    @app.agent(
        app.topic("in", key_type=str, value_type=Event), concurrency=concurrency, on_error=policy
    )
    async def agent(stream: Any) -> None:
        async for batch in stream.batches(max_rows=50):
            spent.add(batch.user, batch.amount)
            await out.send_batch(batch.where(batch.amount > 95))
            await asyncio.sleep(0)
            if 13.0 in batch.amount or 77.0 in batch.amount:
                msg = "an unlucky number"
                raise ValueError(msg)

    agent.add_error_handler(tell)
    bench.broker.create_topic(TopicSpec("in", 1))
    put(bench, "in", *[("k", {"user": "ab"[n % 2], "amount": n}) for n in range(100)])
    bench.send("in", b"no JSON")
    put(bench, "in", ("k", {"user": "b", "amount": 1_000}))
    async with running(app):
        await until(lambda: bench.position("in") == 102)
    bad = [13.0, 77.0]
    totals = {"a": sum(range(0, 100, 2)), "b": sum(range(1, 100, 2)) - sum(bad) + 1_000}
    assert bench.rows("spent") == {
        encode_key(user): json.dumps(float(total)).encode() for user, total in totals.items()
    }
    assert [one["amount"] for one in values(bench, "out")] == [96.0, 97.0, 98.0, 99.0, 1_000.0]
    dead = [value for _, value in bench.log("bench-dead-letters")]
    assert dead == [
        *[json.dumps({"user": "b", "amount": int(x)}).encode() for x in bad],
        b"no JSON",
    ]
    # Each was tried three times alone; on the way there its batches were halved.
    assert len(told) >= 2 * 3 + 2


async def test_worker_that_stops_and_starts_goes_on_where_it_was(bench: Bench) -> None:
    total = 0
    bench.broker.create_topic(TopicSpec("in", 1))
    for run in range(3):
        app = bench.app()
        spent = app.Table("spent", default=float)
        out = app.topic("out", key_type=str, value_type=Order)
        seen: list[int] = []

        @app.agent(app.topic("in", key_type=str, value_type=Order))
        async def agent(stream: Any, spent: Any = spent, out: Any = out, seen: Any = seen) -> None:
            async for batch in stream.batches(max_rows=7, within="1ms"):
                assert len(batch) <= 7
                spent.add(batch.user, batch.amount)
                await out.send_batch(key=batch.user, value=[*batch])
                seen += batch.offsets.tolist()

        put(bench, "in", *[("k", {"user": "ann", "amount": n}) for n in range(20)])
        async with running(app):
            # It ends in the middle of the records that are there, but for the last time.
            await until(lambda run=run, seen=seen: len(seen) >= (7 if run < 2 else 1))
            if run == 2:
                await until(lambda: bench.position("in") == 60)
        total += sum(range(20))
    assert [*bench.rows("spent").values()] == [json.dumps(float(total)).encode()]
    assert [one["amount"] for one in values(bench, "out")] == [*map(float, range(20))] * 3


async def test_batches_move_to_another_worker(bench: Bench) -> None:
    def worker() -> streamapp.App:
        app = bench.app(topic_partitions=2)
        spent = app.Table("spent", default=float)

        @app.agent(app.topic("in", key_type=str, value_type=Order))
        async def agent(stream: Any) -> None:
            async for batch in stream.batches(max_rows=9):
                spent.add(batch.user, batch.amount)
                await asyncio.sleep(0.001)

        return app

    def feed(amount: float) -> None:
        for partition in (0, 1):
            user = f"user-{partition}"
            pairs = [("k", {"user": user, "amount": amount})] * 100
            put(bench, "in", *pairs, partition=partition)

    def is_done(count: int) -> bool:
        tps = [TP("in", 0), TP("in", 1)]
        found = bench.broker.committed("bench", tps)
        return all(tp in found and found[tp].offset == count for tp in tps)

    async with running(worker()):
        feed(1)
        async with running(worker()):
            feed(10)
            await until(lambda: is_done(200))
        feed(100)
        await until(lambda: is_done(300))
    for partition in (0, 1):
        changes = bench.log("bench-spent-changelog", partition)
        assert {**dict(changes)}.popitem()[1] == b"11100.0"


async def test_filtered_and_regrouped_streams_have_batches_too(bench: Bench) -> None:
    app = bench.app()
    spent = app.Table("spent", default=float)

    @app.agent(app.topic("in", key_type=str, value_type=Order))
    async def agent(stream: Any) -> None:
        async for batch in stream.group_by("user").filter(lambda o: o.amount > 1).batches():
            assert batch.keys.tolist() == batch.user.tolist()
            spent.add(batch.keys, batch.amount)

    bench.broker.create_topic(TopicSpec("in", 1))
    put(bench, "in", *[("k", {"user": "ann", "amount": n}) for n in range(4)])
    async with running(app):
        await until(lambda: [*bench.rows("spent").values()] == [b"5.0"])


async def test_batches_sent_outside_of_an_event_are_on_disk(bench: Bench) -> None:
    app = bench.app()
    out = app.topic("out", key_type=str, value_type=Order)
    async with running(app):
        assert await out.send_batch(key=["a", "b"], value=[Order("a", 1.0), Order("b", 2.0)]) == 2
        assert [one["user"] for one in values(bench, "out")] == ["a", "b"]
        with pytest.raises(UsageError, match="2 keys cannot go with 1 values"):
            await out.send_batch(key=["a", "b"], value=[Order("a")])
        with pytest.raises(UsageError, match="no batch to take keys from"):
            await out.send_batch(value=[Order("a")])


async def test_records_that_are_not_of_the_batch_need_times_of_their_own(bench: Bench) -> None:
    bench.broker.create_topic(TopicSpec("in", 1))
    app = bench.app()
    out = app.topic("out", key_type=str, value_type=str)
    refused: list[str] = []

    @app.agent(app.topic("in", value_type=Event))
    async def explode(stream: Any) -> None:
        async for batch in stream.batches():
            items = ["tea", "cup"] * len(batch)
            try:
                await out.send_batch(batch, key=items, value=items)
            except UsageError as error:
                refused.append(error.message)
            await out.send_batch(key=items, value=items)

    async with running(app):
        put(bench, "in", ("k", {"user": "ann", "amount": 1.0}), timestamp_ms=7)
        await until(lambda: bench.position("in") == 1)
    assert refused == ["2 records cannot have the times of a batch of 1"]
    assert len(bench.log("out")) == 2


async def test_column_of_another_type_does_not_replace_the_declared_one(bench: Bench) -> None:
    seen: list[tuple[str, str]] = []

    def look(batch: Any) -> None:
        as_float = batch.column("count", float)
        seen.append((str(as_float.dtype), str(batch.count.dtype)))

    async with running(collect(bench, look)):
        put(bench, "in", ("k", {"user": "ann", "amount": 1.0, "count": 2}))
        await until(lambda: bool(seen))
    assert seen == [("float64", "int64")]


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_row_lives_from_the_first_record_of_its_group(bench: Bench, concurrency: int) -> None:
    bench.broker.create_topic(TopicSpec("in", 1))
    for second in (0, 100, 200):
        put(bench, "in", ("a", 1), timestamp_ms=second * 1_000)
    app = bench.app()
    sizes = app.Table("sizes", ttl=1_000)

    @app.agent(app.topic("in"), concurrency=concurrency)
    async def count(stream: Any) -> None:
        async for group in stream.take(3, within=5):
            sizes["n"] = len(group)

    async with running(app):
        await until(lambda: bench.position("in") == 3)
        stamped = [value[:8] for _, value in bench.log("bench-sizes-changelog") if value]
    assert stamped == [bytes(8)]


@pytest.mark.parametrize("words", ["take", "take_events", "batches"])
async def test_groups_of_nothing_are_refused(
    bench: Bench, caplog: pytest.LogCaptureFixture, words: str
) -> None:
    app = bench.app()

    @app.agent(app.topic("in", value_type=Event))
    async def agent(stream: Any) -> None:
        async for _ in getattr(stream, words)(0):
            pass

    async with running(app):
        await until(lambda: "of 0 records" in caplog.text)


@pytest.mark.parametrize(("module", "method"), [("polars", "to_polars"), ("pyarrow", "to_arrow")])
async def test_frames_say_what_to_install(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, module: str, method: str
) -> None:
    seen: list[Any] = []
    async with running(collect(bench, seen.append)):
        put(bench, "in", ("k", {"user": "ann", "amount": 1.0}))
        await until(lambda: bool(seen))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"pip install streamapp\[batch\]"):
        getattr(seen[0], method)()


async def test_frames_hold_the_declared_fields(bench: Bench) -> None:
    polars, arrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    seen: list[Any] = []
    async with running(collect(bench, seen.append)):
        put(bench, "in", ("k", {"user": "ann", "amount": 1.0}))
        await until(lambda: bool(seen))
    expected = [{"user": "ann", "amount": 1.0, "count": 1, "discount": None, "is_new": False}]
    assert seen[0].to_polars().to_dicts() == seen[0].to_arrow().to_pylist() == expected
    assert seen[0].to_polars().schema["discount"] == polars.Float64
    assert seen[0].to_arrow().schema.field("discount").type == arrow.float64()
