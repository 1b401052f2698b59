"""Fields of many values at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from keyword import iskeyword
from operator import attrgetter, itemgetter
from typing import cast

#: Values of one kind to what each of them has in a field.
Reader = Callable[[Sequence[object]], list[object]]


def each(function: Callable[[object], object], values: Sequence[object]) -> list[object]:
    """Return what a function of the application makes of each value; raises what it raises.

    ``map`` is faster than a loop, but takes a ``StopIteration`` of the function for the end.
    """
    found = [*map(function, values)]
    return found if len(found) == len(values) else [function(value) for value in values]


@lru_cache(maxsize=256)
def reader_of(name: str, *, of_dicts: bool) -> Reader:
    """Return the function that reads a field of objects, or an entry of dictionaries.

    Half the time of ``map`` with a getter: the interpreter learns where the field is.
    """
    if not name.isidentifier() or iskeyword(name):
        read = cast("Callable[[object], object]", (itemgetter if of_dicts else attrgetter)(name))
        return lambda values: each(read, values)
    field = f"[{name!r}]" if of_dicts else f".{name}"
    code = f"lambda values: [value{field} for value in values]"
    return cast("Reader", eval(code, {}))  # noqa: S307 - nothing in it but an identifier
