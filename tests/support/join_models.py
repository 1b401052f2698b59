"""What joins and deduplication bring, computed from plain lists; and a way to drive an operator.

The models look at all records that there ever were; they know nothing of keys, state or expiry.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from hypothesis import strategies as st

from streamapp.core.rows import Rows
from streamapp.core.times import NEVER_MS
from streamapp.errors import InputError
from streamapp.operators.operator import Operator

#: Beyond all times of the tests: everything that waits comes out.
END_MS = 1_000_000
LEFT, RIGHT = 0, 1


class Record(NamedTuple):
    """An arrival; ``mark`` is the watermark before it."""

    side: int
    key: str
    time: int
    value: Any
    mark: int


class Result(NamedTuple):
    """A row that an operator brought."""

    key: Any
    time: int
    value: Any


class MapView:
    """The rows of an operator in a ``dict``."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        keys = sorted(self.rows)
        for key in keys[bisect_left(keys, start) : bisect_left(keys, end)]:
            yield key, self.rows[key]

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        for key, data in changes.items():
            if data is None:
                del self.rows[key]  # an operator deletes what is there, nothing else
            else:
                self.rows[key] = data


class JsonCodec:
    """Values as JSON; what is no JSON is refused."""

    def encode(self, value: object) -> bytes:
        try:
            return json.dumps(value, allow_nan=False).encode()
        except (TypeError, ValueError) as exc:
            msg = f"{value!r} is no JSON"
            raise InputError(msg) from exc

    def decode(self, data: bytes) -> object:
        return json.loads(data)


def with_marks(drawn: Sequence[tuple[int, str, int]], bound: int) -> list[Record]:
    """Give records their number as value, and the watermark of ``bound`` out-of-orderness."""
    records, mark = [], NEVER_MS
    for number, (side, key, time) in enumerate(drawn):
        records.append(Record(side, key, time, number, mark))
        mark = max(mark, time - bound - 1)
    return records


@st.composite
def arrivals(draw: st.DrawFn, sides: int = 2, scale: int = 1) -> list[Record]:
    """Draw records on a small grid, so that times, bounds and ends of intervals meet."""
    span, keys = draw(st.sampled_from([(5, "ab"), (8, "b"), (20, "abc")]))
    time = st.integers(-span, span).map(lambda at: at * scale)
    one = st.tuples(st.integers(0, sides - 1), st.sampled_from(keys), time)
    drawn = draw(st.lists(one, min_size=draw(st.sampled_from([0, 10])), max_size=30))
    if draw(st.booleans()):
        drawn.sort(key=lambda record: record[2])
    return with_marks(drawn, draw(st.integers(0, 5)) * scale)


def rows_of(records: Sequence[Record], first_origin: int = 0) -> Rows:
    return Rows(
        [record.key for record in records],
        [record.time for record in records],
        [record.value for record in records],
        [record.mark for record in records],
        list(range(first_origin, first_origin + len(records))),
    )


def results_of(rows: Rows) -> list[Result]:
    return [Result(*row) for row in zip(rows.keys, rows.times, rows.values, strict=True)]


@dataclass
class Driver:
    """Feeds an operator as its contract says; ``after_batch`` may drain, trim and restart it."""

    make: Callable[[MapView], Operator]
    view: MapView = field(default_factory=MapView)
    late: Counter[str] = field(default_factory=Counter)
    most: int = 0

    def __post_init__(self) -> None:
        self.operator = self.make(self.view)

    def run(self, records: Sequence[Record], cut: int, after_batch: str = "") -> list[Result]:
        out: list[Result] = []
        for start in range(0, len(records), cut):
            batch = records[start : start + cut]
            for side, run in groupby(batch, key=lambda record: record.side):
                out += self.feed(rows_of(list(run)), side)
            after = records[start + cut :]
            out += results_of(self.operator.advance(after[0].mark if after else END_MS))
            self.between(after_batch)
        self.late += self.operator.late
        return out

    def feed(self, rows: Rows, side: int) -> list[Result]:
        """See ``operators.operator``: no row before the work that is due before it."""
        out: list[Result] = []
        start, due = 0, self.operator.next_due_ms
        dues = self.operator.dues(rows, side)
        for at, mark in enumerate(rows.marks):
            if mark >= due:
                out += results_of(self.operator.process(rows.part(start, at), side))
                out += results_of(self.operator.advance(mark))
                start, due = at, self.operator.next_due_ms
            due = due if dues is None else min(due, dues[at])
        return out + results_of(self.operator.process(rows.part(start, len(rows)), side))

    def between(self, what: str) -> None:
        if not what:
            return
        assert self.operator.changed >= 0
        self.view.apply(self.operator.drain())
        assert not self.operator.drain()
        if what == "trim":
            self.operator.trim(2)
            self.most = max(self.most, self.operator.size)
        if what == "restart":
            self.late += self.operator.late
            self.operator = self.make(self.view)


def window_join(
    records: Sequence[Record], before: int, after: int, kind: str
) -> tuple[list[Result], int]:
    """Return the results in order, and how many records were late."""
    alone = {"inner": (), "left": (LEFT,), "outer": (LEFT, RIGHT)}[kind]
    reach = (after, before)
    waiting: list[tuple[int, Record]] = []
    met: set[int] = set()
    out: list[Result] = []
    late = 0

    def pass_by(mark: int) -> None:
        gone = [(n, r) for n, r in waiting if r.time + reach[r.side] <= mark]
        waiting[:] = [one for one in waiting if one not in gone]
        lonely = [
            (max(r.time, r.time + reach[r.side]), n, r)
            for n, r in gone
            if r.side in alone and n not in met
        ]
        for time, _, r in sorted(lonely):
            pair = (r.value, None) if r.side == LEFT else (None, r.value)
            out.append(Result(r.key, time, pair))

    for number, record in enumerate(records):
        pass_by(record.mark)
        if record.time + before + after <= record.mark:
            late += 1
            continue
        partners = sorted(
            (other.time, n, other)
            for n, other in waiting
            if other.key == record.key
            and other.side != record.side
            and -before <= right_minus_left(record, other) <= after
        )
        for time, n, other in partners:
            met.update((n, number))
            left, right = (record, other) if record.side == LEFT else (other, record)
            out.append(Result(record.key, max(time, record.time), (left.value, right.value)))
        waiting.append((number, record))
    pass_by(END_MS)
    return out, late


def right_minus_left(one: Record, other: Record) -> int:
    return one.time - other.time if one.side == RIGHT else other.time - one.time


def as_of_join(
    records: Sequence[Record], within: int | None, kind: str
) -> tuple[list[Result], int]:
    """Return the results in order, and how many records were late."""
    limit = END_MS * 2 if within is None else within
    seen: list[tuple[int, Record]] = []
    answered: set[int] = set()
    out: list[Result] = []
    late = 0

    def pass_by(mark: int) -> None:
        ripe = [(r.time, n, r) for n, r in seen if r.side == LEFT and r.time <= mark]
        for time, n, left in sorted(ripe):
            if n in answered:
                continue
            answered.add(n)
            known = [
                (r.time, m, r.value)
                for m, r in seen
                if r.side == RIGHT and r.key == left.key and time - limit <= r.time <= time
            ]
            if known or kind == "left":
                out.append(Result(left.key, time, (left.value, max(known)[2] if known else None)))

    for number, record in enumerate(records):
        pass_by(record.mark)
        if record.time + (limit if record.side == RIGHT else 0) <= record.mark:
            late += 1
        else:
            seen.append((number, record))
    pass_by(END_MS)
    return out, late
