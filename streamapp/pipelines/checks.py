"""Mistakes of a declaration that can be seen before there is a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_origin

from streamapp.errors import ConfigError
from streamapp.state.operator_table import OperatorTable
from streamapp.state.table import Table

if TYPE_CHECKING:
    from streamapp.core.aggregates import Aggregate

_POLICIES = ("drop", "correct")


def check_field(where: str, field: object, value_type: Any) -> None:
    """Check that values have a field, where their type tells.

    Raises:
        ConfigError: They have not; names the field that was probably meant.
    """
    fields = _fields(value_type)
    if not isinstance(field, str) or not fields or field in fields or hasattr(value_type, field):
        return
    close = get_close_matches(field, fields, 1)
    hint = f"Did you mean {close[0]!r}?" if close else f"It has {', '.join(fields)}"
    msg = f"{where}: {value_type.__name__} has no field {field!r}"
    raise ConfigError(msg, hint=hint)


def check_aggregates(where: str, aggregates: Mapping[str, Aggregate], value_type: Any) -> None:
    """Check the fields that aggregates read; see ``check_field``."""
    for name, one in aggregates.items():
        for part in one.parts:
            check_field(f"{where}: {name}", part.field, value_type)
            check_field(f"{where}: {name}", part.by, value_type)


def check_topic(where: str, given: object) -> None:
    """Check that this is a topic, or the name of one.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(given, str) and not hasattr(given, "topics"):
        msg = f"{where}: {given!r:.80} is no topic"
        raise ConfigError(msg, hint='Give app.topic("orders", ...) or the name of a topic')


def check_joined(where: str, given: object) -> None:
    """Check that this is a table, in which a record could find a row.

    Raises:
        ConfigError: It is none, or shows the state of a step.
    """
    if not isinstance(given, Table):
        msg = f"{where} with {given!r:.80}, which is no table"
        raise ConfigError(msg, hint='Give what app.Table("users") returns; no windows of one')
    if isinstance(given, OperatorTable):
        msg = f"{where} with {given.name}, which only shows the state of a step"
        raise ConfigError(msg, hint="Let the step's rows go .to(table=...), and join with that")


def check_on_late(where: str, on_late: object) -> None:
    """Check that it is a policy or a topic, and a topic's name no policy that was misspelt.

    Raises:
        ConfigError: It is neither, or probably is.
    """
    if not isinstance(on_late, str):
        check_topic(f"{where}: on_late", on_late)
        return
    if on_late in _POLICIES:
        return
    if get_close_matches(on_late, (*_POLICIES, "side"), 1, 0.7):
        msg = f"{where}: on_late={on_late!r}"
        raise ConfigError(
            msg, hint='Use "drop", "correct", or a topic: on_late=app.topic("late-orders")'
        )


def check_word(where: str, name: str, given: object, words: Sequence[str]) -> None:
    """Check that an option is one of its words.

    Raises:
        ConfigError: It is not; names them.
    """
    if given not in words:
        msg = f"{where}({name}={given!r})"
        raise ConfigError(msg, hint=f"Use one of {', '.join(words)}")


def _fields(value_type: Any) -> list[str]:
    """Return the names that a class declares for its values; none where it does not tell."""
    value_type = get_origin(value_type) or value_type
    if not isinstance(value_type, type) or issubclass(value_type, dict):
        return []
    if hasattr(value_type, "__getattr__"):
        return []
    declared = (getattr(base, "__annotations__", {}) for base in reversed(value_type.__mro__))
    return [name for names in declared for name in names if not name.startswith("_")]
