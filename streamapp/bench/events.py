"""The bytes that every engine reads: the same at every call, so that results can be compared.

Amounts are multiples of a quarter: their sums are exact in any order. The last event lies so far
ahead that it closes all windows before it; it belongs to a user of its own, whom no result counts.
"""

from __future__ import annotations

import json
import random

KEYS = 10_000
#: Events of a second of event time: ten of each user in a window of five seconds.
PER_S = 20_000
#: How much older than the newest one an event may be; none is older, so none is late.
OUT_OF_ORDER_MS = 1_000
START_MS = 1_700_000_000_000
#: The user of the last event.
END = "end"
_END_MS = 24 * 3_600_000
_SEED = 1


def orders(count: int) -> list[bytes]:
    """Return about 110 bytes of JSON for each event, five fields of which three matter."""
    draw = random.Random(_SEED).random
    events = [
        b'{"id":%d,"user":"user-%05d","amount":%.2f,"ts":%d,"page":"/products/keyboards","kind":"%s"}'
        % (
            number,
            int(draw() * KEYS),
            int(draw() * 400) / 4,
            START_MS + number * 1_000 // PER_S - int(draw() * OUT_OF_ORDER_MS),
            b"order" if number % 3 else b"return",
        )
        for number in range(count - 1)
    ]
    last = {"id": count - 1, "user": END, "amount": 0.0, "ts": START_MS + _END_MS}
    return [*events, json.dumps(last | {"page": "/", "kind": "order"}).encode()]


def changes(count: int) -> list[bytes]:
    """Return Debezium envelopes of a PostgreSQL table: a tenth deletes, the others upserts."""
    draw = random.Random(_SEED).random
    alive: set[int] = set()
    found = []
    for number in range(count):
        row_id = int(draw() * KEYS)
        op = "c" if row_id not in alive else "d" if draw() < 0.1 else "u"  # noqa: PLR2004 - a tenth
        row = {"id": row_id, "name": f"name-{number % 997}", "email": f"{row_id}@example.org"}
        (alive.discard if op == "d" else alive.add)(row_id)
        found.append(_envelope(number, op, row))
    return found


def _envelope(number: int, op: str, row: dict[str, object]) -> bytes:
    return json.dumps(
        {
            "before": None if op == "c" else row | {"name": "before"},
            "after": None if op == "d" else row,
            "source": {
                "version": "2.7.4.Final",
                "connector": "postgresql",
                "name": "shop",
                "ts_ms": START_MS + number,
                "snapshot": "false",
                "db": "shop",
                "schema": "public",
                "table": "customers",
                "txId": 770 + number,
                "lsn": 1_000 + number,
            },
            "op": op,
            "ts_ms": START_MS + number,
        },
        separators=(",", ":"),
    ).encode()
