"""Which inputs of a task must be worked on record by record, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamapp.operators.operator import Operator

if TYPE_CHECKING:
    from streamapp.pipelines.task import Unit


def is_confluent(to: Sequence[tuple[Unit, int]]) -> bool:
    """Tell whether results would depend on where a run of rows that go these ways ends.

    Rows that meet again must do so in the order of their records; and what falls due because of a
    row with a time of its own is known only when that row has come.
    """
    return _meets(to, set()) or _is_shifted(to)


def _meets(to: Sequence[tuple[Unit, int]], seen: set[int]) -> bool:
    """Tell whether rows that go these ways come to one unit on several of them."""
    for unit, _ in to:
        if id(unit) in seen:
            return True
        seen.add(id(unit))
        if _meets([*unit.to, *unit.late_to], seen):
            return True
    return False


def _is_shifted(to: Sequence[tuple[Unit, int]], *, has_shifted: bool = False) -> bool:
    """Tell whether an operator that has dues gets rows from one that gives them other times."""
    for unit, _ in to:
        operator = unit.operator
        if has_shifted and operator is not None and type(operator).dues is not Operator.dues:
            return True
        shifts = has_shifted or (operator is not None and operator.shifts_times)
        if _is_shifted([*unit.to, *unit.late_to], has_shifted=shifts):
            return True
    return False
