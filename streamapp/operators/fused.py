"""Stateless steps in a row as one operator: one loop, written and compiled once for the chain.

Each row goes through all steps before the next one does, as if the chain had been written by hand;
nothing is paid for a step that is not there, and no column is touched that no step changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from streamapp.core.columned import Columned
from streamapp.core.rows import NO_ROWS, Rows
from streamapp.operators.keys import FieldOrFunction, checked_key, getter, not_awaited, plain_keys
from streamapp.operators.operator import Operator, RowError
from streamapp.operators.pick import column, picked
from streamapp.serde.ordered_keys import PLAIN_KEYS


@dataclass(frozen=True, slots=True)
class Map:
    """Puts ``function(value)`` in the place of the value."""

    function: Callable[..., object]


@dataclass(frozen=True, slots=True)
class Filter:
    """Keeps the values of which ``function(value)`` is true.

    ``places`` tells of many values at once, by their columns, where these are, in order; ``None``
    if it cannot. It never fails, and says what the function would.
    """

    function: Callable[..., object]
    places: Callable[[Columned], Sequence[int] | None] | None = None


@dataclass(frozen=True, slots=True)
class FlatMap:
    """Puts all that ``function(value)`` iterates over in the place of the value."""

    function: Callable[..., Iterable[object]]


@dataclass(frozen=True, slots=True)
class KeyBy:
    """Gives the row the key that a field of the value holds, or ``function(value)`` returns.

    Of several in a chain only the last one is run.
    """

    key: FieldOrFunction


@dataclass(frozen=True, slots=True)
class Peek:
    """Calls ``function(value)`` for what it does; its result is not used."""

    function: Callable[..., object]


Step = Map | Filter | FlatMap | KeyBy | Peek

#: ``(values, push, keep, hold, functions...) -> (index, error)``: see ``_source``.
_Loop = Callable[..., tuple[int, Exception | None]]

#: Values from which on columns pay: below, asking for one takes longer than making the objects.
_MANY: Final = 16

#: What a step is inside of the loop; ``{f}`` is its function.
_LINES: dict[type[Step], tuple[str, ...]] = {
    Map: ("value = {f}(value)",),
    Filter: ("if not {f}(value):", "    continue"),
    FlatMap: ("for value in {f}(value):",),
    KeyBy: ("key = {f}(value)", "if type(key) not in plain:", "    checked_key(key)"),
    Peek: ("{f}(value)",),
}


def function_of(step: Step) -> Callable[..., object]:
    """Return what a step calls.

    Raises:
        ConfigError: It cannot be called, or must be awaited.
    """
    return getter(step.key) if isinstance(step, KeyBy) else not_awaited(step.function)


class Fused(Operator):
    """A chain of stateless steps.

    Raises:
        ConfigError: A function must be awaited.
    """

    has_state = False

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        last_key = max((n for n, step in enumerate(steps) if isinstance(step, KeyBy)), default=-1)
        run = [s for n, s in enumerate(steps) if n == last_key or not isinstance(s, KeyBy)]
        functions = [function_of(step) for step in run]
        self._has_keys = last_key >= 0
        self._has_gaps = any(isinstance(step, (Filter, FlatMap)) for step in run)
        loop = _compiled(_source(run, has_keys=self._has_keys, has_gaps=self._has_gaps))
        self._loop = loop
        self._functions = functions
        only = run[0].key if len(run) == 1 and isinstance(run[0], KeyBy) else None
        #: The one field that is all the chain reads: as a column, a fifth of the loop's time.
        self._field = only if isinstance(only, str) else None
        first = run[0] if run else None
        self._places = first.places if isinstance(first, Filter) else None
        #: The chain behind a filter that columns may answer.
        self._behind = None if self._places is None else Fused(run[1:])

    def process(self, rows: Rows, side: int = 0) -> Rows:
        """See ``Operator.process``."""
        del side
        brought, error = self.run(rows)
        if error is not None:
            raise error
        return brought

    def run(self, rows: Rows) -> tuple[Rows, RowError | None]:
        """Return what the rows bring, and the error at the first row that cannot be used.

        Then the result is that of the rows of earlier origins, and steps have been called for no
        row after the one in error.
        """
        if not self._functions:
            return rows, None
        if self._places is not None and self._behind is not None:
            kept = _kept(rows, self._places, needs_keys=not self._has_keys)
            if kept is not None:
                return self._behind.run(kept)
        if self._field is not None:
            found = plain_keys(self._field, rows.values)
            if found is not None:
                return Rows(found, rows.times, rows.values, rows.marks, rows.origins), None
        values: list[object] = []
        places: list[int] = []
        keys: list[object] = []
        index, error = self._loop(
            rows.values, values.append, places.append, keys.append, *self._functions
        )
        brought = self._brought(rows, values, places, keys)
        if error is None:
            return brought, None
        origin = rows.origins[index]
        brought = brought.part(0, bisect_left(brought.origins, origin))
        failure = RowError(origin, brought)
        failure.__cause__ = error
        return brought, failure

    def _brought(
        self, rows: Rows, values: list[object], places: list[int], keys: list[object]
    ) -> Rows:
        if not values:
            return NO_ROWS
        if not self._has_gaps:
            part = rows.part(0, len(values))
            times, marks, origins = part.times, part.marks, part.origins
            return Rows(keys if self._has_keys else part.keys, times, values, marks, origins)
        return Rows(
            keys if self._has_keys else column(rows.keys, places),
            column(rows.times, places),
            values,
            column(rows.marks, places),
            column(rows.origins, places),
        )


def _kept(
    rows: Rows, places: Callable[[Columned], Sequence[int] | None], *, needs_keys: bool
) -> Rows | None:
    """Return the rows that columns say are to be kept; ``None`` if they cannot say."""
    if len(rows) < _MANY or not isinstance(rows.values, Columned):
        return None
    found = places(rows.values)
    if found is None:
        return None
    if len(found) == len(rows):
        return rows
    # Others take the place of keys that nobody needs: a range is picked from at once.
    return picked(rows if needs_keys else replace(rows, keys=range(len(rows))), found)


def _source(steps: Sequence[Step], *, has_keys: bool, has_gaps: bool) -> str:
    """Return the loop over values: what is left at its end is told by ``push`` (and the others).

    ``keep`` takes the place of the row that a result comes from, ``hold`` its key.
    """
    lines, indent = ["for index, value in enumerate(values):"], "    "
    for n, step in enumerate(steps):
        lines += [indent + line.format(f=f"f{n}") for line in _LINES[type(step)]]
        indent += "    " * isinstance(step, FlatMap)
    ends = ["push(value)"] + ["keep(index)"] * has_gaps + ["hold(key)"] * has_keys
    lines += [indent + end for end in ends]
    names = ", ".join(f"f{n}" for n in range(len(steps)))
    return "\n".join(
        [
            f"def loop(values, push, keep, hold, {names}):",
            "    index = 0",
            "    try:",
            *("        " + line for line in lines),
            "    except Exception as error:",
            "        return index, error",
            "    return index, None",
        ]
    )


def _compiled(source: str) -> _Loop:
    names: dict[str, object] = {"plain": PLAIN_KEYS, "checked_key": checked_key}
    exec(compile(source, "<fused steps>", "exec"), names)  # noqa: S102 - our text; users' functions are arguments
    return cast("_Loop", names["loop"])
