"""Runs an operator with state by key as a stage does: with commits, trims and restarts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from support.operator_driver import DictState, Driver, cut

from streamapp.core.rows import NO_ROWS, Rows
from streamapp.operators.operator import Operator, StateView

#: After all windows.
END_MS = 10**6


@dataclass
class Run:
    """An operator at work over a state."""

    make: Callable[[StateView], Operator]
    state: DictState = field(default_factory=DictState)

    def __post_init__(self) -> None:
        self.driver = Driver(self.make(self.state))

    @property
    def operator(self) -> Any:
        return self.driver.operator

    @property
    def emitted(self) -> list[Any]:
        return self.driver.out

    @property
    def late(self) -> list[object]:
        return self.driver.late

    def go_to(self, watermark: int) -> None:
        self.driver.advance(watermark)
        assert self.operator.advance(watermark) is NO_ROWS

    def commit(self) -> None:
        self.driver.commit(self.state)
        assert self.operator.changed == 0

    def trim(self, rows: int) -> None:
        """Commit, and forget what the state has."""
        self.commit()
        self.operator.trim(rows)
        assert self.operator.size <= rows

    def restart(self) -> None:
        """Commit, and go on with a new operator over the same state."""
        self.commit()
        late = self.operator.late
        self.driver.operator = self.make(self.state)
        self.operator.restore(self.driver.watermark)
        self.operator.late = late

    def take_with_faults(self, rows: Rows, marks: list[int], data: st.DataObject) -> None:
        """Run rows in batches, with whatever may happen in between."""
        for batch, after in cut(rows, marks, data.draw(st.sampled_from([1, 2, 7, 100]))):
            self.driver.run(batch, after)
            match data.draw(st.sampled_from(["nothing", "commit", "trim", "restart"])):
                case "commit":
                    self.commit()
                case "trim":
                    self.trim(data.draw(st.integers(0, 2)))
                case "restart":
                    self.restart()
