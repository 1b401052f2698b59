"""The loops that pipelines are compared with, and references that are written to be read."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Any

import msgspec

import streamapp

#: By user and start of the window (or by id): count, sum, and what else there is.
Results = dict[tuple[Any, ...], tuple[Any, ...]]

#: Aggregates in the order of results.
NAMES = ("n", "total", "least", "most", "sd")
THRESHOLD = 99.0
SIZE_MS, SLIDE_MS, GAP_MS, STATS_MS = 30_000, 5_000, 300_000, 60_000
#: The user of the last event, which only closes windows.
END = "end"
_DIGITS = 6


class Order(streamapp.Record):
    """What is read of an event."""

    id: int
    user: str
    amount: float
    ts: int


_decode = msgspec.json.Decoder(Order).decode


def rounded(results: Results) -> Results:
    """Return results without the noise of floats."""
    return {
        key: tuple(round(value, _DIGITS) if isinstance(value, float) else value for value in row)
        for key, row in results.items()
    }


# --- plain loops, as fast as they are simple ----------------------------------------------------


def passed(records: Sequence[bytes]) -> Results:
    """Filter and map."""
    found: Results = {}
    for record in records:
        order = _decode(record)
        if order.amount > THRESHOLD:
            found[order.id,] = (order.amount * 2,)
    return found


def tumbling(records: Sequence[bytes]) -> Results:
    """Count and sum by user and window."""
    found: dict[Any, Any] = {}
    for record in records:
        order = _decode(record)
        key = order.user, order.ts // SLIDE_MS
        row = found.get(key)
        found[key] = (1, order.amount) if row is None else (row[0] + 1, row[1] + order.amount)
    return _by_start(found, SLIDE_MS)


def hopping(records: Sequence[bytes]) -> Results:
    """Count and sum by user in each of the windows of an event."""
    found: dict[Any, Any] = {}
    for record in records:
        order = _decode(record)
        last = order.ts // SLIDE_MS
        for number in range(last - SIZE_MS // SLIDE_MS + 1, last + 1):
            key = order.user, number
            row = found.get(key)
            found[key] = (1, order.amount) if row is None else (row[0] + 1, row[1] + order.amount)
    return _by_start(found, SLIDE_MS)


def session(records: Sequence[bytes]) -> Results:
    """Count and sum by user and visit; right only because events are not far out of order."""
    found: Results = {}
    visits: dict[str, list[Any]] = {}
    for record in records:
        order = _decode(record)
        visit = visits.get(order.user)
        if visit is None or order.ts - visit[1] > GAP_MS:
            if visit is not None:
                found[order.user, visit[0]] = visit[2], visit[3]
            visits[order.user] = [order.ts, order.ts, 1, order.amount]
            continue
        visit[0], visit[1] = min(visit[0], order.ts), max(visit[1], order.ts)
        visit[2] += 1
        visit[3] += order.amount
    found |= {(user, visit[0]): (visit[2], visit[3]) for user, visit in visits.items()}
    return {key: row for key, row in found.items() if key[0] != END}


def stats(records: Sequence[bytes]) -> Results:
    """Five statistics by user and window, the deviation by Welford's step."""
    found: dict[Any, Any] = {}
    for record in records:
        order = _decode(record)
        x = order.amount
        row = found.get(key := (order.user, order.ts // STATS_MS))
        if row is None:
            found[key] = [1, x, x, x, x, 0.0]
            continue
        row[0] += 1
        row[1] += x
        row[2] = min(row[2], x)
        row[3] = max(row[3], x)
        apart = x - row[4]
        row[4] += apart / row[0]
        row[5] += apart * (x - row[4])
    rows = {key: (*row[:4], sqrt(row[5] / row[0])) for key, row in found.items()}
    return _by_start(rows, STATS_MS)


def _by_start(found: Mapping[Any, Any], step_ms: int) -> Results:
    return {(user, n * step_ms): row for (user, n), row in found.items() if user != END}


# --- references ---------------------------------------------------------------------------------


def passed_reference(records: Sequence[bytes]) -> Results:
    """Filter and map."""
    return {
        (one["id"],): (one["amount"] * 2,)
        for one in map(json.loads, records)
        if one["amount"] > THRESHOLD
    }


def tumbling_reference(records: Sequence[bytes]) -> Results:
    """Count and sum by user and window."""
    return {key: _totals(of) for key, of in _amounts(records, SLIDE_MS, SLIDE_MS)}


def hopping_reference(records: Sequence[bytes]) -> Results:
    """Count and sum by user in each of the windows of an event."""
    return {key: _totals(of) for key, of in _amounts(records, SIZE_MS, SLIDE_MS)}


def stats_reference(records: Sequence[bytes]) -> Results:
    """Five statistics by user and window."""
    return {
        key: (*_totals(of), min(of), max(of), statistics.pstdev(of))
        for key, of in _amounts(records, STATS_MS, STATS_MS)
    }


def session_reference(records: Sequence[bytes]) -> Results:
    """Count and sum by user and visit, from each user's events in the order of time."""
    visits = defaultdict(list)
    for one in map(json.loads, records):
        visits[one["user"]].append((one["ts"], one["amount"]))
    del visits[END]
    found: Results = {}
    for user, of in visits.items():
        of.sort()
        edges = [n for n in range(1, len(of)) if of[n][0] - of[n - 1][0] > GAP_MS]
        for start, stop in zip([0, *edges], [*edges, len(of)], strict=True):
            part = of[start:stop]
            found[user, part[0][0]] = _totals([amount for _, amount in part])
    return found


def _amounts(
    records: Sequence[bytes], size_ms: int, slide_ms: int
) -> Iterator[tuple[tuple[str, int], list[float]]]:
    found = defaultdict(list)
    for one in map(json.loads, records):
        newest = one["ts"] // slide_ms * slide_ms
        for start in range(newest, newest - size_ms, -slide_ms):
            found[one["user"], start].append(one["amount"])
    return ((key, amounts) for key, amounts in found.items() if key[0] != END)


def _totals(amounts: Sequence[float]) -> tuple[int, float]:
    return len(amounts), sum(amounts)
