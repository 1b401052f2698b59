"""The aggregates of a pipeline's step, by name: how they start, grow, merge, end and are stored."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Final

from msgspec.json import encode

from streamapp.core.aggregates.columns import COLUMN_KINDS, Columns
from streamapp.core.aggregates.inputs import Inputs
from streamapp.core.aggregates.layout import Acc, Layout
from streamapp.core.aggregates.parts import Aggregate, Functions
from streamapp.core.aggregates.program import AddError, program
from streamapp.core.rows import Rows
from streamapp.errors import ConfigError

#: Types of slots that nobody can change.
_FIXED: Final = frozenset({int, float, str, bool, type(None)})
#: Integers from here to its opposite come back from JSON as what they were.
_LEAST_INT: Final = -(1 << 63) + 1


class AggregateSet(Mapping[str, Aggregate]):
    """Aggregates by name; what they have in common is kept and computed once.

    Rows are added one after the other, in accumulators and in ``Columns`` alike: results do not
    depend on how records were cut into batches, bit for bit. ``merge`` is associative and has
    ``new()`` as its neutral element: exactly for integers, up to rounding for floats, within the
    bound of the error for ``top_k``.

    Raises:
        ConfigError: One of them is no aggregate, or its field neither a name nor a function.
    """

    def __init__(self, aggregates: Mapping[str, Aggregate]) -> None:
        self._aggregates = dict(aggregates)
        for name, one in self._aggregates.items():
            if not isinstance(one, Aggregate):
                message = f"Aggregate {name!r} is {one!r}"
                raise ConfigError(message, hint='Give one like streamapp.sum("amount")')
        self.names = tuple(self._aggregates)
        self._layout = Layout(self._aggregates)
        self._program = program(self._layout)
        kinds = {part.kind for part, _ in self._layout.placed}
        #: Whether ``add_all`` may raise: there is an aggregate of the application.
        self.may_fail = "functions" in kinds
        self._functions = {
            slot: part.param
            for part, slot in self._layout.placed
            if isinstance(part.param, Functions)
        }
        self._has_columns = kinds <= COLUMN_KINDS

    def __getitem__(self, name: str) -> Aggregate:
        return self._aggregates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._aggregates)

    def __len__(self) -> int:
        return len(self._aggregates)

    def extract(self, values: Sequence[object]) -> Inputs:
        """Read the fields of all values, each once.

        Raises:
            InputsError: The first value that an aggregate cannot take.
        """
        return Inputs.read(self._layout.checks, values)

    def new(self) -> Acc:
        """Return the state of no row at all."""
        return self._program.new()

    def add_all(
        self, accs: Sequence[Acc], inputs: Inputs, rows: Rows, start: int, stop: int
    ) -> None:
        """Add each row ``i`` of ``[start, stop)`` to ``accs[i - start]``, in order.

        Raises:
            AddError: A function of the application failed, or its state would not survive a
                restart. Rows of earlier origins have been added; what others of the same origin
                did in this call is undone, also what the function has changed in its argument.
        """
        if not self.may_fail:
            self._program.add_all(accs, inputs.lists, rows.times, start, stop)
            return
        before = [(acc, self._saved(acc)) for acc in {id(acc): acc for acc in accs}.values()]
        try:
            self._program.add_all(accs, inputs.lists, rows.times, start, stop)
            self._check([acc for acc, _ in before])
        except AddError as error:
            self._restore(before)
            first = bisect_left(rows.origins, rows.origins[error.index], start, error.index)
            if first > start:
                self.add_all(accs[: first - start], inputs, rows, start, first)
            raise
        except Exception as error:
            self._restore(before)
            middle = bisect_left(rows.origins, rows.origins[(start + stop) // 2], start)
            if middle == start:
                middle = bisect_right(rows.origins, rows.origins[start], start, stop)
            if middle == stop:
                raise AddError(start) from error
            self.add_all(accs[: middle - start], inputs, rows, start, middle)
            self.add_all(accs[middle - start :], inputs, rows, middle, stop)

    def _check(self, accs: Sequence[Acc]) -> None:
        """Find out now whether states survive a restart: at a commit nobody knows which record."""
        for slot, functions in self._functions.items():
            for acc in accs:
                state = acc[slot]
                if type(state) is not int or not _LEAST_INT <= state <= -_LEAST_INT:
                    functions.pack(state)

    def _saved(self, acc: Acc) -> Acc:
        # States of functions survive JSON, which takes a fraction of the time of a copy.
        return [
            one
            if type(one) in _FIXED
            else encode(one)
            if slot in self._functions
            else deepcopy(one)
            for slot, one in enumerate(acc)
        ]

    def _restore(self, before: Sequence[tuple[Acc, Acc]]) -> None:
        for acc, saved in before:
            for slot, functions in self._functions.items():
                if type(saved[slot]) is bytes:
                    saved[slot] = functions.unpack(saved[slot])
            acc[:] = saved

    def merge(self, into: Acc, other: Acc) -> None:
        """Add the rows of ``other``, as if they had come after those of ``into``.

        ``other`` stays as it is.

        Raises:
            AddError: A function of the application failed; ``into`` may have changed.
        """
        try:
            self._program.merge(into, other)
        except Exception as error:
            if self.may_fail:
                raise AddError(0) from error
            raise

    def results(self, acc: Acc) -> tuple[object, ...]:
        """Return the results in the order of ``names``; they share nothing with ``acc``."""
        return self._program.results(acc)

    def pack(self, acc: Acc) -> list[object]:
        """Return the state as JSON keeps it, one entry for each slot.

        Raises:
            UsageError: The state of an aggregate of the application would not survive.
        """
        return self._program.pack(acc)

    def unpack(self, packed: Sequence[object]) -> Acc:
        """Return the state that ``pack`` wrote."""
        return self._layout.unpack(packed)

    def columns(self) -> Columns | None:
        """Return columns without a window; ``None`` if an aggregate has no column form."""
        return Columns(self._layout) if self._has_columns else None
