"""What filters ask: a function of a value, or an expression, which columns may answer."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamapp.core.columned import Columned
from streamapp.core.int_columns import of_numpy
from streamapp.errors import ConfigError
from streamapp.operators.fused import Filter
from streamapp.operators.keys import not_awaited
from streamapp.pipelines.expression_columns import Bools, Mask
from streamapp.pipelines.expressions import of_value


@dataclass(frozen=True, slots=True)
class Condition:
    """A function of a value; ``mask`` says the same of many values, if columns can."""

    function: Callable[[Any], Any]
    mask: Mask | None = None

    def step(self) -> Filter:
        """Return the step that keeps what it is true for."""
        return Filter(self.function, None if self.mask is None else _places(self.mask))


#: An expression, or a function of the value.
Predicate = str | Callable[[Any], Any] | Condition


def expressed(text: str, value_type: Any) -> Condition:
    """Return the condition that a text describes.

    Raises:
        ConfigError: The text is no expression over values of this type.
    """
    return Condition(*of_value(value_type).condition(text))


def condition_of(where: str, predicate: Predicate, value_type: Any) -> Condition:
    """Return what a filter asks.

    Raises:
        ConfigError: It is a wrong expression, no function, or must be awaited.
    """
    if isinstance(predicate, Condition):
        not_awaited(predicate.function)
        return predicate
    if not isinstance(predicate, str):
        return Condition(not_awaited(predicate))
    try:
        return expressed(predicate, value_type)
    except ConfigError as exc:
        msg = f"{where}: {exc.message}"
        raise ConfigError(msg, hint=exc.hint) from exc


def first_true(before: Sequence[Condition], last: Condition) -> Condition:
    """Return the condition that ``last`` is true, and none of those before it."""
    if not before:
        return last
    tests, test = [one.function for one in before], last.function
    masks = [one.mask for one in (last, *before)]
    known = [mask for mask in masks if mask is not None]
    return Condition(
        lambda value: not any(other(value) for other in tests) and bool(test(value)),
        _only_first(known) if len(known) == len(masks) else None,
    )


def _only_first(masks: Sequence[Mask]) -> Mask:
    """Return where the first mask is true, and no other one."""

    def mask(values: Columned) -> Bools | None:
        found = masks[0](values)
        for other in masks[1:]:
            more = None if found is None else other(values)
            found = None if found is None or more is None else found & ~more
        return found

    return mask


def _places(mask: Mask) -> Callable[[Columned], array[int] | None]:
    def places(values: Columned) -> array[int] | None:
        found = mask(values)
        return None if found is None else of_numpy(np.flatnonzero(found))

    return places
