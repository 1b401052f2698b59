"""Expressions in texts: ``amount > 0 and kind == "order"`` as a function of a value.

The language is a part of Python's: what it computes is what Python would. A text is parsed, each
node of its tree is looked up in a table of what is allowed (``expression_nodes``), and a new tree
is built of nothing but that, in which each name stands for a field. So a text cannot name what was
not given to it, and what is left is compiled once, as fast as a function written by hand.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn
from warnings import catch_warnings

from streamapp.errors import ConfigError
from streamapp.pipelines.expression_calls import HELPERS
from streamapp.pipelines.expression_columns import Mask, mask_of
from streamapp.pipelines.expression_nodes import Writer

#: The name of the value itself, where names are those of its fields.
THIS: Final = "this"
#: Characters of a text: more is a program, which belongs into a module.
_LONGEST: Final = 1_000


class Expressions:
    """What expressions may speak of: ``parameters`` are names and the types of what they hold.

    With ``has_fields`` a name that is no parameter is a field of the first one. ``None`` is a type
    that is not known: fields are then looked for in each value.
    """

    def __init__(self, parameters: Mapping[str, Any], *, has_fields: bool) -> None:
        self._parameters = dict(parameters)
        self._has_fields = has_fields

    def function(self, text: str) -> Callable[..., Any]:
        """Return the function of the parameters, in their order, that a text describes.

        Raises:
            ConfigError: The text is no expression, says more than is allowed, or names a field that
                the declared type has not.
        """
        return self._compiled(self._body(text), text)

    def condition(self, text: str) -> tuple[Callable[..., Any], Mask | None]:
        """Return the function of a text, and what says by columns where it is true, if they can.

        Raises:
            ConfigError: As ``function``.
        """
        body = self._body(text)
        this, value_type = next(iter(self._parameters.items()))
        return self._compiled(body, text), mask_of(body, this, value_type)

    def mapping(self, fields: Mapping[str, Any]) -> Callable[..., Any]:
        """Return the function that makes a ``dict``: texts are expressions, the rest constants.

        Raises:
            ConfigError: As ``function``; names the field.
        """
        bodies: list[ast.expr] = []
        for name, text in fields.items():
            try:
                bodies.append(self._body(text) if isinstance(text, str) else ast.Constant(text))
            except ConfigError as exc:
                msg = f"{name}: {exc.message}"
                raise ConfigError(msg, hint=exc.hint) from exc
        keys: list[ast.expr | None] = [ast.Constant(name) for name in fields]
        return self._compiled(ast.Dict(keys, bodies), f"map to {', '.join(fields)}")

    def _body(self, text: str) -> ast.expr:
        writer = Writer(text, self._parameters, has_fields=self._has_fields)
        return writer.write(_parsed(text).body).node

    def _compiled(self, body: ast.expr, text: str) -> Callable[..., Any]:
        names = [ast.arg(name) for name in self._parameters]
        arguments = ast.arguments([], names, None, [], [], None, [])
        tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(arguments, body)))
        with catch_warnings(action="ignore"):
            code = compile(tree, f"<{text}>", "eval")
        function: Callable[..., Any] = eval(code, {"__builtins__": {}, **HELPERS})  # noqa: S307 - our tree, of allowed nodes only
        function.__name__ = f"{text:.80}"  # what errors call it
        return function


def of_value(value_type: Any = None) -> Expressions:
    """Return the expressions over a value: names are its fields, ``this`` is the value."""
    return Expressions({THIS: value_type}, has_fields=True)


def of_pair(left_type: Any = None, right_type: Any = None) -> Expressions:
    """Return the expressions over the sides of a join: ``left.amount``, ``right.name``."""
    return Expressions({"left": left_type, "right": right_type}, has_fields=False)


def _parsed(text: str) -> ast.Expression:
    if len(text) > _LONGEST:
        msg = f"An expression of {len(text)} characters: {text:.40}..."
        raise ConfigError(
            msg, hint=f"Above {_LONGEST} write a function and name it module:function"
        )
    try:
        # What Python warns of ("is" with a number) is refused, or does what it says.
        with catch_warnings(action="ignore"):
            return ast.parse(text.strip(), mode="eval")
    except SyntaxError as exc:
        _refuse(text, exc.msg, exc)
    except (ValueError, MemoryError, RecursionError) as exc:
        _refuse(text, "it cannot be parsed", exc)


def _refuse(text: str, why: str, cause: Exception) -> NoReturn:
    msg = f"{text!r} is no expression: {why}"
    hint = 'Write it as in Python: amount > 0 and kind in ["order", "refund"]'
    raise ConfigError(msg, hint=hint) from cause
