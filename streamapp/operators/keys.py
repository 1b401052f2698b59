"""What may be a key, and how keys and ids are read from values: by a field's name or a function."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import TypeVar

from streamapp.core.columned import as_list, known_column
from streamapp.core.fields import reader_of
from streamapp.core.text_column import TextColumn
from streamapp.errors import ConfigError, InputError
from streamapp.serde.ordered_keys import PLAIN_KEYS

F = TypeVar("F", bound=Callable[..., object])

#: The name of an attribute, or of an entry of a ``dict``; or a function of the value.
FieldOrFunction = str | Callable[[object], object]


def checked_key(key: object) -> Hashable:
    """Return the key.

    Raises:
        InputError: It is not a ``str``, ``int`` or ``bytes``, nor a tuple of these. A ``bool`` or
            an enum is refused: it equals a number or a text, but is not stored as that.
    """
    if type(key) in PLAIN_KEYS:
        return key
    if type(key) is tuple and all(type(part) in PLAIN_KEYS for part in key):
        return key
    raise no_key(key, "Use str, int, bytes, or a flat tuple of these")


def no_key(key: object, hint: str) -> InputError:
    """Return the error of a value that cannot be a key; the hint says what can."""
    return InputError(f"A key cannot be {key!r:.80} ({type(key).__name__})", hint=hint)


def getter(what: FieldOrFunction) -> Callable[[object], object]:
    """Return the function that reads a field, or ``what`` itself when it is a function.

    The function of a field raises ``InputError`` for a value that has no such field.

    Raises:
        ConfigError: ``what`` must be awaited.
    """
    return partial(_field, what) if isinstance(what, str) else not_awaited(what)


def plain_keys(name: str, values: Sequence[object]) -> Sequence[Hashable] | None:
    """Return a field of all values as keys; ``None`` if one of them needs a closer look."""
    if not name.isidentifier():  # a getter would follow dots
        return None
    try:
        known = known_column(values, name)
        if isinstance(known, TextColumn):
            return known
        if known is not None:
            keys = as_list(known)
        else:
            keys = reader_of(name, of_dicts=isinstance(values[0], dict))(values)
    except Exception:  # noqa: BLE001 - the closer look finds which value it was, and says why
        return None
    return keys if {*map(type, keys)} <= PLAIN_KEYS else None


def not_awaited(function: F) -> F:
    """Return the function.

    Raises:
        ConfigError: It is none, or must be awaited, which steps of a pipeline cannot do.
    """
    if not callable(function):
        msg = f"A step of a pipeline calls functions, and {function!r:.80} is none"
        raise ConfigError(msg, hint="Give a function of the value: lambda order: order.amount > 0")
    called = function.func if isinstance(function, partial) else function
    for code in (called, getattr(called, "__call__", None)):  # noqa: B004 - it may be async
        if iscoroutinefunction(code) or isasyncgenfunction(code):
            msg = f"A step of a pipeline cannot await, but {function!r} is async"
            raise ConfigError(msg, hint="Call other services from an agent of the topic")
    return function


def _field(name: str, value: object) -> object:
    try:
        return value[name] if isinstance(value, dict) else getattr(value, name)
    except (AttributeError, KeyError) as exc:
        msg = f"A {type(value).__name__} has no field {name!r}: {value!r:.80}"
        raise InputError(msg, hint="Name a field that every value has, or filter first") from exc
