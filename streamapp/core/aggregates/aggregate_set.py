"""The aggregates of a pipeline's step, by name: how they start, grow, merge, end and are stored."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Final

from streamapp.core.aggregates.columns import COLUMN_KINDS, Columns
from streamapp.core.aggregates.inputs import Inputs
from streamapp.core.aggregates.layout import Acc, Layout
from streamapp.core.aggregates.parts import Aggregate
from streamapp.core.aggregates.program import AddError, program
from streamapp.core.rows import Rows
from streamapp.errors import ConfigError

#: Types of slots that nobody can change.
_FIXED: Final = frozenset({int, float, str, bool, type(None)})


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
        #: Whether a row that fails may have changed a state: that of the function before.
        self._leaves_some = [part.kind for part, _ in self._layout.placed].count("functions") > 1
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
            AddError: A function of the application failed. Rows of earlier origins have been
                added; what others of the same origin did in this call is undone.
        """
        origins = rows.origins[start:stop] if self.may_fail else ()
        if not self._leaves_some and len({*origins}) == len(origins):
            self._program.add_all(accs, inputs.lists, rows.times, start, stop)
            return
        before = {at: (acc, _copied(acc)) for at, acc in {id(acc): acc for acc in accs}.items()}
        failed: AddError | None = None
        while stop > start:
            try:
                self._program.add_all(accs, inputs.lists, rows.times, start, stop)
                break
            except AddError as error:
                failed = error
                stop = bisect_left(rows.origins, rows.origins[error.index], start, error.index)
                for acc, kept in before.values():
                    acc[:] = _copied(kept)
        if failed is not None:
            raise failed

    def merge(self, into: Acc, other: Acc) -> None:
        """Add the rows of ``other``, as if they had come after those of ``into``.

        ``other`` stays as it is. What a function of the application raises is passed on.
        """
        self._program.merge(into, other)

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


def _copied(acc: Acc) -> Acc:
    return [slot if type(slot) in _FIXED else deepcopy(slot) for slot in acc]
