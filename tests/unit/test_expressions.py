"""Expressions in texts: what they compute, and what they refuse."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

import streamapp
from streamapp.core.aggregates import AggregateSet, InputsError
from streamapp.errors import ConfigError, InputError
from streamapp.pipelines.expressions import of_pair, of_value


class Item(streamapp.Record):
    name: str
    price: float
    tags: dict[str, int]


class Order(streamapp.Record):
    user: str
    amount: float
    count: int
    item: Item
    note: str | None = None

    def total(self) -> float:
        return self.amount * self.count


@dataclass
class Plain:
    amount: float


@dataclass(slots=True)
class Slotted:
    amount: float
    note: str | None = None


class Named(NamedTuple):
    amount: float
    note: str | None = None


ORDER = Order("ann", 2.5, 4, Item("pen", 1.5, {"blue": 3}))
DATA: dict[str, Any] = {
    "user": "ann",
    "amount": 2.5,
    "count": 4,
    "item": {"name": "pen", "price": 1.5, "tags": {"blue": 3}},
    "note": None,
}
CASES = {
    "amount > 0 and user == 'ann'": True,
    "0 < count <= 4": True,
    "0 < count <= 3": False,
    "user in ['ann', 'ben'] and not user in ('cid',)": True,
    "amount * count + 1": 11.0,
    "item.price * 2": 3.0,
    "item['price'] ** 2": 2.25,
    "item.tags.blue // 2 + count % 3": 2,
    "note is None": True,
    "note == null or false": True,
    "coalesce(note, user)": "ann",
    "coalesce(item.tags.red, item.tags.green, 7)": 7,
    "has(item.tags.blue) and not has(item.tags.red)": True,
    "has(user[2]) and not has(user[3])": True,
    "coalesce(note[0], item.tags.red[count], user[-1])": "n",
    "upper(user) + str(count)": "ANN4",
    "'big' if amount >= 100 else 'small'": "small",
    "max(amount, count) - min(amount, count)": 1.5,
    "round(amount / 3, 2)": 0.83,
    "len(user) == 3 and starts_with(user, 'a')": True,
    "this.user": "ann",
    "-count < +count": True,
    "floor(amount) + ceil(amount)": 5,
}


@pytest.mark.parametrize("text", CASES)
def test_records_and_plain_data_are_computed_alike(text: str) -> None:
    expected = CASES[text]
    for value, declared in ((ORDER, Order), (DATA, None), (DATA, dict), (ORDER, None)):
        assert of_value(declared).function(text)(value) == expected


def test_a_mapping_makes_a_value_of_expressions_and_constants() -> None:
    function = of_value(Order).mapping({"who": "user", "cents": "int(amount * 100)", "version": 2})
    assert function(ORDER) == {"who": "ann", "cents": 250, "version": 2}


def test_sides_of_a_join_have_names() -> None:
    function = of_pair(Order, None).function("left.amount + coalesce(right.fee, 0)")
    assert function(ORDER, {"fee": 1}) == 3.5
    assert function(ORDER, None) == 2.5


def test_a_field_named_like_a_word_is_an_item() -> None:
    assert of_value(None).function("this['from'] + this['x-y']")({"from": 1, "x-y": 2}) == 3


#: What must not even be compiled, and a word of the reason.
ATTACKS = {
    "__import__('os').system('true')": "no function",
    "open('/etc/passwd')": "no function open",
    "this.__class__": "Python's",
    "this['__class__']": "Python's",
    "().__class__.__bases__[0].__subclasses__()": "no function",
    "user.__len__()": "no function",
    "user.upper()": "no function",
    "total()": "no function total",
    "_field(this, 'user')": "no function",
    "(lambda: 1)()": "no function",
    "[x for x in item]": "ListComp",
    "{x: 1 for x in item}": "DictComp",
    "{**item}": "Dict",
    "[*item]": "Starred",
    "max(*item)": "more than values",
    "str(user, encoding='x')": "more than values",
    "f'{user}'": "JoinedStr",
    "(x := 5)": "NamedExpr",
    "lambda: user": "Lambda",
    "await user": "Await",
    "(yield)": "Yield",
    "user[1:2]": "Slice",
    "b'bytes'": "not allowed",
    "1j": "not allowed",
    "...": "not allowed",
    "1 << 99": "LShift",
    "count | 1": "BitOr",
    "~count": "~",
    "user @ user": "MatMult",
    "user is 'ann'": "None only",
    "import os": "no expression",
    "user; user": "no expression",
    "user = 1": "no expression",
    "": "no expression",
    "user\x00": "no expression",
    "round(1, 2, 3)": "3 values",
    "len()": "0 values",
    "coalesce()": "0 values",
    "(" * 300 + "1" + ")" * 300: "no expression",
    "-" * 900 + "1": "deep|parsed|expression",
    "not " * 200 + "user": "deep",
    "+".join(["count"] * 160): "deep",
    "[" + "1," * 400 + "]": "large",
    "user" * 1_000: "characters",
}


@pytest.mark.parametrize("text", ATTACKS, ids=lambda text: text[:30] or "nothing")
def test_what_could_do_harm_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=ATTACKS[text]):
        of_value(Order).function(text)
    with pytest.raises(ConfigError):
        of_value(None).function(text)


#: What compiles, but meets values that would make it run for ever or fill the memory.
BOMBS: dict[str, Any] = {
    "9 ** 9 ** 9 ** 9": {},
    "a ** b": {"a": 10, "b": 10**9},
    "a ** -b": {"a": 10, "b": -(10**9)},
    "(-8) ** 0.5": {},
    "'x' * 10 ** 9": {},
    "a * b": {"a": "x" * 1000, "b": 10**9},
    "[1] * 10 ** 9": {},
    "a * 1000 * 1000 * 1000": {"a": "x"},
    "'%1000000000d' % 5": {},
    "a % 5": {"a": "%1000000000d"},
    "round(5, -1000000000)": {},
    "round(a, b)": {"a": 5, "b": -(10**9)},
    "int(a)": {"a": Decimal("1e999999999")},
    "floor(a)": {"a": Decimal("1e999999999")},
    "round(a)": {"a": Decimal("1e999999999")},
    "str(a)": {"a": ["\\"] * 100},
}


@pytest.mark.parametrize("text", BOMBS)
def test_what_would_grow_without_a_bound_is_an_error_of_the_record(text: str) -> None:
    function = of_value(None).function(text)
    began = time.process_time()
    with pytest.raises(InputError):
        function(BOMBS[text])
    assert time.process_time() - began < 1.0


def test_nothing_but_data_is_a_field() -> None:
    """Where the type is not known, methods and what a class defines are no fields."""
    for value in (ORDER, Plain(1.0), "text", 5, ORDER.item, Order, pytest):
        for name in ("total", "asdict", "replace", "real", "upper", "mro", "from_dict"):
            with pytest.raises(InputError, match="no field"):
                of_value(None).function(name)(value)
    assert of_value(None).function("amount")(Plain(1.0)) == 1.0


@pytest.mark.parametrize("value", [Slotted(2.5, "x"), Named(2.5, "x")])
def test_what_is_held_in_slots_or_a_tuple_is_a_field(value: Any) -> None:
    for declared in (type(value), None):
        assert of_value(declared).function("coalesce(note, 'none') + note")(value) == "xx"
        assert of_value(declared).function("has(amount) and not has(amount.none)")(value) is True


def test_a_missing_field_is_an_error_of_the_record_and_can_be_told() -> None:
    with pytest.raises(InputError, match=r"no field 'amount'.*has\(amount\)"):
        of_value(None).function("amount > 1")({"count": 1})
    with pytest.raises(KeyError):
        of_value(dict).function("amount > 1")({"count": 1})
    assert of_value(dict).function("coalesce(amount, 0) > 1")({"count": 1}) is False


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("amoun > 0", "Order has no field amoun. Did you mean amount?"),
        ("item.prise", "Item has no field prise. Did you mean price?"),
        ("user == 'a' and amoun", "column 17: Order has no field amoun"),
        ("lenn(user)", "there is no function lenn. Did you mean len?"),
        ("amount >", "is no expression: invalid syntax"),
        ("coalesce(amoun, 1)", "Did you mean amount?"),
    ],
)
def test_a_mistake_is_told_with_what_was_meant(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of_value(Order).function(text)
    assert told in str(caught.value)


def test_mistakes_of_a_mapping_and_of_a_pair_name_the_place() -> None:
    with pytest.raises(ConfigError, match="cents: 'amoun \\* 100', column 1"):
        of_value(Order).mapping({"who": "user", "cents": "amoun * 100"})
    with pytest.raises(ConfigError, match=r"write left\.amount"):
        of_pair(Order, None).function("amount > 1")


def test_an_error_of_an_aggregate_names_the_expression() -> None:
    total = AggregateSet({"total": streamapp.sum(of_value(None).function("amount + note"))})
    with pytest.raises(InputsError) as caught:
        total.extract([{"amount": "5", "note": "x"}])
    assert str(caught.value.__cause__) == "Field amount + note: '5x' is no number"
