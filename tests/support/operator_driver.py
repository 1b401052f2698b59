"""The loop around an operator that its contract describes, and a state for it to drain into."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from streamapp.core.rows import Rows
from streamapp.core.times import NEVER_MS
from streamapp.operators.operator import Operator
from streamapp.operators.session import SessionWindows


class DictState:
    """A ``StateView`` over a dict."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter([(k, v) for k, v in sorted(self.rows.items()) if start <= k < end])

    def apply(self, operator: Operator) -> int:
        """Take over what the operator drains; return how many rows that were."""
        changes = operator.drain()
        for key, row in changes.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        return len(changes)


def rows_of(
    records: Sequence[tuple[object, int, object]], bound_ms: int, after_ms: int = NEVER_MS
) -> Rows:
    """Make rows of ``(key, time, value)``; the watermark lags ``bound_ms`` + 1 behind the times."""
    marks = watermarks(records, bound_ms, after_ms)[:-1]
    keys, times, values = ([record[i] for record in records] for i in range(3))
    return Rows(keys, times, values, marks, [*range(len(records))])


def watermarks(
    records: Sequence[tuple[object, int, object]], bound_ms: int, after_ms: int = NEVER_MS
) -> list[int]:
    """Return the watermark before each record, and the one after the last."""
    return [*accumulate((time - bound_ms - 1 for _, time, _ in records), max, initial=after_ms)]


def first_due(operator: Operator, rows: Rows, side: int = 0) -> int:
    """Return how many rows may be processed before ``advance`` has to be called.

    Rows of one origin are not parted.
    """
    stop = bisect_left(rows.marks, operator.next_due_ms)
    dues = operator.dues(rows, side)
    for index, due in enumerate(accumulate(() if dues is None else dues, min), 1):
        if index < stop and rows.marks[index] >= due:
            stop = index
            break
    while 0 < stop < len(rows) and rows.origins[stop] == rows.origins[stop - 1]:
        stop += 1
    return stop


@dataclass
class Driver:
    """Runs rows through an operator in batches; ``out`` is all that came, ``late`` the side."""

    operator: Operator
    watermark: int = NEVER_MS
    out: list[object] = field(default_factory=list)
    late: list[object] = field(default_factory=list)

    def run(self, rows: Rows, after_ms: int, side: int = 0) -> None:
        """Run one batch; ``after_ms`` is the watermark behind it."""
        while len(rows):
            if self.operator.next_due_ms <= rows.marks[0]:
                self.advance(rows.marks[0])
            stop = first_due(self.operator, rows, side)
            assert stop > 0, "advance left work behind"
            self.take(self.operator.process(rows.part(0, stop), side))
            self.late += self.operator.take_late().values
            rows = rows.part(stop, len(rows))
        self.advance(after_ms)

    def advance(self, watermark_ms: int) -> None:
        """Do what is due, as a stage does: only if something is."""
        self.watermark = max(self.watermark, watermark_ms)
        while self.operator.next_due_ms <= self.watermark:
            brought = self.operator.advance(self.watermark)
            is_done = self.operator.next_due_ms > self.watermark
            assert is_done or len(brought), "advance left work behind"
            self.take(brought)

    def commit(self, state: DictState) -> None:
        """Emit what is emitted per commit, and bring the state up to date."""
        self.take(self.operator.on_commit())
        state.apply(self.operator)

    def take(self, rows: Rows) -> None:
        """Note results."""
        # A session's last instant is its end.
        before = 0 if isinstance(self.operator, SessionWindows) else 1
        assert all(
            row.end - before == time
            for row, time in zip(rows.values, rows.times, strict=True)
            if hasattr(row, "end")
        )
        self.out += rows.values


def cut(rows: Rows, marks: Sequence[int], size: int) -> Iterator[tuple[Rows, int]]:
    """Cut rows into batches of a size; ``marks`` has one more entry, the watermark at the end."""
    for start in range(0, len(rows), size):
        stop = min(start + size, len(rows))
        yield rows.part(start, stop), marks[stop]


def run_all(make: Callable[[], Operator], rows: Rows, marks: Sequence[int], size: int) -> Driver:
    """Run all rows in batches of a size through a new operator."""
    driver = Driver(make())
    for batch, after in cut(rows, marks, size):
        driver.run(batch, after)
    return driver
