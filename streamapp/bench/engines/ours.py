"""Ours in process: the pipelines that a user writes, driven without a broker.

What is measured has all that a worker does but the broker: decoding, event times, state, results as
rows of a table, and the records of changelogs, made at commits of which there are as many as a
worker makes at the target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

import streamapp
from streamapp.bench.program import Program
from streamapp.bench.scenarios import THRESHOLD, Rows, keyed
from streamapp.engine.garbage import settle_collector
from streamapp.testing.pipeline_driver import PipelineDriver

#: Records of one fetch, the default ``batch_max`` of an ``App``.
_FETCH = 5_000
#: Fetches between two commits: 250 ms (``commit_interval``) at 400,000 events/s.
_COMMIT_EVERY = 20


class Order(streamapp.Record, gc=False):
    """What the programs read of an event."""

    id: int
    user: str
    amount: float
    ts: int


class Customer(streamapp.Record, gc=False):
    """A row of the table that is replicated."""

    id: int
    name: str
    email: str


class Change(streamapp.Record, gc=False):
    """A Debezium envelope."""

    op: str
    before: Customer | None = None
    after: Customer | None = None


class Big(streamapp.Record, gc=False):
    """A result of the filter."""

    id: int
    user: str
    amount: float


def _filter(orders: Any) -> None:
    (
        orders.filter(f"amount > {THRESHOLD}")
        .map(lambda order: Big(order.id, order.user, order.amount * 1.5), into=Big)
        .key_by("user")
        .to(topic=f"{orders.pipeline.app.conf.id}-results")
    )


def _windows(window: Any, **aggregates: Any) -> Callable[[Any], None]:
    def declare(orders: Any) -> None:
        orders.key_by("user").window(window).aggregate(**aggregates).to(table="results")

    return declare


def _debezium(changes: Any) -> None:
    (
        changes.key_by(lambda change: (change.after or change.before).id)
        .map(lambda change: change.after, into=Customer)
        .to(table="results")
    )


_TOTALS = {"n": streamapp.count(), "total": streamapp.sum("amount")}
_STATS = _TOTALS | {
    "least": streamapp.min("amount"),
    "most": streamapp.max("amount"),
    "sd": streamapp.stddev("amount"),
}
PROGRAMS: dict[str, Callable[[Any], None]] = {
    "filter": _filter,
    "tumbling": _windows(streamapp.tumbling("5s"), **_TOTALS),
    "sliding": _windows(streamapp.hopping("30s", "5s"), **_TOTALS),
    "session": _windows(streamapp.session("5m"), **_TOTALS),
    "stats": _windows(streamapp.tumbling("1h"), **_STATS),
    "debezium": _debezium,
}


def declare(app: streamapp.App, scenario: str, topic: str) -> Any:
    """Declare the scenario's pipeline in an application; return it."""
    if scenario == "debezium":
        source = app.topic(topic, value_type=Change)
    else:
        source = app.topic(topic, value_type=Order, event_time="ts", out_of_order="1s")
    pipeline = app.pipeline("bench")
    PROGRAMS[scenario](pipeline.source(source))
    return pipeline


def make(scenario: str, events: list[bytes]) -> Program:
    """Return the pipeline over the events, in a process that is set up like a worker."""
    settle_collector()
    app = streamapp.App("bench", broker="memory://bench", store="memory://")
    driver = PipelineDriver(declare(app, scenario, "events"), keeps_read=False)

    def work() -> None:
        for number, start in enumerate(range(0, len(events), _FETCH), 1):
            driver.put("events", events[start : start + _FETCH])
            if number % _COMMIT_EVERY == 0:
                driver.commit()
        driver.commit()

    return Program(work, lambda: results(scenario, driver))


def results(scenario: str, driver: PipelineDriver) -> Rows:
    """Return what the pipeline has written, table or topic."""
    if scenario == "filter":
        found = [
            msgspec.json.decode(r.value or b"", type=Big) for r in driver.records("bench-results")
        ]
        return keyed((big.id, (big.user, big.amount)) for big in found)
    return rows_of_table(scenario, driver.table("results"))


def rows_of_table(scenario: str, rows: Mapping[Any, Any]) -> Rows:
    """Return the results that are in a table."""
    if scenario == "debezium":
        return keyed((key, (row.name, row.email)) for key, row in rows.items())
    fields = [*(_STATS if scenario == "stats" else _TOTALS)]
    found = ((key, tuple(getattr(row, field) for field in fields)) for key, row in rows.items())
    return keyed(found)
