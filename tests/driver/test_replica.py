"""The replica of the application, kept by its worker from change events."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from support.debezium import TOPIC, key, source, value
from support.web_client import free_port, started

from streamapp.cdc.replica import PLACEHOLDER
from streamapp.core.batch import TP, OutRecord

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CHANGES: list[tuple[bytes | None, bytes | None]] = [
    (key(1), value("c", None, {"id": 1, "note": "a"}, source(1))),
    (key(2), value("c", None, {"id": 2, "note": "b"}, source(2))),
    (key(2), value("d", {"id": 2}, None, source(3))),
    (key(3), value("u", None, {"id": 3, "note": PLACEHOLDER, "more": PLACEHOLDER}, source(4))),
    (None, value("t", None, None, source(5))),
]


async def test_counts_tell_of_lost_columns_and_of_rows_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"broker": f"memory://{uuid4().hex}", "datadir": tmp_path, "demo": "false"}
    for name, setting in (settings | {"web_port": free_port()}).items():
        monkeypatch.setenv(f"STREAMAPP_{name.upper()}", str(setting))
    from app import app  # noqa: PLC0415 - it reads the settings

    async with started(app, app) as client:
        await client.until("/readyz", lambda got: got["status"] == "ready")
        with caplog.at_level(logging.WARNING, logger="agents.cdc"):
            records = [OutRecord(TP(TOPIC, 0), *each, 1_700_000_000_000) for each in CHANGES]
            app.broker.append(records)

            def counts(got: Any) -> dict[str, int]:
                return {row["key"]: row["value"] for row in got.get("items", ())}

            rows = "/api/v1/tables/change_counts/rows"
            got = await client.until(rows, lambda got: "truncated" in counts(got))
    assert counts(got) == {"inserted": 3, "deleted": 1, "unresolved": 2, "truncated": 2}
    (told,) = [record.getMessage() for record in caplog.records if record.name == "agents.cdc"]
    assert told.startswith("Row 3 of public.customers lacks note, more: ")
