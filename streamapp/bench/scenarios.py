"""The six scenarios: what is computed, how fast it should be, and the right result.

The reference is written to be read, not to be fast: lists, dicts and the ``statistics`` module.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from streamapp.bench.events import END, changes, orders

#: Results of any engine: a key (of user, start of the window) and numbers or texts.
Rows = Mapping[tuple[Any, ...], tuple[Any, ...]]

THRESHOLD = 90.0
TUMBLING_MS = 5_000
HOPPING_MS = 30_000
GAP_MS = 300_000
STATS_MS = 3_600_000
#: Digits behind the point that engines must agree in; they add up in orders of their own.
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Scenario:
    """``target`` is in events per second on one core, from JSON bytes in memory."""

    name: str
    title: str
    target: int
    events: Callable[[int], list[bytes]]
    reference: Callable[[list[bytes]], Rows]


def digest(rows: Rows) -> str:
    """Return what is equal for equal results: their number and a checksum."""
    lines = sorted(
        json.dumps([*key, *(round(v, _DIGITS) + 0.0 if isinstance(v, float) else v for v in row)])
        for key, row in rows.items()
        if END not in key
    )
    return f"{len(lines)} rows {hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}"


def _filtered(events: list[bytes]) -> Rows:
    found = map(json.loads, events)
    return {(e["id"],): (e["user"], e["amount"] * 1.5) for e in found if e["amount"] > THRESHOLD}


def _tumbling(events: list[bytes]) -> Rows:
    return _hopping(events, TUMBLING_MS)


def _hopping(events: list[bytes], size_ms: int = HOPPING_MS) -> Rows:
    amounts = defaultdict(list)
    for e in map(json.loads, events):
        newest = e["ts"] // TUMBLING_MS * TUMBLING_MS
        for start in range(newest, newest - size_ms, -TUMBLING_MS):
            amounts[e["user"], start].append(e["amount"])
    return {key: (len(of), float(sum(of))) for key, of in amounts.items()}


def _sessions(events: list[bytes]) -> Rows:
    visits = defaultdict(list)
    for e in map(json.loads, events):
        visits[e["user"]].append((e["ts"], e["amount"]))
    found: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for user, of in visits.items():
        of.sort()
        parts = [[of[0]]]
        for before, visit in pairwise(of):
            if visit[0] - before[0] <= GAP_MS:
                parts[-1].append(visit)
            else:
                parts.append([visit])
        for part in parts:
            found[user, part[0][0]] = len(part), float(sum(amount for _, amount in part))
    return found


def _stats(events: list[bytes]) -> Rows:
    amounts = defaultdict(list)
    for e in map(json.loads, events):
        amounts[e["user"], e["ts"] // STATS_MS * STATS_MS].append(e["amount"])
    return {
        key: (len(of), float(sum(of)), min(of), max(of), statistics.pstdev(of))
        for key, of in amounts.items()
    }


def _replica(events: list[bytes]) -> Rows:
    found: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for e in map(json.loads, events):
        if e["op"] == "d":
            found.pop((e["before"]["id"],))
        else:
            row = e["after"]
            found[row["id"],] = row["name"], row["email"]
    return found


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("filter", "filter and map, one event in ten passes", 1_000_000, orders, _filtered),
        Scenario("tumbling", "count and sum by user, 5 s", 500_000, orders, _tumbling),
        Scenario("sliding", "count and sum by user, 30 s every 5 s", 200_000, orders, _hopping),
        Scenario("session", "count and sum by user, gap of 5 min", 300_000, orders, _sessions),
        Scenario("stats", "five statistics by user", 400_000, orders, _stats),
        Scenario("debezium", "change events to the rows of a table", 100_000, changes, _replica),
    )
}


def keyed(pairs: Iterable[tuple[Any, Any]]) -> Rows:
    """Return pairs as rows: a key or value that is no tuple becomes one."""
    return {_tuple(key): _tuple(value) for key, value in pairs}


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
