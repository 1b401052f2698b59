"""Some rows of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from streamapp.core.columned import picked_values
from streamapp.core.rows import Rows

T = TypeVar("T")


def picked(rows: Rows, places: Sequence[int]) -> Rows:
    """Return the rows at these places, in this order."""
    return Rows(
        column(rows.keys, places),
        column(rows.times, places),
        picked_values(rows.values, places),
        column(rows.marks, places),
        column(rows.origins, places),
    )


def column(items: Sequence[T], places: Sequence[int]) -> list[T]:
    """Return the items at these places, in this order."""
    return [items[place] for place in places]
