"""What aggregates take and refuse, how fields are read, and what a failing function undoes."""

from __future__ import annotations

import enum
from typing import Any

import msgspec
import pytest

from streamapp.core.aggregates import AddError, Aggregate, AggregateSet, InputsError
from streamapp.core.aggregates import constructors as agg
from streamapp.core.rows import Rows
from streamapp.errors import ConfigError, InputError, UsageError


class Order(msgspec.Struct):
    amount: Any


class Level(enum.IntEnum):
    LOW = 1


class Tally(msgspec.Struct):
    by_name: dict[int, int]


def _short(value: object) -> str:
    return repr(value)[:9]


def one(aggregate: Aggregate, *values: Any, origins: list[int] | None = None) -> Any:
    """Return what the aggregate makes of these values."""
    aggregates = AggregateSet({"x": aggregate})
    return aggregates.results(grown(aggregates, *values, origins=origins))[0]


def grown(aggregates: AggregateSet, *values: Any, origins: list[int] | None = None) -> list[object]:
    acc, n = aggregates.new(), len(values)
    rows = Rows([0] * n, [*range(n)], values, [0] * n, origins or [*range(n)])
    aggregates.add_all([acc] * n, aggregates.extract(values), rows, 0, n)
    return acc


def orders(*amounts: Any) -> list[Order]:
    return [Order(amount) for amount in amounts]


def refusal(aggregate: Aggregate, *values: Any) -> tuple[int, str]:
    """Return which value is refused, and why."""
    with pytest.raises(InputsError) as caught:
        AggregateSet({"x": aggregate}).extract(values)
    return caught.value.index, str(caught.value.__cause__)


@pytest.mark.parametrize(
    "values",
    [
        [{"amount": 2}, {"amount": 3}],
        [Order(2), Order(3)],
        [{"amount": 2}, Order(3)],
        [Order(2), {"amount": 3}],
        [{"amount": 2}, {}, {"amount": None}, {"amount": 3}],
    ],
)
def test_a_field_is_an_attribute_or_a_key(values: list[Any]) -> None:
    assert one(agg.sum("amount"), *values) == 5


def test_a_field_is_a_function() -> None:
    assert one(agg.sum(lambda x: x * 2), 1, 2) == 6
    assert one(agg.sum(len), "one", "three") == 8


def test_a_missing_attribute_names_field_and_type() -> None:
    assert refusal(agg.sum("total"), Order(1)) == (
        0,
        "A value of type Order has no field 'total'. Give the name of a field, or a function",
    )


def test_the_error_of_a_function_is_the_cause() -> None:
    with pytest.raises(InputsError) as caught:
        AggregateSet({"x": agg.sum(lambda x: 1 // x)}).extract([1, 0, 1])
    assert caught.value.index == 1
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    "bad",
    ["3", True, float("nan"), float("inf"), -float("inf"), 1.1e140, -(10**141), [1], 1j],
    ids=_short,
)
@pytest.mark.parametrize("others", [[1], [1.5], [None, 2], [10**139]], ids=_short)
@pytest.mark.parametrize(
    "make", [agg.sum, agg.min, agg.avg, agg.stddev, lambda f: agg.quantile(f, 0.5)]
)
def test_numbers_are_finite_ints_and_floats(make: Any, others: list[Any], bad: Any) -> None:
    index, message = refusal(make("amount"), *orders(*others, bad, *others))
    assert index == len(others)
    assert message.startswith("Field 'amount': ")
    assert repr(bad)[:40] in message


def test_a_huge_integer_beside_a_nan_is_refused() -> None:
    index, _ = refusal(agg.sum("amount"), *orders(float("nan"), 10**400, 1.5))
    assert index == 0


def test_a_number_too_long_to_be_shown_is_refused_all_the_same() -> None:
    index, message = refusal(agg.sum("amount"), *orders(1, 10**5_000))
    assert index == 1
    assert message == "Field 'amount': a value of type int is not within +/-1e+140"


def test_the_error_is_one_of_input() -> None:
    with pytest.raises(InputsError) as caught:
        AggregateSet({"x": agg.sum("amount")}).extract(orders("three"))
    assert isinstance(caught.value.__cause__, InputError)


@pytest.mark.parametrize(
    ("make", "bad"),
    [
        (agg.last, {1: 2}),
        (agg.last, b"bytes"),
        (agg.last, [[float("nan")]]),
        (agg.last, "\ud800"),
        (agg.last, {"\ud800": 1}),
        (agg.distinct_count, [1]),
        (agg.distinct_count, "\ud800"),
        (lambda field: agg.top_k(field, 2), {}),
        (lambda field: agg.collect(field, 2), (1, 2)),
    ],
)
def test_what_json_would_change_is_refused(make: Any, bad: Any) -> None:
    index, message = refusal(make("amount"), *orders("good", bad))
    assert index == 1
    assert message.startswith("Field 'amount': ")


def test_subclasses_become_what_they_are_instances_of() -> None:
    result = one(agg.collect("amount", 2), *orders(Level.LOW, 2.5))
    assert [type(x) for x in result] == [int, float]


def test_a_huge_value_is_shown_in_short() -> None:
    _, message = refusal(agg.sum("amount"), Order("x" * 1_000))
    assert len(message) < 150


def test_of_nothing() -> None:
    kinds = [agg.sum, agg.min, agg.max, agg.avg, agg.stddev, agg.stddev_sample, agg.first, agg.last]
    assert [one(kind("amount"), Order(None)) for kind in kinds] == [None] * 8
    assert one(agg.count(), Order(None)) == 1
    assert one(agg.count("amount"), Order(None)) == 0
    assert one(agg.collect("amount", 2)) == []
    assert one(agg.top_k("amount", 2)) == []


def test_first_and_last_keep_values_of_any_plain_kind() -> None:
    values = [{"amount": [1, {"big": 2**70}]}, {"amount": "text"}]
    aggregates = AggregateSet({"first": agg.first("amount"), "last": agg.last("amount")})
    acc = grown(aggregates, *values)
    back = aggregates.unpack(msgspec.json.decode(msgspec.json.encode(aggregates.pack(acc))))
    assert aggregates.results(back) == ([1, {"big": 2**70}], "text")


def test_results_share_nothing_with_the_state() -> None:
    aggregates = AggregateSet(
        {"c": agg.collect("amount", 3), "t": agg.top_k("amount", 2, by="amount")}
    )
    acc = grown(aggregates, *orders(1))
    collected, top = aggregates.results(acc)
    collected.append(9)  # type: ignore[attr-defined]  # a list
    top[0][0] = 9  # type: ignore[index]  # a list
    assert aggregates.results(acc) == ([1], [[1, 1]])


def test_equal_parts_are_kept_once() -> None:
    three = AggregateSet(
        {"n": agg.count("a"), "avg": agg.avg("a"), "sum": agg.sum("a"), "avg2": agg.avg("a")}
    )
    assert len(three.new()) == 2
    quantiles = {f"q{q}": agg.quantile("a", q / 10) for q in range(10)}
    assert len(AggregateSet(quantiles).new()) == 1


def test_the_strictest_check_of_a_field_holds() -> None:
    both = AggregateSet({"last": agg.last("amount"), "sum": agg.sum("amount")})
    with pytest.raises(InputsError):
        both.extract(orders("text"))


def test_rows_and_parts_of_inputs() -> None:
    aggregates = AggregateSet({"sum": agg.sum("a"), "last": agg.last("b")})
    inputs = aggregates.extract([{"a": 1, "b": 2}, {"a": 3}, {"b": "x"}])
    assert len(inputs) == 3
    assert [inputs.row(i) for i in range(3)] == [(1, 2), (3, None), (None, "x")]
    assert inputs.take([2, 0]).lists == [[None, 1], ["x", 2]]


@pytest.mark.parametrize(
    "make",
    [
        lambda: agg.top_k("a", 0),
        lambda: agg.top_k("a", k=True),
        lambda: agg.collect("a", -1),
        lambda: agg.quantile("a", 1.01),
        lambda: agg.quantile("a", -0.01),
        lambda: AggregateSet({"total": sum}),  # type: ignore[dict-item]  # Python's
        lambda: AggregateSet({"total": agg.sum(3)}),  # type: ignore[arg-type]  # no field
    ],
)
def test_declarations_that_cannot_work(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


# --- functions of the application ---------------------------------------------------------------


def product() -> Aggregate:
    return agg.aggregate(lambda: 1, lambda s, v: s * (12 // v), lambda a, b: a * b, str)


def test_functions_are_added_and_merged() -> None:
    aggregates = AggregateSet({"x": product()})
    acc = grown(aggregates, 1, 2)
    aggregates.merge(acc, grown(aggregates, 3))
    assert aggregates.results(acc) == ("288",)


def failing(values: list[int], origins: list[int]) -> tuple[int, tuple[object, ...]]:
    """Return the row at which ``product`` failed, and what had been added."""
    aggregates = AggregateSet({"n": agg.count(), "x": product(), "all": agg.collect(int, 9)})
    acc, n = aggregates.new(), len(values)
    rows = Rows([0] * n, [0] * n, values, [0] * n, origins)
    with pytest.raises(AddError) as caught:
        aggregates.add_all([acc] * n, aggregates.extract(values), rows, 0, n)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    return caught.value.index, aggregates.results(acc)


def test_a_row_that_fails_does_nothing() -> None:
    assert failing([1, 2, 0, 3], [4, 5, 6, 7]) == (2, (2, "72", [1, 2]))


def test_rows_of_the_same_origin_are_undone() -> None:
    assert failing([1, 2, 3, 0, 4], [4, 4, 6, 6, 6]) == (3, (2, "72", [1, 2]))


def test_a_failure_in_a_part_names_the_row_of_the_whole() -> None:
    aggregates = AggregateSet({"x": product()})
    values = [1, 2, 0]
    rows = Rows([0] * 3, [0] * 3, values, [0] * 3, [0, 1, 2])
    accs = [aggregates.new(), aggregates.new()]
    with pytest.raises(AddError) as caught:
        aggregates.add_all(accs, aggregates.extract(values), rows, 1, 3)
    assert caught.value.index == 2
    assert [aggregates.results(acc) for acc in accs] == [("6",), ("1",)]


@pytest.mark.parametrize(
    ("zero", "grow"),
    [
        (tuple, lambda s, v: (*s, v)),
        (lambda: Tally({}), lambda s, v: Tally({**s.by_name, v: 1})),
        (set, lambda s, v: s | {v}),
        (int, lambda s, v: s + v / 2),
        (dict, lambda s, v: {**s, str(v): None}),
        (lambda: None, lambda _, v: v),
    ],
)
def test_states_come_back_as_what_they_were(zero: Any, grow: Any) -> None:
    aggregates = AggregateSet({"x": agg.aggregate(zero, grow, lambda a, _: a, lambda s: s)})
    acc = grown(aggregates, 1, 2)
    back = aggregates.unpack(msgspec.json.decode(msgspec.json.encode(aggregates.pack(acc))))
    assert back == acc
    assert type(back[0]) is type(acc[0])


def test_a_state_that_would_not_come_back_is_refused() -> None:
    with pytest.raises(UsageError, match="survive"):
        agg.aggregate(object, lambda s, _: s, lambda s, _: s, str)
    numbered = agg.aggregate(dict, lambda s, v: {**s, v: 1}, lambda s, _: s, str)
    aggregates = AggregateSet({"x": numbered})
    with pytest.raises(AddError) as caught:
        grown(aggregates, 1)
    assert "survive" in str(caught.value.__cause__)
