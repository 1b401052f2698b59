"""Fields of rows that grow with many records at once: counts, sums, least and greatest numbers.

Numbers are added in the order of the records, starting from what the row holds, so the result is
that of one record after the other, bit for bit, wherever batches were cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np

from streamapp.core.aggregates import constructors as make
from streamapp.core.aggregates.column_parts import Added
from streamapp.core.aggregates.inputs import FieldColumn, Floats, Ints, Slice
from streamapp.core.aggregates.number_column import NumberColumn, may_overflow
from streamapp.core.aggregates.parts import Aggregate
from streamapp.core.aggregates.values import Check, Field, InputsError, read
from streamapp.errors import ConfigError

Operation = Literal["count", "sum", "min", "max"]

_MAKERS: Final[dict[Operation, Callable[[Field], Aggregate]]] = {
    "sum": make.sum,
    "min": make.min,
    "max": make.max,
}
#: Aggregates that no field can grow by, by the kind of their last part.
_OTHERS: Final[dict[str, str]] = {
    "sum": "avg",
    "moments": "stddev",
    "first": "first",
    "last": "last",
    "frequent": "top_k",
    "distinct": "distinct_count",
    "quantiles": "quantile",
    "collect": "collect",
    "functions": "an aggregate of your own",
}
#: Rows below which a loop is faster than arrays, whose calls cost the same for any number of rows.
_FEW: Final = 256


@dataclass(frozen=True, slots=True)
class Fold:
    """How a field of a row grows with a field of records; ``None`` counts each record."""

    operation: Operation
    field: Field | None

    def values(self, records: Sequence[object]) -> list[object]:
        """Return what each record adds; ``None`` where it adds nothing.

        Raises:
            InputError: A record has no such field, or it is no number.
        """
        if self.field is None:
            return [1] * len(records)
        check = Check.ANYTHING if self.operation == "count" else Check.NUMBER
        try:
            found = read(self.field, check, records)
        except InputsError as error:
            raise cast("Exception", error.__cause__) from error
        return [None if x is None else 1 for x in found] if self.operation == "count" else found

    def grow(self, held: Sequence[object], slots: Ints, values: list[object]) -> list[object]:
        """Return the fields ``held`` after ``values[i]`` was added to ``held[slots[i]]``, each.

        ``None`` in ``held`` is nothing yet.
        """
        operation: Literal["sum", "min", "max"] = (
            "sum" if self.operation == "count" else self.operation
        )
        if len(values) < _FEW:
            return grow_singly(operation, held, slots.tolist(), values)
        return grow_at_once(operation, held, slots, values)


def fold_of(name: str, aggregate: object) -> Fold:
    """Return how a field grows that an application declares like ``total=streamapp.sum("x")``.

    Raises:
        ConfigError: The aggregate needs more than its last result, as an average does.
    """
    last = aggregate.parts[-1] if isinstance(aggregate, Aggregate) else None
    if last is not None:
        field = last.field
        if aggregate == make.count(field):
            return Fold("count", field)
        if field is not None:
            for operation, like in _MAKERS.items():
                if aggregate == like(field):
                    return Fold(operation, field)
    given = repr(aggregate)[:40] if last is None else _OTHERS.get(last.kind, "this aggregate")
    message = f"The field {name!r} of a row cannot grow by {given}"
    raise ConfigError(message, hint="It can by count, sum, min and max; a pipeline knows the rest")


def grow_singly(
    operation: str, held: Sequence[object], slots: Sequence[int], values: Sequence[object]
) -> list[object]:
    """Do as ``Fold.grow``, one value after the other."""
    found = cast("list[float | None]", [*held])
    for slot, x in zip(slots, cast("Sequence[float | None]", values), strict=True):
        if x is None:
            continue
        now = found[slot]
        if operation == "sum":
            found[slot] = (0 if now is None else now) + x
        elif now is None or (x < now if operation == "min" else x > now):
            found[slot] = x + 0  # one zero of the two
    return cast("list[object]", found)


def grow_at_once(
    operation: Literal["sum", "min", "max"],
    held: Sequence[object],
    slots: Ints,
    values: list[object],
) -> list[object]:
    """Do as ``Fold.grow``, with arrays."""
    return _grown(operation, held, slots, FieldColumn(values))


def added(held: Sequence[float], slots: Ints, numbers: Ints | Floats) -> list[float]:
    """Return what is held after ``numbers[i]`` was added to ``held[slots[i]]``, each, in order."""
    with np.errstate(all="ignore"):  # what has no number is refused by who writes it
        column = _alike(held, numbers)
        if column is None:
            return cast("list[float]", _grown("sum", held, slots, FieldColumn(None, numbers)))
        np.add.at(column, slots, numbers)
    return cast("list[float]", column.tolist())


def _alike(held: Sequence[float], numbers: Ints | Floats) -> Ints | Floats | None:
    """Return what is held as an array to which all of the numbers can be added as they are."""
    if numbers.dtype == np.float64:  # to a float, Python too makes a float of an integer
        return np.fromiter(held, np.float64, len(held))
    if {*map(type, held)} != {int}:
        return None
    try:
        column = np.fromiter(held, np.int64, len(held))
    except OverflowError:
        return None
    return None if may_overflow(column, cast("Ints", numbers)) else column


def _grown(
    operation: Literal["sum", "min", "max"],
    held: Sequence[object],
    slots: Ints,
    field: FieldColumn,
) -> list[object]:
    # Not that of the slots: keys that are fewer than the values must be refused.
    length = len(field.numbers)
    if not length:
        return [*held]
    counts = np.array([x is not None for x in held], np.int64)
    column = NumberColumn(operation)
    column.grow(len(held))
    there = np.flatnonzero(counts)
    if len(there):
        column.load(there, [[x for x in held if x is not None]], counts)
    into = Added(slots, slots).field(Slice(field, 0, length, field.index))
    column.add(into, counts)
    counts[into.rows] = 1
    grown = cast("Ints", column.values).tolist()
    return [x if n else None for x, n in zip(grown, counts.tolist(), strict=True)]
