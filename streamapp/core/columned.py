"""Values of records whose fields are known before any object is made. Pure.

To who looks at values it is a sequence of them, made (all at once) when the first one is asked for.
Who needs a field only asks for its column: no object is made then.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Protocol, overload

#: One field of each record: ``array("q")`` for an int, ``array("d")`` for a float, else a list of
#: ``str`` or of ``bool``. No value is missing.
PlainColumn = array[int] | array[float] | list[object]


class Reader(Protocol):
    """Reads what it has found to be good before."""

    def objects(self, raw: Sequence[bytes]) -> list[object]:
        """Return the values of records."""

    def column(self, raw: Sequence[bytes], name: str) -> PlainColumn | None:
        """Return a field of records; ``None`` if it is not plain in all of them."""


class Columned(Sequence[object]):
    """See the module. ``columns`` are those that were read already; ``raw`` are all good."""

    __slots__ = ("_columns", "_objects", "_raw", "_reader")

    def __init__(
        self, raw: Sequence[bytes], reader: Reader, columns: Mapping[str, PlainColumn]
    ) -> None:
        self._raw = raw
        self._reader = reader
        self._columns: dict[str, PlainColumn | None] = {**columns}
        self._objects: list[object] | None = None

    def __len__(self) -> int:
        return len(self._raw)

    def __iter__(self) -> Iterator[object]:
        return iter(self.objects)

    @overload
    def __getitem__(self, at: int) -> object: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[object]: ...
    def __getitem__(self, at: int | slice) -> object:
        if self._objects is not None or isinstance(at, int):
            return self.objects[at]
        known = {name: of[at] for name, of in self._columns.items() if of is not None}
        return Columned(self._raw[at], self._reader, known)

    @property
    def objects(self) -> list[object]:
        """The values; the same objects at each call."""
        if self._objects is None:
            self._objects = self._reader.objects(self._raw)
        return self._objects

    def column(self, name: str) -> PlainColumn | None:
        """Return a field of all values, not to be changed; ``None``: it has to be read from them.

        Objects that were made may have been changed since, so they are what counts then.
        """
        if self._objects is not None:
            return None
        if name not in self._columns:
            self._columns[name] = self._reader.column(self._raw, name)
        return self._columns[name]

    def pick(self, places: Sequence[int]) -> Sequence[object]:
        """Return the values at these places, in this order."""
        if self._objects is not None:
            return [self._objects[place] for place in places]
        if not places:
            return ()
        known = {name: _picked(of, places) for name, of in self._columns.items() if of is not None}
        return Columned([self._raw[place] for place in places], self._reader, known)


def column_of(values: Sequence[object], name: str) -> PlainColumn | None:
    """Return a field of values as a column if it is known without looking at them."""
    return values.column(name) if isinstance(values, Columned) else None


def _picked(column: PlainColumn, places: Sequence[int]) -> PlainColumn:
    found = itemgetter(*places)(column) if len(places) > 1 else (column[places[0]],)
    return array(column.typecode, found) if isinstance(column, array) else [*found]
