"""Pathway in static mode, the start of its engine included.

It reads a file: there is no source in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pathway as pw

from streamapp.bench.program import Program
from streamapp.bench.scenarios import (
    GAP_MS,
    HOPPING_MS,
    STATS_MS,
    THRESHOLD,
    TUMBLING_MS,
    keyed,
)


class Order(pw.Schema):
    """What is read of an event; ``id`` is a name of Pathway's own."""

    number: int
    user: str
    amount: float
    ts: int


_NAMES: dict[str, Any] = {"json_field_paths": {"number": "/id"}}


def _filter(orders: Any) -> Any:
    big = orders.filter(pw.this.amount > THRESHOLD)
    return big.select(pw.this.number, pw.this.user, amount=pw.this.amount * 1.5)


def _windows(window: Any) -> Callable[[Any], Any]:
    def declare(orders: Any) -> Any:
        return orders.windowby(orders.ts, window=window, instance=orders.user).reduce(
            user=pw.this._pw_instance,  # noqa: SLF001 - its public name
            start=pw.this._pw_window_start,  # noqa: SLF001 - as above
            n=pw.reducers.count(),
            total=pw.reducers.sum(pw.this.amount),
        )

    return declare


def _stats(orders: Any) -> Any:
    amount = pw.this.amount
    with_start = orders.with_columns(
        start=pw.this.ts // STATS_MS * STATS_MS, squared=amount * amount
    )
    sums = with_start.groupby(pw.this.user, pw.this.start).reduce(
        pw.this.user,
        pw.this.start,
        n=pw.reducers.count(),
        total=pw.reducers.sum(amount),
        least=pw.reducers.min(amount),
        most=pw.reducers.max(amount),
        squares=pw.reducers.sum(pw.this.squared),
    )
    mean = pw.this.total / pw.this.n
    return sums.select(
        pw.this.user, pw.this.start, pw.this.n, pw.this.total, pw.this.least, pw.this.most,
        sd=(pw.this.squares / pw.this.n - mean * mean) ** 0.5,
    )  # fmt: skip


#: Those that take a sliding window of Pathway's: the hop is its own.
_JOBS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "filter": (_filter, 1),
    "tumbling": (_windows(pw.temporal.tumbling(TUMBLING_MS)), 2),
    "sliding": (_windows(pw.temporal.sliding(TUMBLING_MS, duration=HOPPING_MS)), 2),
    "session": (_windows(pw.temporal.session(max_gap=GAP_MS + 1)), 2),
    "stats": (_stats, 2),
}


def make(scenario: str, events: list[bytes]) -> Program:
    """Return the job of a scenario; writing the file is not measured."""
    job, keys = _JOBS[scenario]
    folder = tempfile.TemporaryDirectory(prefix="bench-")
    path = Path(folder.name) / "events.jsonl"
    path.write_bytes(b"\n".join(events) + b"\n")
    found: dict[Any, tuple[Any, ...]] = {}

    def keep(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        del time
        if is_addition:
            found[key] = tuple(row.values())
        else:
            found.pop(key)

    def work() -> None:
        table = job(pw.io.jsonlines.read(path, schema=Order, mode="static", **_NAMES))
        pw.io.subscribe(table, on_change=keep)
        pw.run(monitoring_level=pw.MonitoringLevel.NONE)
        folder.cleanup()

    return Program(work, lambda: keyed((row[:keys], row[keys:]) for row in found.values()))
