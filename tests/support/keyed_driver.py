"""Runs an operator over records as a stage does: in batches, with commits, trims and restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from streamapp.core.rows import NO_ROWS, Rows
from streamapp.operators.operator import Operator, StateView


@dataclass
class DictView(StateView):
    """The state of an operator in a ``dict``; counts what is read."""

    rows: dict[bytes, bytes] = field(default_factory=dict)

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter([(key, self.rows[key]) for key in sorted(self.rows) if start <= key < end])

    def apply(self, changed: dict[bytes, bytes | None]) -> None:
        for key, row in changed.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row


@dataclass
class Run:
    """An operator at work. ``emitted`` holds its rows in order, with the commits' in between."""

    make: Callable[[StateView], Operator]
    view: DictView = field(default_factory=DictView)
    emitted: list[object] = field(default_factory=list)
    late: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.operator = self.make(self.view)

    def take(self, rows: Rows) -> None:
        """Process rows; advance wherever a mark has reached what is due."""
        start = 0
        while start < len(rows):
            self.go_to(rows.marks[start])
            stop = self._stop(rows.part(start, len(rows))) + start
            self._emit(self.operator.process(rows.part(start, stop)))
            self.late += self.operator.take_late().values
            start = stop

    def _stop(self, rows: Rows) -> int:
        """Return how many rows may be processed before the operator must advance."""
        dues = self.operator.dues(rows) or [self.operator.next_due_ms] * len(rows)
        least = [*accumulate(dues, min, initial=self.operator.next_due_ms)]
        return next((i for i in range(1, len(rows)) if rows.marks[i] >= least[i]), len(rows))

    def go_to(self, watermark: int) -> None:
        if self.operator.next_due_ms <= watermark:
            self._emit(self.operator.advance(watermark))
            assert self.operator.next_due_ms > watermark
            assert self.operator.advance(watermark) is NO_ROWS

    def commit(self) -> None:
        self._emit(self.operator.on_commit())
        self.view.apply(dict(self.operator.drain()))
        assert self.operator.changed == 0

    def trim(self, rows: int) -> None:
        self.operator.trim(rows)
        assert self.operator.size <= rows

    def restart(self, watermark: int) -> None:
        """Commit, and go on with a new operator over the same state."""
        self.commit()
        late = self.operator.late
        self.operator = self.make(self.view)
        self.operator.restore(watermark)
        self.operator.late = late

    def _emit(self, rows: Rows) -> None:
        lengths = {len(c) for c in (rows.keys, rows.times, rows.values, rows.marks, rows.origins)}
        assert lengths == {len(rows)}
        self.emitted += rows.values


def cut(rows: Rows, size: int) -> list[Rows]:
    """Return the rows in batches of so many."""
    edges = [*range(0, len(rows), size), len(rows)]
    return [rows.part(start, stop) for start, stop in pairwise(edges)]


def as_rows(
    keys: Sequence[str], times: Sequence[int], values: Sequence[object], marks: Sequence[int]
) -> Rows:
    """Return records as rows, each with an origin of its own."""
    return Rows(keys, times, values, marks[: len(times)], range(len(times)))
