"""The engine when its broker fails at bad moments: nothing is lost, counted twice or stuck."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support.engine_app import DEADLINE_S, Bench, running, until

import streamapp
from streamapp.core.batch import TP
from streamapp.engine.group import Fenced
from streamapp.engine.states import EngineState
from streamapp.errors import BrokerError, BrokerFullError, StateError, UnknownTopicError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamapp.transport.broker import Reader


def counting(bench: Bench, **options: object) -> streamapp.App:
    app = bench.app(**options)
    counts = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(app.topic("in", key_type=str, value_type=int))
    async def count(stream: streamapp.Stream) -> None:
        async for _ in stream:
            counts["all"] += 1

    return app


def total(bench: Bench) -> int:
    return int(next(iter(bench.rows("counts").values()), b"0") or 0)


async def test_after_a_failed_commit_no_other_follows_before_the_state_is_rebuilt() -> None:
    bench = Bench()
    async with running(counting(bench)):
        for number in range(1, 4):
            # The second failure within seconds waits before it is dealt with: commits go on.
            bench.broker.fail_next("commit", BrokerError("the disk hiccups"))
            bench.send("in", b"1")
            await until(lambda number=number: bench.position("in") == number)
            assert total(bench) == number


async def test_worker_that_gave_up_on_a_full_broker_goes_on_when_there_is_room() -> None:
    bench = Bench()
    async with running(counting(bench)) as app:
        bench.send("in", b"1")
        await until(lambda: bench.position("in") == 1)
        bench.broker.fail_next("commit", BrokerFullError("full"), times=3)
        bench.send("in", b"1")
        await until(lambda: app.engine.committer.is_full)
        other = bench.broker.join("bench", ["other"])  # whoever joins makes all rebalance
        await until(lambda: bench.position("in") == 2)
        assert total(bench) == 2
        other.leave()


async def test_worker_stops_although_the_broker_is_full() -> None:
    bench = Bench()
    async with running(counting(bench)) as app:
        bench.broker.fail_next("commit", BrokerFullError("full"), times=1_000)
        bench.send("in", b"1")
        await until(lambda: app.engine.committer.is_full)
        begun = time.monotonic()
    assert time.monotonic() - begun < DEADLINE_S / 2
    assert bench.position("in") == 0


async def test_event_that_ends_after_the_last_cut_of_a_generation_counts_once() -> None:
    bench = Bench()
    app = bench.app()
    counts = app.Table("counts", key_type=str, value_type=int, default=int)
    goes_on = asyncio.Event()

    @app.agent(app.topic("in", key_type=str, value_type=int))
    async def count(stream: streamapp.Stream) -> None:
        async for _ in stream:
            counts["all"] += 1
            await goes_on.wait()

    async with running(app):
        flush = app.engine.committer.flush

        async def late_flush() -> None:
            goes_on.set()
            await asyncio.sleep(0.05)  # the event ends now, between the cut and the letting go
            await flush()

        app.engine.committer.flush = late_flush  # type: ignore[method-assign]
        bench.send("in", b"1")
        await until(lambda: app.engine.subscriptions.readers("in")[0].buffered(TP("in", 0)) > 0)
        other = bench.broker.join("bench", ["other"])  # whoever joins makes all rebalance
        await until(lambda: bench.position("in") == 1)
        other.leave()
        bench.send("in", b"1")
        await until(lambda: bench.position("in") == 2)
        assert total(bench) == 2


async def test_partition_that_waited_for_its_agent_goes_on_after_a_rebuild() -> None:
    bench = Bench()
    app = bench.app()
    goes_on = asyncio.Event()

    @app.agent(app.topic("in", key_type=str, value_type=bytes, value_serializer="raw"))
    async def slow(stream: streamapp.Stream) -> None:
        async for _ in stream:
            await goes_on.wait()

    async with running(app):
        for _ in range(40):
            bench.send("in", b"x" * 500_000)
        await until(lambda: bool(app.engine.paused))
        before = app.engine.group.rebalances
        app.engine.group.put(BrokerError("the disk hiccups"))
        await until(lambda: app.engine.group.rebalances > before)
        goes_on.set()
        await until(lambda: bench.position("in") == 40)


async def test_refused_commit_of_a_generation_that_is_over_takes_nothing_away() -> None:
    bench = Bench()
    async with running(counting(bench)) as app:
        generation, lost = app.engine.group.generation, asyncio.Event()
        commit = app.engine.committer.commit

        async def late_commit(**options: object) -> bool:
            done = await commit(**options)  # type: ignore[arg-type]
            if app.engine.group.generation > generation and not lost.is_set():
                lost.set()
                app.engine.group.put(Fenced(generation, "late"))
            return done

        app.engine.committer.commit = late_commit  # type: ignore[method-assign]
        bench.broker.evict(app.engine.group.member.id)  # type: ignore[union-attr]
        await lost.wait()
        bench.send("in", b"1")
        await until(lambda: bench.position("in") == 1)


async def test_bug_in_the_intake_ends_the_worker() -> None:
    bench = Bench()
    async with running(counting(bench)) as app:
        bench.broker.fail_next("poll", RuntimeError("a bug"))
        await until(lambda: app.engine.crashed)


def answering(bench: Bench) -> streamapp.Agent:
    app = bench.app()

    @app.agent(app.topic("asked", value_type=int))
    async def double(stream: streamapp.Stream) -> AsyncIterator[int]:
        async for number in stream:
            yield number * 2

    agent: streamapp.Agent = double
    return agent


async def test_two_who_ask_at_once_before_answers_are_read_both_get_theirs() -> None:
    agent = answering(bench := Bench())
    make_reader = bench.broker.reader

    def slowly() -> Reader:
        time.sleep(0.3)  # the answer to the second would be there before
        return make_reader()

    async with running(agent.app):
        bench.broker.reader = slowly  # type: ignore[method-assign]
        asked = asyncio.gather(agent.ask(1), agent.ask(2))
        assert await asyncio.wait_for(asked, DEADLINE_S) == [2, 4]


async def test_answers_come_although_the_broker_failed_when_they_were_to_be_read() -> None:
    agent = answering(bench := Bench())
    async with running(agent.app):
        bench.broker.fail_next("create_topic", BrokerError("the disk hiccups"))
        with pytest.raises(BrokerError):
            await asyncio.wait_for(agent.ask(1), DEADLINE_S)
        assert await asyncio.wait_for(agent.ask(2), DEADLINE_S) == 4


async def test_answers_come_however_many_are_given_and_whoever_has_given_up() -> None:
    app = (bench := Bench()).app()
    may_go_on = asyncio.Event()
    make_reader = bench.broker.reader

    def slowly() -> Reader:
        time.sleep(0.3)  # the first answer would be there before
        return make_reader()

    @app.agent(app.topic("asked", value_type=int))
    async def multiply(stream: streamapp.Stream) -> AsyncIterator[int]:
        async for number in stream:
            if number < 0:
                await may_go_on.wait()
            yield number * 2
            yield number * 3

    async with running(app):
        bench.broker.reader = slowly  # type: ignore[method-assign]
        many = await asyncio.wait_for(multiply.join(range(1_500)), DEADLINE_S)
        assert many == [number * 2 for number in range(1_500)]
        # The exceptions keep alive what waits for answers.
        gone = [asyncio.create_task(asyncio.wait_for(multiply.ask(-n), 0.2)) for n in (1, 2)]
        given_up = await asyncio.gather(*gone, return_exceptions=True)
        assert [*map(type, given_up)] == [TimeoutError, TimeoutError]
        asked = asyncio.gather(*map(multiply.ask, (4, 5)))
        may_go_on.set()
        assert await asyncio.wait_for(asked, DEADLINE_S) == [8, 10]


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_event_whose_partition_is_taken_away_sends_nothing_more(concurrency: int) -> None:
    bench = Bench()
    app = bench.app()
    out = app.topic("out", value_type=int, partitions=1)
    tries = 0

    @app.agent(app.topic("in", value_type=int), concurrency=concurrency)
    async def pass_on(stream: streamapp.Stream) -> None:
        nonlocal tries
        async for number in stream:
            tries += 1
            try:
                if tries == 1:
                    await asyncio.sleep(DEADLINE_S)
            finally:
                await out.send(value=number)

    async with running(app):
        bench.send("in", b"7")
        await until(lambda: tries == 1)
        bench.broker.evict(app.engine.group.member.id)  # type: ignore[union-attr]
        await until(lambda: bench.position("in") == 1)
    assert [value for _, value in bench.log("out")] == [b"7"]


async def test_what_an_event_leaves_running_sends_when_the_event_is_over() -> None:
    bench = Bench()
    app = bench.app()
    out = app.topic("out", value_type=int, partitions=1)
    goes_on, left = asyncio.Event(), set()

    @app.agent(app.topic("in", value_type=int), concurrency=2)
    async def leave_it(stream: streamapp.Stream) -> None:
        async def later(number: int) -> None:
            await goes_on.wait()
            await out.send(value=number)

        async for number in stream:
            left.add(asyncio.create_task(later(number)))

    async with running(app):
        bench.send("in", b"7")
        await until(lambda: bench.position("in") == 1)
        goes_on.set()
        await until(lambda: "out" in bench.broker.topics() and bool(bench.log("out")))


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_agent_that_returns_has_committed_its_events_with_their_position(
    concurrency: int,
) -> None:
    bench = Bench()
    app = bench.app(commit_interval="20s")
    counts = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(app.topic("in", value_type=int), concurrency=concurrency)
    async def until_ten(stream: streamapp.Stream) -> None:
        async for number in stream:
            counts["all"] += 1
            if number >= 10:
                return

    async with running(app):
        bench.send("in", b"1", b"2", b"10", b"10", b"3")
        await until(lambda: bench.position("in") == 2 + concurrency)
    assert total(bench) == 2 + concurrency
    assert bench.position("in") == 2 + concurrency


async def test_scan_that_fails_leads_to_a_rebuild_also_if_the_program_hides_it() -> None:
    bench = Bench()
    app = bench.app()
    counts = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(app.topic("in", value_type=int))
    async def sum_up(stream: streamapp.Stream) -> None:
        async for number in stream:
            with suppress(StateError):
                counts["all"] = number + sum(value for _, value in counts.items())

    async with running(app):
        bench.send("in", b"1")
        await until(lambda: bench.position("in") == 1)
        app.engine.keeper.store.close()  # which fails all that is asked of it
        bench.send("in", b"2")
        await until(lambda: bench.position("in") == 2)
        assert total(bench) == 3


async def test_sweep_that_fails_leads_to_a_rebuild() -> None:
    bench = Bench()
    app = bench.app()
    counts = app.Table("counts", key_type=str, value_type=int, default=int, ttl="1h")

    @app.agent(app.topic("in", value_type=int))
    async def count(stream: streamapp.Stream) -> None:
        async for _ in stream:
            counts["all"] += 1

    async with running(app):
        before = app.engine.group.rebalances
        app.engine.keeper.store.close()  # which fails all that is asked of it
        await until(lambda: app.engine.group.rebalances > before)
        bench.send("in", b"1")
        await until(lambda: bench.position("in") == 1)
        assert not app.engine.crashed


async def test_worker_leaves_in_order_although_a_record_could_not_be_sent() -> None:
    bench = Bench()
    app = counting(bench, commit_interval="20s")
    async with running(app):
        with pytest.raises(UnknownTopicError):
            await (await app.topic("out", partitions=1).send(value=1, partition=9))
        bench.send("in", b"1")
        await until(lambda: app.engine.subscriptions.readers("in")[0].position(TP("in", 0)) == 1)
    assert bench.position("in") == 1


async def test_headers_are_the_same_in_an_event_and_outside() -> None:
    bench = Bench()
    app = bench.app()
    out = app.topic("out", value_type=int, partitions=1)
    headers = [("a", "text"), ("a", b"bytes")]

    @app.agent(app.topic("in", value_type=int))
    async def pass_on(stream: streamapp.Stream) -> None:
        async for number in stream:
            await out.send(value=number, headers=headers)

    async with running(app):
        await (await out.send(value=1, headers=headers))
        bench.send("in", b"2")
        await until(lambda: len(bench.log("out")) == 2)
    reader = bench.broker.reader()
    reader.assign({TP("out", 0): 0})
    assert {h for b in reader.poll(0, 10) for h in b.headers or ()} == {
        (("a", b"text"), ("a", b"bytes"))
    }


async def test_worker_that_joins_anew_twice_in_a_row_counts_once() -> None:
    bench = Bench()
    app = bench.app()
    counts = app.Table("counts", key_type=str, value_type=int, default=int)
    in_hand, goes_on = asyncio.Event(), asyncio.Event()

    @app.agent(app.topic("in", key_type=str, value_type=int), on_error="dead_letter")
    async def count(stream: streamapp.Stream) -> None:
        async for _ in stream:
            in_hand.set()
            await goes_on.wait()
            await asyncio.sleep(0.01)  # the event is still in hand when the worker has joined
            counts["all"] += 1

    async with running(app):
        group = app.engine.group
        bench.send("in", *[b"1"] * 10)
        await in_hand.wait()
        # As a stream does that is first read now; the second while the first waits for the event.
        group.put("rejoin")
        await until(lambda: app.engine.phase is EngineState.DRAINING)
        group.put("rejoin")
        goes_on.set()
        await until(lambda: bench.position("in") == 10)
        assert total(bench) == 10
        assert app.engine.subscriptions.readers("in")[0].stats.errors == {}
