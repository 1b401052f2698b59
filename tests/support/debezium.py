"""Builds the bytes that a Debezium connector writes, field for field."""

from __future__ import annotations

import json
from typing import Any

TOPIC = "shop.public.customers"


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def key(row_id: int = 1001) -> bytes:
    return encode({"id": row_id})


def source(lsn: int, *, commit: int | None = None, snapshot: str = "false") -> dict[str, Any]:
    """A source block of the PostgreSQL connector; ``sequence`` is JSON inside of JSON."""
    last = None if commit is None else str(commit)
    return {
        "version": "2.7.4.Final",
        "connector": "postgresql",
        "name": "shop",
        "ts_ms": 1_700_000_000_000 + lsn,
        "snapshot": snapshot,
        "db": "shop",
        "sequence": json.dumps([last, str(lsn)]),
        "ts_us": (1_700_000_000_000 + lsn) * 1_000,
        "ts_ns": (1_700_000_000_000 + lsn) * 1_000_000,
        "schema": "public",
        "table": "customers",
        "txId": 770 + lsn,
        "lsn": lsn,
        "xmin": None,
    }


def value(
    op: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    origin: dict[str, Any],
) -> bytes:
    return encode(
        {
            "before": before,
            "after": after,
            "source": origin,
            "transaction": None,
            "op": op,
            "ts_ms": 1_700_000_001_000,
            "ts_us": 1_700_000_001_000_000,
            "ts_ns": 1_700_000_001_000_000_000,
        }
    )


def with_schema(raw: bytes) -> bytes:
    """Wrap as JsonConverter does with ``schemas.enable=true``."""
    schema = {
        "type": "struct",
        "optional": False,
        "name": "shop.public.customers.Envelope",
        "version": 2,
        "fields": [
            {
                "type": "struct",
                "optional": True,
                "name": "shop.public.customers.Value",
                "field": "after",
                "fields": [{"type": "int32", "optional": False, "field": "id"}],
            },
            {"type": "string", "optional": False, "field": "op"},
        ],
    }
    return encode({"schema": schema, "payload": json.loads(raw)})
