"""Stock faust-streaming: agents and windowed tables as its manual has them.

Its broker and its tables are in memory, but it has both: Faust cannot run without, and sends a
record of its changelog for every change. It has no sessions; filter, statistics and replica are
what an agent does with a table.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust

from streamapp.bench.program import Program
from streamapp.bench.scenarios import HOPPING_MS, STATS_MS, THRESHOLD, TUMBLING_MS, Rows, keyed
from streamapp.core.batch import TP, OutRecord
from streamapp.transport.broker import TopicSpec
from streamapp.transport.connect import open_broker

_Handle = Callable[[dict[str, Any], Any], None]


def _keep(event: dict[str, Any], table: Any) -> None:
    if event["amount"] > THRESHOLD:
        table[event["id"]] = event["user"], event["amount"] * 1.5


def _add(row: Any, amount: float) -> Any:
    return [row[0] + 1, row[1] + amount]


def _totals(event: dict[str, Any], table: Any) -> None:
    table[event["user"]].apply(_add, event["amount"])


def _stats(event: dict[str, Any], table: Any) -> None:
    key, amount = f"{event['user']}/{event['ts'] // STATS_MS * STATS_MS}", event["amount"]
    n, total, least, most, mean, squares = table[key]
    delta = amount - mean
    mean += delta / (n + 1)
    squares += delta * (amount - mean)
    table[key] = [n + 1, total + amount, min(least, amount), max(most, amount), mean, squares]


def _replica(event: dict[str, Any], table: Any) -> None:
    after = event["after"]
    if after is None:
        table.pop(event["before"]["id"])
    else:
        table[after["id"]] = after["name"], after["email"]


_ZERO: dict[str, Callable[[], Any]] = {
    "tumbling": lambda: [0, 0.0],
    "sliding": lambda: [0, 0.0],
    "stats": lambda: [0, 0.0, math.inf, -math.inf, 0.0, 0.0],
}
_HANDLERS: dict[str, _Handle] = {
    "filter": _keep,
    "tumbling": _totals,
    "sliding": _totals,
    "stats": _stats,
    "debezium": _replica,
}


def _table(app: Any, scenario: str) -> Any:
    table = app.Table("results", default=_ZERO.get(scenario), partitions=1)
    at = lambda event: event.value["ts"] / 1_000  # noqa: E731 - Faust's hook for event time
    if scenario == "tumbling":
        return table.tumbling(TUMBLING_MS / 1_000, key_index=True).relative_to(at)
    if scenario == "sliding":
        return table.hopping(HOPPING_MS / 1e3, TUMBLING_MS / 1e3, key_index=True).relative_to(at)
    return table


def make(scenario: str, events: list[bytes]) -> Program:
    """Return an application with one agent over a preloaded topic."""
    handle = _HANDLERS[scenario]
    broker = open_broker("memory://bench", Path())
    broker.create_topic(TopicSpec("events", 1))
    broker.append([OutRecord(TP("events", 0), b"k", event, 0) for event in events])
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = faust.App(
        "bench",
        broker="memory://bench",
        store="memory://",
        topic_partitions=1,
        web_enabled=False,
        loop=loop,
    )
    done = asyncio.Event()
    table = _table(app, scenario)

    @app.agent(app.topic("events", value_serializer="json"))
    async def work(stream: Any) -> None:
        seen = 0
        async for event in stream:
            handle(event, table)
            seen += 1
            if seen == len(events):
                done.set()

    async def run() -> None:
        await app.start()
        await done.wait()

    logging.disable()
    return Program(lambda: loop.run_until_complete(run()), lambda: _results(scenario, table))


def _results(scenario: str, table: Any) -> Rows:
    if scenario in {"tumbling", "sliding"}:
        raw = table.table.data.items() if hasattr(table, "table") else table.data.items()
        return keyed(((key[0], round(key[1][0] * 1_000)), tuple(row)) for key, row in raw)
    if scenario == "stats":
        return {
            (key.partition("/")[0], int(key.partition("/")[2])): (
                *row[:4],
                math.sqrt(row[5] / row[0]),
            )
            for key, row in table.items()
        }
    return keyed((key, tuple(row)) for key, row in table.items())
