"""Agents that fail, and what becomes of their events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.engine_app import Bench, running, until
from support.idioms import put, values

import streamapp
from streamapp.core.batch import TP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- agents that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_dead_letter_tells_all(bench: Bench, concurrency: int) -> None:
    app = bench.app()
    tries: list[int] = []
    totals = app.Table("totals", default=int)

    @app.agent(
        app.topic("in", key_type=str, value_type=int),
        concurrency=concurrency,
        name="add",
        on_error=streamapp.ErrorPolicy(retries=2, backoff_ms=1),
    )
    async def add(stream: Any) -> None:
        async for value in stream:
            tries.append(value)
            totals["sum"] += value
            if value == 2:
                msg = "bad luck"
                raise ValueError(msg)

    async with running(app):
        put(bench, "in", ("a", 1), ("b", 2), timestamp_ms=5_000, headers=(("own", b"x"),))
        bench.send("in", b"no json")
        put(bench, "in", ("d", 4))
        await until(lambda: bench.position("in") == 4)
        assert totals["sum"] == 5
    assert sorted(tries) == [1, 2, 2, 2, 4]
    reader = bench.broker.reader()
    reader.assign({TP("bench-dead-letters", 0): 0})
    (batch,) = reader.poll(0, 10)
    reader.close()
    assert list(batch.keys) == [b"b", b"k"]
    assert list(batch.values) == [b"2", b"no json"]
    assert batch.headers is not None
    first, second = (dict(headers) for headers in batch.headers)
    assert b"ValueError: bad luck" in first.pop("dead-letter-stack")
    assert first == {
        "own": b"x",
        "dead-letter-topic": b"in",
        "dead-letter-partition": b"0",
        "dead-letter-offset": b"1",
        "dead-letter-timestamp-ms": b"5000",
        "dead-letter-agent": b"add",
        "dead-letter-cause": b"ValueError: bad luck",
        "dead-letter-failures": b"3",
    }
    assert second["dead-letter-failures"] == b"1"
    assert second["dead-letter-cause"].startswith(b"DecodeError")
    assert batch.timestamps[0] == 5_000


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_skip_and_stop(bench: Bench, concurrency: int) -> None:
    app = bench.app()
    skipped: list[int] = []

    @app.agent(app.topic("in", value_type=int), on_error="skip", concurrency=concurrency)
    async def skip(stream: Any) -> None:
        async for value in stream:
            if value == 2:
                raise ValueError(value)
            skipped.append(value)

    stopped: list[int] = []

    @app.agent(app.topic("other", value_type=int), on_error="stop", concurrency=concurrency)
    async def stop(stream: Any) -> None:
        async for value in stream:
            if value == 2:
                raise ValueError(value)
            stopped.append(value)

    async with running(app):
        for topic in ("in", "other"):
            put(bench, topic, (None, 1), (None, 2), (None, 3))
        await until(lambda: bench.position("in") == 3)
        await until(lambda: bench.position("other") == 1)
        await until(lambda: stop.condition == "failed")
    assert sorted(skipped) == [1, 3]
    assert bench.position("other") == 1
    assert bench.log("bench-dead-letters") == []


async def test_failed_take_is_tried_one_by_one(bench: Bench) -> None:
    app = bench.app()
    totals = app.Table("totals", default=int)
    groups: list[list[int]] = []

    @app.agent(
        app.topic("in", value_type=int), on_error=streamapp.ErrorPolicy(retries=1, backoff_ms=1)
    )
    async def add(stream: Any) -> None:
        async for group in stream.take(3, within=0.2):
            groups.append(group)
            for value in group:
                totals["sum"] += value
                if value == 2:
                    raise ValueError(value)

    async with running(app):
        put(bench, "in", *((None, value) for value in range(1, 6)))
        await until(lambda: bench.position("in") == 5)
        assert totals["sum"] == 13
    assert groups == [[1, 2, 3], [1, 2, 3], [1], [2], [2], [3], [4, 5]]
    assert bench.log("bench-dead-letters") == [(None, b"2")]


async def test_error_handler_may_send(bench: Bench) -> None:
    app = bench.app()
    told: list[str] = []

    async def tell(agent: Any, exc: Exception) -> None:
        told.append(f"{agent.name}: {exc}")
        await app.send("errors", value=str(exc))
        if len(told) == 2:
            msg = "the handler fails too"
            raise RuntimeError(msg)

    @app.agent(app.topic("in", value_type=int), name="add", on_error=tell)
    async def add(stream: Any) -> None:
        async for value in stream:
            if value == 2 and len(told) < 2:
                msg = "bad luck"
                raise ValueError(msg)

    async with running(app):
        put(bench, "in", (None, 1), (None, 2), (None, 3))
        await until(lambda: bench.position("in") == 3)
        await until(lambda: len(values(bench, "errors")) == 2)
    assert told == ["add: bad luck"] * 2


async def test_agent_has_let_go_of_all_before_it_begins_anew_for_a_sink_that_failed(
    bench: Bench,
) -> None:
    app = bench.app()
    steps: list[str] = []

    def fails_once(number: int) -> None:
        steps.append(f"got {number}")
        if len(steps) == 2:
            raise ConnectionError

    @app.agent(app.topic("in", value_type=int), sink=[fails_once])
    async def pass_on(stream: Any) -> AsyncIterator[int]:
        steps.append("open")
        try:
            async for number in stream:
                yield number
        finally:
            steps.append("close")

    async with running(app):
        bench.send("in", b"7")
        await until(lambda: bench.position("in") == 1)
        assert steps == ["open", "got 7", "close", "open", "got 7"]


async def test_what_an_agent_sends_before_its_first_event_is_sent_at_each_beginning(
    bench: Bench,
) -> None:
    app = bench.app()
    begun: list[int] = []

    @app.agent(app.topic("in"), on_error=streamapp.ErrorPolicy(retries=2, backoff_ms=1))
    async def read(stream: Any) -> None:
        begun.append(len(begun))
        await app.send("begun", value=begun[-1])
        async for _ in stream:
            msg = "bad luck"
            raise ValueError(msg)

    async with running(app):
        put(bench, "in", (None, 1))
        await until(lambda: bench.position("in") == 1)
        await until(lambda: len(begun) == 4)
        await until(lambda: values(bench, "begun") == begun)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_agent_that_pauses_before_a_retry_survives_a_rebalance(
    bench: Bench, concurrency: int
) -> None:
    fails = [True]
    seen: list[int] = []

    def program() -> streamapp.App:
        app = bench.app(topic_partitions=2)

        @app.agent(
            app.topic("in", value_type=int),
            name="read",
            concurrency=concurrency,
            on_error=streamapp.ErrorPolicy(retries=9, backoff_ms=30_000),
        )
        async def read(stream: Any) -> None:
            async for value in stream:
                seen.append(value)
                if fails[0]:
                    msg = "not yet"
                    raise ValueError(msg)

        return app

    tps = [TP("in", number) for number in range(2)]

    def done() -> int:
        return sum(position.offset for position in bench.broker.committed("bench", tps).values())

    async with running(program()):
        for tp in tps:
            put(bench, "in", (None, 1), partition=tp.partition)
        await until(lambda: 1 in seen)
        fails[0] = False
        async with running(program()):
            await until(lambda: done() == 2)
        # The first worker owns both again; its agent must still be there.
        for tp in tps:
            put(bench, "in", (None, 2), partition=tp.partition)
        await until(lambda: done() == 4)
