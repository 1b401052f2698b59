"""What an expression may consist of: for each kind of node, the tree that is compiled for it.

A node that is not in the table is refused. The trees that are written name fields as texts (an
entry, a declared attribute) and functions by the keys of ``HELPERS``, so no text reaches anything
else, and no attribute that is not data.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, ClassVar, Final, Union, get_args, get_origin, get_type_hints

import msgspec

from streamapp.errors import ConfigError
from streamapp.pipelines.expression_calls import CALLS, LENIENT

#: Nodes below each other, and altogether: bounds what compiling and evaluating can cost.
_DEEPEST: Final = 40
_MOST_NODES: Final = 300
#: The words of JSON; Python's are constants by themselves.
CONSTANTS: Final = {"true": True, "false": False, "null": None}
_ALLOWED: Final = (
    "Allowed: fields, numbers, texts, lists, + - * / // % **, comparisons, in, and, or, not, "
    f"a if b else c, {', '.join(sorted((*CALLS, *LENIENT)))}"
)
#: Operations that cannot grow, and the helpers of those that can.
_PLAIN_OPS: Final = (ast.Add, ast.Sub, ast.Div, ast.FloorDiv)
_GUARDED_OPS: Final[Mapping[type[ast.operator], str]] = {
    ast.Mult: "_times",
    ast.Mod: "_modulo",
    ast.Pow: "_power",
}
_COMPARISONS: Final = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn)


@dataclass(frozen=True, slots=True)
class Written:
    """A tree that may be compiled, and the type of what it computes (``None``: not known)."""

    node: ast.expr
    type: Any = None

    @property
    def is_number(self) -> bool:
        """Whether it can be nothing but a number."""
        return self.type in (int, float, bool)


class Writer:
    """Writes the tree of one text."""

    def __init__(self, text: str, parameters: Mapping[str, Any], *, has_fields: bool) -> None:
        self._text = text
        self._parameters = parameters
        self._has_fields = has_fields
        self._nodes = 0
        self._depth = 0
        self._names = 0

    def write(self, node: ast.expr) -> Written:
        """Return what may be compiled for a node.

        Raises:
            ConfigError: It (or one below it) is not allowed, or there is too much of it.
        """
        self._nodes += 1
        rule = self._rules.get(type(node))
        if rule is None:
            raise self._refused(node, f"{_named(node)} is not allowed", _ALLOWED)
        if self._depth >= _DEEPEST or self._nodes > _MOST_NODES:
            hint = "Write a function and name it module:function"
            raise self._refused(node, "it is too deep or too large", hint)
        self._depth += 1
        written = rule(self, node)
        self._depth -= 1
        return written

    # --- names and fields ------------------------------------------------------------------------

    def _name(self, node: ast.Name) -> Written:
        if node.id in self._parameters:
            return Written(ast.Name(node.id, ast.Load()), self._parameters[node.id])
        if node.id in CONSTANTS:
            return Written(ast.Constant(CONSTANTS[node.id]))
        if not self._has_fields:
            known = " and ".join(self._parameters)
            hint = f"Fields are those of {known}: write {next(iter(self._parameters))}.{node.id}"
            raise self._refused(node, f"there is no {node.id}", hint)
        this, value_type = next(iter(self._parameters.items()))
        return self._field(node, Written(ast.Name(this, ast.Load()), value_type), node.id)

    def _attribute(self, node: ast.Attribute) -> Written:
        return self._field(node, self.write(node.value), node.attr)

    def _subscript(self, node: ast.Subscript) -> Written:
        of, index = self.write(node.value), node.slice
        if isinstance(index, ast.Constant) and isinstance(index.value, str):
            return self._field(node, of, index.value)
        if _fields_of(of.type) is not None:
            raise self._refused(node, "a record has no items", "Name a field: this.amount")
        return Written(ast.Subscript(of.node, self.write(index).node, ast.Load()))

    def _field(self, node: ast.expr, of: Written, name: str) -> Written:
        if name.startswith("__"):
            raise self._refused(
                node, f"{name} is no field", "Names that begin with __ are Python's"
            )
        fields = _fields_of(of.type)
        if fields is not None:
            if name not in fields:
                raise self._refused(
                    node, f"{_type_name(of.type)} has no field {name}", _near(name, fields)
                )
            return Written(ast.Attribute(of.node, name, ast.Load()), _plain(fields[name]))
        if get_origin(of.type) is dict or of.type is dict:
            below = (*get_args(of.type), None, None)[1]
            return Written(ast.Subscript(of.node, ast.Constant(name), ast.Load()), _plain(below))
        return Written(_called("_field", of.node, ast.Constant(name)))

    def _lenient(self, node: ast.expr) -> ast.expr:
        """Return the tree of a path that is ``None`` where a field or item of it is absent."""
        written = self.write(node)  # refuses what is not allowed, and fields that cannot be
        path = self._path(node)
        if isinstance(written.node, ast.Constant):
            return written.node
        if path is not None:
            return _called("_field_or_none", self._lenient(path[0]), ast.Constant(path[1]))
        if isinstance(node, ast.Subscript):
            of, index = self._lenient(node.value), self._lenient(node.slice)
            return _called("_item_or_none", of, index)
        return written.node

    def _path(self, node: ast.expr) -> tuple[ast.expr, str] | None:
        """Return what a node names a field of, and which one; ``None`` where it names none."""
        if isinstance(node, ast.Attribute):
            return node.value, node.attr
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            name = node.slice.value
            return (node.value, name) if isinstance(name, str) else None
        if isinstance(node, ast.Name) and node.id not in self._parameters:
            return ast.Name(next(iter(self._parameters)), ast.Load()), node.id
        return None

    # --- values ----------------------------------------------------------------------------------

    def _constant(self, node: ast.Constant) -> Written:
        if not isinstance(node.value, str | int | float | None):
            raise self._refused(node, f"{node.value!r} is not allowed", _ALLOWED)
        return Written(node, type(node.value))

    def _items(self, node: ast.List | ast.Tuple | ast.Set) -> Written:
        items = [self.write(item).node for item in node.elts]
        if isinstance(node, ast.Set):
            return Written(ast.Set(items))
        return Written(type(node)(items, ast.Load()))

    # --- operations ------------------------------------------------------------------------------

    def _unary(self, node: ast.UnaryOp) -> Written:
        of = self.write(node.operand)
        if isinstance(node.op, ast.Invert):
            raise self._refused(node, "~ is not allowed", "Write not")
        is_not = isinstance(node.op, ast.Not)
        return Written(ast.UnaryOp(node.op, of.node), bool if is_not else of.type)

    def _binary(self, node: ast.BinOp) -> Written:
        left, right = self.write(node.left), self.write(node.right)
        are_numbers = left.is_number and right.is_number
        gives = float if are_numbers else None
        if isinstance(node.op, _PLAIN_OPS) or (
            are_numbers and isinstance(node.op, ast.Mult | ast.Mod)
        ):
            return Written(ast.BinOp(left.node, node.op, right.node), gives)
        helper = _GUARDED_OPS.get(type(node.op))
        if helper is None:
            raise self._refused(node, f"{_named(node.op)} is not allowed", _ALLOWED)
        return Written(_called(helper, left.node, right.node), gives)

    def _boolean(self, node: ast.BoolOp) -> Written:
        return Written(ast.BoolOp(node.op, [self.write(value).node for value in node.values]))

    def _compare(self, node: ast.Compare) -> Written:
        sides = [self.write(side).node for side in (node.left, *node.comparators)]
        for op, side in zip(node.ops, node.comparators, strict=True):
            is_none = isinstance(op, ast.Is | ast.IsNot) and _is_null(side)
            if not isinstance(op, _COMPARISONS) and not is_none:
                raise self._refused(node, "is compares with None only", "Write ==")
        return Written(ast.Compare(sides[0], node.ops, sides[1:]), bool)

    def _choice(self, node: ast.IfExp) -> Written:
        test, yes, no = (self.write(part) for part in (node.test, node.body, node.orelse))
        same = yes.type if yes.type is no.type else None
        return Written(ast.IfExp(test.node, yes.node, no.node), same)

    # --- functions -------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Written:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        if node.keywords or any(isinstance(given, ast.Starred) for given in node.args):
            raise self._refused(node, f"{name}() is given more than values", "Write f(a, b)")
        if name in LENIENT:
            return self._call_lenient(node, name)
        call = CALLS.get(name)
        if call is None:
            known = [*CALLS, *LENIENT]
            raise self._refused(node, f"there is no function {name}", _near(name, known))
        if not call.least <= len(node.args) <= call.most:
            hint = f"It takes {call.least}" + (f" to {call.most}" * (call.most > call.least))
            raise self._refused(node, f"{name}() of {len(node.args)} values", hint)
        given = [self.write(value).node for value in node.args]
        return Written(_called(f"_{name}", *given), call.gives)

    def _call_lenient(self, node: ast.Call, name: str) -> Written:
        given = [self._lenient(value) for value in node.args]
        if name == "has" and len(given) == 1:
            return Written(ast.Compare(given[0], [ast.IsNot()], [ast.Constant(None)]), bool)
        if name == "has" or not given:
            raise self._refused(
                node, f"{name}() of {len(given)} values", "Write has(a) or coalesce(a, b)"
            )
        found = given[-1]
        for one in reversed(given[:-1]):
            self._names += 1
            kept = f"_kept{self._names}"
            held = ast.NamedExpr(ast.Name(kept, ast.Store()), one)
            is_there = ast.Compare(held, [ast.IsNot()], [ast.Constant(None)])
            found = ast.IfExp(is_there, ast.Name(kept, ast.Load()), found)
        return Written(found)

    def _refused(self, node: ast.expr, why: str, hint: str) -> ConfigError:
        return ConfigError(f"{self._text!r}, column {node.col_offset + 1}: {why}", hint=hint)

    #: The node that is compiled for each kind of node; what is not here is refused.
    _rules: ClassVar[Mapping[type[ast.expr], Callable[[Writer, Any], Written]]] = {
        ast.Attribute: _attribute,
        ast.BinOp: _binary,
        ast.BoolOp: _boolean,
        ast.Call: _call,
        ast.Compare: _compare,
        ast.Constant: _constant,
        ast.IfExp: _choice,
        ast.List: _items,
        ast.Name: _name,
        ast.Set: _items,
        ast.Subscript: _subscript,
        ast.Tuple: _items,
        ast.UnaryOp: _unary,
    }


def _fields_of(value_type: Any) -> Mapping[str, Any] | None:
    """Return the fields of a type whose attributes are known, with their types."""
    if isinstance(value_type, type) and issubclass(value_type, msgspec.Struct):
        names: tuple[str, ...] = value_type.__struct_fields__
    elif isinstance(value_type, type) and is_dataclass(value_type):
        names = tuple(value_type.__dataclass_fields__)
    else:
        return None
    try:
        hints = get_type_hints(value_type)
    except (NameError, TypeError):
        hints = {}
    return {name: hints.get(name) for name in names}


def _plain(annotation: Any) -> Any:
    """Return a type that values surely have; ``None`` where it may be one of several."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if annotation is Any or get_origin(annotation) in (Union, UnionType):
        return None
    return annotation


def _type_name(value_type: Any) -> str:
    return str(getattr(value_type, "__qualname__", value_type))


def _near(name: str, known: Mapping[str, Any] | list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(sorted(known))}"


def _called(name: str, *given: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(given), [])


def _is_null(node: ast.expr) -> bool:
    is_word = isinstance(node, ast.Name) and node.id == "null"
    return is_word or (isinstance(node, ast.Constant) and node.value is None)


def _named(node: ast.AST) -> str:
    return f"{type(node).__name__}"
