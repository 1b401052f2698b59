"""The moments at which windowed tables are read and written: of the event, its field, the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol, runtime_checkable

from streamapp.errors import InputError, UsageError
from streamapp.state.scope import EventScope, current_scope
from streamapp.state.windowed_grid import Unit, time_ms

#: A time in ms for each partition, as only the stream's differs between them.
Moment = Callable[[int], int]


@runtime_checkable
class HasValue(Protocol):
    """A source of events that knows their values; see ``state.scope.Source``."""

    @property
    def value(self) -> object:
        """Value of the (first) record in hand."""


@dataclass(frozen=True, slots=True)
class Relative:
    """The moment that ``value()`` reads, and the time whose windows a write changes.

    Writes never go by the clock: a replay must write the rows that it wrote before.
    """

    read: Callable[[], Moment]
    write: Callable[[], int]


def always(at_ms: int) -> Moment:
    """Return the moment that is the same for all partitions."""
    return lambda _partition: at_ms


def clock_ms() -> int:
    """Return the time of the clock, in ms since 1970."""
    return time.time_ns() // 1_000_000


def scope_in_hand() -> EventScope:
    """Return the scope of the event in hand.

    Raises:
        UsageError: There is none.
    """
    scope = current_scope.get()
    if scope is None or scope.partition < 0:
        msg = "A windowed table is written, or read at the event's time, outside of an event"
        raise UsageError(
            msg,
            hint="Read it with .now() or .at(when); write it inside `async for ... in stream`",
        )
    return scope


def event_ms() -> int:
    """Return the time of the event in hand; see ``scope_in_hand``."""
    return scope_in_hand().source.timestamp_ms


def by_field(field: object, unit: Unit) -> Callable[[], int]:
    """Return what reads the time from a field of the event in hand.

    Raises:
        UsageError: This is no field, or no such unit.
    """
    if unit not in ("s", "ms"):
        msg = f"{unit!r} is no unit of a field"
        raise UsageError(msg, hint='Use "s" or "ms"')
    getter = _getter(field)

    def field_ms() -> int:
        value = _value_in_hand()
        try:
            when = getter(value)
        except (AttributeError, KeyError) as exc:
            msg = f"{value!r:.80} has no {exc} to place it in windows"
            raise InputError(msg, hint="The event's value must have the field") from exc
        return time_ms(when, unit)

    return field_ms


def _getter(field: object) -> Callable[[Any], object]:
    # Faust's descriptors say `field`, those of our records `__name__`; so does a function.
    name = field if isinstance(field, str) else getattr(field, "field", None)
    if not isinstance(name, str) and not callable(field):
        name = getattr(field, "__name__", None)
    if isinstance(name, str):
        get = attrgetter(name)
        return lambda value: value[name] if isinstance(value, dict) else get(value)
    if callable(field):
        return field
    msg = f"A table cannot be relative to {field!r}"
    raise UsageError(msg, hint="Give a field's name, Order.created, or a function of the value")


def _value_in_hand() -> object:
    source = scope_in_hand().source
    if isinstance(source, HasValue):
        return source.value
    msg = "A table that is relative to a field is used where no record is in hand"
    raise UsageError(msg, hint="Use .at(when) or relative_to(when)")
