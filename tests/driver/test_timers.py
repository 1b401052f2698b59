"""Durable timers in whole workers: fired once, in order, across restarts and rebalances."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support.engine_app import Bench, running, until
from support.idioms import put, values
from support.timer_shop import Shop, fired_keys, timestamps

import streamapp
from streamapp.core.batch import TP, OutRecord
from streamapp.engine.timers import Timer
from streamapp.transport.connect import open_broker


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- firing --------------------------------------------------------------------------------------


async def test_timers_fire_in_order_when_the_watermark_reaches_them(bench: Bench) -> None:
    shop = Shop(bench.app())
    async with running(shop.app):
        put(bench, "in", ("b", {"at": 2_000}), ("a", {"at": 2_000}), ("c", {"after": "500ms"}))
        put(bench, "in", ("d", {"at": 2_001}), ("gone", {"at": 1_500}), ("gone", {"cancel": 1}))
        put(bench, "in", ("c", {}), timestamp_ms=2_001)
        await until(lambda: len(values(bench, "out")) == 3)
        assert shop.due.get("d") == Timer("d", 2_001, {"at": 2_001})
        assert shop.due.get("a") is None
    assert fired_keys(bench) == ["c", "a", "b"]
    assert values(bench, "out")[0] == [1_500, {"after": "500ms"}]
    assert timestamps(bench, "out") == [1_500, 2_000, 2_000]


async def test_setting_again_moves_a_timer(bench: Bench) -> None:
    shop = Shop(bench.app())
    async with running(shop.app):
        put(bench, "in", ("a", {"at": 1_100}), ("a", {"at": 1_900}), ("b", {"at": 1_200}))
        put(bench, "in", ("x", {}), timestamp_ms=1_500)
        await until(lambda: fired_keys(bench) == ["b"])
        put(bench, "in", ("x", {}), timestamp_ms=2_000)
        await until(lambda: fired_keys(bench) == ["b", "a"])
    assert values(bench, "out")[1] == [1_900, {"at": 1_900}]


async def test_timer_in_the_past_fires_soon(bench: Bench) -> None:
    shop = Shop(bench.app())
    async with running(shop.app):
        put(bench, "in", ("a", {"at": -5}))
        await until(lambda: fired_keys(bench) == ["a"])
    assert shop.seen == [("a", -5)]


async def test_clock_of_the_worker_or_of_a_test(bench: Bench) -> None:
    now = [10_000]
    shop = Shop(bench.app(), clock=lambda: now[0])
    wall: list[Any] = []

    async def handler(timer: Any) -> None:
        wall.append(timer.value)

    soon = shop.app.on_timer("soon", clock="processing")(handler)

    @shop.app.agent(shop.app.topic("other", value_type=int))
    async def other(stream: Any) -> None:
        async for value in stream:
            soon.set("k", after="20ms", value=value)

    async with running(shop.app):
        put(bench, "in", ("a", {"after": "1s"}), ("b", {"at": 10_500}))
        put(bench, "other", (None, 5))
        await until(lambda: wall == [5])
        assert shop.seen == []
        now[0] = 10_999
        await until(lambda: shop.seen == [("b", 10_500)])
        now[0] = 11_000
        await until(lambda: len(shop.seen) == 2)
    assert shop.seen[1] == ("a", 11_000)


async def test_handler_may_set_timers_and_they_keep_the_order(bench: Bench) -> None:
    app = bench.app()
    fired: list[tuple[str, int]] = []

    @app.on_timer("tick")
    async def tick(timer: Any) -> None:
        fired.append((timer.key, timer.at_ms))
        if timer.key == "ring" and timer.at_ms < 50:
            tick.set("ring", at=timer.at_ms + 10)
            tick.cancel("never")

    @app.agent(app.topic("in", key_type=str, value_type=int))
    async def start(stream: Any) -> None:
        async for key, at_ms in stream.items():
            if at_ms:
                tick.set(key, at=at_ms)

    async with running(app):
        put(bench, "in", ("ring", 10), ("x", 25), ("y", 40), ("never", 60))
        await until(lambda: len(fired) == 7)
    assert fired == [
        ("ring", 10), ("ring", 20), ("x", 25), ("ring", 30), ("ring", 40), ("y", 40), ("ring", 50),
    ]  # fmt: skip


async def test_many_timers_fire_while_records_flow_and_neither_starves(bench: Bench) -> None:
    app = bench.app()
    fired, seen = [0], [0]
    at_first_timer, at_last_record = [0], [0]

    @app.on_timer("due")
    async def due(timer: Any) -> None:
        del timer
        at_first_timer[0] = at_first_timer[0] or seen[0]
        fired[0] += 1

    @app.agent(app.topic("in", value_type=int))
    async def work(stream: Any) -> None:
        async for value in stream:
            seen[0] += 1
            if value < 5_000:
                due.set(value, at=0)
            at_last_record[0] = fired[0]

    async with running(app):
        put(bench, "in", *((None, value) for value in range(60_000)))
        await until(lambda: fired[0] == 5_000 and seen[0] == 60_000)
    assert at_first_timer[0] < 60_000
    assert 0 < at_last_record[0] < 5_000


async def test_rows_live_until_the_timers_of_their_time_have_fired(bench: Bench) -> None:
    app = bench.app()
    rows = app.Table("rows", default=int, ttl="2s")
    seen: list[int] = []

    @app.on_timer("due")
    async def due(timer: Timer) -> None:
        # Expired when this timer is due, so it is deleted while that waits.
        await until(lambda: bench.rows("rows")[b"@old"] is None)
        seen.append(rows[timer.key])

    @app.agent(app.topic("in", key_type=str, value_type=int))
    async def work(stream: Any) -> None:
        async for key, value in stream.items():
            rows[key] = value
            if key == "a":
                due.set(key, after="1s")

    async with running(app):
        put(bench, "in", ("old", 1), timestamp_ms=0)
        put(bench, "in", ("a", 2), timestamp_ms=1_990)
        put(bench, "in", ("b", 3), timestamp_ms=1_000_000)
        await until(lambda: len(seen) > 0)
        # Then time goes on.
        await until(lambda: bench.rows("rows")[b"@a"] is None)
    assert seen == [2]


# --- stops, restarts, several workers ------------------------------------------------------------


async def test_waiting_timers_survive_a_restart(bench: Bench) -> None:
    first = Shop(bench.app())
    async with running(first.app):
        put(bench, "in", ("a", {"at": 1_500}), ("b", {"at": 1_000}))
        await until(lambda: bench.position("in") == 2)
    second = Shop(bench.app())
    async with running(second.app):
        assert second.due.get("a").at_ms == 1_500
        put(bench, "in", ("x", {}), timestamp_ms=1_400)
        await until(lambda: fired_keys(bench) == ["b"])
        put(bench, "in", ("x", {}), timestamp_ms=2_400)
        await until(lambda: fired_keys(bench) == ["b", "a"])
    assert bench.rows("fired") == {b"@a": b"1", b"@b": b"1"}


async def test_handler_that_awaits_at_the_end_of_a_worker_has_no_half_effect(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamapp.engine.group._LAST_DRAIN_S", 0.05)
    app = bench.app()
    done = app.Table("done", default=int)
    began = asyncio.Event()

    def declare(app: streamapp.App, done: Any, *, hangs: bool) -> None:
        async def handler(timer: Any) -> None:
            done[timer.key] += 1
            if hangs:
                began.set()
                await asyncio.Event().wait()

        due = app.on_timer("due")(handler)

        async def work(stream: Any) -> None:
            async for event in stream.events():
                due.set(event.key, at=1)

        app.agent(app.topic("in", key_type=str), name="work")(work)

    declare(app, done, hangs=True)
    async with asyncio.timeout(10), running(app):
        put(bench, "in", ("a", 1))
        await until(began.is_set)
    assert bench.rows("done") == {}
    again = bench.app()
    done = again.Table("done", default=int)
    declare(again, done, hangs=False)
    async with running(again):
        await until(lambda: dict(done.items()) == {"a": 1})


async def test_handler_that_will_not_end_has_no_effect_after_a_rebalance(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamapp.engine.group._LAST_DRAIN_S", 0.05)
    app = bench.app()
    out = app.topic("out", key_type=str)
    runs: list[int] = []
    may_end = asyncio.Event()

    @app.on_timer("due")
    async def due(timer: Any) -> None:
        runs.append(len(runs))
        await out.send(key=timer.key, value=runs[-1])
        while runs[-1] == 0 and not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue

    @app.agent(app.topic("in", key_type=str))
    async def work(stream: Any) -> None:
        async for event in stream.events():
            due.set(event.key, at=1)

    try:
        async with running(app):
            put(bench, "in", ("a", 1))
            await until(lambda: runs == [0])
            app.engine.group.rejoin_soon()
            await until(lambda: fired_keys(bench) == ["a"])
            may_end.set()
            put(bench, "in", ("b", 1))
            await until(lambda: fired_keys(bench) == ["a", "b"])
    finally:
        may_end.set()
    assert values(bench, "out") == [1, 2]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_every_timer_fires_once_while_workers_come_and_go(
    bench: Bench, tmp_path: Path, kind: str
) -> None:
    url = f"memory://{bench.name}" if kind == "memory" else f"sqlite://{tmp_path}/bus"
    broker = bench.broker if kind == "memory" else open_broker(url, tmp_path)

    def shop(number: int) -> Shop:
        app = streamapp.App(
            "bench", broker=url, store="memory://", topic_partitions=3, commit_interval="10ms",
            web_enabled=False, canonical_url=f"http://worker-{number}",
        )  # fmt: skip
        return Shop(app)

    def feed(numbers: range) -> None:
        for n in numbers:
            value = json.dumps({"at": n + 7}).encode()
            broker.append([OutRecord(TP("in", n % 3), f"k{n}".encode(), value, n)])

    def fired() -> dict[str, int]:
        reader = broker.reader()
        tps = [TP("out", number) for number in range(3)] if "out" in broker.topics() else []
        reader.assign(dict.fromkeys(tps, 0))
        found: dict[str, int] = {}
        while tps and (batches := reader.poll(0, 10_000)):
            for key in (key for batch in batches for key in batch.keys if key is not None):
                found[key.decode()] = found.get(key.decode(), 0) + 1
        reader.close()
        return found

    first = shop(0)
    async with running(first.app):
        feed(range(300))
        async with running(shop(1).app):
            feed(range(300, 600))
            await until(lambda: len(fired()) > 200)
            async with running(shop(2).app):
                feed(range(600, 900))
                await until(lambda: len(fired()) > 500)
        feed(range(900, 1_000))
        feed(range(2_000, 2_003))
        await until(lambda: len(fired()) >= 1_000)
    assert fired() == {f"k{n}": 1 for n in range(1_000)}
    broker.close()
