"""A shop that never closes: made-up events as a pure function of a seed and a number.

Any event can be made again from its number alone. The shop has busy and slow phases, so that
alerts fire and resolve within a minute at 100 events/s; some events come late, some change events
come twice or too late, and a few records are broken.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from agents.records import Click, Order
from streamapp.cdc.replica import PLACEHOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

_USERS = ("ada", "alan", "anita", "barbara", "donald", "edsger", "grace", "john", "ken", "lynn")
_TYPES = ("books", "games", "garden", "music")
_PAGES = ("/", "/search", "/item", "/cart", "/checkout")
_CITIES = ("Bergen", "Cork", "Graz", "Lyon", "Porto", "Turku")

#: Events of one phase; every second one is busy (big orders) and slow (the checkout page).
_PHASE = 1_000
#: One event in this many is a broken record.
_BROKEN_EVERY = 1_999
#: Rows in the customers table, and the steps of each row's life, after which it starts anew.
_CUSTOMERS = 25
_LIFE = 7

#: Share of the events up to it, and how late they are at most, in ms.
_LATENESS = ((0.85, 300), (0.97, 5_000), (1.0, 60_000))

_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class DemoRecord:
    """A record as its producer would send it."""

    topic: str
    key: bytes | None
    value: bytes | None


def demo_records(seed: int, number: int, now_ms: int) -> list[DemoRecord]:
    """Return the records of one event; at least one.

    Args:
        seed: The same seed gives the same shop.
        number: Counts the events from 0; positions of change events rise with it.
        now_ms: About when it happens; late events happened earlier.
    """
    if number % _BROKEN_EVERY == _BROKEN_EVERY - 1:
        return [DemoRecord("orders", b"ada", b'{"user": "ada", "type": "books", "amount": "two"')]
    rng = Random(f"{seed}:{number}")  # noqa: S311 - reproducible, not secret
    make = _MIX[number % len(_MIX)]
    return make(rng, number, now_ms)


def _is_busy(number: int) -> bool:
    return number // _PHASE % 2 == 1


def _late(rng: Random, now_ms: int) -> int:
    share = rng.random()
    most_ms = next(ms for upto, ms in _LATENESS if share <= upto)
    return now_ms - rng.randrange(most_ms)


def _order(rng: Random, number: int, now_ms: int) -> list[DemoRecord]:
    user = rng.choice(_USERS)
    amount = min(rng.lognormvariate(3.3, 0.6), 180.0)
    if user == "grace" and _is_busy(number):
        amount += 450.0
    order = Order(user, rng.choice(_TYPES), round(amount, 2), _late(rng, now_ms))
    return [DemoRecord("orders", user.encode(), _encode(order))]


def _click(rng: Random, number: int, now_ms: int) -> list[DemoRecord]:
    user, page = rng.choice(_USERS), rng.choice(_PAGES)
    load_ms = rng.uniform(60, 320)
    if page == "/checkout" and _is_busy(number):
        load_ms += 850
    click = Click(user, page, round(load_ms, 1), _late(rng, now_ms))
    return [DemoRecord("clicks", user.encode(), _encode(click))]


def _change(rng: Random, number: int, now_ms: int) -> list[DemoRecord]:
    del rng  # a row's life must not depend on chance: a repeat is the same change
    turn = number // len(_MIX)
    row_id = 1_001 + turn % _CUSTOMERS
    life, step = divmod(turn // _CUSTOMERS, _LIFE)
    return _LIFE_STEPS[step](_Row(row_id, life, now_ms), number)


@dataclass(frozen=True, slots=True)
class _Row:
    """A customer in one of its lives; renders its changes as a PostgreSQL connector does."""

    row_id: int
    life: int
    now_ms: int

    def image(self, step: int) -> dict[str, Any]:
        city = _CITIES[(self.row_id + self.life + step) % len(_CITIES)]
        name = f"{_USERS[self.row_id % len(_USERS)].title()} {self.row_id}"
        return {
            "id": self.row_id,
            "name": name,
            "city": city,
            "note": f"customer since {self.life}",
        }

    def key(self) -> bytes:
        return _encode({"id": self.row_id})

    def change(self, op: str, after: dict[str, Any] | None, number: int) -> DemoRecord:
        lsn = 24_000_000 + number * 64
        source = {
            "version": "2.7.4.Final",
            "connector": "postgresql",
            "name": "shop",
            "ts_ms": self.now_ms,
            "snapshot": "false",
            "db": "shop",
            "sequence": f'["{lsn - 8}","{lsn}"]',
            "schema": "public",
            "table": "customers",
            "txId": 500 + number,
            "lsn": lsn,
        }
        before = {"id": self.row_id} if op == "d" else None
        value = {"before": before, "after": after, "source": source, "op": op}
        record = _encode(value | {"ts_ms": self.now_ms, "transaction": None})
        return DemoRecord("shop.public.customers", self.key(), record)


#: Numbers between two steps of one row's life.
_STEP = _CUSTOMERS * 20


def _create(row: _Row, number: int) -> list[DemoRecord]:
    return [row.change("c", row.image(0), number)]


def _update(row: _Row, number: int) -> list[DemoRecord]:
    return [row.change("u", row.image(1), number)]


def _update_again(row: _Row, number: int) -> list[DemoRecord]:
    # The long column is unchanged, so the database does not send it.
    return [row.change("u", row.image(2) | {"note": PLACEHOLDER}, number)]


def _repeat(row: _Row, number: int) -> list[DemoRecord]:
    return _update_again(row, number - _STEP)


def _delete(row: _Row, number: int) -> list[DemoRecord]:
    gone = row.change("d", None, number)
    return [gone, DemoRecord(gone.topic, gone.key, None)]


def _come_late(row: _Row, number: int) -> list[DemoRecord]:
    return _update(row, number - 5 * _STEP)


#: The steps of a life; a repeat and a late change must leave the row as it is.
_LIFE_STEPS: tuple[Callable[[_Row, int], list[DemoRecord]], ...] = (
    _create,
    _update,
    _update_again,
    _repeat,
    _update,
    _delete,
    _come_late,
)

#: What happens in turn: 12 orders, 7 page views and a change of a customer.
_MIX: tuple[Callable[[Random, int, int], list[DemoRecord]], ...] = (
    *(_order, _click, _order, _click, _order) * 3,
    *(_order, _click, _order, _order, _change),
)
