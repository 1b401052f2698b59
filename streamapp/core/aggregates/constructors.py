"""The aggregates, as applications name them: ``streamapp.sum("amount")``.

A field is the name of an attribute or key, or a function of the value. A value without the key,
and ``None``, are skipped, as in SQL: where nothing is left, the result is ``None`` (``count``: 0).
NaN, infinities, numbers beyond +/-1e140 and other types are refused: the record goes to the error
policy. Integers stay exact; integers together with floats give floats.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import TypeVar, cast

from streamapp.core.aggregates.lists import MIN_COUNTED, Collected, Frequent, Greatest
from streamapp.core.aggregates.parts import Aggregate, Functions, Part, Result, same, some
from streamapp.core.aggregates.sketches import Distinct, Quantiles
from streamapp.core.aggregates.values import Check, Field, name_of, whole
from streamapp.errors import ConfigError

State = TypeVar("State")
Value = TypeVar("Value")


def count(field: Field | None = None) -> Aggregate:
    """Count the records, or those whose field is not ``None``."""
    if field is None:
        return _aggregate(same, Part("rows"))
    return _aggregate(same, _counted(field, Check.ANYTHING))


def sum(field: Field) -> Aggregate:  # noqa: A001 - read as streamapp.sum
    """Add numbers up, in the order of the records."""
    return _aggregate(some, _counted(field), Part("sum", field))


def min(field: Field) -> Aggregate:  # noqa: A001 - read as streamapp.min
    """Keep the least number."""
    return _aggregate(some, _counted(field), Part("min", field))


def max(field: Field) -> Aggregate:  # noqa: A001 - read as streamapp.max
    """Keep the greatest number."""
    return _aggregate(some, _counted(field), Part("max", field))


def avg(field: Field) -> Aggregate:
    """Divide the sum by the count."""
    return _aggregate(_mean, _counted(field), Part("sum", field))


def stddev(field: Field) -> Aggregate:
    """Take the standard deviation, the records being the whole population: sqrt(M2 / n)."""
    return _aggregate(_stddev, _counted(field), Part("moments", field))


def stddev_sample(field: Field) -> Aggregate:
    """Estimate the standard deviation from a sample, sqrt(M2 / (n - 1)); ``None`` of one."""
    return _aggregate(_stddev_sample, _counted(field), Part("moments", field))


def first(field: Field) -> Aggregate:
    """Keep the value with the least event time; of equal times the one that came first."""
    check = Check.PLAIN
    return _aggregate(_dated, _counted(field, check), Part("first", field, check))


def last(field: Field) -> Aggregate:
    """Keep the value with the greatest event time; of equal times the one that came last."""
    check = Check.PLAIN
    return _aggregate(_dated, _counted(field, check), Part("last", field, check))


def top_k(field: Field, k: int, by: Field | None = None) -> Aggregate:
    """List the ``k`` most frequent values with their counts, or those greatest ``by`` a number.

    Without ``by``: ``[[value, count], ...]``, exact up to 1,000 different values (10 ``k`` if that
    is more), beyond with counts that are too low by at most that share of all records. With
    ``by``: ``[[value, number], ...]`` of the ``k`` records with the greatest number, exact; of
    equal ones those that came first, by the parts of a window as in ``collect``.

    Raises:
        ConfigError: ``k`` is less than 1.
    """
    _at_least_one("k", k)
    if by is None:
        check, capacity = Check.SCALAR, builtins.max(10 * k, MIN_COUNTED)
        part = Part("frequent", field, check, param=capacity)
        return _aggregate(lambda top: cast("Frequent", top).result(k), part)
    part = Part("greatest", field, Check.PLAIN, by=by, param=k)
    return _aggregate(lambda top: cast("Greatest", top).result(), part)


def distinct_count(field: Field) -> Aggregate:
    """Count different values: exact up to 512, then with a standard error of 1.6 %."""
    part = Part("distinct", field, Check.SCALAR)
    return _aggregate(lambda sketch: cast("Distinct", sketch).result(), part)


def quantile(field: Field, q: float) -> Aggregate:
    """Estimate the value below which a share ``q`` of the numbers lies, to 1 % of the value.

    Raises:
        ConfigError: ``q`` is not in ``[0, 1]``.
    """
    if not _is_share(q):
        message = f"quantile({name_of(field)}): q is {q!r}, not a share"
        raise ConfigError(message, hint="Give a number from 0 to 1, such as 0.99")
    part = Part("quantiles", field)
    return _aggregate(lambda sketch: cast("Quantiles", sketch).result(q), part)


def collect(field: Field, limit: int) -> Aggregate:
    """List the values in order of arrival: the first ``limit`` of them.

    Windows that are put together from parts (hopping, sliding, sessions that have become one) list
    the parts in the order of time, and each in order of arrival.

    Raises:
        ConfigError: ``limit`` is less than 1.
    """
    _at_least_one("limit", limit)
    part = Part("collect", field, Check.PLAIN, param=limit)
    return _aggregate(lambda kept: cast("Collected", kept).result(), part)


def aggregate(
    zero: Callable[[], State],
    add: Callable[[State, Value], State],
    merge: Callable[[State, State], State],
    result: Callable[[State], object],
) -> Aggregate:
    """Define an aggregate over whole values by functions that only depend on their arguments.

    ``merge(add(s, v), t) == add(merge(s, t), v)`` up to what you take for equal. ``add`` may fail,
    and ``merge`` too: the record goes to the error policy, and the state is what it was before.
    Where ``result`` fails, that row is left out and goes there. The state is made of text, numbers,
    lists and dicts, or is of a type that msgspec decodes (a Struct, a dataclass, a tuple): the type
    of ``zero()``. A record that makes it something else goes to the error policy too.

    Raises:
        UsageError: ``zero()`` would not survive a restart.
    """
    functions = Functions(
        zero,
        cast("Callable[[object, object], object]", add),
        cast("Callable[[object, object], object]", merge),
    )
    functions.pack(zero())
    part = Part("functions", whole, Check.ANYTHING, param=functions)
    return _aggregate(result, part)


def _aggregate(result: object, *parts: Part) -> Aggregate:
    return Aggregate(parts, cast("Result", result))


def _counted(field: Field, check: Check = Check.NUMBER) -> Part:
    return Part("count", field, check)


def _at_least_one(what: str, number: object) -> None:
    if type(number) is not int or number < 1:
        message = f"{what} is {number!r}, not a number of values"
        raise ConfigError(message, hint="Give an integer of at least 1")


def _is_share(number: object) -> bool:
    return isinstance(number, int | float) and 0 <= number <= 1


def _mean(n: int, total: float) -> float | None:
    return total / n if n else None


def _stddev(n: int, mean: float, m2: float) -> float | None:
    del mean
    return math.sqrt(m2 / n) if n else None


def _stddev_sample(n: int, mean: float, m2: float) -> float | None:
    del mean
    return math.sqrt(m2 / (n - 1)) if n > 1 else None


def _dated(n: int, time: int, value: object) -> object:
    del n, time
    return value
