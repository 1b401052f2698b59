"""A loop over typed events and a dict: what one writes without any framework.

It knows no late events, closes no windows and loses everything when it ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

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

_Found = dict[Any, Any]


class Order(msgspec.Struct, gc=False):
    """What the loops read of an event."""

    id: int
    user: str
    amount: float
    ts: int


class Customer(msgspec.Struct, gc=False):
    """A row."""

    id: int
    name: str
    email: str


class Change(msgspec.Struct, gc=False):
    """A Debezium envelope."""

    op: str
    before: Customer | None
    after: Customer | None


_order = msgspec.json.Decoder(Order).decode
_change = msgspec.json.Decoder(Change).decode


def _filter(events: list[bytes], found: _Found) -> None:
    for event in events:
        order = _order(event)
        if order.amount > THRESHOLD:
            found[order.id] = order.user, order.amount * 1.5


def _tumbling(events: list[bytes], found: _Found) -> None:
    for event in events:
        order = _order(event)
        key = order.user, order.ts // TUMBLING_MS * TUMBLING_MS
        row = found.get(key)
        if row is None:
            found[key] = [1, order.amount]
        else:
            row[0] += 1
            row[1] += order.amount


def _sliding(events: list[bytes], found: _Found) -> None:
    for event in events:
        order = _order(event)
        newest = order.ts // TUMBLING_MS * TUMBLING_MS
        for start in range(newest, newest - HOPPING_MS, -TUMBLING_MS):
            row = found.get((order.user, start))
            if row is None:
                found[order.user, start] = [1, order.amount]
            else:
                row[0] += 1
                row[1] += order.amount


def _session(events: list[bytes], found: _Found) -> None:
    """Sessions of a user may be extended to both sides; two of them never meet within a second."""
    last: dict[str, list[Any]] = {}
    for event in events:
        order = _order(event)
        row = last.get(order.user)
        if row is None or order.ts - row[1] > GAP_MS:
            if row is not None:
                found[order.user, row[0]] = row[2], row[3]
            last[order.user] = [order.ts, order.ts, 1, order.amount]
        else:
            row[0] = min(row[0], order.ts)
            row[1] = max(row[1], order.ts)
            row[2] += 1
            row[3] += order.amount
    found |= {(user, row[0]): (row[2], row[3]) for user, row in last.items()}


def _stats(events: list[bytes], found: _Found) -> None:
    for event in events:
        order = _order(event)
        amount = order.amount
        key = order.user, order.ts // STATS_MS * STATS_MS
        row = found.get(key)
        if row is None:
            found[key] = [1, amount, amount, amount, amount, 0.0]
            continue
        row[0] += 1
        row[1] += amount
        if amount < row[2]:  # noqa: PLR1730 - a call of min takes longer
            row[2] = amount
        if amount > row[3]:  # noqa: PLR1730 - as above
            row[3] = amount
        # Welford: the sum of squares loses digits.
        delta = amount - row[4]
        row[4] += delta / row[0]
        row[5] += delta * (amount - row[4])


def _debezium(events: list[bytes], found: _Found) -> None:
    for event in events:
        change = _change(event)
        if change.after is not None:
            found[change.after.id] = change.after.name, change.after.email
        elif change.before is not None:
            found.pop(change.before.id, None)


LOOPS: dict[str, Callable[[list[bytes], _Found], None]] = {
    "filter": _filter,
    "tumbling": _tumbling,
    "sliding": _sliding,
    "session": _session,
    "stats": _stats,
    "debezium": _debezium,
}


def make(scenario: str, events: list[bytes]) -> Program:
    """Return the loop of a scenario."""
    found: _Found = {}
    loop = LOOPS[scenario]

    def results() -> Rows:
        if scenario != "stats":
            return keyed((key, tuple(row)) for key, row in found.items())
        return {key: (*row[:4], math.sqrt(row[5] / row[0])) for key, row in found.items()}

    return Program(lambda: loop(events, found), results)
