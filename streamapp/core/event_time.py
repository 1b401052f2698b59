"""When records happened: the event times of a topic, and what is wrong with one. Pure.

A time is a whole number of ms since 1970, less than 2^62 away from it. It comes from the record's
own timestamp, from a field of the value, or from a function of the value. What could mean several
moments (a date without a zone) or none (NaN) is refused instead of guessed.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from operator import attrgetter, index, itemgetter
from typing import Final, NamedTuple, SupportsIndex, cast

from streamapp.core.columned import known_column
from streamapp.core.duration import to_ms
from streamapp.core.fields import each, reader_of
from streamapp.core.int_columns import bounds, greatest, ints
from streamapp.core.times import COLUMN_LIMIT_MS, NEVER_MS
from streamapp.core.watermarks import Headway, watermark_of
from streamapp.errors import ConfigError, EventTimeError, FutureTimeError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
#: A number of this unit times the first, divided by the second, is in ms.
_UNITS: Final = {"s": (1_000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}
_ON_IDLE: Final = ("no", "wallclock")
_DAY_MS: Final = 86_400_000
#: Characters of a wrong value that an error tells.
_TOLD: Final = 80


class Times(NamedTuple):
    """The event time of each record of a batch: ``NEVER_MS`` for those in ``errors``, by index."""

    ms: Sequence[int]
    errors: Mapping[int, EventTimeError]


@dataclass(frozen=True, slots=True)
class EventTime:
    """How the records of a topic tell their time, and how far it can be trusted.

    ``field`` is the name of the field (or key) that holds it, a function of the value, or ``None``
    for the record's timestamp. Records are at most ``bound_ms`` out of order. A partition without
    a record for ``idle_ms`` (``None``: never) is idle; with ``advance_on_idle="wallclock"`` it is
    not, but its watermark goes on with the clock. Times more than ``max_future_ms`` (``None``: any)
    ahead of the clock are refused. Numbers are in ``unit``.

    Raises:
        ConfigError: One of these cannot be.
    """

    field: str | Callable[[object], object] | None = None
    bound_ms: int = 0
    idle_ms: int | None = 5_000
    max_future_ms: int | None = _DAY_MS
    advance_on_idle: str = "no"
    unit: str = "ms"

    def __post_init__(self) -> None:
        if isinstance(self.field, str) and (not self.field or "." in self.field):
            msg = f"event_time={self.field!r} is not the name of a field"
            raise ConfigError(msg, hint="Give a function for what is nested: lambda v: v.at.ms")
        if not (self.field is None or isinstance(self.field, str) or callable(self.field)):
            msg = f"event_time={self.field!r} is neither a field's name nor a function"
            raise ConfigError(msg, hint='Write event_time="ts" or event_time=lambda v: v.ts')
        if self.bound_ms > COLUMN_LIMIT_MS:
            msg = f"out_of_order={self.bound_ms} ms is too long"
            raise ConfigError(msg, hint="Records so late are not waited for: give less")
        if self.idle_ms == 0:
            msg = "idle_after=0 ms would make every pause an end"
            raise ConfigError(msg, hint="Give the longest pause that is usual, or None for never")
        if self.advance_on_idle not in _ON_IDLE:
            msg = f"advance_on_idle={self.advance_on_idle!r} is unknown"
            raise ConfigError(msg, hint=f"Use one of {', '.join(_ON_IDLE)}")
        if self.advance_on_idle == "wallclock" and self.idle_ms is None:
            msg = "advance_on_idle='wallclock' with idle_after=None would never advance"
            raise ConfigError(msg, hint='Say after which silence the clock takes over: "30s"')
        if self.unit not in _UNITS:
            msg = f"time_unit={self.unit!r} is unknown"
            raise ConfigError(msg, hint=f"Use one of {', '.join(_UNITS)}")

    def times_of(self, values: Sequence[object], timestamps: Sequence[int], now_ms: int) -> Times:
        """Return the event times of records.

        A null value (a deletion) has no fields: it happened at its record's timestamp.

        Args:
            values: The decoded values, at least one.
            timestamps: Those of the records, in ms.
            now_ms: The wall clock.
        """
        latest = -NEVER_MS - 1 if self.max_future_ms is None else now_ms + self.max_future_ms
        if self.field is None:
            if greatest(timestamps) <= latest:
                return Times(timestamps, {})
        else:
            column = self._column(values)
            if column is not None:
                least, most = bounds(column)
                if least > NEVER_MS and most <= latest:
                    return Times(column, {})
        return self._one_by_one(values, timestamps, latest)

    def headway(self, time_ms: int, silent_ms: int) -> Headway:
        """Return how far a partition is whose greatest time so far is ``time_ms``.

        ``silent_ms`` is how long there has been no record, by the clock.
        """
        watermark = watermark_of(time_ms, self.bound_ms)
        is_silent = self.idle_ms is not None and silent_ms >= self.idle_ms
        if is_silent and self.advance_on_idle == "wallclock" and watermark > NEVER_MS:
            return Headway(watermark + silent_ms)
        return Headway(watermark, is_silent)

    def _column(self, values: Sequence[object]) -> array[int] | None:
        """Return the times if all are good and of one kind; ``None`` if one needs a closer look."""
        try:
            found = self._found(values)
            if isinstance(found[0], int):
                return _of_numbers(found, *_UNITS[self.unit])
            (kind,) = set(map(type, found))
            return ints(_COLUMNS[kind](found))
        except Exception:  # noqa: BLE001 - the closer look finds which record it was, and says so
            return None

    def _found(self, values: Sequence[object]) -> Sequence[object]:
        """Return what is in the field of values that are of one kind."""
        if callable(self.field):
            return each(self.field, values)
        known = known_column(values, str(self.field))
        if known is not None:
            return known
        return reader_of(str(self.field), of_dicts=isinstance(values[0], dict))(values)

    def _reader(self, like: object) -> Callable[[object], object]:
        """Return the function to the time of a value, for values that are of one kind."""
        if callable(self.field):
            return self.field
        name = str(self.field)
        read = itemgetter(name) if isinstance(like, dict) else attrgetter(name)
        return cast("Callable[[object], object]", read)

    def _one_by_one(
        self, values: Sequence[object], timestamps: Sequence[int], latest_ms: int
    ) -> Times:
        times: list[int] = []
        errors: dict[int, EventTimeError] = {}
        for place, (value, timestamp) in enumerate(zip(values, timestamps, strict=True)):
            try:
                time = self._time_of(value, timestamp)
                _check(time, latest_ms)
            except EventTimeError as error:
                time, errors[place] = NEVER_MS, error
            times.append(time)
        return Times(times, errors)

    def _time_of(self, value: object, timestamp: int) -> int:
        if self.field is None or value is None:
            return timestamp
        try:
            return _to_ms(self._reader(value)(value), self.unit)
        except EventTimeError:
            raise
        except Exception as exc:
            msg = f"The record has no event time: {_told(exc)}"
            raise EventTimeError(msg, hint="Look at event_time= of the topic") from exc


#: The time of a record is its timestamp.
RECORD_TIME: Final = EventTime()


def event_time_of(options: Mapping[str, object]) -> EventTime:
    """Return the event time that the options of a topic declare, with durations as people write.

    Raises:
        ConfigError: An option is wrong; names it and its value.
    """
    return EventTime(
        _field(options["event_time"]),
        _duration(options, "out_of_order") or 0,
        _duration(options, "idle_after"),
        _duration(options, "max_future"),
        str(options["advance_on_idle"]),
        str(options["time_unit"]),
    )


def _field(given: object) -> str | Callable[[object], object] | None:
    """Return the name of a field, also of ``Order.ts``: descriptors know theirs."""
    if given is None or isinstance(given, str):
        return given
    name = getattr(given, "field", None if callable(given) else getattr(given, "__name__", None))
    return name if isinstance(name, str) else cast("Callable[[object], object]", given)


def _duration(options: Mapping[str, object], name: str) -> int | None:
    given = options[name]
    try:
        return None if given is None else to_ms(given)  # type: ignore[arg-type] # it refuses others
    except ConfigError as exc:
        msg = f"{name}: {exc.message}"
        raise ConfigError(msg, hint=exc.hint) from None


def _of_numbers(found: Sequence[object], factor: int, divisor: int) -> array[int]:
    numbers = ints(found)
    if found is not numbers and bounds(numbers)[0] <= 1 and bool in {*map(type, found)}:
        msg = "True and False are no times"
        raise TypeError(msg)
    return numbers if factor == divisor else ints([n * factor // divisor for n in numbers])


def _of_dates(found: Sequence[object]) -> list[int]:
    # A date without a zone cannot be subtracted: it raises.
    return [(at - _EPOCH) // _MS for at in cast("list[datetime]", found)]


def _of_texts(found: Sequence[object]) -> list[int]:
    return _of_dates(list(map(datetime.fromisoformat, cast("list[str]", found))))


#: What ``_to_ms`` does, for many values of one class at once.
_COLUMNS: Final[Mapping[type, Callable[[Sequence[object]], list[int]]]] = {
    datetime: _of_dates,
    str: _of_texts,
}


def _to_ms(raw: object, unit: str) -> int:
    """Return a time as whole milliseconds, rounded down.

    Raises:
        EventTimeError: It is no time, or it could mean several moments.
    """
    if isinstance(raw, SupportsIndex) and not isinstance(raw, bool):
        factor, divisor = _UNITS[unit]
        return index(raw) * factor // divisor
    if isinstance(raw, str):
        raw = _parsed(raw)
    if isinstance(raw, datetime):
        if raw.utcoffset() is None:
            msg = f"The event time {raw.isoformat()} has no time zone"
            raise EventTimeError(msg, hint="Write it with an offset or Z: 2024-05-01T12:00:00Z")
        return (raw - _EPOCH) // _MS
    if isinstance(raw, float) and unit == "s" and isfinite(raw):
        return round(raw * 1_000)
    msg = f"The event time {_told(raw)} is not a time"
    hint = f"A whole number of {unit}, a date with a zone, or ISO 8601 text is one"
    raise EventTimeError(msg, hint=hint)


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        msg = f"The event time {_told(text)} is not ISO 8601"
        raise EventTimeError(msg, hint="Write it like 2024-05-01T12:00:00Z") from None


def _check(time_ms: int, latest_ms: int) -> None:
    if abs(time_ms) >= -NEVER_MS:
        msg = f"The event time {_told(time_ms)} ms is out of range"
        raise EventTimeError(msg, hint="Look at time_unit= of the topic: is it the field's unit?")
    if time_ms > latest_ms:
        msg = f"The event time {time_ms} ms is {time_ms - latest_ms} ms beyond what is allowed"
        raise FutureTimeError(msg, hint="Is a clock wrong? Raise max_future= if it is true")


def _told(raw: object) -> str:
    """Return a few characters of a user's value, which may refuse to be written (or be endless)."""
    try:
        return repr(raw)[:_TOLD]
    except Exception:  # noqa: BLE001 - an error about an error helps nobody
        return f"of type {type(raw).__name__}"
