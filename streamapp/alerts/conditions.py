"""Comparisons of a number with bounds, and their text: ``"> 80"``, ``"between 10 and 20"``.

Nothing of the text is ever evaluated as code.
"""

from __future__ import annotations

import math
import operator
import re
import sys
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from streamapp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


class Operator(Enum):
    """How a value is compared; ``BETWEEN`` includes both bounds, ``OUTSIDE`` neither."""

    GREATER = ">"
    GREATER_EQUAL = ">="
    LESS = "<"
    LESS_EQUAL = "<="
    EQUAL = "=="
    NOT_EQUAL = "!="
    BETWEEN = "between"
    OUTSIDE = "outside"


_WORDS: Final = {
    **{op.value: op for op in Operator},
    "greater_than": Operator.GREATER,
    "less_than": Operator.LESS,
    "equals": Operator.EQUAL,
    "not_equals": Operator.NOT_EQUAL,
    "gte": Operator.GREATER_EQUAL,
    "lte": Operator.LESS_EQUAL,
}

_ORDER: Final[dict[Operator, Callable[[float, float], bool]]] = {
    Operator.GREATER: operator.gt,
    Operator.GREATER_EQUAL: operator.ge,
    Operator.LESS: operator.lt,
    Operator.LESS_EQUAL: operator.le,
}

_NUMBER = r"[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_ONE = re.compile(rf"([a-z_]+|[<>=!]+)\s*({_NUMBER})", re.ASCII)
_TWO = re.compile(rf"(between|outside)\s+({_NUMBER})\s+and\s+({_NUMBER})", re.ASCII)
_HINT = 'Write a comparison such as "> 80", "<= 2.5", "equals 0" or "between 10 and 20"'


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison that holds for a value or not; never for NaN.

    ``high`` is used by ``BETWEEN`` and ``OUTSIDE`` only, ``tolerance`` (absolute, inclusive) by
    ``EQUAL`` and ``NOT_EQUAL`` only.
    """

    operator: Operator
    low: float
    high: float = math.inf
    tolerance: float = 0.0

    def holds(self, value: float) -> bool:
        """Tell whether the condition is true of ``value``."""
        if math.isnan(value):
            return False
        compare = _ORDER.get(self.operator)
        if compare is not None:
            return compare(value, self.low)
        if self.operator in (Operator.BETWEEN, Operator.OUTSIDE):
            return (self.low <= value <= self.high) is (self.operator is Operator.BETWEEN)
        # Equality first: the difference of equal infinities is no number.
        is_near = value == self.low or abs(value - self.low) <= self.tolerance
        return is_near is (self.operator is Operator.EQUAL)

    def __str__(self) -> str:
        """Return the condition as it is written in a rule file."""
        if self.operator in (Operator.BETWEEN, Operator.OUTSIDE):
            return f"{self.operator.value} {number_text(self.low)} and {number_text(self.high)}"
        within = f" (tolerance {number_text(self.tolerance)})" if self.tolerance else ""
        return f"{self.operator.value} {number_text(self.low)}{within}"


def number_text(number: float) -> str:
    """Return a number with all of its digits, and without those of a fraction that it has not."""
    return repr(float(number)).removesuffix(".0")


def parse_condition(text: str) -> Condition:
    """Read a condition from its text.

    Raises:
        ConfigError: The text is no comparison, a bound is beyond what a float holds, or the bounds
            are in the wrong order.
    """
    found = _TWO.fullmatch(text.strip())
    if found:
        low, high = _bound(found[2]), _bound(found[3])
        if low > high:
            message = f"{text!r} has its larger bound first"
            raise ConfigError(message, hint=f'Write "{found[1]} {found[3]} and {found[2]}"')
        return Condition(_WORDS[found[1]], low, high)
    found = _ONE.fullmatch(text.strip())
    op = _WORDS.get(found[1]) if found else None
    if found is None or op is None or op in (Operator.BETWEEN, Operator.OUTSIDE):
        message = f"{text!r} is not a comparison"
        raise ConfigError(message, hint=_HINT)
    return Condition(op, _bound(found[2]))


def _bound(text: str) -> float:
    bound = float(text)
    if math.isfinite(bound):
        return bound
    message = f"{text} is beyond the largest number, {sys.float_info.max:.1e}"
    raise ConfigError(message, hint="Write a bound that values can be on either side of")


def with_tolerance(condition: Condition, tolerance: float) -> Condition:
    """Return the condition with a tolerance.

    Raises:
        ConfigError: It compares with an order, which has no use for one.
    """
    if condition.operator not in (Operator.EQUAL, Operator.NOT_EQUAL):
        message = f'"{condition}" takes no tolerance'
        raise ConfigError(message, hint='Leave it out, or compare with "==" or "!="')
    return replace(condition, tolerance=tolerance)


def overlap(first: Condition, second: Condition) -> float | None:
    """Find a value for which both conditions hold; ``None`` when there is none.

    Conditions are unions of intervals, so it is enough to try the bounds and the gaps between.
    """
    edges = sorted(
        {edge for condition in (first, second) for edge in _edges(condition) if edge < math.inf}
    )
    gaps = [(left + right) / 2 for left, right in pairwise(edges)]
    beyond = [edges[0] - 1 - abs(edges[0]), edges[-1] + 1 + abs(edges[-1])]
    tried = (*edges, *gaps, *beyond)
    return next((value for value in tried if first.holds(value) and second.holds(value)), None)


def _edges(condition: Condition) -> tuple[float, ...]:
    reach = condition.tolerance
    return condition.low - reach, condition.low, condition.low + reach, condition.high
