"""One partition of a stage at work: rows go through its units, watermarks make windows close.

Called by one task of the engine, never in the middle of an await, so a commit sees a whole run. A
run is cut wherever the watermark reaches something that is due, so results do not depend on where a
batch ends: see ``operators.operator`` for the contract.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol, cast

import numpy as np

from streamapp.core.int_columns import as_numpy
from streamapp.core.rows import NO_ROWS, Rows
from streamapp.core.times import FOREVER_MS, NEVER_MS
from streamapp.operators.buffer import BufferRows
from streamapp.operators.fused import Fused
from streamapp.operators.join import TableJoin
from streamapp.operators.limit import RateLimit
from streamapp.operators.operator import Operator, RowError
from streamapp.operators.pick import picked
from streamapp.pipelines.confluence import is_confluent

#: Operators that may let rows wait.
_WAITS = (RateLimit, BufferRows)
#: Told of a row that a step behind an operator cannot use: it belongs to no single record.
OnBadRow = Callable[[str, Rows, RowError], None]


class Sink(Protocol):
    """Where rows leave a stage."""

    def write(self, rows: Rows) -> None:
        """Take rows; they are part of the next commit.

        Raises:
            RowError: A row cannot be written; rows of earlier origins are.
        """


@dataclass(eq=False, slots=True)
class Unit:
    """A step of a task: exactly one of ``plain``, ``operator`` and ``sink``; topological order.

    ``plain`` keeps nothing, so what a row makes it raise is the affair of the row's record.
    """

    name: str
    plain: Fused | TableJoin | None = None
    operator: Operator | None = None
    sink: Sink | None = None
    to: list[tuple[Unit, int]] = field(default_factory=list)
    late_to: list[tuple[Unit, int]] = field(default_factory=list)

    def reached_at_once(self) -> Iterator[tuple[Operator, int]]:
        """Iterate over the operators that get something at once of what this unit gets."""
        if self.operator is not None:
            yield self.operator, 0
            if not self.operator.is_immediate:
                return
        for unit, _ in self.to:
            yield from unit.reached_at_once()


@dataclass(slots=True)
class _Arrival:
    """Rows on their way from an input to an operator or sink; those before ``at`` are there."""

    unit: Unit
    side: int
    rows: Rows
    at: int = 0

    @property
    def rest(self) -> Rows:
        """The rows that are not there yet."""
        return self.rows.part(self.at, len(self.rows))

    def until(self, origin: int) -> Rows:
        """Take the rows of origins below this one that are left."""
        stop = bisect_left(self.rows.origins, origin, self.at)
        part = self.rows.part(self.at, stop)
        self.at = stop
        return part


class Task:
    """The units of one partition; ``watermark_ms`` is the last one that was worked on."""

    def __init__(
        self,
        units: Sequence[Unit],
        inputs: Sequence[Sequence[tuple[Unit, int]]],
        on_bad_row: OnBadRow,
        watermark_ms: int = NEVER_MS,
    ) -> None:
        self.units = units
        self.watermark_ms = watermark_ms
        self._inputs = inputs
        self._is_confluent = [is_confluent(to) for to in inputs]
        self._on_bad_row = on_bad_row
        self._operators = [unit for unit in units if unit.operator is not None]
        self._asks_marks = bool(self._operators) or any(
            isinstance(unit.plain, TableJoin) and unit.plain.asks_time for unit in units
        )
        self._mark = watermark_ms
        self._let_advance()

    def _let_advance(self) -> None:
        """Have an operator advance itself where nobody sees in which call a result came."""
        for unit in self._operators:
            alone = len(self._operators) == 1 and not unit.late_to and not any(self._is_confluent)
            if unit.operator is not None and unit.operator.can_advance_itself:
                unit.operator.advances_itself = alone

    @property
    def asks_marks(self) -> bool:
        """Whether a step looks at watermarks; sinks may do so too."""
        return self._asks_marks

    @property
    def operators(self) -> Iterator[tuple[str, Operator]]:
        """The operators with their units' names."""
        return ((u.name, u.operator) for u in self._operators if u.operator is not None)

    def run(
        self, source: int, rows: Rows, after_ms: int, signals: Sequence[int] = ()
    ) -> RowError | None:
        """Work on records of an input.

        Args:
            source: The number of the input.
            rows: The records.
            after_ms: The watermark behind them.
            signals: Which of them only tell of a watermark: indices, rising.

        Returns:
            The error of the first record that cannot be used: those before it are done, it and
            those after it are not.
        """
        given = _without(rows, signals)
        if not self._is_confluent[source]:
            return self._run(source, rows, after_ms, given)
        for start, stop in _spans(rows.origins):
            behind_ms = rows.marks[stop] if stop < len(rows) else after_ms
            at = bisect_left(given.origins, rows.origins[start])
            part = given.part(at, bisect_right(given.origins, rows.origins[start], at))
            if failed := self._run(source, rows.part(start, stop), behind_ms, part):
                return failed
        self.advance(after_ms)
        return None

    def _run(self, source: int, rows: Rows, after_ms: int, given: Rows) -> RowError | None:
        """Work on the ``given`` of the records ``rows``: all of them move the watermark."""
        arrivals: list[_Arrival] = []
        failed = self._spread(self._inputs[source], given, arrivals)
        # A step that lets rows wait must be asked before another one takes them.
        arrivals.sort(key=lambda arrival: not isinstance(arrival.unit.operator, _WAITS))
        at, before = 0, self._mark
        while True:
            stop = len(rows) if failed is None else bisect_left(rows.origins, failed.origin)
            at = self._cut(rows, at, stop, arrivals)
            origin = rows.origins[at] if at < len(rows) else FOREVER_MS
            failed = self._step(arrivals, origin, failed)
            done = at if failed is None else bisect_left(rows.origins, failed.origin, 0, at)
            self._mark = max(self.watermark_ms, rows.marks[done - 1] if done else before)
            if at == stop or done < at:
                break
            self.advance(rows.marks[at])
            self._check_progress(rows.marks[at])
        if failed is None:
            self.advance(after_ms)
        return failed

    def advance(self, watermark_ms: int) -> None:
        """Do all that is due at this watermark."""
        for _ in self.advancing(watermark_ms):
            pass

    def advancing(self, watermark_ms: int) -> Iterator[None]:
        """Do all that is due at this watermark, a piece at each step; nothing else meanwhile."""
        for unit in self._operators:
            operator = unit.operator
            while operator is not None and operator.next_due_ms <= watermark_ms:
                self._emit(unit, self._marked(operator.advance(watermark_ms)))
                self._tell_failed(unit, operator)
                yield
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        # What comes next does so at this watermark, with or without a restart in between.
        self._mark = max(self._mark, watermark_ms)

    def due_by(self, watermark_ms: int) -> int:
        """Return about how many results are due at this watermark; see ``Operator.due_by``."""
        return sum(operator.due_by(watermark_ms) for _, operator in self.operators)

    def commit(self) -> None:
        """Emit what is emitted once per commit."""
        for unit in self._operators:
            if unit.operator is not None:
                self._emit(unit, self._marked(unit.operator.on_commit()))
                self._tell_failed(unit, unit.operator)

    # --- from an input to the first operators ----------------------------------------------------

    def _spread(
        self, to: Sequence[tuple[Unit, int]], rows: Rows, arrivals: list[_Arrival]
    ) -> RowError | None:
        """Bring rows through stateless steps; return the first error."""
        failed: RowError | None = None
        for unit, side in to:
            if unit.plain is None:
                arrivals.append(_Arrival(unit, side, rows))
                continue
            through, error = unit.plain.run(rows)
            for found in (error, self._spread(unit.to, through, arrivals)):
                if found is not None and (failed is None or found.origin < failed.origin):
                    failed = found
        return failed

    def _cut(self, rows: Rows, start: int, stop: int, arrivals: list[_Arrival]) -> int:
        """Return the index of the first of the rows ``[start, stop)`` before which work is due."""
        if all(op.advances_itself for _, op in self.operators):
            return stop
        due_ms = min((op.next_due_ms for _, op in self.operators), default=FOREVER_MS)
        index = min(max(bisect_left(rows.marks, due_ms), start), stop)
        last_ms = rows.marks[index - 1] if index else NEVER_MS
        for arrival in arrivals:
            rest = arrival.rest
            for made in self._dues(arrival, rest, last_ms) if len(rest) else ():
                index = start + _first_reached(
                    rows.marks[start:index], _at_records(rows.origins[start:index], rest, made)
                )
        while start < index < stop and rows.origins[index] == rows.origins[index - 1]:
            index += 1
        return index

    def _dues(self, arrival: _Arrival, rows: Rows, last_ms: int) -> list[Sequence[int]]:
        reached = arrival.unit.reached_at_once()
        found = (operator.dues(rows, arrival.side, last_ms) for operator, _ in reached)
        return [dues for dues in found if dues is not None]

    def _step(
        self, arrivals: list[_Arrival], origin: int, failed: RowError | None
    ) -> RowError | None:
        """Work on all rows of origins below this one (and below that of a failure)."""
        is_taken = False
        for arrival in arrivals:
            part = arrival.until(origin if failed is None else min(origin, failed.origin))
            if not len(part):
                continue
            if is_taken:
                # Another step has these rows already, so they cannot be offered again.
                self._push(arrival.unit, arrival.side, part)
                continue
            is_taken = True
            try:
                self._take(arrival.unit, part, arrival.side)
            except RowError as exc:
                failed = exc
        return failed

    def _check_progress(self, mark: int) -> None:
        for name, operator in self.operators:
            if operator.next_due_ms <= mark:
                msg = f"{name} has work at {operator.next_due_ms} that it did not do at {mark}"
                raise RuntimeError(msg)

    # --- behind the first operators --------------------------------------------------------------

    def _take(self, unit: Unit, rows: Rows, side: int) -> None:
        """Give rows to an operator or sink, and what it brings at once to those behind it."""
        if unit.sink is not None:
            unit.sink.write(rows)
            self._mark = max(self._mark, rows.marks[-1])
            return
        operator = unit.operator
        if operator is None:
            msg = f"{unit.name} is neither an operator nor a sink"
            raise TypeError(msg)
        try:
            brought = operator.process(rows, side)
        except RowError as exc:
            # Of the rows from there on nobody knows yet, nor of how far they are.
            done = bisect_left(rows.origins, exc.origin)
            self._mark = max(self._mark, rows.marks[done - 1]) if done else self._mark
            self._emit(unit, exc.brought)
            self._emit_late(unit, operator)
            self._tell_failed(unit, operator)
            raise
        self._mark = max(self._mark, rows.marks[-1])
        self._emit(unit, brought)
        self._emit_late(unit, operator)
        self._tell_failed(unit, operator)

    def _emit(self, unit: Unit, rows: Rows) -> None:
        if len(rows):
            for below, side in unit.to:
                self._push(below, side, rows)

    def _emit_late(self, unit: Unit, operator: Operator) -> None:
        if unit.late_to and len(late := operator.take_late()):
            for below, side in unit.late_to:
                self._push(below, side, late)

    def _push(self, unit: Unit, side: int, rows: Rows) -> None:
        """Bring rows of an operator on; a row that cannot be used is told of, and left out."""
        rows = Rows(rows.keys, rows.times, rows.values, rows.marks, range(len(rows)))
        while len(rows):
            try:
                if unit.plain is None:
                    self._take(unit, rows, side)
                    return
                through, error = unit.plain.run(rows)
                self._emit(unit, through)
                if error is None:
                    return
                raise error
            except RowError as exc:
                index = bisect_left(rows.origins, exc.origin)
                self._on_bad_row(unit.name, rows.part(index, index + 1), exc)
                rows = rows.part(index + 1, len(rows))

    def _tell_failed(self, unit: Unit, operator: Operator) -> None:
        """Tell of results that could not be made: they belong to no single record."""
        for failed in operator.take_failed():
            error = RowError(0)
            error.__cause__ = failed.error
            rows = Rows((failed.key,), (failed.time_ms,), (failed.of,), (self._mark,), (0,))
            self._on_bad_row(unit.name, rows, error)

    def _marked(self, rows: Rows) -> Rows:
        """Give results the watermark under which they came to be."""
        if not len(rows):
            return NO_ROWS
        marks = [self._mark] * len(rows)
        return Rows(rows.keys, rows.times, rows.values, marks, range(len(rows)))


def _spans(origins: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Iterate over ``[start, stop)`` of the rows of each origin."""
    start = 0
    while start < len(origins):
        stop = bisect_right(origins, origins[start], start)
        yield start, stop
        start = stop


def _without(rows: Rows, left_out: Sequence[int]) -> Rows:
    """Return the rows but those at some (rising) indices."""
    if not left_out:
        return rows
    kept = np.delete(np.arange(len(rows)), left_out)
    return picked(rows, [*map(int, kept)])


def _at_records(origins: Sequence[int], rows: Rows, dues: Sequence[int]) -> Sequence[int]:
    """Return the least due that each record has made by the rows that are left of it.

    Records of which no row is left move the watermark too, so it is they who are asked.
    """
    if rows.origins[: len(origins)] == origins:
        return dues
    least: np.ndarray[Any, np.dtype[np.int64]] = np.full(len(origins), FOREVER_MS)
    places = np.searchsorted(_array(origins), _array(rows.origins))
    inside = int(np.searchsorted(places, len(origins)))
    np.minimum.at(least, places[:inside], np.asarray(dues[:inside]))
    return cast("Sequence[int]", least)


def _array(numbers: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    if isinstance(numbers, range):
        return np.arange(numbers.start, numbers.stop, numbers.step)
    return as_numpy(numbers)


def _first_reached(marks: Sequence[int], dues: Sequence[int]) -> int:
    """Return the first index whose mark has reached a due before it; ``len`` if none."""
    stop = len(marks)
    if isinstance(dues, np.ndarray):
        least = np.minimum.accumulate(dues[: max(stop - 1, 0)])
        reached = as_numpy(marks[1:]) >= least
        return int(reached.argmax()) + 1 if reached.any() else stop
    for index, least_ms in enumerate(accumulate(dues[: max(stop - 1, 0)], min), 1):
        if marks[index] >= least_ms:
            return index
    return stop
