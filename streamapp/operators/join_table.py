"""The table join: each record with the row of its key in a table of the same partition."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable
from typing import Literal

from streamapp.core.rows import Rows
from streamapp.operators.join_base import Combine
from streamapp.operators.operator import Operator, RowError
from streamapp.operators.pick import picked


class TableJoin(Operator):
    """Joins records with what a table says at the moment at which they are processed.

    ``read`` returns a row, or ``None``: then an inner join leaves the record out. Nothing is kept,
    and a later change of the table changes no result. ``move_to`` is told of the event time before
    each read, where rows live for a time only: that of the record, or of the watermark behind it.
    """

    has_state = False

    def __init__(
        self,
        read: Callable[[Hashable], object],
        kind: Literal["inner", "left"],
        combine: Combine,
        move_to: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        self._read = read
        self._move_to = move_to
        self._is_inner = kind == "inner"
        self._combine = combine

    @property
    def asks_time(self) -> bool:
        """Whether results depend on the watermark before each row."""
        return self._move_to is not None

    def process(self, rows: Rows, side: int = 0) -> Rows:
        """See ``Operator.process``."""
        del side
        brought, error = self.run(rows)
        if error is not None:
            raise error
        return brought

    def run(self, rows: Rows) -> tuple[Rows, RowError | None]:
        """Return what the rows bring, and the error at the first row that cannot be used."""
        places: list[int] = []
        values: list[object] = []
        place, move_to = 0, self._move_to
        try:
            for place, (key, value) in enumerate(zip(rows.keys, rows.values, strict=True)):
                if move_to is not None:
                    move_to(max(rows.times[place], rows.marks[place] + 1))
                row = self._read(key)
                if row is None and self._is_inner:
                    continue
                values.append(self._combine(value, row))
                places.append(place)
        except Exception as exc:  # noqa: BLE001 - whatever the user's function raises
            origin = rows.origins[place]
            count = bisect_left(places, bisect_left(rows.origins, origin))
            brought = _with_values(rows, places[:count], values[:count])
            failure = RowError(origin, brought)
            failure.__cause__ = exc
            return brought, failure
        return _with_values(rows, places, values), None


def _with_values(rows: Rows, places: list[int], values: list[object]) -> Rows:
    at = picked(rows, places)
    return Rows(at.keys, at.times, values, at.marks, at.origins)
