"""What the pipelines of ``pipeline_app`` must have done, out of the logs alone.

Plain lists and dictionaries, one record after the other: nothing here is shared with the code under
test. ``totals`` is computed from the topic in its middle, and that topic from the input.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.pipeline_app import (
    ALLOWED_MS,
    AROUND_MS,
    BOUND_MS,
    GAP_MS,
    HOP_MS,
    SAME_MS,
    SIZE_MS,
    SOME,
)  # fmt: skip

if TYPE_CHECKING:
    from support.reference import Seen

NEVER = -(1 << 62)
HEADER = "streamapp-watermark"
#: The key of the records, one in each partition, that let all windows close.
END = "end"

#: A row of a window: key, start, kind, count, sum.
Row = tuple[Any, int, str, int, int]


def read_json(seen: Seen) -> dict[str, Any] | None:
    """Return a value that can be worked on; ``None`` for a bad one."""
    try:
        value: dict[str, Any] = json.loads(seen.value or b"")
    except ValueError:
        return None
    return value if isinstance(value["n"], int) else None


def by_partition(log: Iterable[Seen]) -> dict[int, list[Seen]]:
    found: dict[int, list[Seen]] = defaultdict(list)
    for seen in sorted(log, key=lambda one: one[:2]):
        found[seen.partition].append(seen)
    return found


# --- between the stages of totals ----------------------------------------------------------------


def told_wrongly(source: Iterable[Seen], middle: Iterable[Seen]) -> list[str]:
    """Return what is wrong with the records and watermarks in the topic between the two stages.

    Each source partition's records are there once and in their order, and with each one the
    watermark of its partition before it is known: no more, no less, never back.
    """
    wanted = _marks_of(source)
    found: list[str] = []
    passed: list[int] = []
    for log in by_partition(middle).values():
        told: dict[int, int] = defaultdict(lambda: NEVER)
        last: dict[int, int] = defaultdict(int)
        for seen in log:
            for number, mark in _heard(seen):
                if mark < told[number]:
                    found.append(f"{seen}: {mark} after {told[number]}")
                told[number] = mark
            if seen.value is not None:
                at = json.loads(seen.value)["at"]
                number, mark = wanted[at]
                if told[number] != mark or at <= last[number]:
                    found.append(f"{seen}: is at {mark} of {number}, told {told}, last {last}")
                last[number] = at
                passed.append(at)
    if sorted(passed) != sorted(wanted):
        found.append(f"{len(wanted)} records expected, {len(passed)} are between the stages")
    return found


def _marks_of(source: Iterable[Seen]) -> dict[int, tuple[int, int]]:
    """Return partition and watermark of the records that are to come through."""
    marks: dict[int, tuple[int, int]] = {}
    for number, log in by_partition(source).items():
        latest = NEVER
        for value in filter(None, map(read_json, log)):
            if value["n"] >= 0:
                marks[value["at"]] = number, max(latest - BOUND_MS - 1, NEVER)
            latest = max(latest, value["ts"])
    return marks


def _heard(seen: Seen) -> list[tuple[int, int]]:
    text = seen.headers.get(HEADER)
    if text is None:
        return []
    source, mark, *_ = text.split()
    return [(int(source), int(mark))]


# --- windows -------------------------------------------------------------------------------------


@dataclass
class Totals:
    """Rows in their order, by partition; late records; the last row of each window."""

    rows: dict[int, list[Row]] = field(default_factory=lambda: defaultdict(list))
    late: Counter[int] = field(default_factory=Counter)

    @property
    def table(self) -> dict[tuple[Any, int], tuple[int, int]]:
        return {row[:2]: row[3:] for rows in self.rows.values() for row in rows}


def totals_of(middle: Iterable[Seen], sources: int) -> Totals:
    """Return what tumbling windows with allowed lateness make of the topic in the middle."""
    totals = Totals()
    for partition, log in by_partition(middle).items():
        _totals(log, sources, totals.rows[partition], totals.late)
    return totals


def _totals(log: list[Seen], sources: int, rows: list[Row], late: Counter[int]) -> None:
    told = dict.fromkeys(range(sources), NEVER)
    windows: dict[tuple[int, int], list[int]] = defaultdict(list)
    now = NEVER

    def say(start: int, key: int, kind: str) -> None:
        numbers = windows[start, key]
        rows.append((key, start, kind, len(numbers), sum(numbers)))

    for seen in log:
        told.update(_heard(seen))
        before, now = now, max(now, min(told.values()))
        for start, key in sorted(windows):
            if before < start + SIZE_MS - 1 <= now:
                say(start, key, "final")
        if seen.value is None:
            continue
        value = json.loads(seen.value)
        start = value["ts"] // SIZE_MS * SIZE_MS
        if start + SIZE_MS - 1 + ALLOWED_MS <= now:
            late[value["at"]] += 1
            continue
        windows[start, value["g"]].append(value["n"])
        if start + SIZE_MS - 1 <= now:
            say(start, value["g"], "late")


def visits_of(source: Iterable[Seen]) -> Counter[Row]:
    """Return the sessions of records that are not repeated and not late."""
    rows: Counter[Row] = Counter()
    for log in by_partition(source).values():
        seen_at: dict[tuple[str, int], list[int]] = defaultdict(list)
        #: Open sessions of a key: first, last, numbers.
        open_: dict[str, list[tuple[int, int, list[int]]]] = defaultdict(list)
        latest = NEVER
        for seen in log:
            value = read_json(seen)
            if value is None:
                continue
            mark = latest - BOUND_MS - 1
            _close(open_, mark, rows)
            key, time = value["k"], value["ts"]
            latest = max(latest, time)
            times = seen_at[key, value["id"]]
            if any(abs(time - other) <= SAME_MS for other in times):
                continue
            times.append(time)
            _visit(open_[key], time, value["n"], mark)
        _close(open_, latest - BOUND_MS - 1, rows)
    return rows


def _visit(sessions: list[tuple[int, int, list[int]]], time: int, n: int, mark: int) -> None:
    near = [one for one in sessions if one[0] - GAP_MS <= time <= one[1] + GAP_MS]
    first = min([time, *(one[0] for one in near)])
    last = max([time, *(one[1] for one in near)])
    if last + GAP_MS <= mark:
        return
    for one in near:
        sessions.remove(one)
    sessions.append((first, last, [n, *(m for one in near for m in one[2])]))


def _close(
    open_: dict[str, list[tuple[int, int, list[int]]]], mark: int, rows: Counter[Row]
) -> None:
    for key, sessions in open_.items():
        for one in [one for one in sessions if one[1] + GAP_MS <= mark]:
            sessions.remove(one)
            rows[key, one[0], "final", len(one[2]), sum(one[2])] += 1


@dataclass
class Early:
    """The last row of each hopping window, and the sums of each so many records of a key."""

    table: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    some: Counter[tuple[str, int]] = field(default_factory=Counter)


def early_of(source: Iterable[Seen]) -> Early:
    """Return what comes of windows that close at once, each for itself, and of counted records."""
    early = Early()
    for log in by_partition(source).values():
        latest = NEVER
        waiting: dict[str, list[int]] = defaultdict(list)
        for value in filter(None, map(read_json, log)):
            key, time, number = value["k"], value["ts"], value["n"]
            if key == END:
                continue
            for start in range(time // HOP_MS * HOP_MS, time - SIZE_MS, -HOP_MS):
                if start + SIZE_MS - 1 > latest - BOUND_MS - 1:
                    n, total = early.table.get((key, start), (0, 0))
                    early.table[key, start] = n + 1, total + number
            latest = max(latest, time)
            waiting[key].append(number)
            if len(waiting[key]) == SOME:
                early.some[key, sum(waiting.pop(key))] += 1
    return early


# --- pairs ---------------------------------------------------------------------------------------


def pairs_of(first: Iterable[Seen], other: Iterable[Seen]) -> Counter[tuple[int, int | None]]:
    """Return the pairs of ids near in time; records without a partner alone."""
    right: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for value in filter(None, map(read_json, other)):
        right[value["k"]].append(value)
    pairs: Counter[tuple[int, int | None]] = Counter()
    for value in filter(None, map(read_json, first)):
        if value["n"] % 2 == 0:
            near = [
                one["id"] for one in right[value["k"]] if abs(one["ts"] - value["ts"]) <= AROUND_MS
            ]
            pairs.update([(value["id"], one) for one in near or [None]])
    return pairs
