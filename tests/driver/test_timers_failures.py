"""Handlers of timers that fail, are disturbed or declared wrongly: all effects, or none."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.engine_app import Bench, running, until
from support.idioms import put
from support.timer_shop import Shop, fired_keys, letter_headers

import streamapp
from streamapp.errors import ConfigError, PartitionMismatchError, UsageError


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- whole or not at all -------------------------------------------------------------------------


async def test_timer_of_an_event_that_fails_was_never_set(bench: Bench) -> None:
    shop = Shop(bench.app())
    async with running(shop.app):
        put(bench, "in", ("bad", {"at": 5, "fails": 1}), ("good", {"at": 6}))
        await until(lambda: fired_keys(bench) == ["good"])
        await until(lambda: bench.position("in") == 2)
    assert [key for key, _ in shop.seen] == ["good"]


async def test_timer_that_a_failed_event_cancelled_fires(bench: Bench) -> None:
    shop = Shop(bench.app())
    async with running(shop.app):
        put(bench, "in", ("a", {"at": 1_500}), ("a", {"cancel": 1, "fails": 1}))
        put(bench, "in", ("x", {}), timestamp_ms=2_000)
        await until(lambda: fired_keys(bench) == ["a"])


async def test_failed_handler_is_undone_and_tried_again(bench: Bench) -> None:
    app = bench.app()
    done = app.Table("done", default=int)
    told: list[str] = []
    tries = [0]

    async def tell(timers: Any, exc: Exception) -> None:
        told.append(f"{timers.name}: {exc}")

    @app.on_timer("due", on_error=tell)
    async def due(timer: Any) -> None:
        done[timer.key] += 1
        due.set("next", at=timer.at_ms)
        tries[0] += 1
        if tries[0] < 3:
            msg = f"try {tries[0]}"
            raise ConnectionError(msg)
        if timer.key != "next":
            due.cancel("next")

    @app.agent(app.topic("in", key_type=str))
    async def work(stream: Any) -> None:
        async for event in stream.events():
            due.set(event.key, at=1)

    async with running(app):
        put(bench, "in", ("a", 1))
        await until(lambda: tries[0] == 3)
        await until(lambda: dict(done.items()) == {"a": 1})
        assert list(due.table) == []
        assert app.engine.timers.stats["due"].retries == 2
    assert told == ["due: try 1", "due: try 2"]


async def test_dead_letter_holds_the_timer(bench: Bench) -> None:
    app = bench.app()
    done = app.Table("done", default=int)

    @app.on_timer("due", on_error=streamapp.ErrorPolicy(retries=1, backoff_ms=1))
    async def due(timer: Any) -> None:
        done[timer.key] += 1
        if timer.value == {"n": 1}:
            msg = "no"
            raise ValueError(msg)

    @app.agent(app.topic("in", key_type=str))
    async def work(stream: Any) -> None:
        async for key, value in stream.items():
            due.set(key, at=7, value=value)

    async with running(app):
        put(bench, "in", ("a", {"n": 1}), ("b", {"n": 2}))
        await until(lambda: len(bench.log("bench-dead-letters")) == 1)
        await until(lambda: dict(done.items()) == {"b": 1})
        assert list(due.table) == []
    ((key, value),) = bench.log("bench-dead-letters")
    assert key == b"a"
    assert json.loads(value or b"") == {"timer": "due", "key": "a", "at_ms": 7, "value": {"n": 1}}
    headers = letter_headers(bench)
    assert headers["dead-letter-agent"] == b"timer due"
    assert headers["dead-letter-failures"] == b"2"
    assert headers["dead-letter-timestamp-ms"] == b"7"
    assert headers["dead-letter-cause"] == b"ValueError: no"


async def test_skip_and_stop(bench: Bench) -> None:
    app = bench.app()
    tried: list[str] = []
    timers = {}
    for policy in ("skip", "stop"):

        async def handler(timer: Any) -> None:
            tried.append(f"{timer.value} {timer.key}")
            if timer.key == "b":
                raise ValueError(timer.key)

        timers[policy] = app.on_timer(policy, on_error=policy)(handler)

    @app.agent(app.topic("in", key_type=str))
    async def work(stream: Any) -> None:
        async for key, value in stream.items():
            for policy, of in timers.items():
                of.set(key, at=value, value=policy)

    async with running(app):
        put(bench, "in", ("a", 1), ("b", 2), ("c", 3))
        await until(lambda: sorted(tried) == ["skip a", "skip b", "skip c", "stop a", "stop b"])
        await until(lambda: app.engine.timers.stats["skip"].skipped == 1)
        await until(lambda: list(timers["skip"].table) == [])
        assert timers["stop"].get("b").at_ms == 2
        assert timers["stop"].get("c").at_ms == 3
    assert bench.log("bench-dead-letters") == []


async def test_handler_that_awaits_runs_again_when_what_it_read_has_changed(bench: Bench) -> None:
    app = bench.app()
    counts = app.Table("counts", default=int)
    may_go_on = asyncio.Event()
    runs: list[int] = []

    @app.on_timer("due")
    async def due(timer: Any) -> None:
        del timer
        before = counts["k"]
        runs.append(before)
        await may_go_on.wait()
        counts["k"] = before + 100

    @app.agent(app.topic("in", key_type=str, value_type=int))
    async def work(stream: Any) -> None:
        async for key, value in stream.items():
            if value:
                counts[key] += value
            else:
                due.set("t", at=1)

    async with running(app):
        put(bench, "in", ("k", 0))
        await until(lambda: runs == [0])
        put(bench, "in", ("k", 5))
        await until(lambda: counts["k"] == 5)
        assert bench.rows("due-timers") != {}
        may_go_on.set()
        await until(lambda: counts["k"] == 105)
        assert app.engine.timers.stats["due"].conflicts == 1
    assert runs == [0, 5]


async def test_handler_in_conflict_with_every_record_gets_its_turn(bench: Bench) -> None:
    app = bench.app()
    counts = app.Table("counts", default=int)
    done = asyncio.Event()
    runs = [0]

    @app.on_timer("due")
    async def due(timer: Any) -> None:
        before = counts[timer.key]
        runs[0] += 1
        await asyncio.sleep(0.02)  # records come meanwhile
        counts[timer.key] = before + 1_000_000
        done.set()

    @app.agent(app.topic("in", key_type=str, value_type=int))
    async def work(stream: Any) -> None:
        async for event in stream.events():
            counts[event.key] += 1
            if counts[event.key] == 1:
                due.set(event.key, at=1)
            await asyncio.sleep(0.001)

    async with running(app):
        put(bench, "in", *(("k", n) for n in range(400)))
        await until(lambda: counts["k"] == 1_000_400)
    assert 4 <= runs[0] <= 8


async def test_timer_that_is_cancelled_while_its_handler_awaits(bench: Bench) -> None:
    """Either order would do, but not a mixture: the cancellation comes first, so it never fired."""
    app = bench.app()
    done = app.Table("done", default=int)
    began, may_go_on = asyncio.Event(), asyncio.Event()

    @app.on_timer("due")
    async def due(timer: Any) -> None:
        done[timer.key] += 1
        began.set()
        await may_go_on.wait()

    @app.agent(app.topic("in", key_type=str, value_type=int))
    async def work(stream: Any) -> None:
        async for key, value in stream.items():
            if value:
                due.set(key, at=1)
            else:
                due.cancel(key)

    async with running(app):
        put(bench, "in", ("a", 1))
        await until(began.is_set)
        put(bench, "in", ("a", 0))
        await until(lambda: bench.position("in") == 2)
        may_go_on.set()
        put(bench, "in", ("b", 1))
        await until(lambda: dict(done.items()) == {"b": 1})


# --- mistakes ------------------------------------------------------------------------------------


async def test_outside_of_an_event_it_is_refused(bench: Bench) -> None:
    shop = Shop(bench.app())
    async with running(shop.app):
        for call in (lambda: shop.due.set("a", at=1), lambda: shop.due.cancel("a")):
            with pytest.raises(UsageError, match=r"Timer due is .* outside of an event"):
                call()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "neither of at and after"),
        ({"at": 1, "after": "1s"}, "both of at and after"),
        ({"at": 1.5}, "at=1.5"),
        ({"at": True}, "at=True"),
        ({"at": 1 << 63}, "at=9223372036854775808"),
        ({"after": "soon"}, "'soon' is not a duration"),
        ({"at": 1, "value": float("nan")}, "due-timers"),
    ],
)
async def test_what_cannot_be_set_is_refused_whole(
    bench: Bench, given: dict[str, Any], said: str
) -> None:
    app = bench.app()
    found: list[str] = []

    @app.on_timer("due")
    async def due(timer: Any) -> None:
        del timer

    @app.agent(app.topic("in"))
    async def work(stream: Any) -> None:
        async for _ in stream:
            try:
                due.set("k", **given)
            except streamapp.StreamappError as exc:
                found.append(str(exc))

    async with running(app):
        bench.send("in", b"1")
        await until(lambda: bool(found))
        await until(lambda: bench.position("in") == 1)
        assert list(due.table) == []
    assert said in found[0]


async def test_other_number_of_partitions_is_refused(bench: Bench) -> None:
    app = bench.app()
    found: list[Exception] = []

    @app.on_timer("due", partitions=2)
    async def due(timer: Any) -> None:
        del timer

    @app.agent(app.topic("in"))
    async def work(stream: Any) -> None:
        async for _ in stream:
            try:
                due.set("k", at=1)
            except PartitionMismatchError as exc:
                found.append(exc)

    async with running(app):
        bench.send("in", b"1")
        await until(lambda: bool(found))


def test_declarations_that_cannot_work_are_refused(bench: Bench) -> None:
    app = bench.app()

    async def handler(timer: Any) -> None:
        del timer

    app.on_timer("due")(handler)
    with pytest.raises(ConfigError, match="two timers named 'due'"):
        app.on_timer("due")(handler)
    with pytest.raises(ConfigError, match="no coroutine function"):
        app.on_timer("plain")(lambda timer: timer)
    with pytest.raises(ConfigError, match="one argument"):
        app.on_timer("two")(two_arguments)
    with pytest.raises(ConfigError, match="clock='sundial'"):
        app.on_timer("clock", clock="sundial")
    with pytest.raises(ConfigError, match="no name for a table"):
        app.on_timer("a b")(handler)
    with pytest.raises(ConfigError, match="Unknown error policy"):
        app.on_timer("policy", on_error="shrug")


async def two_arguments(one: Any, two: Any) -> None:
    del one, two
