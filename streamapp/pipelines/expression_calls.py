"""The functions of expressions, and what takes the place of operations that could grow too large.

Everything here ends soon and within a bound, whatever a record holds: powers and repetitions are
what a few characters could fill the memory with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Number
from types import ModuleType
from typing import Any, Final

import msgspec

from streamapp.errors import InputError

#: Bits of an integer power: beyond all amounts, and computed at once.
_MOST_BITS: Final = 4_096
#: Digits that ``round`` keeps before or after the point: beyond those of a float.
_MOST_DIGITS: Final = 400
_NOTHING: Final = object()
_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Call:
    """A function of ``least`` to ``most`` values; ``gives`` is the type of its result, if known."""

    function: Callable[..., Any]
    least: int = 1
    most: int = 1
    gives: Any = None


def field(value: Any, name: str) -> Any:
    """Return a field of a value of unknown type: an entry, or what was declared as data.

    Raises:
        InputError: It has none of that name.
    """
    found = _found(value, name)
    if found is _NOTHING:
        msg = f"A {type(value).__name__} has no field {name!r}: {value!r:.80}"
        raise InputError(msg, hint=f"Write coalesce({name}, ...) or has({name}) where it may lack")
    return found


def field_or_none(value: Any, name: str) -> Any:
    """Return a field, or ``None`` where there is none (or no value that could have one)."""
    found = _found(value, name)
    return None if found is _NOTHING else found


def item_or_none(value: Any, index: Any) -> Any:
    """Return an item of a list, text or ``dict``, or ``None`` where there is none."""
    try:
        return value[index]
    except (LookupError, TypeError):
        return None


def _found(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name, _NOTHING)
    if isinstance(value, msgspec.Struct):
        has = name in value.__struct_fields__
    else:
        # What a class or a module defines is code; what an instance holds is data.
        is_code = isinstance(value, type | ModuleType)
        is_data = name in getattr(value, "__dict__", ()) or _has_place(type(value), name)
        has = is_data and not is_code
    return getattr(value, name, _NOTHING) if has else _NOTHING


def _has_place(kind: type, name: str) -> bool:
    """Tell whether instances hold this outside of a ``__dict__``: in a slot, as a tuple's field."""
    slots = (getattr(base, "__slots__", ()) for base in kind.__mro__)
    is_slot = any(name in ((of,) if isinstance(of, str) else of) for of in slots)
    return is_slot or name in getattr(kind, "_fields", ())


def times(left: Any, right: Any) -> Any:
    """Multiply numbers; a text or list would be repeated without a bound."""
    return _number(left, "*") * _number(right, "*")


def modulo(left: Any, right: Any) -> Any:
    """Divide numbers and keep the rest; of a text ``%`` would make one of any width."""
    return _number(left, "%") % _number(right, "%")


def power(base: Any, exponent: Any) -> Any:
    """Raise to a power, within a bound.

    Raises:
        InputError: An integer power would be huge, or the root of a negative number is asked for.
    """
    base, exponent = _number(base, "**"), _number(exponent, "**")
    is_whole = isinstance(base, int) and isinstance(exponent, int)
    if is_whole and abs(base) > 1 and base.bit_length() * exponent > _MOST_BITS:
        msg = f"A power of more than {_MOST_BITS} bits"
        raise InputError(msg, hint="Use a float, such as 10.0, for large powers")
    result = base**exponent
    if isinstance(result, complex):
        msg = f"{base} ** {exponent} is no real number"
        raise InputError(msg, hint="Let the base be at least 0")
    return result


def rounded(number: Any, digits: int | None = None) -> Any:
    """Round half to even, as Python does.

    Raises:
        InputError: The number of digits is beyond any number's.
    """
    if digits is not None and not -_MOST_DIGITS <= digits <= _MOST_DIGITS:
        msg = f"round() to more than {_MOST_DIGITS} digits"
        raise InputError(msg, hint="No number has so many")
    return round(_of_usual_size(number), digits)


def _whole(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what makes integers, for numbers that would not fill the memory as one."""
    return lambda number: convert(_of_usual_size(number))


def text(value: Any) -> str:
    """Return a scalar as text.

    Raises:
        InputError: It is a list or an object, whose text could be of any length.
    """
    if not isinstance(value, _SCALARS):
        msg = f"str() of a {type(value).__name__}"
        raise InputError(msg, hint="Name one of its fields")
    return str(value)


def _of_usual_size(number: Any) -> Any:
    if isinstance(number, Decimal) and number.adjusted() > _MOST_DIGITS:
        msg = f"An integer of more than {_MOST_DIGITS} digits"
        raise InputError(msg, hint="Let the producer send amounts, not 1e999999")
    return number


def _number(value: Any, operation: str) -> Any:
    if not isinstance(value, Number):
        msg = f"{operation} of {value!r:.40} ({type(value).__name__})"
        raise InputError(msg, hint="Only numbers are multiplied, divided and raised to powers")
    return value


CALLS: Final[Mapping[str, Call]] = {
    "abs": Call(abs, gives=float),
    "ceil": Call(_whole(math.ceil), gives=int),
    "ends_with": Call(str.endswith, 2, 2, gives=bool),
    "float": Call(float, gives=float),
    "floor": Call(_whole(math.floor), gives=int),
    "int": Call(_whole(int), gives=int),
    "len": Call(len, gives=int),
    "lower": Call(str.lower, gives=str),
    "max": Call(max, 1, 20),
    "min": Call(min, 1, 20),
    "round": Call(rounded, 1, 2, gives=float),
    "starts_with": Call(str.startswith, 2, 2, gives=bool),
    "str": Call(text, gives=str),
    "strip": Call(str.strip, gives=str),
    "upper": Call(str.upper, gives=str),
}
#: Functions that the writer of trees knows by itself: their fields may be absent.
LENIENT: Final = ("coalesce", "has")

#: What the names in a compiled expression stand for; a text cannot name them.
HELPERS: Final[Mapping[str, Callable[..., Any]]] = {
    "_field": field,
    "_field_or_none": field_or_none,
    "_item_or_none": item_or_none,
    "_times": times,
    "_modulo": modulo,
    "_power": power,
    **{f"_{name}": call.function for name, call in CALLS.items()},
}
