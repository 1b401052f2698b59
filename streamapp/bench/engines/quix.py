"""Quix Streams without its broker: its rows, composed dataframe and RocksDB state, no changelog.

What its ``run`` does with each message is done here with messages that are in memory, so its
polls and its commits of positions are not in it; state is written every five seconds, as there.
"""

from __future__ import annotations

import contextvars
import json
import math
import tempfile
import time
from collections.abc import Callable
from typing import Any

from quixstreams import Application
from quixstreams.context import set_message_context
from quixstreams.dataframe.windows.aggregations import Count, Sum
from quixstreams.models import TopicAdmin, TopicManager

from streamapp.bench.events import OUT_OF_ORDER_MS
from streamapp.bench.program import Program
from streamapp.bench.scenarios import GAP_MS, HOPPING_MS, STATS_MS, THRESHOLD, TUMBLING_MS, keyed

_FLUSH_S = 5.0
#: Nothing listens there: topics are not asked for, and nothing is sent.
_NOWHERE = "127.0.0.1:9"


class _Topics(TopicManager):
    """Believes that every topic exists."""

    def _get_or_create_broker_topic(self, topic: Any) -> Any:
        topic.broker_config = topic.create_config
        topic.broker_config.extra_config["retention.ms"] = "-1"
        return topic

    def _configure_topic(self, topic: Any, broker_topic: Any) -> Any:  # noqa: ARG002 - theirs
        return topic


class _Message:
    """What a dataframe asks of a message of the client."""

    __slots__ = ("_key", "_offset", "_value")

    def __init__(self, offset: int, key: bytes, value: bytes) -> None:
        self._offset, self._key, self._value = offset, key, value

    def topic(self) -> str:
        return "events"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return self._value

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 0

    def leader_epoch(self) -> int:
        return 0

    def __len__(self) -> int:
        return len(self._value)


def _filter(orders: Any) -> Any:
    big = orders[orders["amount"] > THRESHOLD]
    return big.apply(lambda order: ((order["id"],), (order["user"], order["amount"] * 1.5)))


def _windows(window: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def declare(orders: Any) -> Any:
        found = window(orders).agg(n=Count(), total=Sum("amount"))
        return found.final(closing_strategy="partition").apply(
            lambda row, key, *_: ((key, row["start"]), (row["n"], row["total"])), metadata=True
        )

    return declare


def _add(row: list[Any], order: Any) -> list[Any]:
    n, total, least, most, mean, squares = row
    amount = order["amount"]
    delta = amount - mean
    mean += delta / (n + 1)
    squares += delta * (amount - mean)
    return [n + 1, total + amount, min(least, amount), max(most, amount), mean, squares]


def _stats(orders: Any) -> Any:
    """It has no deviation: the five figures of Welford's fold."""
    hours = orders.tumbling_window(STATS_MS, OUT_OF_ORDER_MS).reduce(
        _add, lambda order: _add([0, 0.0, math.inf, -math.inf, 0.0, 0.0], order)
    )
    return hours.final(closing_strategy="partition").apply(
        lambda row, key, *_: (
            (key, row["start"]),
            (*row["value"][:4], math.sqrt(row["value"][5] / row["value"][0])),
        ),
        metadata=True,
    )


def _session(orders: Any) -> Any:
    return orders.session_window(GAP_MS, OUT_OF_ORDER_MS)


def _upsert(change: Any, state: Any) -> Any:
    after = change["after"]
    if after is None:
        state.delete("row")
        return (change["before"]["id"],), None
    row = after["name"], after["email"]
    state.set("row", row)
    return (after["id"],), row


def _key(event: bytes) -> bytes:
    found = json.loads(event)
    return str(
        found["user"] if "user" in found else (found["after"] or found["before"])["id"]
    ).encode()


_FLOWS: dict[str, Callable[[Any], Any]] = {
    "filter": _filter,
    "tumbling": _windows(lambda orders: orders.tumbling_window(TUMBLING_MS, OUT_OF_ORDER_MS)),
    "sliding": _windows(
        lambda orders: orders.hopping_window(HOPPING_MS, TUMBLING_MS, OUT_OF_ORDER_MS)
    ),
    "session": _windows(_session),
    "stats": _stats,
    "debezium": lambda changes: changes.apply(_upsert, stateful=True),
}


def make(scenario: str, events: list[bytes]) -> Program:
    """Return the dataframe of a scenario over messages that are keyed by user, or by row."""
    flow = _FLOWS[scenario]
    folder = tempfile.TemporaryDirectory(prefix="bench-quix-")
    app = Application(
        broker_address=_NOWHERE,
        consumer_group="bench",
        state_dir=folder.name,
        use_changelog_topics=False,
        topic_manager=_Topics(TopicAdmin(_NOWHERE), "bench"),
        loglevel="CRITICAL",
    )
    topic = app.topic(
        "events",
        key_deserializer="str",
        timestamp_extractor=lambda event, *_: event.get("ts") or event["ts_ms"],
    )
    frame = app.dataframe(topic)
    flow(frame)
    found: list[Any] = []
    messages = [_Message(number, _key(event), event) for number, event in enumerate(events)]

    def work() -> None:
        with folder, app._state_manager:  # noqa: SLF001 - its parts, without its broker
            _run(app, frame.stream_id, messages, lambda row, *_: found.append(row))

    # The last row of a key counts, and none of one that was deleted.
    return Program(
        work, lambda: keyed((key, row) for key, row in dict(found).items() if row is not None)
    )


def _run(app: Any, stream: str, messages: list[_Message], sink: Callable[..., None]) -> None:
    processing = app._processing_context  # noqa: SLF001 - as above
    processing.init_checkpoint()
    app._state_manager.on_partition_assign(stream, 0, {})  # noqa: SLF001 - as above
    [(topic, composed)] = app._dataframe_registry.compose_all(sink=sink).items()  # noqa: SLF001 - as above
    rows = app._topic_manager.topics[topic].row_deserialize  # noqa: SLF001 - as above
    flush_at = time.monotonic() + _FLUSH_S
    for message in messages:
        row = rows(message)
        context = contextvars.copy_context()
        context.run(set_message_context, row.context)
        context.run(composed, row.value, row.key, row.timestamp, row.headers)
        if time.monotonic() > flush_at:
            _flush(processing)
            flush_at = time.monotonic() + _FLUSH_S
    _flush(processing)


def _flush(processing: Any) -> None:
    for transaction in processing.checkpoint._store_transactions.values():  # noqa: SLF001 - as above
        transaction.flush()
    processing.init_checkpoint()
