"""The interval join: pairs of records of two streams with one key, near in event time.

A pair leaves when its second record arrives, with the greater of both times; so it is never behind
the watermark unless that record is. Which pairs there are does not depend on when rows expire:
each look at the other side judges by the watermark before the record in hand.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from streamapp.core.rows import NO_ROWS, Rows
from streamapp.core.times import FOREVER_MS, plus
from streamapp.errors import ConfigError
from streamapp.operators.expiring import rounded_up, step_of
from streamapp.operators.join_base import LEFT, RIGHT, Combine, JoinKind, Pair, StreamJoin
from streamapp.operators.join_state import Bucket, Codec, Held, JoinState
from streamapp.operators.operator import RowError, StateView

#: The sides whose records come out alone if they find no partner.
_ALONE: Final[dict[JoinKind, tuple[int, ...]]] = {
    "inner": (),
    "left": (LEFT,),
    "outer": (LEFT, RIGHT),
}


@dataclass(slots=True)
class _Arrival:
    """What a row brings, before it has had any effect."""

    place: int
    bucket: Bucket
    value: object
    data: bytes
    partners: list[Held]
    results: list[object]


class WindowJoin(StreamJoin):
    """Joins each left record at ``t`` with the right ones in ``[t - before_ms, t + after_ms]``.

    Either bound may be negative: -1,000 and 5,000 are one to five seconds after.

    A record waits until the watermark has reached the last instant at which a partner may come.
    Then, unless it has found one, it comes out alone if ``kind`` says so, with that instant as its
    time (or its own, if that is later). A record behind the watermark still finds the partners
    that wait; when none can wait any more (``before_ms + after_ms`` behind), it is dropped as late.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what an interval join is made of
        self,
        before_ms: int,
        after_ms: int,
        kind: JoinKind,
        combine: Combine,
        state: StateView,
        codecs: tuple[Codec, Codec],
    ) -> None:
        if before_ms + after_ms < 0:
            msg = f"A join from {-before_ms} ms to {after_ms} ms joins nothing"
            raise ConfigError(msg, hint="Let before + after be at least 0")
        #: How long after its own time a record of each side may find partners.
        self._reach = (after_ms, before_ms)
        self._alone = _ALONE[kind]
        step_ms = step_of(before_ms + after_ms)
        due = [
            partial(_due, reach, 1 if side in self._alone else step_ms)
            for side, reach in enumerate(self._reach)
        ]
        super().__init__(JoinState(state, codecs, (due[LEFT], due[RIGHT])), combine)
        self._codecs = codecs
        self.shifts_times = True

    def process(self, rows: Rows, side: int = LEFT) -> Rows:
        """See ``Operator.process``; the pairs of one row are in the order of (time, arrival)."""
        arrivals: list[_Arrival | None] = []
        failure: RowError | None = None
        for place in range(len(rows)):
            try:
                arrivals.append(self._arrival(rows, place, side))
            except Exception as exc:  # noqa: BLE001 - a value, a key or the user's function
                failure = RowError(rows.origins[place])
                failure.__cause__ = exc
                break
        count = len(arrivals)
        if failure is not None:
            count = bisect_left(rows.origins, failure.origin, 0, count)
        brought = self._accepted(rows, arrivals[:count], side)
        self._held.tidy()
        self.next_due_ms = self._held.next_due_ms
        if failure is not None:
            failure.brought = brought
            raise failure
        return brought

    def dues(self, rows: Rows, side: int = LEFT, last_ms: int = FOREVER_MS) -> Sequence[int] | None:
        """See ``Operator.dues``; a row that never comes out alone makes no work."""
        del last_ms
        if side not in self._alone:
            return None
        reach = self._reach[side]
        return [time + reach for time in rows.times]

    def advance(self, watermark_ms: int) -> Rows:
        """Let go of records that no partner can reach; see the class."""
        if watermark_ms < self.next_due_ms:
            return NO_ROWS
        alone = []
        for bucket in self._held.due(watermark_ms):
            for side, reach in enumerate(self._reach):
                count = bisect_right(bucket.times[side], watermark_ms - reach)
                if side in self._alone:
                    late_ms = max(reach, 0)
                    alone += [
                        (plus(held.time_ms, late_ms), held.sequence, bucket.key, _alone(held, side))
                        for held in bucket.rows[side][:count]
                        if not held.is_matched
                    ]
                self._held.drop(bucket, side, count)
        self.next_due_ms = self._held.next_due_ms
        alone.sort(key=lambda one: one[:2])
        return self.combined([(time_ms, key, pair) for time_ms, _, key, pair in alone])

    def _arrival(self, rows: Rows, place: int, side: int) -> _Arrival | None:
        """Return what a row brings; ``None`` when it is late."""
        time_ms, other = rows.times[place], 1 - side
        # A partner that the watermark has passed is gone, whether it still takes room or not.
        first_ms = max(time_ms, rows.marks[place] + 1) - self._reach[other]
        last_ms = time_ms + self._reach[side]
        if first_ms > last_ms:
            return None
        data = self._codecs[side].encode(rows.values[place])
        value = self._codecs[side].decode(data)  # as its state would give it back
        bucket = self._held.bucket(rows.keys[place])
        times = bucket.times[other]
        partners = bucket.rows[other][bisect_left(times, first_ms) : bisect_right(times, last_ms)]
        results = [
            self._combine(*((value, held.value) if side == LEFT else (held.value, value)))
            for held in partners
        ]
        return _Arrival(place, bucket, value, data, partners, results)

    def _accepted(self, rows: Rows, arrivals: Sequence[_Arrival | None], side: int) -> Rows:
        """Let rows have their effect, and return their pairs."""
        places: list[int] = []
        times: list[int] = []
        values: list[object] = []
        for arrival in arrivals:
            if arrival is None:
                self.late["dropped"] += 1
                continue
            self._keep(rows, arrival, side)
            place, partners = arrival.place, arrival.partners
            time_ms = rows.times[place]
            places += [place] * len(partners)
            times += [max(time_ms, held.time_ms) for held in partners]
            values += arrival.results
        if not places:
            return NO_ROWS
        keys = [rows.keys[place] for place in places]
        marks = [rows.marks[place] for place in places]
        return Rows(keys, times, values, marks, [rows.origins[place] for place in places])

    def _keep(self, rows: Rows, arrival: _Arrival, side: int) -> None:
        place, bucket, partners = arrival.place, arrival.bucket, arrival.partners
        time_ms, is_matched = rows.times[place], bool(partners)
        other = 1 - side
        if other in self._alone:
            self._held.match(bucket, other, partners)
        may_match = time_ms + self._reach[side] > rows.marks[place]
        if may_match or (side in self._alone and not is_matched):
            held = Held(time_ms, 0, arrival.value, is_matched)
            self._held.add(bucket, side, held, arrival.data)


def _alone(held: Held, side: int) -> Pair[object, object]:
    return Pair(held.value, None) if side == LEFT else Pair(None, held.value)


def _due(reach_ms: int, step_ms: int, times: Sequence[int]) -> int:
    return rounded_up(plus(times[0], reach_ms), step_ms)
