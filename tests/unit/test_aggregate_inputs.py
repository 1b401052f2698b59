"""Many values are read as arrays: what is taken and refused is what one by one would be."""

from __future__ import annotations

import math
from typing import Any

import pytest

from streamapp.core.aggregates import AggregateSet, InputsError
from streamapp.core.aggregates import constructors as agg

#: Enough for arrays.
MANY = 100
SUM = AggregateSet({"x": agg.sum("amount")})


def records(kind: type, odd: object, at: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"amount": kind(n)} for n in range(MANY)]
    found[at] = {"amount": odd}
    return found


@pytest.mark.parametrize("at", [0, 50, MANY - 1])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 1.1e140, -(10**141), True, "7"])
@pytest.mark.parametrize("kind", [int, float])
def test_a_number_that_cannot_be_used_is_found_among_many(kind: type, odd: object, at: int) -> None:
    with pytest.raises(InputsError) as caught:
        SUM.extract(records(kind, odd, at))
    assert caught.value.index == at


@pytest.mark.parametrize("odd", [None, 1 << 70, -1e140, 0.5, 3])
@pytest.mark.parametrize("kind", [int, float])
def test_numbers_are_the_same_as_columns_and_one_by_one(kind: type, odd: object) -> None:
    found = records(kind, odd, 7)
    inputs = SUM.extract(found)
    assert [*map(repr, inputs.lists[0])] == [repr(record["amount"]) for record in found]
    part = inputs.part(0, 3, 20)
    numbers = part.column.numbers[part.low : part.high].tolist()
    assert [*map(repr, numbers)] == [
        repr(record["amount"]) for record in found[3:20] if record["amount"] is not None
    ]


@pytest.mark.parametrize("many", [10, MANY])
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_the_first_value_that_cannot_be_used_is_found_whichever_field_it_is(
    many: int, order: str
) -> None:
    found: list[dict[str, Any]] = [{"a": n, "b": n} for n in range(many)]
    found[5]["a"] = found[3]["b"] = found[7]["b"] = "seven"
    with pytest.raises(InputsError) as caught:
        AggregateSet({name: agg.sum(name) for name in order}).extract(found)
    assert caught.value.index == 3
