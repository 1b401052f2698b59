"""Reading the fields that aggregates work on out of values, and refusing what they cannot take.

``None`` means that there is no value, as in SQL. What passes a check survives JSON as what it was,
and no sum or square of it leaves the range of a float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Final, cast

from streamapp.core.columned import as_list, known_column
from streamapp.core.fields import each, reader_of
from streamapp.errors import InputError

#: A field of a value: the name of an attribute or of a key, or a function of the value.
Field = str | Callable[[object], object]

#: Greatest number: its square, summed up 2**64 times, is still a float.
MAX_NUMBER: Final = 1e140
#: Characters of a refused value in a message: it must stay a line of a log.
_SHOWN: Final = 80
_EXACT: Final = {int, float}
_NUMBERS: Final = _EXACT | {type(None)}
_SCALARS: Final = _NUMBERS | {str, bool}


class Check(IntEnum):
    """What an aggregate takes; each one takes less than those before it."""

    ANYTHING = 0
    PLAIN = 1  # scalars, and lists and dicts of them
    SCALAR = 2  # text, numbers, booleans
    NUMBER = 3  # int and float, not bool


class InputsError(Exception):
    """A value cannot be used; ``index`` says which one, ``__cause__`` why."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


def whole(value: object) -> object:
    """Return the value: the field of aggregates that take it as it is."""
    return value


def read(field: Field, check: Check, values: Sequence[object]) -> list[object]:
    """Return the field of each value, checked; ``None`` where a mapping has no such key.

    Raises:
        InputsError: The first value that has no such attribute, for which the function fails, or
            whose field does not pass the check.
    """
    try:
        column = column_of(field, values)
        if passes(column, check):
            return column
    except Exception:  # noqa: BLE001, S110 - read one by one, it says which value and why
        pass
    return one_by_one(field, check, values)


def column_of(field: Field, values: Sequence[object]) -> list[object]:
    """Return the field of each value, unchecked; raises whatever reading one raises."""
    if callable(field):
        return each(field, values)
    known = known_column(values, field)
    if known is not None:
        return as_list(known)
    if values and isinstance(values[0], dict):
        return [value.get(field) for value in cast("Sequence[dict[str, object]]", values)]
    return reader_of(field, of_dicts=False)(values)


def passes(column: list[object], check: Check) -> bool:
    """Say whether all fields pass as they are; a ``False`` may be wrong."""
    if check == Check.ANYTHING:
        return True
    kinds = {*map(type, column)}
    if not kinds <= (_NUMBERS if check == Check.NUMBER else _SCALARS):
        return False
    if str in kinds:
        # A lone surrogate fails here, and is found by the slow way.
        "".join([x for x in column if isinstance(x, str)]).encode()
    if not kinds & _EXACT:
        return True
    if kinds <= _EXACT:
        return _bounded(cast("list[float]", column))
    return _bounded([x for x in cast("list[float]", column) if type(x) in _EXACT])


def _bounded(numbers: list[float]) -> bool:
    """Say whether all are within the greatest number; only the sum is sure to show a NaN."""
    if not -MAX_NUMBER <= min(numbers) <= max(numbers) <= MAX_NUMBER:
        return False
    try:
        return math.isfinite(sum(numbers))
    except OverflowError:  # a NaN hid a huge integer
        return False


def one_by_one(field: Field, check: Check, values: Sequence[object]) -> list[object]:
    """Do as ``read``, slowly: the first value that cannot be used is found."""
    column = []
    for index, value in enumerate(values):
        try:
            column.append(checked(field, check, _field_of(field, value)))
        except Exception as error:
            raise InputsError(index) from error
    return column


def _field_of(field: Field, value: object) -> object:
    if callable(field):
        return field(value)
    if isinstance(value, Mapping):
        return value.get(field)
    try:
        return getattr(value, field)
    except AttributeError:
        message = f"A value of type {type(value).__name__} has no field {field!r}"
        raise InputError(message, hint="Give the name of a field, or a function") from None


def checked(field: Field, check: Check, value: object) -> object:
    """Return the value of a field as the plain type that it is an instance of.

    Raises:
        InputError: It does not pass the check; names the field and the value.
    """
    if value is None or check == Check.ANYTHING:
        return value
    if isinstance(value, bool) and check == Check.NUMBER:
        raise _refused(field, value, "is no number")
    if isinstance(value, int | float):
        return _number(field, value)
    if check <= Check.SCALAR and isinstance(value, str):
        return _text(field, value)
    if check == Check.PLAIN:
        return _plain(field, value)
    wanted = "number" if check == Check.NUMBER else "text, number or boolean"
    raise _refused(field, value, f"is no {wanted}")


def _number(field: Field, value: float) -> object:
    if not -MAX_NUMBER <= value <= MAX_NUMBER:  # false for NaN too
        raise _refused(field, value, f"is not within +/-{MAX_NUMBER:g}")
    if isinstance(value, bool):
        return value
    return int(value) if isinstance(value, int) else float(value)


def _text(field: Field, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _refused(field, value, "is no valid Unicode text") from error
    return str(value)


def _plain(field: Field, value: object) -> object:
    if isinstance(value, list):
        return [checked(field, Check.PLAIN, part) for part in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {
            _text(field, name): checked(field, Check.PLAIN, part) for name, part in value.items()
        }
    raise _refused(field, value, "is not made of text, numbers, booleans, lists and dicts")


def _refused(field: Field, value: object, why: str) -> InputError:
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - an integer of more digits than Python writes, or anything
        shown = f"a value of type {type(value).__name__}"
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return InputError(f"Field {name_of(field)}: {shown} {why}")


def name_of(field: Field) -> str:
    """Return how messages call a field."""
    return repr(field) if isinstance(field, str) else getattr(field, "__name__", "function")
