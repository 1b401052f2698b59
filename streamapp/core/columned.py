"""Values of records whose fields are known before any object is made. Pure.

To who looks at values it is a sequence of them, made (all at once) when the first one is asked for.
Who needs a field only asks for its column: no object is made then.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Protocol, Self, Union, cast, overload

from streamapp.core.lists import one_list
from streamapp.core.text_column import TextColumn

#: One field of each record: ``array("q")`` of ints, ``array("d")`` of floats, a ``TextColumn``,
#: or a list of texts or booleans. No value is missing.
PlainColumn = Union["array[int]", "array[float]", TextColumn, list[object]]


class Reader(Protocol):
    """Reads what it has found to be good before."""

    def objects(self, raw: Sequence[bytes]) -> list[object]:
        """Return the values of records."""

    def column(self, raw: Sequence[bytes], name: str) -> PlainColumn | None:
        """Return a field of records; ``None`` if it is not plain in all of them."""


class Columned(Sequence[object]):
    """See the module.

    ``raw`` are the bytes, all good. ``columns`` are those that were read already; ``None`` is a
    field that has none.
    """

    __slots__ = ("_objects", "_reader", "columns", "raw")

    def __init__(
        self,
        raw: Sequence[bytes],
        reader: Reader,
        columns: Mapping[str, PlainColumn | None],
    ) -> None:
        self.raw = raw
        self._reader = reader
        self.columns: dict[str, PlainColumn | None] = {**columns}
        self._objects: list[object] | None = None

    def __len__(self) -> int:
        return len(self.raw)

    def __iter__(self) -> Iterator[object]:
        return iter(self.objects)

    @overload
    def __getitem__(self, at: int) -> object: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[object]: ...  # type: ignore[explicit-any] # slice
    def __getitem__(self, at: int | slice) -> object:  # type: ignore[explicit-any] # as above
        if self._objects is not None or isinstance(at, int):
            return self.objects[at]
        columns = {name: None if of is None else of[at] for name, of in self.columns.items()}
        return Columned(self.raw[at], self._reader, columns)

    def __eq__(self, other: object) -> bool:
        return self.objects == (other.objects if isinstance(other, Columned) else other)

    __hash__ = None  # type: ignore[assignment] # like a list

    def __repr__(self) -> str:
        return repr(self.objects)

    @property
    def is_made(self) -> bool:
        """Whether there are objects, which somebody may have changed."""
        return self._objects is not None

    @property
    def objects(self) -> list[object]:
        """The values; the same objects at each call."""
        if self._objects is None:
            self._objects = self._reader.objects(self.raw)
        return self._objects

    def column(self, name: str) -> PlainColumn | None:
        """Return a field of all values, not to be changed; ``None``: it has to be read from them.

        Objects that were made may have been changed since, so they are what counts then.
        """
        if self._objects is not None:
            return None
        if name not in self.columns:
            self.columns[name] = self._reader.column(self.raw, name)
        return self.columns[name]

    def pick(self, places: Sequence[int]) -> Sequence[object]:
        """Return the values at these places, in this order."""
        if self._objects is not None:
            return [self._objects[place] for place in places]
        if not places:
            return ()
        columns = {
            name: None if of is None else _picked(of, places) for name, of in self.columns.items()
        }
        raw = cast("Sequence[bytes]", _taker(places)(self.raw))
        return Columned(raw, self._reader, columns)

    def joined(self, others: Sequence[Self]) -> Columned | None:
        """Return these values and those of others, which follow; ``None`` if some are made.

        All must have been read by the same reader.
        """
        parts = (self, *others)
        if any(part.is_made for part in parts):
            return None
        raw = one_list(part.raw for part in parts)
        columns: dict[str, PlainColumn | None] = {}
        for name in self.columns:
            found = [of for part in parts if (of := part.columns.get(name)) is not None]
            chained = _chained(found) if len(found) == len(parts) else None
            if chained is not None:
                columns[name] = chained
        return Columned(raw, self._reader, columns)


def all_values(parts: Sequence[Sequence[object]]) -> Sequence[object]:
    """Return the values of all parts, which were read by one reader, one after the other."""
    first, *others = parts
    if isinstance(first, Columned) and all(isinstance(part, Columned) for part in others):
        found = first.joined(cast("list[Columned]", others))
        if found is not None:
            return found
    return one_list(parts)


def listed(values: Sequence[object]) -> list[object]:
    """Return the list that values are, or that they are made to be."""
    if isinstance(values, Columned):
        return values.objects
    return values if isinstance(values, list) else [*values]


def picked_values(values: Sequence[object], places: Sequence[int]) -> Sequence[object]:
    """Return the values at these places, in this order."""
    if isinstance(values, Columned):
        return values.pick(places)
    return [values[place] for place in places]


def known_column(values: Sequence[object], name: str) -> PlainColumn | None:
    """Return a field of values as a column, if it is known without looking at them."""
    return values.column(name) if isinstance(values, Columned) else None


def as_list(column: PlainColumn) -> list[object]:
    """Return a column as Python's own objects; one that is a list is not copied."""
    return column if isinstance(column, list) else [*column]


def _taker(places: Sequence[int]) -> itemgetter[object]:
    """Return what takes the items at these places as a sequence."""
    if len(places) == 1:
        return itemgetter(slice(places[0], places[0] + 1))
    return itemgetter(*places)


def _picked(column: PlainColumn, places: Sequence[int]) -> PlainColumn:
    if isinstance(column, TextColumn):
        return column.pick(places)
    taken = cast("Sequence[int]", _taker(places)(column))
    return array(column.typecode, taken) if isinstance(column, array) else [*taken]


def _chained(parts: Sequence[PlainColumn]) -> PlainColumn | None:
    """Return the columns of a field, one after the other; ``None`` if it has to be read again."""
    first = parts[0]
    if isinstance(first, TextColumn):
        return first.joined(cast("Sequence[TextColumn]", parts[1:]))
    found = first[:]
    for part in parts[1:]:
        found += part  # type: ignore[operator] # columns of one field are of one kind
    return found
