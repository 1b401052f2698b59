"""Which operator serves which kind of window, and how its state is shown."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streamapp.core.windows import (
    Count,
    Emission,
    Global,
    Hopping,
    Session,
    Sliding,
    Tumbling,
    WindowSpec,
)
from streamapp.operators.aligned import AlignedWindows
from streamapp.operators.aligned_rows import view_of
from streamapp.operators.counting import CountWindows, GlobalWindow
from streamapp.operators.session import SessionWindows
from streamapp.operators.sliding import SlidingWindows

if TYPE_CHECKING:
    from streamapp.core.aggregates import AggregateSet
    from streamapp.operators.operator import Operator, StateView
    from streamapp.operators.results import WindowRow

#: From the bytes of a row of state to its key and what people see; ``None`` for a row to hide.
View = Callable[[bytes, bytes], tuple[Hashable, dict[str, object]] | None]

#: An operator is made of the windows, the aggregates, the type of its rows, emission and state.
_OPERATORS: Final[dict[type[WindowSpec], Any]] = {
    Tumbling: AlignedWindows,
    Hopping: AlignedWindows,
    Session: SessionWindows,
    Sliding: SlidingWindows,
    Count: CountWindows,
    Global: GlobalWindow,
}


@dataclass(frozen=True, slots=True)
class Windowing:
    """What is computed over which windows, and when it leaves."""

    spec: WindowSpec
    aggregates: AggregateSet
    row: type[WindowRow]
    emission: Emission

    def operator(self, state: StateView) -> Operator:
        """Return the operator of one partition."""
        made: Operator = _OPERATORS[type(self.spec)](
            self.spec, self.aggregates, self.row, self.emission, state
        )
        return made

    def view(self) -> View:
        """Return what reads a row of its state for people."""
        if isinstance(self.spec, Tumbling | Hopping):
            return view_of(self.spec, self.aggregates)
        view: View = self.operator(_NoState()).view  # type: ignore[attr-defined] # all others have it
        return view


class _NoState:
    """The state of an operator that only shows rows."""

    def get(self, key: bytes) -> bytes | None:
        """Return ``None``."""
        del key
        return None

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over nothing."""
        del start, end
        return iter(())
