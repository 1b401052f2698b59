"""Some rows of many."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Final, TypeVar, cast

from streamapp.core.columned import picked_values
from streamapp.core.int_columns import as_numpy, of_numpy
from streamapp.core.rows import Rows
from streamapp.core.text_column import TextColumn

T = TypeVar("T")

#: Places from which on NumPy pays.
_MANY: Final = 64


def picked(rows: Rows, places: Sequence[int]) -> Rows:
    """Return the rows at these places, in this order."""
    return Rows(
        column(rows.keys, places),
        column(rows.times, places),
        picked_values(rows.values, places),
        column(rows.marks, places),
        column(rows.origins, places),
    )


def column(items: Sequence[T], places: Sequence[int]) -> Sequence[T]:
    """Return the items at these places, in this order; of an array, or a range, an array."""
    taken: Any = None
    if isinstance(items, TextColumn):
        return cast("Sequence[T]", items.pick(places))
    if len(places) >= _MANY and isinstance(items, range):
        taken = of_numpy(as_numpy(places) * items.step + items.start)
    elif len(places) >= _MANY and isinstance(items, array) and items.typecode == "q":
        taken = of_numpy(as_numpy(items)[as_numpy(places)])
    return [items[place] for place in places] if taken is None else taken
