"""Records of many sessions at once, as columns; what does not fit them is worked on one by one.

A batch is split by key. A key is worked on as columns if it has a slot (``session_slots``) and all
of its records touch the session as it was before the batch, or follow one another as
``session_runs`` says. Other keys leave their slots, and come back after the batch if they are
simple again. Keys do not meet, so the order between the two parts does not matter; what closes in
between is told at the record of the whole batch before which it is due.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from streamapp.core.aggregates import AggregateSet, Inputs
from streamapp.core.int_columns import as_numpy
from streamapp.core.rows import Rows
from streamapp.core.times import COLUMN_LIMIT_MS
from streamapp.core.windows import IntArray
from streamapp.operators.keyed import Adds, Emitted
from streamapp.operators.pick import picked
from streamapp.operators.session_forms import SessionForms, fits
from streamapp.operators.session_runs import Keyed, Marks, Runs, runs_of
from streamapp.operators.session_slots import BoolArray, SessionSlots

#: Rows from which on columns pay: below, their calls cost more than a loop.
MANY: Final = 256


class ChosenAdds(Adds):
    """Some rows of a batch, ``indices`` of ``whole``, that wait to be added."""

    def __init__(
        self, aggregates: AggregateSet, whole: Rows, inputs: Inputs, indices: Sequence[int]
    ) -> None:
        super().__init__(aggregates, picked(whole, indices), inputs.take(indices), 0)
        self.whole = whole
        self.indices = indices


@dataclass(frozen=True, slots=True)
class _Batch:
    """``of`` has the slot of each row, -1 for those that are worked on one by one."""

    rows: Rows
    inputs: Inputs
    times: IntArray
    of: IntArray
    marks: Marks

    def add_to(self, slots: SessionSlots) -> None:
        """Add the rows that have slots."""
        here = np.flatnonzero(self.of >= 0)
        if len(here) == len(self.of):
            slots.add(self.of, self.inputs, self.times)
        elif len(here):
            slots.add(self.of[here], self.inputs.take(here.tolist()), self.times[here])


class SlottedSessions(SessionForms):
    """See the module."""

    def _take_all(self, rows: Rows, inputs: Inputs, out: Emitted) -> None:
        slots = self._slots
        if slots is None or not len(rows):
            super()._take_all(rows, inputs, out)
            return
        self._watermark = max(self._watermark, rows.marks[-1])
        of, times = slots.slots_of(rows.keys), as_numpy(rows.times)
        if len(rows) < MANY or not _fit(times) or not _fit(np.array(rows.marks[-1:], np.int64)):
            self._to_objects(slots, np.union1d(of[of >= 0], slots.due(rows.marks[-1])))
            super()._take_all(rows, inputs, out)
            return
        self._take_many(slots, _Batch(rows, inputs, times, of, Marks(rows)), out)
        self._mark = rows.marks[-1]

    def _take_many(self, slots: SessionSlots, batch: _Batch, out: Emitted) -> None:
        self._admit(slots, batch)
        runs = self._runs(slots, batch)
        own = None if runs is None else _begin_next(slots, batch, runs)
        batch.add_to(slots)
        if runs is not None and own is not None:
            self._close(slots, batch, runs, own, out)
        closed, rest = len(out), np.flatnonzero(batch.of < 0).tolist()
        adds = ChosenAdds(self._aggregates, batch.rows, batch.inputs, rest)
        self._take(adds, len(rest), out)
        if self.advances_itself:
            self._advance_among(adds, len(batch.rows) - 1, out)
        adds.flush()
        if closed:
            out.put_by_origin()
        self._return(slots, adds.rows.keys)
        slots.compact()

    def _admit(self, slots: SessionSlots, batch: _Batch) -> None:
        """Find slots for keys that have none."""
        absent = np.flatnonzero(batch.of < 0)
        if not len(absent):
            return
        keys = [batch.rows.keys[index] for index in absent.tolist()]
        names = [*dict.fromkeys(keys)]
        numbers = dict(zip(names, range(len(names)), strict=True))
        number = np.fromiter(map(numbers.__getitem__, keys), np.int64, len(keys))
        # Names are numbered as they come: the first of each is greater than all before it.
        first = absent[np.diff(np.maximum.accumulate(number), prepend=-1) > 0]
        times = batch.times[first]
        batch.of[absent] = self._admitted(slots, names, times, self._may_begin(batch, first))[
            number
        ]

    def _may_begin(self, batch: _Batch, indices: IntArray) -> BoolArray:
        """Tell which rows may begin a session in a slot.

        Not if they are late, nor if the session would come back after it has closed.
        """
        dues = batch.times[indices] + self._gap
        found: BoolArray = dues > batch.rows.marks[-1]
        return found if self._allowed or found.all() else dues > batch.marks.before[indices]

    def _runs(self, slots: SessionSlots, batch: _Batch) -> Runs | None:
        """Look closer at slots that may do more than grow; those that do not fit are left out."""
        here = batch.of >= 0
        some = slots.apart(batch.of[here], batch.times[here])
        if self.advances_itself:
            some = np.union1d(some, slots.due(batch.rows.marks[-1]))
        if not len(some):
            return None
        if self._allowed:
            odd, runs = some, None
        else:
            spans = some, slots.first[some], slots.last[some]
            runs = runs_of(Keyed.of(spans, batch.of, batch.times), batch.marks, self._gap)
            odd = runs.odd
        self._to_objects(slots, odd)
        batch.of[np.isin(batch.of, odd)] = -1
        return runs

    def _close(
        self, slots: SessionSlots, batch: _Batch, runs: Runs, own: IntArray, out: Emitted
    ) -> None:
        """Emit the sessions that close within the batch; ``own`` are their slots."""
        rows, closes = batch.rows, runs.stops < len(batch.rows)
        stops = runs.stops[closes].tolist()
        marks = [rows.marks[stop - 1] if stop else self._mark for stop in stops]
        origins = [rows.origins[stop] for stop in stops]
        self._say(slots, own[closes], (marks, origins), out)
        slots.end(own[closes])

    def _return(self, slots: SessionSlots, keys: Sequence[Hashable]) -> None:
        """Move the sessions of these keys into slots where they fit."""
        kept = self._kept
        found = [held for key in dict.fromkeys(keys) if (held := kept.get(key)) and fits(held)]
        if found:
            slots.mark_changed(self._to_slots(slots, found))

    def _advance_before(self, adds: Adds, out: Emitted) -> None:
        if isinstance(adds, ChosenAdds):
            self._advance_among(adds, adds.indices[adds.at], out)
        else:
            super()._advance_before(adds, out)

    def _advance_among(self, adds: ChosenAdds, last: int, out: Emitted) -> None:
        """Do what is due before any row of the batch from the one taken last up to ``last``."""
        marks, origins = adds.whole.marks, adds.whole.origins
        at = adds.indices[adds.at - 1] + 1 if adds.at else 0
        while at <= last and self.next_due_ms <= marks[last]:
            at = max(at, bisect_left(marks, self.next_due_ms))
            if at and origins[at] == origins[at - 1]:
                at += 1  # rows of one origin take effect together
                continue
            adds.flush()
            self._fire_before(adds.whole, at, out)


def _begin_next(slots: SessionSlots, batch: _Batch, runs: Runs) -> IntArray:
    """Begin the sessions that follow others within the batch; return the slots of all."""
    own = runs.slots.copy()
    new = own[runs.is_next]
    if len(new):
        own[runs.is_next] = slots.begin(*slots.names(new), runs.starts[runs.is_next])
    batch.of[runs.records] = own[runs.sessions]
    return own


def _fit(times: IntArray) -> bool:
    return bool(times.min() >= -2 * COLUMN_LIMIT_MS and times.max() <= COLUMN_LIMIT_MS)
