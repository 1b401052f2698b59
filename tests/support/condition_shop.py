"""Orders of nothing but numbers, texts and booleans, and a function that has to be awaited."""

from __future__ import annotations

import streamapp


class Order(streamapp.Record):
    user: str
    kind: str
    amount: int
    price: float
    paid: bool
    ts: int


async def asks(_: object) -> bool:
    return True
