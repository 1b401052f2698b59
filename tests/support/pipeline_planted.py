"""Bugs of pipelines to be planted in a worker; see ``planted``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamapp.core.batch import Headers
from streamapp.core.times import FOREVER_MS
from streamapp.engine import stage_build, stage_sinks
from streamapp.engine.stage_work import StageWork
from streamapp.operators.keyed_timers import Timers
from streamapp.pipelines.clock import RegroupedInput, TaskClock


def watermark_forgotten() -> None:
    """Begin a partition anew without the watermark that was committed."""
    right = stage_build.read_note

    def wrong(text: str) -> Any:
        del text
        return right("")

    stage_build.read_note = wrong


def state_not_committed() -> None:
    """Leave what operators know out of the commit."""

    def wrong(self: StageWork) -> None:
        for _, operator in self.states:
            operator.drain()

    StageWork._drain = wrong  # type: ignore[method-assign]


def headers_lost() -> None:
    """Send records between stages without the watermark; only the commits tell of it."""
    right = stage_sinks.RegroupSink.write

    def wrong(self: stage_sinks.RegroupSink, rows: Any) -> None:
        told = self._told
        self._told = [FOREVER_MS] * len(told)
        right(self, rows)
        self._told = told

    stage_sinks.RegroupSink.write = wrong  # type: ignore[method-assign]


def sources_ahead() -> None:
    """Take the watermark of the fastest source partition for that of all."""
    right = RegroupedInput._hear

    def wrong(self: RegroupedInput, value: bytes) -> None:
        for source in self._sources:
            right(self, b" ".join((source.encode(), *value.split()[1:])))

    RegroupedInput._hear = wrong  # type: ignore[method-assign]


def timers_forgotten() -> None:
    """Do not look for timers in the state after a restart."""

    def wrong(self: Timers) -> None:
        self._horizon = FOREVER_MS

    Timers._load = wrong  # type: ignore[method-assign]


def clock_of_refused_records() -> None:
    """Let the time of records behind one that was refused count for those themselves."""

    def wrong(self: TaskClock, note: Any) -> None:
        del self, note

    TaskClock.go_back = wrong  # type: ignore[method-assign]


def watermark_told_early() -> None:
    """Tell the next stage of a second that has not passed."""
    right = stage_sinks.watermark_header

    def wrong(partition: int, watermark_ms: int, **more: bool) -> Headers:
        return right(partition, watermark_ms + 1_000, **more)

    stage_sinks.watermark_header = wrong  # type: ignore[assignment]


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        watermark_forgotten,
        state_not_committed,
        headers_lost,
        sources_ahead,
        timers_forgotten,
        clock_of_refused_records,
        watermark_told_early,
    )
}
