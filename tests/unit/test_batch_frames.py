"""Frames of records without one declared type: nothing is lost on the way, or it is said what."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from streamapp.engine.batch_frames import arrow_table, polars_frame
from streamapp.errors import InputError

pytest.importorskip("polars")
pytest.importorskip("pyarrow")

KEPT: list[list[Any]] = [
    [1, 2.5, None],
    [2**40, 1],
    [{"a": 1}, {"b": 2.5}],
    [{}, {"a": {"b": [1]}}],
    [[1], [2.5], [], None],
    [[{"a": 1}], [{"b": "x"}]],
    [None, None],
    [Decimal("1.50"), None],
]


def filled(value: Any, like: Any) -> Any:
    """Return the value with the names that a column of structs gives to all of its values."""
    if isinstance(like, dict):
        return {name: filled((value or {}).get(name), each) for name, each in like.items()}
    if isinstance(like, list) and value is not None:
        return [filled(one, other) for one, other in zip(value, like, strict=True)]
    return value


@pytest.mark.parametrize("values", KEPT)
def test_values_of_several_forms_are_kept(values: list[Any]) -> None:
    lists = {"x": (object, values)}
    for found in (polars_frame(lists)["x"].to_list(), arrow_table(lists)["x"].to_pylist()):
        assert [filled(*pair) for pair in zip(values, found, strict=True)] == found


@pytest.mark.parametrize("make", [polars_frame, arrow_table])
@pytest.mark.parametrize("values", [[1, "x"], [{"a": 1}, {"a": "x"}], [[1, "x"]], [{"a": 1}, 5]])
def test_values_without_a_type_in_common_are_refused(make: Any, values: list[Any]) -> None:
    with pytest.raises(InputError, match=r"Column 'x' has no type: .* Declare a Record"):
        make({"x": (object, values)})


def test_integers_beyond_64_bits_are_those_of_polars() -> None:
    lists = {"x": (object, [2**70, None, 1])}
    assert polars_frame(lists)["x"].to_list() == [2**70, None, 1]
    with pytest.raises(InputError, match="too large"):
        arrow_table(lists)
