"""Standby replicas: another worker has the rows already when the owner of a partition dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from support.engine_app import Bench, running, until
from support.web_app import Total
from support.web_client import worker

import streamapp
from streamapp.core.batch import TP
from streamapp.engine import standby
from streamapp.errors import BrokerUnavailableError, ConfigError
from streamapp.state.changelog import mark_key, read_mark
from streamapp.state.store import prefix_end, shard_prefix
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from support.web_client import Json

    from streamapp.engine.standby import Standby

PARTITIONS = 6
KEYS = 50


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.broker.close()


def counting(bench: Bench, **options: object) -> streamapp.App:
    """Make a worker that counts the values of each partition."""
    app = bench.app(topic_partitions=PARTITIONS, store_interval="10ms", **options)
    counts = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(app.topic("in", key_type=str, value_type=str))
    async def count(stream: streamapp.Stream) -> None:
        async for value in stream:
            counts[value] += 1

    return app


def feed(bench: Bench, times: int = 1) -> None:
    bench.broker.create_topic(TopicSpec("in", PARTITIONS))
    for partition in range(PARTITIONS):
        values = [b'"p%d-%d"' % (partition, key) for key in range(KEYS)]
        bench.send("in", *values * times, partition=partition)


def followed(app: streamapp.App) -> set[int]:
    return {tp.partition for tp in app.engine.standby.plans}


def owned(app: streamapp.App) -> set[int]:
    return set(app.tables["counts"].shards)


def lag(bench: Bench, of: Standby) -> int:
    ends = bench.broker.offsets(of.plans)
    return sum(ends[tp].end - of.positions.get(tp, 0) for tp in of.plans)


def rows(app: streamapp.App) -> dict[int, dict[bytes, bytes]]:
    """Return the rows of each partition that the worker's store has."""
    found = {}
    for partition in range(PARTITIONS):
        prefix = shard_prefix("counts", partition)
        found[partition] = dict(app.engine.keeper.store.scan(prefix, prefix_end(prefix)))
    return found


async def shared(bench: Bench, apps: list[streamapp.App]) -> None:
    """Wait until the workers share all partitions and follow each other's to the end."""
    each = PARTITIONS // len(apps)

    def is_shared() -> bool:
        return (
            all(len(owned(app)) == each for app in apps)
            and set().union(*map(followed, apps)) == set(range(PARTITIONS))
            and not any(lag(bench, app.engine.standby) for app in apps)
        )

    await until(is_shared)


async def counted(bench: Bench, app: streamapp.App, times: int) -> None:
    """Wait until the changelog has each key counted so many times."""
    wanted = {b"%d" % times}

    def is_counted() -> bool:
        logs = [dict(bench.log("bench-counts-changelog", p)) for p in range(PARTITIONS)]
        return all(len(log) == KEYS and set(log.values()) == wanted for log in logs)

    await until(is_counted)
    assert app.engine.problem == ""


async def test_rows_of_peers_are_at_hand_and_taken_over_without_a_restore(bench: Bench) -> None:
    feed(bench)
    async with AsyncExitStack() as stack:
        apps = [counting(bench, standbys=1) for _ in range(3)]
        runs = [await stack.enter_async_context(AsyncExitStack()) for _ in apps]
        for app, run in zip(apps, runs, strict=True):
            await run.enter_async_context(running(app))
        await shared(bench, apps)
        feed(bench)
        await counted(bench, apps[0], 2)
        for end in (0, 1):
            await shared(bench, apps[end:])
            before = {id(app): owned(app) for app in apps}
            await runs[end].aclose()
            left = apps[end + 1 :]
            await until(lambda left=left: sum(len(owned(app)) for app in left) == PARTITIONS)
            for app in left:
                new = owned(app) - before[id(app)]
                progress = app.engine.keeper.progress
                assert new
                assert progress is not None
                assert progress.at_hand.keys() == {TP("bench-counts-changelog", p) for p in new}
                assert progress.records == (0, 0), "all was followed before the worker stopped"
            feed(bench)
            await counted(bench, left[0], end + 3)


async def test_store_of_a_standby_is_that_of_the_owner(bench: Bench) -> None:
    async with running(counting(bench, standbys=1)) as one:
        feed(bench, 3)
        await counted(bench, one, 3)
        assert followed(one) == set()
        async with running(counting(bench, standbys=1)) as two:
            await shared(bench, [one, two])
            feed(bench)
            await counted(bench, one, 4)
            await shared(bench, [one, two])
            await until(lambda: rows(one) == rows(two))
            assert {len(each) for each in rows(two).values()} == {KEYS}
            assert followed(one) == owned(two)
            assert followed(two) == owned(one)


async def test_nobody_stands_by_unless_asked(bench: Bench) -> None:
    async with running(counting(bench)) as one, running(counting(bench)) as two:
        feed(bench)
        await counted(bench, one, 1)
        assert followed(one) == followed(two) == set()
        assert all(rows(two)[p] == {} for p in owned(one))


async def test_api_and_metrics_tell_what_is_followed() -> None:
    broker = f"memory://{uuid4().hex}"
    async with worker(broker, standbys=1) as one:
        for number in range(8):
            await one.send("orders", f"u{number}", Total(number), partition=number % 2)
        async with worker(broker, standbys=1) as two:
            for client in (one, two):
                status = await client.until("/api/v1/status", is_caught_up)
                tables = {place["changelog"] for place in status["standby"]["partitions"]}
                assert "web-test-totals-changelog" in tables
                assert status["standby"]["copies"] == 1
                about = await client.get("/api/v1/tables/totals")
                assert {place["role"] for place in about["placement"]} == {"active", "standby"}
                series = await client.series()
                partition = str({0: 1, 1: 0}[about["owned"][0]])
                lag = series["streamapp_standby_lag_records", (partition, next(iter(tables)))]
                assert lag == 0
                assert series["streamapp_standby_partitions", ()] == len(tables)
        status = await one.until(
            "/api/v1/status", lambda got: not got["standby"]["partitions"] and got["restore"]
        )
        assert status["restore"]["at_hand"] > status["restore"]["records"] == 0


def is_caught_up(status: Json) -> bool:
    places = status["standby"]["partitions"]
    return bool(places) and not any(place["lag"] for place in places)


async def test_who_looks_again_goes_on_or_begins_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group is looked at again and again; the copies stay right and fresh."""
    monkeypatch.setattr(standby, "_LOOK_S", 0.02)
    async with (
        running(counting(bench, standbys=1)) as one,
        running(counting(bench, standbys=1)) as two,
    ):
        await shared(bench, [one, two])
        feed(bench)
        await counted(bench, one, 1)
        await shared(bench, [one, two])
        since_ms = time.time_ns() // 1_000_000
        marked = [mark_key("counts", partition) for partition in owned(two)]

        def is_fresh() -> bool:
            marks = [read_mark(one.engine.keeper.store.get(key)) for key in marked]
            return all(mark is not None and mark.at_ms > since_ms for mark in marks)

        await until(is_fresh)
        await until(lambda: rows(one) == rows(two))


async def test_broker_that_does_not_answer_is_asked_again(bench: Bench) -> None:
    async with running(counting(bench, standbys=1)) as one:
        feed(bench)
        bench.broker.fail_next("members", BrokerUnavailableError("gone"))
        async with running(counting(bench, standbys=1)) as two:
            await shared(bench, [one, two])


async def test_store_that_fails_while_following_is_rebuilt(bench: Bench) -> None:
    async with (
        running(counting(bench, standbys=1)) as one,
        running(counting(bench, standbys=1)) as two,
    ):
        await shared(bench, [one, two])
        before = one.engine.keeper.store
        before.close()
        for partition in owned(two):
            bench.send("in", b'"only-two-works"', partition=partition)
        await until(lambda: one.engine.keeper._store not in {before, None})
        await shared(bench, [one, two])


def test_negative_standbys_are_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="standbys=-1"):
        counting(bench, standbys=-1)
