"""What is read from a windowed table: the windows of one key, and all keys of one window."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from streamapp.core.duration import to_ms
from streamapp.state.windowed_grid import Window, time_ms
from streamapp.state.windowed_moments import Moment, always, event_ms

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from streamapp.state.table import Table
    from streamapp.state.windowed import WindowedTable

T = TypeVar("T")


class AtMoment(ABC, Generic[T]):
    """The ways to say which window is meant: that of several which opened last before a moment."""

    __slots__ = ("wrapper",)

    def __init__(self, wrapper: WindowedTable) -> None:
        self.wrapper = wrapper

    def now(self) -> T:
        """Read the window of the clock: another one when the event is run again."""
        return self._read(always(self.wrapper.clock_ms()))

    def current(self) -> T:
        """Read the window of the event in hand.

        Raises:
            UsageError: There is no event in hand.
        """
        return self._read(always(event_ms()))

    def delta(self, ago: timedelta | float | str) -> T:
        """Read the window of this long before the event in hand; see ``current``."""
        return self._read(always(event_ms() - to_ms(ago)))

    def at(self, when: datetime | float | str) -> T:
        """Read the window of a moment: a number is seconds since 1970, text is ISO 8601.

        Raises:
            InputError: This is no moment.
        """
        return self._read(always(time_ms(when)))

    @abstractmethod
    def _read(self, moment: Moment) -> T: ...


class WindowSet(AtMoment[Any]):
    """The windows of one key: ``table[key]``. Knows no value until it is told which window.

    Without a row, reading gives the table's default, or raises ``KeyError`` if it has none.
    """

    __slots__ = ("key",)

    def __init__(self, key: Hashable, wrapper: WindowedTable) -> None:
        super().__init__(wrapper)
        self.key = key

    @property
    def table(self) -> Table:
        """The table below, with its rows ``(key, start_ms)``."""
        return self.wrapper.table

    def value(self) -> Any:
        """Read the window of the moment that the table is declared relative to."""
        return self._read(self.wrapper.relative.read())

    def windows(self) -> Iterator[tuple[Window, Any]]:
        """Iterate over all windows with their values, oldest first inside of each partition."""
        return self.wrapper.windows(self.key)

    def apply(self, change: Callable[[Any, Any], Any], value: object) -> Self:
        """Replace the value in each window of the event by ``change(old, value)``."""
        self.wrapper.apply(self.key, change, value)
        return self

    def _read(self, moment: Moment) -> Any:
        return self.wrapper.value(self.key, moment)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key!r} of {self.wrapper.name}>"

    def __iadd__(self, other: object) -> Self:
        return self.apply(operator.add, other)

    def __isub__(self, other: object) -> Self:
        return self.apply(operator.sub, other)

    def __imul__(self, other: object) -> Self:
        return self.apply(operator.mul, other)

    def __itruediv__(self, other: object) -> Self:
        return self.apply(operator.truediv, other)

    def __ifloordiv__(self, other: object) -> Self:
        return self.apply(operator.floordiv, other)

    def __imod__(self, other: object) -> Self:
        return self.apply(operator.mod, other)

    def __ipow__(self, other: object) -> Self:
        return self.apply(operator.pow, other)

    def __ilshift__(self, other: object) -> Self:
        return self.apply(operator.lshift, other)

    def __irshift__(self, other: object) -> Self:
        return self.apply(operator.rshift, other)

    def __iand__(self, other: object) -> Self:
        return self.apply(operator.and_, other)

    def __ixor__(self, other: object) -> Self:
        return self.apply(operator.xor, other)

    def __ior__(self, other: object) -> Self:
        return self.apply(operator.or_, other)


class WindowedView(AtMoment[Iterator[Any]]):
    """Keys, values or items of one window; iterates over the one that ``value()`` reads.

    Holds rows only, no defaults. Reads all rows of the table: nothing for a hot agent.
    """

    __slots__ = ("_part",)

    def __init__(self, wrapper: WindowedTable, part: Callable[[tuple[Any, Any]], Any]) -> None:
        super().__init__(wrapper)
        self._part = part

    def __iter__(self) -> Iterator[Any]:
        return self._read(self.wrapper.relative.read())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _read(self, moment: Moment) -> Iterator[Any]:
        return map(self._part, self.wrapper.pairs(moment))
