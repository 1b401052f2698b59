"""Watermarks: how far event time has come, in one partition and over several inputs.

A watermark ``w`` says that no further record with a time ``<= w`` is expected. It never goes back,
and it is ``NEVER_MS`` before the first record. Pure: silence is told to it, never measured here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from streamapp.core.int_columns import as_numpy, greatest, of_numpy
from streamapp.core.times import COLUMN_LIMIT_MS, NEVER_MS

#: Records from which on columns pay.
_MANY: Final = 64


@dataclass(frozen=True, slots=True)
class Headway:
    """The watermark of one input, and whether the input is idle: silent, so that nobody waits."""

    watermark_ms: int = NEVER_MS
    is_idle: bool = False


def watermark_of(time_ms: int, bound_ms: int) -> int:
    """Return the watermark where ``time_ms`` is the greatest time and records are that late."""
    return max(time_ms - bound_ms - 1, NEVER_MS)


def combined(headways: Iterable[Headway], before_ms: int) -> Headway:
    """Return the watermark of several inputs: the least of those that are not idle.

    It is never less than ``before_ms``, what it was before. When all inputs are idle it stays
    there and is idle itself: silence is no promise.
    """
    awake = [one.watermark_ms for one in headways if not one.is_idle]
    return Headway(max(min(awake), before_ms)) if awake else Headway(before_ms, is_idle=True)


class PartitionWatermark:
    """The watermark of one partition whose records are at most ``bound_ms`` out of order."""

    __slots__ = ("_shift_ms", "watermark_ms")

    def __init__(self, bound_ms: int = 0, watermark_ms: int = NEVER_MS) -> None:
        self.watermark_ms = watermark_ms
        self._shift_ms = bound_ms + 1

    def before(self, times: Sequence[int]) -> Sequence[int]:
        """Take the times of the records that follow; return the watermark before each of them.

        ``NEVER_MS`` is the time of a record that has none. The watermark afterwards is
        ``watermark_ms``.
        """
        now, shift = self.watermark_ms, self._shift_ms
        if len(times) >= _MANY and shift < COLUMN_LIMIT_MS:
            return self._before_many(times)
        marks: list[int] = []
        note = marks.append
        # A loop: itertools.accumulate with max takes more than twice as long.
        for time in times:
            note(now)
            if time - shift > now:  # noqa: PLR1730 - calling max would double the time
                now = time - shift
        self.watermark_ms = now
        return marks

    def _before_many(self, times: Sequence[int]) -> Sequence[int]:
        import numpy as np  # noqa: PLC0415 - workers without pipelines do without it

        marks = np.empty(len(times) + 1, np.int64)
        marks[0] = self.watermark_ms
        np.subtract(as_numpy(times), self._shift_ms, out=marks[1:])
        np.maximum.accumulate(marks, out=marks)
        self.watermark_ms = int(marks[-1])
        return of_numpy(marks[:-1])

    def take(self, times: Sequence[int]) -> None:
        """Take the times of the records that follow, where nobody asks for ``before`` each."""
        latest_ms = greatest(times) if len(times) else NEVER_MS
        if latest_ms > NEVER_MS:
            self.advance_to(latest_ms - self._shift_ms)

    def advance_to(self, watermark_ms: int) -> None:
        """Move on without a record; a watermark that is behind changes nothing."""
        self.watermark_ms = max(self.watermark_ms, watermark_ms)


class _Snapshot(msgspec.Struct):
    watermark_ms: int
    inputs: dict[str, tuple[int, bool]]


class CombinedWatermark:
    """The watermark of several named inputs; see ``combined``.

    An input that was declared holds the watermark back until it is heard or idle. One that was
    idle and comes back counts again, but what has been said stays: its records may be late.
    """

    def __init__(self, inputs: Iterable[str] = ()) -> None:
        self._inputs = dict.fromkeys(inputs, Headway())
        self._headway = Headway(is_idle=not self._inputs)

    @property
    def watermark_ms(self) -> int:
        """The watermark, in ms since 1970."""
        return self._headway.watermark_ms

    @property
    def is_idle(self) -> bool:
        """Whether all inputs are idle (or there are none)."""
        return self._headway.is_idle

    @property
    def inputs(self) -> dict[str, Headway]:
        """How far each input is."""
        return dict(self._inputs)

    def declare(self, name: str) -> None:
        """Expect an input; one that is known stays as it is."""
        self._inputs.setdefault(name, Headway())
        self._combine()

    def forget(self, name: str) -> None:
        """Expect an input no longer."""
        self._inputs.pop(name, None)
        self._combine()

    def update(self, name: str, watermark_ms: int, *, is_idle: bool = False) -> int:
        """Note how far an input is (never back), and return the combined watermark."""
        known = self._inputs.get(name, Headway())
        self._inputs[name] = Headway(max(known.watermark_ms, watermark_ms), is_idle)
        self._combine()
        return self.watermark_ms

    def snapshot(self) -> object:
        """Return the state as values that JSON can hold."""
        inputs = {name: (of.watermark_ms, of.is_idle) for name, of in self._inputs.items()}
        return msgspec.to_builtins(_Snapshot(self.watermark_ms, inputs))

    @classmethod
    def restored(cls, snapshot: object) -> CombinedWatermark:
        """Return what ``snapshot`` was taken of, also after a way through JSON.

        Raises:
            msgspec.ValidationError: It is no snapshot.
        """
        known = msgspec.convert(snapshot, _Snapshot)
        whole = cls()
        whole._inputs = {name: Headway(*of) for name, of in known.inputs.items()}
        whole._headway = Headway(known.watermark_ms)
        whole._combine()
        return whole

    def _combine(self) -> None:
        self._headway = combined(self._inputs.values(), self.watermark_ms)
