"""Conditions over columns: ``amount > 0 and kind == "order"`` for many records and no object. Pure.

A part of the language only: fields that are declared as numbers, texts and booleans, compared with
constants and with each other, and ``and``, ``or``, ``not``, ``in`` of these. Of that part nothing
can fail, and columns answer exactly what Python would; all else is left to the function of a value.
Python compares an int with a float by their values, NumPy as floats of 53 bits: so what is compared
here is of one kind, or a constant that is the same number in the kind of the column.
"""

from __future__ import annotations

import ast
import operator
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from typing import Any, ClassVar, Final

import msgspec
import numpy as np
import numpy.typing as npt

from streamapp.core.columned import Columned, PlainColumn
from streamapp.core.int_columns import as_numpy

Bools = npt.NDArray[np.bool_]
#: Which of the values a condition is true for; ``None`` if it has to be asked for each of them.
Mask = Callable[[Columned], Bools | None]
#: A column as it is computed with: an array of NumPy's, or texts.
_Column = npt.NDArray[Any] | Sequence[str]
#: A mask of columns that are known; a constant is one for all.
_Test = Callable[[Mapping[str, _Column]], Bools | np.bool_]
_Number = int | float

_KINDS: Final = (int, float, str, bool)
_INTS: Final = range(-(2**63), 2**63)
_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_SIGNS: Final[Mapping[type[ast.unaryop], Callable[[Any], Any]]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


class _NotPlainError(Exception):
    """Columns cannot say what a value would."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    #: ``int`` (of booleans, too), ``float`` or ``str``.
    kind: type


@dataclass(frozen=True, slots=True)
class _Constant:
    value: object


def mask_of(condition: ast.expr, this: str, value_type: Any) -> Mask | None:
    """Return what answers a condition by columns; ``None`` if only its function can.

    Args:
        condition: A tree that ``expression_nodes`` has written.
        this: The name of the value in it.
        value_type: The declared type of values.
    """
    reading = _Reading(this, _plain_fields(value_type))
    try:
        test = reading.test(condition)
    except _NotPlainError:
        return None
    used = reading.used

    def mask(values: Columned) -> Bools | None:
        columns: dict[str, _Column] = {}
        for name, kind in used.items():
            column = _as_kind(values.column(name), kind)
            if column is None:
                return None
            columns[name] = column
        return np.broadcast_to(test(columns), len(values))

    return mask


class _Reading:
    """Makes the test of one tree; ``used`` are the fields that it reads, with their types."""

    def __init__(self, this: str, fields: Mapping[str, type]) -> None:
        self._this = this
        self._fields = fields
        self.used: dict[str, type] = {}

    def test(self, node: ast.expr) -> _Test:
        """Return what tells where a node is true."""
        rule = self._rules.get(type(node))
        found = None if rule is None else rule(self, node)
        return _truth(self._side(node)) if found is None else found

    def _boolean(self, node: ast.BoolOp) -> _Test:
        tests = [self.test(value) for value in node.values]
        both = operator.and_ if isinstance(node.op, ast.And) else operator.or_

        def boolean(columns: Mapping[str, _Column]) -> Bools | np.bool_:
            found = tests[0](columns)
            for test in tests[1:]:
                found = both(found, test(columns))
            return found

        return boolean

    def _not(self, node: ast.UnaryOp) -> _Test | None:
        if not isinstance(node.op, ast.Not):
            return None
        test = self.test(node.operand)
        return lambda columns: ~test(columns)

    def _compare(self, node: ast.Compare) -> _Test:
        pairs = zip(node.ops, pairwise([node.left, *node.comparators]), strict=True)
        tests = [self._pair(op, left, right) for op, (left, right) in pairs]
        if len(tests) == 1:
            return tests[0]
        return lambda columns: np.logical_and.reduce([test(columns) for test in tests])

    def _pair(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> _Test:
        side = self._side(left)
        if isinstance(op, ast.In | ast.NotIn):
            test = _membership(side, self._items(right))
            return test if isinstance(op, ast.In) else lambda columns: ~test(columns)
        if type(op) not in _COMPARISONS:
            raise _NotPlainError
        return _comparison(_COMPARISONS[type(op)], side, self._side(right))

    def _side(self, node: ast.expr) -> _Field | _Constant:
        if isinstance(node, ast.Constant):
            return _Constant(node.value)
        if isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
            of = self._side(node.operand)
            if isinstance(of, _Constant) and isinstance(of.value, _Number):
                return _Constant(_SIGNS[type(node.op)](of.value))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            kind = self._fields.get(node.attr)
            if node.value.id == self._this and kind is not None:
                self.used[node.attr] = kind
                return _Field(node.attr, int if kind is bool else kind)
        raise _NotPlainError

    def _items(self, node: ast.expr) -> list[object]:
        if not isinstance(node, ast.List | ast.Tuple | ast.Set):
            raise _NotPlainError
        sides = [self._side(item) for item in node.elts]
        constants = [side.value for side in sides if isinstance(side, _Constant)]
        if len(constants) < len(sides):
            raise _NotPlainError
        return constants

    _rules: ClassVar[Mapping[type[ast.expr], Callable[[_Reading, Any], _Test | None]]] = {
        ast.BoolOp: _boolean,
        ast.Compare: _compare,
        ast.UnaryOp: _not,
    }


# --- tests ---------------------------------------------------------------------------------------


def _truth(side: _Field | _Constant) -> _Test:
    """Return where a field (or a constant) by itself is true."""
    if isinstance(side, _Constant):
        always = np.bool_(bool(side.value))
        return lambda _: always
    nothing = _Constant("" if side.kind is str else 0)
    return _comparison(operator.ne, side, nothing)


def _comparison(
    op: Callable[[Any, Any], Any], left: _Field | _Constant, right: _Field | _Constant
) -> _Test:
    kind = left.kind if isinstance(left, _Field) else getattr(right, "kind", None)
    if kind is None:  # two constants
        raise _NotPlainError
    is_text = kind is str
    first, second = _taking(left, kind), _taking(right, kind)
    if is_text:
        return lambda columns: _bools(map(op, first(columns), second(columns)))
    return lambda columns: op(first(columns), second(columns))


def _taking(
    side: _Field | _Constant, kind: type
) -> Callable[[Mapping[str, _Column]], Iterable[Any]]:
    """Return what takes a side out of columns, as numbers or texts of one kind."""
    if isinstance(side, _Field):
        if side.kind is not kind:
            raise _NotPlainError
        name = side.name
        return lambda columns: columns[name]
    same = _same(side.value, kind)
    if isinstance(same, str):
        return lambda _: repeat(same)
    one: Any = (np.int64 if kind is int else np.float64)(same)
    return lambda _: one


def _membership(side: _Field | _Constant, items: list[object]) -> _Test:
    if isinstance(side, _Constant):
        raise _NotPlainError
    name, known = side.name, [_same(item, side.kind) for item in items]
    if side.kind is str:
        is_known = frozenset(known).__contains__
        return lambda columns: _bools(map(is_known, columns[name]))
    numbers = np.array(known, np.int64 if side.kind is int else np.float64)
    return lambda columns: np.isin(columns[name], numbers)


def _same(value: object, kind: type) -> _Number | str:
    """Return a constant as the same number (or text) of another kind, in at most 64 bits."""
    if kind is str:
        if isinstance(value, str):
            return value
        raise _NotPlainError
    if not isinstance(value, _Number):
        raise _NotPlainError
    try:
        same: _Number = kind(value)
    except OverflowError:  # an infinite int, or a float of a huge one
        raise _NotPlainError from None
    if same != value or (kind is int and same not in _INTS):
        raise _NotPlainError
    return same


# --- columns -------------------------------------------------------------------------------------


def _plain_fields(value_type: Any) -> dict[str, type]:
    """Return the fields of a type whose values are nothing but numbers, texts and booleans."""
    try:
        fields = msgspec.structs.fields(value_type)
    except (NameError, TypeError):  # an annotation that names nothing yet, or another type
        return {}
    return {field.name: field.type for field in fields if field.type in _KINDS}


def _as_kind(column: PlainColumn | None, kind: type) -> _Column | None:
    """Return a column to compute with; ``None`` if it is not of this kind."""
    code = column.typecode if isinstance(column, array) else None
    if column is None or code != {int: "q", float: "d"}.get(kind):
        return None
    if kind is str:
        return column  # type: ignore[return-value] # texts
    if kind is bool:
        return _bools(column).astype(np.int64)
    if kind is int or not column:
        return as_numpy(column)  # type: ignore[arg-type] # of ints
    return np.frombuffer(column, np.float64)  # type: ignore[arg-type] # an array


def _bools(found: Iterable[Any]) -> Bools:
    return np.frombuffer(bytes(found), np.bool_)
