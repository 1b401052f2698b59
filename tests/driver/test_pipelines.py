"""Pipelines in real workers and in the driver, against plain arithmetic over the same records."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from support.engine_app import Bench, running, until
from support.idioms import put

import streamapp
from streamapp.errors import ConfigError
from streamapp.testing.pipeline_driver import DEAD_LETTERS, PipelineDriver

MINUTE = 60_000


class Sale(streamapp.Record):
    user: str
    amount: int
    ts: int


def sales(count: int) -> list[Sale]:
    return [Sale(f"u{n % 7}", n % 5, n * 1_000) for n in range(count)]


def expected(records: list[Sale]) -> dict[tuple[str, int], tuple[int, int]]:
    """Count and sum for each user and minute, over the sales that are not empty."""
    counts: Counter[tuple[str, int]] = Counter()
    totals: Counter[tuple[str, int]] = Counter()
    for sale in records:
        if sale.amount:
            key = (sale.user, sale.ts - sale.ts % MINUTE)
            counts[key] += 1
            totals[key] += sale.amount
    return {key: (counts[key], totals[key]) for key in counts}


def per_minute(app: streamapp.App) -> Any:
    source = app.topic("sales", value_type=Sale, event_time="ts", out_of_order="5s", partitions=4)
    return (
        app.pipeline("per-minute")
        .source(source)
        .filter(lambda sale: sale.amount > 0)
        .group_by("user")
        .window(streamapp.tumbling("1m", late="2m"))
        .aggregate(n=streamapp.count(), total=streamapp.sum("amount"))
        .to(table="per_minute")
    )


def encoded(records: list[Sale]) -> list[bytes | None]:
    return [json.dumps({"user": s.user, "amount": s.amount, "ts": s.ts}).encode() for s in records]


def found(table: dict[Any, Any]) -> dict[tuple[str, int], tuple[int, int]]:
    return {key: (row.n, row.total) for key, row in table.items() if row.start < 10**7}


#: Moves every watermark far beyond all sales.
END = Sale("end", 1, 10**7)


def closed(driver: PipelineDriver, partitions: int) -> dict[tuple[str, int], tuple[int, int]]:
    for partition in range(partitions):
        driver.put("sales", encoded([END]), partition=partition)
    driver.commit()
    return found(driver.table("per_minute"))


@pytest.mark.parametrize("size", [1, 7, 100, 400])
def test_windows_do_not_depend_on_batches_commits_or_crashes(size: int) -> None:
    app = Bench().app()
    per_minute(app)
    driver = PipelineDriver(app.pipelines["per-minute"], partitions=2)
    records = sales(400)
    for number, start in enumerate(range(0, len(records), size)):
        driver.put("sales", encoded(records[start : start + size]), partition=number % 2)
        if number % 3 == 0:
            driver.commit()
        if number % 5 == 0:
            driver.crash()
    late = driver.stats.dead_letters
    assert closed(driver, 2) == expected(records)
    assert late == 0


def test_a_bad_record_is_kept_and_the_others_count() -> None:
    app = Bench().app()
    per_minute(app)
    driver = PipelineDriver(app.pipelines["per-minute"])
    records = sales(100)
    driver.put("sales", [*encoded(records[:50]), b"{", b'{"user": 1}', *encoded(records[50:])])
    assert closed(driver, 1) == expected(records)
    assert [letter.value for letter in driver.records(DEAD_LETTERS)] == [b"{", b'{"user": 1}']


async def test_a_worker_closes_windows_and_calls_the_handler() -> None:
    bench = Bench()
    app = bench.app()
    rows: list[Any] = []
    flow = per_minute(app)

    @flow.on_close
    async def take(closed: list[Any]) -> None:
        rows.extend(closed)

    records = sales(200)
    async with running(app):
        for number, sale in enumerate([*records]):
            put(bench, "sales", (None, _plain(sale)), partition=number % 4)
        for partition in range(4):
            put(bench, "sales", (None, _plain(END)), partition=partition)
        wanted = expected(records)
        await until(lambda: len(found(dict(app.tables["per_minute"].items()))) == len(wanted))
        assert found(dict(app.tables["per_minute"].items())) == wanted
        await until(lambda: len(rows) == len(wanted))
    assert {(row.key, row.start): (row.n, row.total) for row in rows} == wanted
    assert {row.kind for row in rows} == {"final"}


async def test_a_worker_goes_on_where_another_stopped() -> None:
    bench = Bench()
    records = sales(200)
    first = bench.app()
    per_minute(first)
    async with running(first):
        for number, sale in enumerate(records[:120]):
            put(bench, "sales", (None, _plain(sale)), partition=number % 4)
        state = first.tables["per-minute-windows"]
        await until(lambda: sum(row["n"] for row in state.values()) == 96)
    second = bench.app()
    per_minute(second)
    async with running(second):
        for number, sale in enumerate(records[120:]):
            put(bench, "sales", (None, _plain(sale)), partition=number % 4)
        for partition in range(4):
            put(bench, "sales", (None, _plain(END)), partition=partition)
        table, wanted = second.tables["per_minute"], expected(records)
        await until(lambda: len(found(dict(table.items()))) == len(wanted))
        assert found(dict(table.items())) == wanted


def test_what_cannot_run_is_refused() -> None:
    app = Bench().app()
    flow = app.pipeline("empty").source("a")
    with pytest.raises(ConfigError, match="writes nothing"):
        app.pipelines["empty"].stages()
    with pytest.raises(ConfigError, match="two pipelines"):
        app.pipeline("empty")
    with pytest.raises(ConfigError, match="is zero"):
        flow.window(streamapp.tumbling(0))
    with pytest.raises(ConfigError, match="cannot be called 'start'"):
        flow.window(streamapp.tumbling(1)).aggregate(start=streamapp.count())


def _plain(sale: Sale) -> dict[str, Any]:
    return {"user": sale.user, "amount": sale.amount, "ts": sale.ts}
