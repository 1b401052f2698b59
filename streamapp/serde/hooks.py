"""What msgspec does not know by itself: Faust records, and subclasses of numbers and strings.

Used by every codec, so that a type means the same in JSON and in MessagePack. Must never import by
name nor guess: a type without a rule is refused.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import msgspec

from streamapp.errors import ConfigError
from streamapp.serde import faust_records


def decode_hook(wanted: type, data: object) -> object:
    """Make a value of a type that msgspec does not know.

    Raises:
        NotImplementedError: There is no rule for the type.
        Exception: Whatever a Faust model raises for bad data.
    """
    if faust_records.is_faust_record(wanted):
        return faust_records.from_data(wanted, data)
    raise NotImplementedError(wanted.__qualname__)


def encode_hook(value: object) -> object:
    """Return an equivalent that msgspec can write (``numpy.int64`` becomes ``int``).

    Raises:
        NotImplementedError: There is no rule for the type.
    """
    if faust_records.is_faust_record(value):
        return faust_records.to_data(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    message = f"objects of type {type(value).__qualname__} have no form in this codec"
    raise NotImplementedError(message)


def check_type(declared: Any) -> None:  # noqa: ANN401 - any annotation
    """Refuse a declared type that could never be decoded, before anything starts.

    Raises:
        ConfigError: The type, or one inside it, is unknown, contradictory or cannot be resolved.
    """
    name = type_name(declared)
    try:
        todo: list[Any] = [msgspec.inspect.type_info(declared)]
    except Exception as exc:  # an annotation may raise anything when it is resolved
        message = f"the type {name} cannot be used for a topic or table: {exc}"
        hint = "Names used in annotations must be importable from the module of the class."
        raise ConfigError(message, hint=hint) from exc
    seen: set[int] = set()
    while todo:
        node = todo.pop()
        if isinstance(node, list | tuple):
            todo.extend(node)
        elif (
            isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field) and id(node) not in seen
        ):
            seen.add(id(node))
            _refuse_foreign(node, name)
            todo.extend(getattr(node, field) for field in node.__struct_fields__)


def _refuse_foreign(node: object, name: str) -> None:
    if isinstance(node, msgspec.inspect.CustomType) and not faust_records.is_faust_record(node.cls):
        message = f"{name} uses {node.cls.__qualname__}, which has no form as bytes"
        hint = "Make it a streamapp.Record or a dataclass, or declare a type that JSON can hold."
        raise ConfigError(message, hint=hint)


def type_name(declared: Any) -> str:  # noqa: ANN401 - any annotation
    """Return the name of a declared type for an error text."""
    return declared.__qualname__ if isinstance(declared, type) else str(declared)
