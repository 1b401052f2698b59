"""Records: construction, projection, rich field types, errors."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from streamapp.errors import DecodeError
from streamapp.records import Record
from streamapp.serde.codecs import value_decoder, value_encoder


class Order(Record):
    user: str
    amount: float = 0.0


class Point(Record, frozen=True):
    x: int
    y: int


@dataclass
class Tag:
    name: str


class Rich(Record):
    order: Order
    orders: list[Order]
    by_name: dict[str, Point]
    when: datetime
    price: Decimal
    ident: UUID
    tag: Tag
    note: str | None = None


RICH = Rich(
    Order("ada", 1.5),
    [Order("bob"), Order("eve", 2.0)],
    {"origin": Point(0, 0)},
    datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
    Decimal("12.340"),
    UUID(int=7),
    Tag("new"),
)


def test_positional_and_keyword_construction_agree() -> None:
    assert Order("ada", 1.5) == Order(user="ada", amount=1.5)
    assert Order("ada").amount == 0.0


@pytest.mark.parametrize("kwargs", [{}, {"user": "a", "usr": "b"}])
def test_missing_and_unknown_arguments_are_type_errors(kwargs: dict[str, str]) -> None:
    with pytest.raises(TypeError):
        Order(**kwargs)  # type: ignore[arg-type]


def test_records_of_different_classes_are_never_equal() -> None:
    class Other(Record):
        user: str
        amount: float = 0.0

    assert Order("a") != Other("a")
    assert Order("a") != Order("b")


def test_frozen_records_are_hashable_and_immutable() -> None:
    assert {Point(1, 2): 1}[Point(1, 2)] == 1
    with pytest.raises(AttributeError):
        Point(1, 2).x = 3  # type: ignore[misc]


def test_asdict_is_in_order_of_declaration_and_shallow() -> None:
    fields = RICH.asdict()
    assert list(fields)[:2] == ["order", "orders"]
    assert fields["order"] is RICH.order


def test_replace_leaves_the_original() -> None:
    first = Order("ada", 1.0)
    assert first.replace(amount=2.0) == Order("ada", 2.0)
    assert first.amount == 1.0
    with pytest.raises(TypeError):
        first.replace(usr="x")


def test_rich_types_survive_a_round_trip() -> None:
    assert value_decoder(Rich)(value_encoder(Rich)(RICH)) == RICH
    assert value_decoder(Rich, "msgpack")(value_encoder(Rich, "msgpack")(RICH)) == RICH


def test_only_declared_fields_are_decoded() -> None:
    assert value_decoder(Order)(b'{"user":"a","extra":[1,{"x":1e999}],"amount":2}') == Order(
        "a", 2.0
    )


def test_from_dict_checks_types_and_names_the_path() -> None:
    assert Point.from_dict({"x": 1, "y": 2, "z": 3}) == Point(1, 2)
    assert Rich.from_dict(value_decoder()(value_encoder()(RICH))) == RICH
    with pytest.raises(DecodeError, match=r"Point.*\$\.y"):
        Point.from_dict({"x": 1, "y": "2"})
    with pytest.raises(DecodeError, match="missing required field `x`"):
        Point.from_dict({"y": 1})


def test_mutable_defaults_are_not_shared() -> None:
    class Basket(Record):
        items: list[int] = []  # noqa: RUF012 - msgspec copies empty defaults

    first = Basket()
    first.items.append(1)
    assert Basket().items == []
