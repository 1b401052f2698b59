"""Pipelines that join with a table: what fails there or behind it is a record's, or the store's."""

from __future__ import annotations

from typing import Any

import pytest
from support.engine_app import Bench, running, until
from support.idioms import put, values

import streamapp
from streamapp import ErrorPolicy


@pytest.fixture
def bench() -> Bench:
    return Bench()


def joined(bench: Bench, function: Any, on_error: Any) -> streamapp.App:
    """Declare numbers that go through a join with a table, and then through the function."""
    app = bench.app()
    rates = app.Table("rates", key_type=str, value_type=int)
    source = app.topic("in", key_type=str, value_type=int)
    flow = app.pipeline("p", on_error=on_error).source(source)
    flow = flow.join_table(rates, kind="left", combine=lambda number, rate: [number, rate])
    flow.map(function).to(topic="out")

    @app.agent(app.topic("rates-in", key_type=str, value_type=int))
    async def keep(stream: Any) -> None:
        async for key, rate in stream.items():
            rates[key] = rate

    return app


@pytest.mark.parametrize("then", ["dead_letter", "retry"])
async def test_step_behind_a_table_join_has_its_tries(bench: Bench, then: str) -> None:
    """It had none: the join was taken for a step with state, whose rows belong to no record."""
    failures: list[Any] = []

    def twice(pair: Any) -> Any:
        if pair[0] == 2 and len(failures) < 2:
            failures.append(pair)
            raise ConnectionError
        return pair

    app = joined(bench, twice, ErrorPolicy(retries=2, backoff_ms=1, then=then))
    async with running(app):
        put(bench, "in", *(("a", number) for number in range(5)))
        await until(lambda: bench.position("in") == 5)
    assert values(bench, "out") == [[number, None] for number in range(5)]
    assert values(bench, "bench-dead-letters") == []


async def test_pipeline_goes_on_with_what_a_step_behind_a_table_join_has_stopped(
    bench: Bench,
) -> None:
    """The record was passed over, and was a dead letter."""

    def broken(pair: Any) -> Any:
        return 1 // (pair[0] - 2)

    async with running(joined(bench, broken, "stop")) as app:
        put(bench, "in", *(("a", number) for number in range(5)))
        await until(lambda: app.engine.pipelines.runners[0].feed.is_stopped)
        await until(lambda: bench.position("in") == 2)
    assert values(bench, "bench-dead-letters") == []
    async with running(joined(bench, list, "stop")):
        await until(lambda: bench.position("in") == 5)
    assert values(bench, "out")[2:] == [[number, None] for number in (2, 3, 4)]


async def test_store_that_fails_below_a_table_join_is_no_fault_of_the_record(
    bench: Bench,
) -> None:
    """It stopped the pipeline for good; agents go on after the rebuild."""
    async with running(joined(bench, list, "stop")) as app:
        put(bench, "rates-in", ("a", 7))
        await until(lambda: bench.position("rates-in") == 1)
        app.engine.keeper.store.close()  # which fails all that is asked of it
        put(bench, "in", ("a", 1), ("b", 2))
        await until(lambda: bench.position("in") == 2)
    assert values(bench, "bench-dead-letters") == []
    assert values(bench, "out") == [[1, 7], [2, None]]


async def test_store_that_fails_below_a_join_is_no_fault_of_the_record(bench: Bench) -> None:
    app = bench.app()
    source = app.topic("in", key_type=str, value_type=dict, event_time="ts")
    pipeline = app.pipeline("p", on_error="stop")
    left = pipeline.source(source)
    left.join_as_of(left, combine=lambda one, other: [one["n"], other["n"]]).to(topic="out")
    async with running(app):
        put(bench, "in", ("a", {"n": 1, "ts": 1_000}))
        await until(lambda: bench.position("in") == 1)
        (work,) = app.engine.pipelines.runners[0].works.values()
        await until(lambda: not work.changed)
        work.tick({}, may_emit=False)
        work.kept_rows = 0  # so that what is held must be read again
        for _, operator in work.states:
            operator.trim(0)
        app.engine.keeper.store.close()
        put(bench, "in", ("a", {"n": 2, "ts": 2_000}), ("b", {"n": 3, "ts": 9_000}))
        await until(lambda: bench.position("in") == 3)
    assert values(bench, "bench-dead-letters") == []
    assert values(bench, "out") == [[1, 1], [2, 2]]


async def test_row_whose_life_is_over_joins_nothing(bench: Bench) -> None:
    """It did until it was swept: what a run over old records gave depended on when that was."""
    app = bench.app()
    rates = app.Table("rates", key_type=str, value_type=int, ttl="10s")
    source = app.topic("in", key_type=str, value_type=int)
    seen = []

    @app.agent(app.topic("rates-in", key_type=str, value_type=int))
    async def keep(stream: Any) -> None:
        async for key, rate in stream.items():
            rates[key] = rate

    @app.agent(source)
    async def look(stream: Any) -> None:
        async for key, number in stream.items():
            seen.append([number, rates.get(key)])

    flow = app.pipeline("p").source(source)
    flow.join_table(rates, kind="left", combine=lambda *pair: [*pair]).to(topic="out")
    async with running(app):
        put(bench, "rates-in", ("a", 7), timestamp_ms=1_000)
        await until(lambda: bench.position("rates-in") == 1)
        for number, time_ms in enumerate((2_000, 10_999, 9_000, 11_000, 10_000, 60_000)):
            put(bench, "in", ("a", number), timestamp_ms=time_ms)
        await until(lambda: bench.position("in") == 6)
    assert values(bench, "out") == seen
    assert [rate for _, rate in seen] == [7, 7, 7, None, None, None]
