"""The watermark of a task: the least of its inputs that are not idle; it never goes back.

A source's records bring their own times; behind a ``group_by`` each record brings the watermark of
the partition it comes from in a header, whenever that has moved. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Final, Protocol

import msgspec

from streamapp.core.batch import Headers
from streamapp.core.event_time import EventTime
from streamapp.core.times import FOREVER_MS, NEVER_MS
from streamapp.core.watermarks import CombinedWatermark, Headway, PartitionWatermark, combined

#: Name of the header that carries a watermark between two stages.
WATERMARK_HEADER: Final = "streamapp-watermark"

#: Headers of a run of records; ``None`` when none has any.
_HeaderColumn = Sequence[Headers] | None


def watermark_header(partition: int, watermark_ms: int, *, is_idle: bool = False) -> Headers:
    """Return the header that tells the next stage how far a partition is."""
    text = f"{partition} {watermark_ms}{' idle' if is_idle else ''}"
    return ((WATERMARK_HEADER, text.encode()),)


class Input(Protocol):
    """How far one input of a task is. ``tells_idleness``: ``before`` may have ``FOREVER_MS``."""

    tells_idleness: ClassVar[bool]

    @property
    def headway(self) -> Headway:
        """The watermark, and whether the input is idle."""

    def before(self, times: Sequence[int], headers: _HeaderColumn) -> Sequence[int]:
        """Take the records that follow; return the watermark before each of them.

        It is ``FOREVER_MS`` where the input is idle: it holds nobody up.
        """

    def take(self, times: Sequence[int], headers: _HeaderColumn) -> None:
        """Take the records that follow, where nobody asks for ``before`` each."""

    def be_silent(self, silent_ms: int) -> None:
        """Note for how long there has been no record, by the clock."""

    def note(self) -> object:
        """Return the state as values that JSON can hold; ``restore`` takes them."""

    def restore(self, note: object) -> None:
        """Go back (or on) to what was noted; what is no note changes nothing."""


class SourceInput:
    """A partition of a source."""

    tells_idleness: ClassVar[bool] = False

    def __init__(self, event_time: EventTime) -> None:
        self._event_time = event_time
        self._watermark = PartitionWatermark(event_time.bound_ms)
        self._silence = Headway()

    @property
    def headway(self) -> Headway:
        """See ``Input``."""
        silent = self._silence
        return Headway(max(self._watermark.watermark_ms, silent.watermark_ms), silent.is_idle)

    def before(self, times: Sequence[int], headers: _HeaderColumn) -> Sequence[int]:
        """See ``Input``."""
        del headers
        self._wake_up(times)
        return self._watermark.before(times)

    def take(self, times: Sequence[int], headers: _HeaderColumn) -> None:
        """See ``Input``."""
        del headers
        self._wake_up(times)
        self._watermark.take(times)

    def _wake_up(self, times: Sequence[int]) -> None:
        if len(times):
            self._watermark.advance_to(self._silence.watermark_ms)
            self._silence = Headway()

    def be_silent(self, silent_ms: int) -> None:
        """See ``Input``."""
        time_ms = self._watermark.watermark_ms
        if time_ms > NEVER_MS:
            time_ms += self._event_time.bound_ms + 1
        silent = self._event_time.headway(time_ms, silent_ms)
        reached = max(silent.watermark_ms, self._silence.watermark_ms)
        self._silence = Headway(reached, silent.is_idle)

    def note(self) -> object:
        """See ``Input``."""
        headway = self.headway
        return [headway.watermark_ms, headway.is_idle]

    def restore(self, note: object) -> None:
        """See ``Input``."""
        try:
            watermark_ms, is_idle = msgspec.convert(note, tuple[int, bool])
        except msgspec.ValidationError:
            return
        self._watermark = PartitionWatermark(self._event_time.bound_ms, watermark_ms)
        self._silence = Headway(is_idle=is_idle)


class RegroupedInput:
    """A partition of a topic between two stages: it holds records of all ``sources`` before it."""

    tells_idleness: ClassVar[bool] = True

    def __init__(self, sources: int) -> None:
        self._sources = [str(number) for number in range(sources)]
        self._combined = CombinedWatermark(self._sources)

    @property
    def headway(self) -> Headway:
        """See ``Input``."""
        return Headway(self._combined.watermark_ms, self._combined.is_idle)

    def before(self, times: Sequence[int], headers: _HeaderColumn) -> Sequence[int]:
        """See ``Input``."""
        now = self._reached()
        if headers is None:
            return [now] * len(times)
        marks: list[int] = []
        for of_record in headers:
            for name, value in of_record:
                if name == WATERMARK_HEADER:
                    self._hear(value)
                    now = self._reached()
            marks.append(now)
        return marks

    def take(self, times: Sequence[int], headers: _HeaderColumn) -> None:
        """See ``Input``."""
        self.before(times, headers)

    def be_silent(self, silent_ms: int) -> None:
        """See ``Input``: the stage before tells of its own silence."""
        del silent_ms

    def note(self) -> object:
        """See ``Input``."""
        return self._combined.snapshot()

    def restore(self, note: object) -> None:
        """See ``Input``."""
        try:
            self._combined = CombinedWatermark.restored(note)
        except msgspec.ValidationError:
            return
        for name in self._sources:
            self._combined.declare(name)

    def _reached(self) -> int:
        return FOREVER_MS if self._combined.is_idle else self._combined.watermark_ms

    def _hear(self, value: bytes) -> None:
        source, watermark_ms, *idle = value.split()
        self._combined.update(source.decode(), int(watermark_ms), is_idle=bool(idle))


@dataclass(frozen=True, slots=True)
class ClockNote:
    """Where a clock was before the records of an input."""

    index: int
    of_input: object
    headway: Headway


class TaskClock:
    """The inputs of one partition of a stage, by their index."""

    def __init__(self, inputs: Sequence[Input], watermark_ms: int = NEVER_MS) -> None:
        self.inputs = inputs
        self._headway = Headway(watermark_ms)
        self._combine()

    @property
    def headway(self) -> Headway:
        """The watermark of the task, and whether all of its inputs are idle."""
        return self._headway

    def marks(
        self, index: int, times: Sequence[int], headers: _HeaderColumn
    ) -> tuple[Sequence[int], int]:
        """Take the records that follow of an input.

        Returns:
            The watermark before each of them, and the one after the last.
        """
        one = self.inputs[index]
        others = [other.headway for n, other in enumerate(self.inputs) if n != index]
        bound = min((of.watermark_ms for of in others if not of.is_idle), default=FOREVER_MS)
        own, last = one.before(times, headers), self._headway.watermark_ms
        marks: Sequence[int] = own
        if one.tells_idleness and FOREVER_MS in own:
            # Where all inputs are idle the watermark stays.
            reached = (min(mark, bound) for mark in own)
            known = (NEVER_MS if mark == FOREVER_MS else mark for mark in reached)
            marks = [*accumulate(known, max, initial=last)][1:]
        elif bound < FOREVER_MS or (len(own) and own[0] < last):
            marks = [max(min(mark, bound), last) for mark in own]
        # Inputs that were idle in the middle of the records have let the watermark pass.
        self._combine(marks[-1] if marks else last)
        return marks, self._headway.watermark_ms

    def take(self, index: int, times: Sequence[int], headers: _HeaderColumn) -> int:
        """Take the records that follow of an input; return the watermark after the last.

        It may be less than that of ``marks`` if all inputs were idle in the middle of the records.
        """
        self.inputs[index].take(times, headers)
        self._combine()
        return self._headway.watermark_ms

    def note(self, index: int) -> ClockNote:
        """Return what ``go_back`` needs to forget the records of an input that follow."""
        return ClockNote(index, self.inputs[index].note(), self._headway)

    def go_back(self, note: ClockNote) -> None:
        """Forget the records since the note: they were not worked on, so nobody knows of them."""
        self.inputs[note.index].restore(note.of_input)
        self._headway = note.headway

    def be_silent(self, index: int, silent_ms: int) -> int:
        """Note how long an input has been silent; return the watermark."""
        self.inputs[index].be_silent(silent_ms)
        self._combine()
        return self._headway.watermark_ms

    def _combine(self, reached_ms: int = NEVER_MS) -> None:
        before_ms = max(self._headway.watermark_ms, reached_ms)
        self._headway = combined((one.headway for one in self.inputs), before_ms)
