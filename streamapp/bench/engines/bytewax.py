"""Bytewax: one worker, decoding in batches, windows of one fold each, no recovery store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import msgspec
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from streamapp.bench.engines.plain import Change, Order
from streamapp.bench.events import OUT_OF_ORDER_MS
from streamapp.bench.program import Program
from streamapp.bench.scenarios import (
    GAP_MS,
    HOPPING_MS,
    STATS_MS,
    THRESHOLD,
    TUMBLING_MS,
    Rows,
    keyed,
)

_BATCH = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _time(order: Order) -> datetime:
    return datetime.fromtimestamp(order.ts / 1_000, UTC)


#: The system's time stands still: otherwise it would make events late that are replayed slowly.
_CLOCK = win.EventClock(_time, timedelta(milliseconds=OUT_OF_ORDER_MS), now_getter=lambda: _EPOCH)


def _ms(ms: int) -> timedelta:
    return timedelta(milliseconds=ms)


def _add(row: list[Any], order: Order) -> list[Any]:
    row[0] += 1
    row[1] += order.amount
    row[2] = min(row[2], order.ts)
    return row


def _merge(left: list[Any], right: list[Any]) -> list[Any]:
    return [left[0] + right[0], left[1] + right[1], min(left[2], right[2])]


def _filter(orders: Any) -> Any:
    passed = op.filter("big", orders, lambda order: order.amount > THRESHOLD)
    return op.map("out", passed, lambda order: (order.id, (order.user, order.amount * 1.5)))


def _windows(windower: Any, start_of: Callable[[int, list[Any]], int]) -> Callable[[Any], Any]:
    def declare(orders: Any) -> Any:
        by_user = op.key_on("user", orders, lambda order: order.user)
        out = win.fold_window(
            "fold",
            by_user,
            _CLOCK,
            windower,
            lambda: [0, 0.0, 1 << 62],
            _add,
            _merge,
            ordered=False,
        )
        return op.map(
            "out", out.down, lambda row: ((row[0], start_of(*row[1])), tuple(row[1][1][:2]))
        )

    return declare


def _stats(orders: Any) -> Any:
    """Bytewax has no aggregates of its own: the five figures of Welford's fold, by user."""
    by_user = op.key_on("user", orders, lambda order: order.user)
    windower = win.TumblingWindower(length=_ms(STATS_MS), align_to=_EPOCH)
    out = win.fold_window(
        "fold", by_user, _CLOCK, windower, lambda: [0, 0.0, 1e18, -1e18, 0.0, 0.0], _welford,
        lambda left, _: left, ordered=False,
    )  # fmt: skip
    return op.map(
        "out", out.down, lambda row: ((row[0], row[1][0] * STATS_MS), _figures(row[1][1]))
    )


def _welford(row: list[Any], order: Order) -> list[Any]:
    amount = order.amount
    row[0] += 1
    row[1] += amount
    row[2] = min(row[2], amount)
    row[3] = max(row[3], amount)
    delta = amount - row[4]
    row[4] += delta / row[0]
    row[5] += delta * (amount - row[4])
    return row


def _figures(row: list[Any]) -> tuple[Any, ...]:
    return (*row[:4], (row[5] / row[0]) ** 0.5)


def _debezium(changes: Any) -> Any:
    by_id = op.key_on("id", changes, lambda change: str((change.after or change.before).id))

    def upsert(_: object, change: Change) -> tuple[Any, Any]:
        return change.after, change.after

    rows = op.stateful_map("upsert", by_id, upsert)
    return op.map("out", rows, lambda row: (int(row[0]), row[1] and (row[1].name, row[1].email)))


_FLOWS: dict[str, Callable[[Any], Any]] = {
    "filter": _filter,
    "tumbling": _windows(
        win.TumblingWindower(length=_ms(TUMBLING_MS), align_to=_EPOCH),
        lambda number, _: number * TUMBLING_MS,
    ),
    "sliding": _windows(
        win.SlidingWindower(length=_ms(HOPPING_MS), offset=_ms(TUMBLING_MS), align_to=_EPOCH),
        lambda number, _: number * TUMBLING_MS,
    ),
    "session": _windows(win.SessionWindower(gap=_ms(GAP_MS)), lambda _, row: row[2]),
    "stats": _stats,
    "debezium": _debezium,
}


def make(scenario: str, events: list[bytes]) -> Program:
    """Return the dataflow of a scenario."""
    decode = msgspec.json.Decoder(Change if scenario == "debezium" else Order).decode
    found: list[Any] = []
    flow = Dataflow("bench")
    source = op.input("in", flow, TestingSource(events, batch_size=_BATCH))
    decoded = op.flat_map_batch("decode", source, lambda batch: [decode(event) for event in batch])
    op.output("sink", _FLOWS[scenario](decoded), TestingSink(found))

    def results() -> Rows:
        return keyed((key, row) for key, row in dict(found).items() if row is not None)

    return Program(lambda: run_main(flow), results)
