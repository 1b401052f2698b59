"""Batches as frames of Polars or PyArrow, which are installed by those who want them."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module
from types import NoneType
from typing import TYPE_CHECKING, Any

import msgspec

from streamapp.errors import ConfigError, InputError
from streamapp.serde.hooks import encode_hook

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Type and values of each column.
Lists = dict[str, tuple[object, "Sequence[Any]"]]

#: The types that a column of scalars has even if it holds nothing but ``None``.
_POLARS = {bool: "Boolean", bytes: "Binary", float: "Float64", int: "Int64", str: "String"}
_ARROW = {bool: "bool_", bytes: "binary", float: "float64", int: "int64", str: "string"}
#: Types that both libraries take as they are.
_KNOWN = (bytes, datetime, date, time, timedelta, Decimal)


def polars_frame(lists: Lists) -> Any:
    """Return a frame; nested records become structs.

    Raises:
        ConfigError: Polars is not installed.
        InputError: The values of a column have no type in common.
    """
    polars = _needed("polars", "to_polars")
    return polars.DataFrame(
        [_series(polars, name, base, values) for name, (base, values) in lists.items()]
    )


def arrow_table(lists: Lists) -> Any:
    """Return a table; nested records become structs.

    Raises:
        ConfigError: PyArrow is not installed.
        InputError: The values of a column have no type in common.
    """
    arrow = _needed("pyarrow", "to_arrow")
    return arrow.table(
        {name: _array(arrow, name, base, values) for name, (base, values) in lists.items()}
    )


def _series(polars: Any, name: str, base: object, values: Sequence[Any]) -> Any:
    dtype = _typed(polars, _POLARS, base)
    if dtype is not None or {*map(type, values)} <= {int, NoneType}:
        return polars.Series(name, values, dtype=dtype)
    # Polars by itself takes the type of the first dict or list for all: names that others have
    # beside were gone, and 2.5 behind a 1 was 2.
    array = _array(_needed("pyarrow", "to_polars"), name, base, values)
    return polars.from_arrow(array).alias(name)


def _array(arrow: Any, name: str, base: object, values: Sequence[Any]) -> Any:
    make = _typed(arrow, _ARROW, base)
    try:
        return arrow.array(_plain(base, values), type=make and make())
    except (TypeError, ValueError, OverflowError, NotImplementedError) as exc:
        msg = f"Column {name!r} has no type: {exc}"
        raise InputError(msg, hint="Declare a Record with one type for the field") from exc


def _typed(module: Any, names: dict[type, str], base: Any) -> Any:
    name = names.get(base) if isinstance(base, type) else None
    return None if name is None else getattr(module, name)


def _plain(base: object, values: Sequence[Any]) -> Sequence[Any]:
    """Return values that the libraries know: records as dicts, scalars as they are."""
    if base in _ARROW:
        return values
    return [
        msgspec.to_builtins(value, builtin_types=_KNOWN, enc_hook=encode_hook) for value in values
    ]


def _needed(module: str, method: str) -> Any:
    try:
        return import_module(module)
    except ImportError as exc:
        msg = f"batch.{method}() needs {module}, which is not installed"
        raise ConfigError(msg, hint="pip install streamapp[batch]") from exc
