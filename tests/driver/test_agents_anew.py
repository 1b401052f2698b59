"""Agents that wait, fail or end where it is easy to lose a record, or to count half of one."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.engine_app import Bench, running, until
from support.idioms import Order, put

from streamapp.engine.states import EngineState
from streamapp.errors import StateError
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import streamapp
    from streamapp.transport.broker import Member

NUMBERS = [b"%d" % n for n in range(100)]


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.broker.create_topic(TopicSpec("in", 1))
    return made


# --- before the loop -----------------------------------------------------------------------------


@pytest.mark.parametrize("failures", [0, 1])
async def test_agent_that_begins_late_gets_every_record(bench: Bench, failures: int) -> None:
    bench.send("in", *NUMBERS)
    app = bench.app()
    topic = app.topic("in", value_type=int)
    late, early = app.Table("late", default=int), app.Table("early", default=int)
    left = [ConnectionError("not yet")] * failures

    @app.agent(topic)
    async def connects(stream: Any) -> None:
        await asyncio.sleep(0.3)
        if left:
            raise left.pop()
        async for _ in stream:
            late["n"] += 1

    @app.agent(topic)
    async def counts(stream: Any) -> None:
        async for _ in stream:
            early["n"] += 1

    async with running(app):
        await until(lambda: bench.position("in") == len(NUMBERS))
    assert bench.rows("late") == bench.rows("early") == {b"@n": b"100"}


async def test_agent_that_reads_nothing_harms_nobody(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.send("in", *NUMBERS)
    app = bench.app()
    counts = app.Table("counts", default=int)

    @app.agent(app.topic("in", value_type=int))
    async def stub(stream: Any) -> None:
        del stream

    @app.agent(app.topic("in", value_type=int))
    async def count(stream: Any) -> None:
        async for _ in stream:
            counts["n"] += 1

    async with running(app):
        await until(lambda: bench.position("in") == len(NUMBERS))
    assert bench.rows("counts") == {b"@n": b"100"}
    assert "stub has ended and read nothing: write `async for" in caplog.text


async def test_agent_that_has_returned_does_not_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamapp.engine.group._LAST_DRAIN_S", 0.1)
    bench.send("in", *NUMBERS)
    for has_restarted in (False, True):
        app = bench.app()
        topic = app.topic("in", value_type=int)
        some, every = app.Table("some", default=int), app.Table("every", default=int)

        @app.agent(topic, name="first")
        async def first(stream: Any, some: Any = some) -> None:
            async for number in stream:
                some[number] += 1
                if number in {9, 19}:
                    break

        @app.agent(topic, name="slow")
        async def slow(stream: Any, every: Any = every, waits: bool = not has_restarted) -> None:
            async for number in stream:
                if waits and number == 5:
                    await asyncio.sleep(3600)
                every[number] += 1

        async with running(app):
            expected = 100 if has_restarted else 5
            await until(lambda expected=expected: bench.position("in") == expected)
            await until(lambda first=first: first.condition == "completed")
    assert [*bench.rows("some").values()] == [b"1"] * 20
    assert [*bench.rows("every").values()] == [b"1"] * 100


async def test_event_from_which_an_agent_returns_counts_although_its_rows_have_changed(
    bench: Bench,
) -> None:
    app = bench.app()
    topic = app.topic("in", value_type=int)
    counts = app.Table("counts", default=int)
    has_read, has_changed = asyncio.Event(), asyncio.Event()

    @app.agent(topic)
    async def first(stream: Any) -> None:
        async for _ in stream:
            counts["n"] += 1
            has_read.set()
            await has_changed.wait()
            return

    @app.agent(topic)
    async def second(stream: Any) -> None:
        async for _ in stream:
            await has_read.wait()
            counts["n"] += 100
            has_changed.set()

    async with running(app):
        bench.send("in", b"1")
        await until(lambda: bench.rows("counts") == {b"@n": b"101"})


async def test_what_is_sent_on_stays_filtered_while_the_agent_begins_anew(bench: Bench) -> None:
    app = bench.app()
    beginnings: list[int] = []
    counts = app.Table("counts", default=int)

    @app.agent(app.topic("in", value_type=int))
    async def count(stream: Any) -> None:
        beginnings.append(1)
        if len(beginnings) > 1:
            # Such as opening a connection again; records flow meanwhile.
            bench.send("in", b"1", b"3", b"6")
            await until(lambda: bench.position("in") == 4)
        evens = stream.filter(lambda number: number % 2 == 0)
        async for number in evens.group_by(str, name="text"):
            counts[f"{number}"] += 1
            if len(beginnings) == 1:
                raise ConnectionError

    async with running(app):
        bench.send("in", b"2")
        await until(lambda: b"@6" in bench.rows("counts"))
    assert bench.rows("counts") == {b"@2": b"1", b"@6": b"1"}


# --- a loop in a child task ----------------------------------------------------------------------


async def in_a_group(work: Any, stream: Any) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(3600))
        group.create_task(work(stream))


async def gathered(work: Any, stream: Any) -> None:
    await asyncio.gather(work(stream), asyncio.sleep(0))


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("run", [in_a_group, gathered])
async def test_failure_in_a_child_is_that_of_its_event(
    bench: Bench, run: Any, concurrency: int
) -> None:
    app = bench.app()
    debit, credit = app.Table("debit", default=int), app.Table("credit", default=int)

    async def work(stream: Any) -> None:
        async for number in stream:
            debit["sum"] += number
            await asyncio.sleep(0)
            if number == 3:
                raise ValueError(number)
            credit["sum"] += number

    @app.agent(app.topic("in", value_type=int), concurrency=concurrency, on_error="dead_letter")
    async def agent(stream: Any) -> None:
        await run(work, stream)

    async with running(app):
        bench.send("in", b"1", b"2", b"3", b"4")
        await until(lambda: bench.position("in") == 4)
    assert bench.rows("debit") == bench.rows("credit") == {b"@sum": b"7"}
    assert len(bench.log("bench-dead-letters")) == 1


async def test_only_the_event_of_the_child_that_failed_is_refused(bench: Bench) -> None:
    bench.broker.create_topic(TopicSpec("other", 1))
    app = bench.app()
    sums = app.Table("sums", default=int)
    others = app.stream(app.topic("other", value_type=int))

    async def add(stream: Any) -> None:
        async for number in stream:
            sums["other"] += number
            await asyncio.sleep(0.05)

    async def check(stream: Any) -> None:
        async for number in stream:
            await asyncio.sleep(0.02)
            if number == 3:
                raise ValueError(number)
            sums["in"] += number

    @app.agent(app.topic("in", value_type=int), on_error="dead_letter")
    async def agent(stream: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(check(stream))
            group.create_task(add(others))

    async with running(app):
        bench.send("other", *[b"1"] * 10)
        bench.send("in", b"1", b"3", b"4")
        await until(lambda: bench.position("in") == 3 and bench.position("other") == 10)
    assert bench.rows("sums") == {b"@other": b"10", b"@in": b"5"}
    assert [value for _, value in bench.log("bench-dead-letters")] == [b"3"]


# --- values that the agent has changed -----------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_event_that_runs_again_has_the_value_of_its_record(
    bench: Bench, concurrency: int
) -> None:
    app = bench.app()
    total = app.Table("total", default=float)
    failing = {1, 4, 5}

    @app.agent(app.topic("in", value_type=Order), concurrency=concurrency)
    async def agent(stream: Any) -> None:
        async for order in stream:
            number = int(order.amount)
            order.amount *= 2
            if number in failing:
                failing.discard(number)
                raise ConnectionError
            before = total["sum"]  # with concurrency, others change it: a conflict
            await asyncio.sleep(0.001)
            total["sum"] = before + order.amount

    async with running(app):
        put(bench, "in", *[("k", {"user": "ann", "amount": n}) for n in range(20)])
        await until(lambda: bench.position("in") == 20)
    assert bench.rows("total") == {b"@sum": b"%.1f" % (2 * sum(range(20)))}


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_halves_of_a_batch_have_the_values_of_their_records(
    bench: Bench, concurrency: int
) -> None:
    app = bench.app()
    total = app.Table("total", default=float)

    @app.agent(app.topic("in", value_type=Order), concurrency=concurrency, on_error="dead_letter")
    async def agent(stream: Any) -> None:
        async for batch in stream.batches():
            for order in batch:
                order.amount *= 2
            total.add(["sum"] * len(batch), [order.amount for order in batch])
            if 7 in batch.offsets:
                raise ValueError

    async with running(app):
        put(bench, "in", *[("k", {"user": "ann", "amount": n}) for n in range(1, 9)])
        await until(lambda: bench.position("in") == 8)
    assert bench.rows("total") == {b"@sum": b"%.1f" % (2 * sum(range(1, 8)))}


# --- event time of what was undone ---------------------------------------------------------------


@asynccontextmanager
async def rebuilt(bench: Bench, app: streamapp.App, seen: list[str]) -> AsyncIterator[None]:
    """Commit the event "set", then undo two later ones by a rebuild; they run again."""
    async with running(app):
        put(bench, "in", ("a", "set"), timestamp_ms=1_000)
        await until(lambda: len(seen) == 1)
        await asyncio.sleep(0.05)  # the event is done when the agent asks for the next one
        await app.engine.commit()
        put(bench, "in", ("a", "early"), timestamp_ms=2_000)
        put(bench, "in", ("a", "late"), timestamp_ms=90_000)
        await until(lambda: len(seen) == 3)
        await asyncio.sleep(0.05)
        app.engine.keeper.budget.fault = StateError("the disk failed")
        while len(seen) < 5:
            app.engine.outbox.wanted.set()
            await asyncio.sleep(0.02)  # the loop of commits sweeps and looks for timers
        await asyncio.sleep(0.2)
        yield


async def test_timer_does_not_fire_at_a_time_that_was_undone(bench: Bench) -> None:
    app = bench.app(commit_interval="60s")
    fired, seen = app.Table("fired", default=int), []

    @app.on_timer("due")
    async def due(timer: Any) -> None:
        fired[timer.key] += 1

    @app.agent(app.topic("in", key_type=str))
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            await asyncio.sleep(0.1)
            seen.append(event.value)
            if event.value == "set":
                due.set("payment", at=5_000)
            elif event.value == "early":
                due.cancel("payment")

    async with rebuilt(bench, app, seen):
        assert dict(fired.items()) == {}


async def test_row_does_not_expire_at_a_time_that_was_undone(bench: Bench) -> None:
    app = bench.app(commit_interval="60s")
    lasting, found = app.Table("lasting", ttl=10), app.Table("found")
    seen: list[str] = []

    @app.agent(app.topic("in", key_type=str))
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            if event.value == "early":
                await asyncio.sleep(0.2)
            seen.append(event.value)
            if event.value == "set":
                lasting.update({f"k{n:03}": 1 for n in range(600)})
            elif event.value == "early":
                found["rows"] = len(lasting)

    async with rebuilt(bench, app, seen):
        assert dict(found.items()) == {"rows": 600}


# --- the end of a worker that begins -------------------------------------------------------------


async def test_worker_that_is_stopped_while_it_joins_leaves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = bench.app()
    app.agent(app.topic("in"))(_read_all)
    join = type(app.broker).join

    def slow(*args: Any) -> Member:
        time.sleep(0.3)
        return join(*args)

    monkeypatch.setattr(type(app.broker), "join", slow)
    app.finalize()
    starting = asyncio.create_task(app.start())
    await until(lambda: app.engine.phase is EngineState.JOINING)
    await app.stop()
    await asyncio.gather(starting, return_exceptions=True)
    assert app.engine.group.member is None
    assert not bench.broker.groups()["bench"].members


async def _read_all(stream: Any) -> None:
    async for _ in stream:
        pass
