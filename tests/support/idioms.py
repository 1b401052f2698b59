"""Records, and a bench with a short way to write and read, for tests of Faust's idioms."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import faust

import streamapp
from streamapp.core.batch import TP, OutRecord

if TYPE_CHECKING:
    from support.engine_app import Bench


class Order(streamapp.Record):
    user: str
    amount: float = 0.0


class FaustOrder(faust.Record, serializer="json"):
    user: str
    amount: float = 0.0


def put(bench: Bench, topic: str, *pairs: tuple[str | None, Any], **more: Any) -> None:
    """Write records with text keys and JSON values to partition 0."""
    bench.broker.append(
        [
            OutRecord(
                TP(topic, more.get("partition", 0)),
                None if key is None else key.encode(),
                None if value is None else json.dumps(value).encode(),
                more.get("timestamp_ms", 1_000),
                more.get("headers", ()),
            )
            for key, value in pairs
        ]
    )


def values(bench: Bench, topic: str) -> list[Any]:
    if topic not in bench.broker.topics():
        return []
    return [json.loads(value or b"null") for _, value in bench.log(topic)]
