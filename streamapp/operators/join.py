"""Joins: pairs of records of two streams with the same key, near to each other in event time.

A pair leaves when its second record arrives, with the greater of both times; so it is never behind
the watermark unless that record is. Which pairs there are does not depend on when rows expire:
each look at the other side judges by the watermark before the record in hand.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import msgspec

from streamapp.core.rows import NO_ROWS, Rows
from streamapp.core.times import NEVER_MS, plus
from streamapp.errors import ConfigError
from streamapp.operators.expiring import rounded_up, step_of
from streamapp.operators.join_state import Bucket, Codec, Held, JoinState
from streamapp.operators.operator import Operator, RowError, StateView

LEFT, RIGHT = 0, 1

#: What becomes of a record without a partner: left out, kept if it is a left one, kept.
JoinKind = Literal["inner", "left", "outer"]

#: The sides whose records come out alone if they find no partner.
_ALONE: dict[JoinKind, tuple[int, ...]] = {
    "inner": (),
    "left": (LEFT,),
    "outer": (LEFT, RIGHT),
}


class Pair(msgspec.Struct, frozen=True):
    """What a join brings; ``None`` stands for the side that has no partner."""

    left: object
    right: object


#: From the values of both sides to the result; ``Pair`` is one.
Combine = Callable[..., object]


@dataclass(frozen=True, slots=True)
class Failed:
    """A result of ``advance`` that ``combine`` could not make: the pair, and why."""

    key: Hashable
    time_ms: int
    pair: Pair
    error: Exception


class StreamJoin(Operator):
    """What joins of two streams have in common: state, and results that may fail."""

    def __init__(self, held: JoinState, combine: Combine) -> None:
        super().__init__()
        self._held = held
        self._combine = combine
        self._failed: list[Failed] = []
        self.next_due_ms = held.next_due_ms

    def take_failed(self) -> list[Failed]:
        """Return what ``advance`` could not make since the last call: it has no row to blame."""
        failed, self._failed = self._failed, []
        return failed

    def combined(self, pairs: Sequence[tuple[int, Hashable, Pair]]) -> Rows:
        """Return the results of ``advance``: rows of ``(time_ms, key, pair)``, in this order."""
        keys, times, values = [], [], []
        for time_ms, key, pair in pairs:
            try:
                value = self._combine(pair.left, pair.right)
            except Exception as exc:  # noqa: BLE001 - whatever the user's function raises
                self._failed.append(Failed(key, time_ms, pair, exc))
                continue
            keys.append(key)
            times.append(time_ms)
            values.append(value)
        count = len(values)
        return Rows(keys, times, values, [NEVER_MS] * count, [0] * count) if count else NO_ROWS

    def drain(self) -> Mapping[bytes, bytes | None]:
        """See ``Operator.drain``."""
        return self._held.drain()

    def trim(self, rows: int) -> None:
        """See ``Operator.trim``."""
        self._held.trim(rows)
        self.next_due_ms = self._held.next_due_ms

    @property
    def size(self) -> int:
        """See ``Operator.size``."""
        return self._held.size

    @property
    def changed(self) -> int:
        """See ``Operator.changed``."""
        return self._held.changed


@dataclass(slots=True)
class _Arrival:
    """What a row brings, before it has had any effect."""

    place: int
    bucket: Bucket
    data: bytes
    partners: list[Held]
    results: list[object]


@dataclass(frozen=True, slots=True)
class Interval:
    """Where partners are: right times in ``[left - before_ms, left + after_ms]``, both included.

    Either may be negative: ``Interval(-1_000, 5_000)`` is one to five seconds after.

    Raises:
        ConfigError: The interval ends before it begins.
    """

    before_ms: int
    after_ms: int

    def __post_init__(self) -> None:
        if self.before_ms + self.after_ms < 0:
            msg = f"A join from {-self.before_ms} ms to {self.after_ms} ms joins nothing"
            raise ConfigError(msg, hint="Let before + after be at least 0")


class WindowJoin(StreamJoin):
    """Joins each record with those of the other side inside of an interval.

    A record waits until the watermark has reached the last instant at which a partner may come.
    Then, unless it has found one, it comes out alone if ``kind`` says so, with that instant as its
    time (or its own, if that is later). A record behind the watermark still finds the partners
    that wait; when none can wait any more (``before_ms + after_ms`` behind), it is dropped as late.
    """

    def __init__(
        self,
        interval: Interval,
        kind: JoinKind,
        combine: Combine,
        state: StateView,
        codecs: tuple[Codec, Codec],
    ) -> None:
        #: How long after its own time a record of each side may find partners.
        self._reach = (interval.after_ms, interval.before_ms)
        self._alone = _ALONE[kind]
        step_ms = step_of(interval.before_ms + interval.after_ms)
        due = [
            partial(_due, reach, 1 if side in self._alone else step_ms)
            for side, reach in enumerate(self._reach)
        ]
        super().__init__(JoinState(state, codecs, (due[LEFT], due[RIGHT])), combine)
        self._codecs = codecs

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
        self.next_due_ms = self._held.next_due_ms
        if failure is not None:
            self._held.release(rows.keys[count : len(arrivals) + 1])
            failure.brought = brought
            raise failure
        return brought

    def dues(self, rows: Rows, side: int = LEFT) -> Sequence[int] | None:
        """See ``Operator.dues``; a row that never comes out alone makes no work."""
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
        time_ms, value = rows.times[place], rows.values[place]
        other = 1 - side
        # A partner that the watermark has passed is gone, whether it still takes room or not.
        first_ms = max(time_ms, rows.marks[place] + 1) - self._reach[other]
        last_ms = time_ms + self._reach[side]
        if first_ms > last_ms:
            return None
        data = self._codecs[side].encode(value)
        bucket = self._held.bucket(rows.keys[place])
        times = bucket.times[other]
        partners = bucket.rows[other][bisect_left(times, first_ms) : bisect_right(times, last_ms)]
        results = [
            self._combine(*((value, held.value) if side == LEFT else (held.value, value)))
            for held in partners
        ]
        return _Arrival(place, bucket, data, partners, results)

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
            held = Held(time_ms, 0, rows.values[place], is_matched)
            self._held.add(bucket, side, held, arrival.data)
        self._held.settle(bucket)


def _alone(held: Held, side: int) -> Pair:
    return Pair(held.value, None) if side == LEFT else Pair(None, held.value)


def _due(reach_ms: int, step_ms: int, times: Sequence[int]) -> int:
    return rounded_up(plus(times[0], reach_ms), step_ms)
