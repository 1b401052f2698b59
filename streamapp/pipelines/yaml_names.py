"""What texts in YAML stand for: a field, an expression, or ``module:name`` of the program.

A module that is named is imported, so a document is as trusted as the program itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final

from streamapp.core.names import NAME_HINT, is_topic_name
from streamapp.errors import ConfigError
from streamapp.operators.keys import getter
from streamapp.pipelines.conditions import Condition, expressed
from streamapp.pipelines.expression_nodes import CONSTANTS
from streamapp.pipelines.expressions import THIS, Expressions, of_pair, of_value
from streamapp.pipelines.yaml_check import near

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", re.ASCII)
_FIELD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
#: Words that expressions have for something else; a field of that name is ``this["true"]``.
_NO_FIELDS: Final = (THIS, *CONSTANTS, "True", "False", "None")
#: Types that need no module; ``any`` is what JSON holds.
_TYPES: Final = {
    "any": None,
    "bool": bool,
    "bytes": bytes,
    "dict": dict,
    "float": float,
    "int": int,
    "list": list,
    "str": str,
}


def is_reference(text: str) -> bool:
    """Tell whether a text has the form ``module:name``."""
    return _REFERENCE.fullmatch(text) is not None


def resolved(text: str) -> Any:
    """Return what ``module:name`` names; the name may have dots.

    Raises:
        ConfigError: It has another form, there is no such module, or nothing of that name in it.
    """
    if not is_reference(text):
        msg = f"{text} is no module:name"
        raise ConfigError(msg, hint=f"Write module:{text if _FIELD.fullmatch(text) else 'name'}")
    module_name, _, path = text.partition(":")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as exc:
        msg = f"{text}: there is no module {exc.name}"
        raise ConfigError(msg, hint="Name it as an import statement would") from exc
    for name in path.split("."):
        if not hasattr(found, name):
            msg = f"{text}: there is no {name}"
            raise ConfigError(msg, hint=near(name, _public(found)))
        found = getattr(found, name)
    return found


def topic_name(text: str) -> str:
    """Return the name of a topic, or a part of one.

    Raises:
        ConfigError: A topic cannot be called so: no broker would make it.
    """
    if not is_topic_name(text):
        msg = f"{text!r} is no name for a topic"
        raise ConfigError(msg, hint=NAME_HINT)
    return text


def topic_of(text: str) -> Any:
    """Return the topic that a text names: ``module:topic``, or the text itself for its name.

    Raises:
        ConfigError: What the module holds is none, or the name cannot be that of one.
    """
    if not is_reference(text):
        return topic_name(text)
    found = resolved(text)
    if isinstance(found, type) or not hasattr(found, "decode_batch"):
        msg = f"{text} is no topic"
        raise ConfigError(msg, hint="Name what app.topic(...) has returned, or a topic's name")
    return found


def type_of(text: str | None) -> Any:
    """Return the type that a text names: ``dict``, ``int``, ``module:Order``; ``None`` for any.

    Raises:
        ConfigError: There is none of that name.
    """
    if text is None:
        return None
    if text in _TYPES:
        return _TYPES[text]
    if not is_reference(text):
        hint = f"Write module:Name, or one of {', '.join(_TYPES)}"
        msg = f"{text!r} is no type"
        raise ConfigError(msg, hint=hint)
    found = resolved(text)
    if not isinstance(found, type):
        msg = f"{text} is no type"
        raise ConfigError(msg, hint="Name a class, such as a streamapp.Record")
    return found


def function_of(text: str, value_type: Any = None) -> Callable[[Any], Any]:
    """Return the function of a value that a text names or describes.

    Raises:
        ConfigError: It is neither.
    """
    return _called(text) if is_reference(text) else of_value(value_type).function(text)


def condition_of(text: str, value_type: Any = None) -> Condition:
    """Return the condition that a text describes, or the function that it names.

    Raises:
        ConfigError: It is neither.
    """
    return Condition(_called(text)) if is_reference(text) else expressed(text, value_type)


def field_of(text: str, value_type: Any = None) -> Any:
    """Return a field's name, which the engine reads by itself, or the function of a value.

    Raises:
        ConfigError: It is none of both.
    """
    function = function_of(text, value_type)
    return text if _FIELD.fullmatch(text) and text not in _NO_FIELDS else function


def key_of(texts: Sequence[str], value_type: Any = None) -> Any:
    """Return what a key is made of: a field or function, or a function that returns a tuple.

    Raises:
        ConfigError: A part is none of these.
    """
    fields = [field_of(text, value_type) for text in texts]
    if len(fields) == 1:
        return fields[0]
    return partial(_several, [getter(field) for field in fields])


def mapped_by(said: str | dict[str, Any], expressions: Expressions) -> Callable[..., Any]:
    """Return the function that a reference, an expression or a mapping of expressions describes.

    Raises:
        ConfigError: It describes none.
    """
    if isinstance(said, dict):
        return expressions.mapping(said)
    return _called(said) if is_reference(said) else expressions.function(said)


def combined_by(said: str | dict[str, Any], left_type: Any, right_type: Any) -> Callable[..., Any]:
    """Return the function of both sides of a join.

    Raises:
        ConfigError: It describes none.
    """
    return mapped_by(said, of_pair(left_type, right_type))


def _called(text: str) -> Callable[..., Any]:
    found = resolved(text)
    if not callable(found):
        msg = f"{text} is no function"
        raise ConfigError(msg, hint="Name one, of one value")
    function: Callable[..., Any] = found
    return function


def _several(parts: Sequence[Callable[[Any], Any]], value: Any) -> tuple[Any, ...]:
    return tuple(part(value) for part in parts)


def _public(of: Any) -> list[str]:
    return [name for name in dir(of) if not name.startswith("_")]
