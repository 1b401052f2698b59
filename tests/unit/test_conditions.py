"""Which conditions columns answer, and what becomes of rows that were asked for by columns."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support import condition_shop
from support.counting_reader import columned

import streamapp
from streamapp.core.columned import Columned
from streamapp.core.rows import NO_ROWS, Rows
from streamapp.operators.fused import Filter, FlatMap, Fused, KeyBy, Map, Peek
from streamapp.operators.operator import RowError
from streamapp.operators.pick import column, picked
from streamapp.pipelines.conditions import condition_of, expressed, first_true


class Order(condition_shop.Order):
    note: str | None = None
    tags: tuple[str, ...] = ()


ANSWERED = [
    *("amount > 90", "90 < amount", "0 < amount <= 10", "amount > 90.0", "amount == true"),
    *("price >= 1", "price in [0.5, 1]", "price < 1e999", "amount == ts", "-1 < amount", "amount"),
    *(
        "kind == 'order'",
        "kind in ['a', 'b']",
        "kind not in ('a',)",
        "kind in {'a'}",
        "kind < user",
    ),
    *("kind in []", "paid", "not paid", "paid == true", "paid != (1)", "paid in [0]", "user"),
    *("true", "null", "amount > 90 and kind == 'order'", "not (paid or price != 0.5)"),
    *("this.amount > 1", "this['amount'] > 1", "amount == 9007199254740992.0"),
    *(
        "amount > -9223372036854775808",
        "amount <= 9223372036854775807",
        "price == 9007199254740992",
    ),
]

NOT_ANSWERED = {
    "what NumPy would round": ["amount == 9007199254740993.0 + 1", "price == 9007199254740993"],
    "an int and a float": ["amount == price", "price < ts", "paid < price"],
    "a part of an int": ["amount > 0.5", "amount in [1, 0.5]"],
    "more than 64 bits": ["amount < 9223372036854775808", "amount > -9223372036854775809"],
    "more than a float": ["price < 1" + "0" * 400, "amount < 1e999", "amount in [1e999]"],
    "another kind": ["amount == 'x'", "kind == 1", "kind == null", "kind in ['a', 1]"],
    "what fails": ["kind < 1", "amount < 'x'", "amount in 'x'", "kind in amount", "-kind == 'a'"],
    "what may be null": ["note == 'x'", "note", "note is None", "kind is not None", "has(note)"],
    "what is no scalar": ["tags", "'a' in tags", "tags == []", "this", "this == 1"],
    "arithmetic": ["amount + 1 > 0", "-amount > 0", "price * 2 > 1", "amount % 2"],
    "functions": ["len(kind) > 1", "starts_with(kind, 'a')", "abs(amount) > 1"],
    "a choice": ["paid if amount > 1 else not paid", "(amount > 1) == paid"],
    "constants alone": ["1 < 2", "1 < 2 < amount", "'a' in ['a']", "not 1 < 2"],
    "a list of fields": ["kind in [user]", "amount in [ts, 1]", "kind in user", "'a' in kind"],
    "a part of it": ["amount > 1 and note == 'x'", "not (tags or paid)", "0 < amount < price"],
}  # fmt: skip


@pytest.mark.parametrize("text", ANSWERED)
def test_columns_answer(text: str) -> None:
    assert expressed(text, Order).mask is not None


@pytest.mark.parametrize("text", [text for texts in NOT_ANSWERED.values() for text in texts])
def test_columns_do_not_answer(text: str) -> None:
    assert expressed(text, Order).mask is None


@pytest.mark.parametrize("value_type", [None, dict, dict[str, int], int, list[Order]])
def test_only_records_have_columns(value_type: Any) -> None:
    assert expressed("this == 1", value_type).mask is None
    if value_type not in (int, list[Order]):
        assert expressed("amount > 1", value_type).mask is None


def test_a_type_that_names_nothing_has_no_columns() -> None:
    class Broken(streamapp.Record):
        amount: Nowhere  # type: ignore[name-defined] # noqa: F821 - on purpose

    assert expressed("amount > 1", Broken).mask is None


def orders(count: int) -> list[Order]:
    kinds, users = ["order", "refund", "é"], "abcd"
    return [
        Order(users[n % 4], kinds[n % 3], n % 100, n / 4, n % 2 == 0, 100 * n) for n in range(count)
    ]


def rows_of(values: Sequence[object]) -> Rows:
    n = len(values)
    return Rows(
        [f"k{i}" for i in range(n)],
        array("q", range(n)),
        values,
        array("q", [7] * n),
        range(5, 5 + n),
    )


def listed(rows: Rows) -> tuple[list[object], ...]:
    return tuple([*of] for of in (rows.keys, rows.times, rows.values, rows.marks, rows.origins))


def step(text: str) -> Filter:
    return condition_of("", text, Order).step()


def stop_at_51(order: Order) -> Order:
    if order.amount == 51:
        raise ValueError(order)
    return order


CHAINS: dict[str, tuple[list[Any], int]] = {
    "alone": ([step("amount > 90")], 0),
    "of all": ([step("amount >= 0")], 0),
    "of none": ([step("amount > 1000"), Map(str)], 0),
    "of one": ([step("amount == 3 and ts < 400"), KeyBy("user")], 0),
    "two": ([step("amount > 10"), step("kind == 'order' or price < 1"), KeyBy("user")], 0),
    "a key": ([step("amount > 90"), KeyBy("user")], 0),
    "a key of before": ([KeyBy("kind"), step("amount > 90"), KeyBy("user")], 0),
    "a function": ([step("amount > 90"), Map(lambda order: order.price)], 18),
    "parts": ([step("amount > 97"), FlatMap(lambda order: [order, order]), KeyBy("ts")], 4),
    "a function before": ([Peek(lambda _: None), step("amount > 90")], 200),
    "a filter of values": ([step("amount > 90"), Filter(lambda order: order.paid)], 18),
    "a filter that columns leave": ([step("amount > 90"), step("note == null")], 18),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_over_columns_brings_what_it_brings_of_values(name: str) -> None:
    steps, made = CHAINS[name]
    values, reader = columned(orders(200))
    found = Fused(steps).process(rows_of(values))
    count = reader.made
    assert listed(found) == listed(Fused(steps).process(rows_of(orders(200))))
    assert count == made


def test_nothing_is_copied_where_all_rows_pass() -> None:
    rows = rows_of(columned(orders(200))[0])
    assert Fused([step("amount >= 0")]).process(rows) is rows


def test_columns_answer_for_a_branch_only_if_they_do_for_those_before_it() -> None:
    plain, other = expressed("amount > 1", Order), expressed("len(kind) > 1", Order)
    assert first_true([plain], plain).mask is not None
    assert first_true([other], plain).mask is first_true([plain], other).mask is None


def test_values_that_were_made_are_asked_one_by_one() -> None:
    values, reader = columned(orders(200))
    values[0].amount = 99  # type: ignore[attr-defined] # as a step might do
    assert len(Fused([step("amount > 98")]).process(rows_of(values))) == 3
    assert not reader.asked


def test_few_values_are_asked_one_by_one() -> None:
    values, reader = columned(orders(15))
    assert len(Fused([step("amount > 12")]).process(rows_of(values))) == 2
    assert (reader.made, reader.asked) == (15, [])


def test_a_column_that_cannot_be_read_is_left_to_the_values() -> None:
    class Loose(streamapp.Record):
        amount: int

    values, reader = columned([Loose(n) for n in [2**70, *range(40)]])
    condition = condition_of("", "amount > 38", Loose)
    found = Fused([condition.step()]).process(rows_of(values))
    assert [*found.origins] == [5, 45]
    assert (reader.asked, reader.made) == (["amount"], 41)


class OddReader:
    """Has columns of another kind than the type says."""

    def objects(self, raw: Sequence[bytes]) -> list[object]:
        return [Order("", "", 1, 2.0, True, 0)] * len(raw)  # noqa: FBT003 - a field

    def column(self, raw: Sequence[bytes], name: str) -> Any:
        return {
            "amount": array("d", [1.0] * len(raw)),
            "price": array("q", [2] * len(raw)),
            "kind": array("q", [0] * len(raw)),
        }.get(name)


@pytest.mark.parametrize("text", ["amount == 1", "price == 2", "kind == ''", "paid"])
def test_a_column_of_another_kind_answers_nothing(text: str) -> None:
    mask = expressed(text, Order).mask
    assert mask is not None
    assert mask(Columned([b""] * 20, OddReader(), {})) is None


def test_rows_before_an_error_count() -> None:
    steps = [step("kind == 'order'"), Map(stop_at_51), KeyBy("user")]
    values, _ = columned(orders(200))
    found, error = Fused(steps).run(rows_of(values))
    naive, same = Fused(steps).run(rows_of(orders(200)))
    assert isinstance(error, RowError)
    assert isinstance(same, RowError)
    assert error.origin == same.origin == 56
    assert listed(found) == listed(naive) == listed(error.brought)
    assert isinstance(error.__cause__, ValueError)
    assert [*found.origins] == [*range(5, 56, 3)]


def test_rows_of_one_origin_count_together() -> None:
    origins = array("q", [n // 9 for n in range(200)])
    rows = replace(rows_of(columned(orders(200))[0]), origins=origins)
    found, error = Fused([step("kind == 'order'"), Map(stop_at_51)]).run(rows)
    assert error is not None
    assert error.origin == 51 // 9
    assert [*found.times] == [*range(0, 45, 3)]


@pytest.mark.parametrize("count", [1, 3, 63, 64, 200])
@pytest.mark.parametrize("make", [list, lambda r: r, lambda r: array("q", r), tuple])
def test_items_at_places(make: Any, count: int) -> None:
    items = make(range(3, 3_000, 7))
    for places in ([*range(count)], [*range(count * 2 - 1, 0, -2)], array("q", [count])):
        found = column(items, places)
        assert [*found] == [items[place] for place in places]
        assert {*map(type, found)} == {int}


def test_items_of_arrays_of_others() -> None:
    prices = array("d", [n / 4 for n in range(200)])
    assert [*column(prices, range(0, 200, 2))] == [n / 2 for n in range(100)]


def test_no_row_of_many() -> None:
    assert listed(picked(rows_of(orders(3)), [])) == listed(NO_ROWS)
