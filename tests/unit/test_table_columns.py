"""Tables written by columns: what is refused, and whose the rows are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest
from support.tables import TableBench

import streamapp
from streamapp.errors import ConfigError, EncodeError, InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Sums(streamapp.Record):
    n: int = 0
    total: float = 0.0


class Order(streamapp.Record):
    user: str
    amount: float


@dataclass
class Orders:
    records: Sequence[Order]

    def column(self, name: str) -> object:
        return [getattr(order, name) for order in self.records]


ORDERS = Orders([Order("a", 1.0), Order("b", 2.0), Order("a", 3.0)])
GROWN = {"n": streamapp.count(), "total": streamapp.sum("amount")}


@pytest.mark.parametrize("name", ["ann", b"ann", ""])
def test_a_name_is_no_column(name: object) -> None:
    bench = TableBench(default=int)
    with bench.event():
        with pytest.raises(UsageError, match=r"ann|'', which is one key\. Give a column: table"):
            bench.table.add(name, 5)
        with pytest.raises(UsageError, match="which is one amount"):
            bench.table.add(["a", "b", "c"], name)
    assert dict(bench.table.items()) == {}


def test_update_takes_rows_and_no_batch() -> None:
    bench = TableBench(default=int)
    with bench.event():
        bench.table.update({"a": 1}, b=2)
        bench.table.update([("a", 3)])
        with pytest.raises(UsageError, match=r"table\.add\(batch\.user, batch\.amount\)"):
            bench.table.update(ORDERS)
    assert dict(bench.table.items()) == {"a": 3, "b": 2}


def test_one_object_of_the_default_is_not_shared_by_rows() -> None:
    zero = Sums()
    bench = TableBench(value_type=Sums, default=lambda: zero)
    with bench.event():
        bench.table.aggregate(ORDERS, "user", **GROWN)
    assert dict(bench.table.items()) == {"a": Sums(2, 4.0), "b": Sums(1, 2.0)}
    assert zero == Sums()


def test_default_of_another_class_is_not_shared_either() -> None:
    class Plain:
        n = 0

    zero: Any = Plain()
    bench = TableBench(default=lambda: zero)
    with bench.event(), pytest.raises(Exception, match="Plain"):  # it has no form as bytes
        bench.table.aggregate(ORDERS, "user", n=streamapp.count())
    assert zero.n == 0


@pytest.mark.parametrize(
    ("aggregate", "name"),
    [
        (streamapp.avg("amount"), "avg"),
        (streamapp.stddev("amount"), "stddev"),
        (streamapp.top_k("user", 3), "top_k"),
        (streamapp.last("amount"), "last"),
        (5, "5"),
    ],
)
def test_aggregate_that_needs_more_than_its_result_is_named(aggregate: object, name: str) -> None:
    bench = TableBench(value_type=Sums, default=Sums)
    expected = f"^The field 'n' of a row cannot grow by {name}. It can by count, sum, min and max"
    with bench.event(), pytest.raises(ConfigError, match=expected):
        bench.table.aggregate(ORDERS, "user", n=aggregate)


class Odd(streamapp.Record):
    n: int = 0
    total: int = 0
    few: Annotated[int, msgspec.Meta(lt=2)] = 0
    tags: list[int] | None = None


@pytest.mark.parametrize(
    "grown",
    [
        {"total": streamapp.sum("amount")},  # a float
        {"few": streamapp.count()},  # too many
        {"tags": streamapp.count()},
        {"n": streamapp.count(), "total": streamapp.max("amount")},
    ],
)
def test_a_row_that_could_not_be_read_again_is_refused(grown: dict[str, Any]) -> None:
    bench = TableBench(value_type=Odd, default=Odd)
    with bench.event(), pytest.raises(EncodeError, match="it could not be read again"):
        bench.table.aggregate(ORDERS, "user", **grown)
    with bench.event():
        bench.table.aggregate(ORDERS, "user", n=streamapp.count())
    assert dict(bench.table.items()) == {"a": Odd(2), "b": Odd(1)}


def test_a_key_that_is_not_of_the_declared_type_is_refused() -> None:
    bench = TableBench(key_type=str, value_type=Sums, default=Sums)
    with bench.event():
        with pytest.raises(InputError, match=r"A list cannot be a key of this table: \['a'\]"):
            bench.table[["a"]] = Sums()  # type: ignore[index]  # that is the mistake
        with pytest.raises(InputError, match="A list cannot be a key"):
            bench.table.aggregate(ORDERS, [["a"]] * 3, **GROWN)
    assert dict(bench.table.items()) == {}
