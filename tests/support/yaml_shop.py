"""What the YAML pipelines of tests name: records, functions, an aggregate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import streamapp


class Sale(streamapp.Record):
    user: str
    kind: str
    amount: int
    ts: int
    id: int = 0
    note: str | None = None


class Payment(streamapp.Record):
    user: str
    paid: float
    ts: int


class Line(streamapp.Record):
    user: str
    cents: int


SEEN: list[Sale] = []


def cents(sale: Sale) -> Line:
    return Line(sale.user, sale.amount * 100)


def is_large(sale: Sale) -> bool:
    return sale.amount > 2


def halves(sale: Sale) -> Iterator[Line]:
    yield Line(sale.user, sale.amount // 2)
    yield Line(sale.user, sale.amount - sale.amount // 2)


def see(sale: Sale) -> None:
    SEEN.append(sale)


def left_over(sale: Sale, payment: Payment | None) -> dict[str, Any]:
    return {"user": sale.user, "open": sale.amount - (payment.paid if payment else 0.0)}


longest = streamapp.aggregate(str, lambda a, v: max(a, v.kind, key=len), max, lambda a: a)
