"""The application as its users run it: a worker process, killed in the middle of its work."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from agents.records import Notice, Order
from streamapp.cdc.change import Change, row_key
from streamapp.cdc.envelope import parse
from streamapp.cdc.replica import RowState, apply_change
from streamapp.core.batch import TP
from streamapp.metrics.stats import Moments, add
from streamapp.transport.connect import open_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamapp.transport.broker import Broker

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
GROUP = "shop"


@contextmanager
def worker(datadir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the worker of the Procfile; whatever happens, it is gone afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "info"]
    env = {**os.environ, "PORT": str(port), "STREAMAPP_DATADIR": str(datadir)}
    env["STREAMAPP_DEMO_RATE"] = "500"
    with (datadir / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], datadir: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, (datadir / "log").read_text()[-4_000:]
        time.sleep(0.1)  # between two looks, not a guess at how long it takes


def tps(bus: Broker, topic: str) -> list[TP]:
    info = bus.topics().get(topic)
    return [TP(topic, n) for n in range(info.spec.partitions)] if info else []


class Seen(NamedTuple):
    tp: TP
    offset: int
    key: bytes | None
    value: bytes | None


def read_all(bus: Broker, topic: str) -> list[Seen]:
    """Return what is in the topic now, each partition in its order."""
    ranges = bus.offsets(tps(bus, topic))
    left = {tp: span.end for tp, span in ranges.items() if span.end > span.earliest}
    found: list[Seen] = []
    reader = bus.reader()
    try:
        reader.assign({tp: ranges[tp].earliest for tp in left})
        while left:
            for batch in reader.poll(1.0, 10_000):
                columns = zip(batch.offsets, batch.keys, batch.values, strict=True)
                found += [Seen(batch.tp, *row) for row in columns]
                if batch.next_offset >= left.get(batch.tp, 0):
                    left.pop(batch.tp, None)
    finally:
        reader.close()
    return found


def notices(bus: Broker) -> list[Notice]:
    return [msgspec.json.decode(seen.value or b"", type=Notice) for seen in read_all(bus, "alerts")]


def table(bus: Broker, name: str) -> dict[bytes | None, Any]:
    """Return the rows of a table as its changelog has them, by raw key."""
    rows = {(seen.tp, seen.key): seen.value for seen in read_all(bus, f"{GROUP}-{name}-changelog")}
    return {key: msgspec.json.decode(value) for (_, key), value in rows.items() if value}


def committed(bus: Broker, topic: str) -> int:
    return sum(position.offset for position in bus.committed(GROUP, tps(bus, topic)).values())


def processed(bus: Broker, topic: str) -> list[Seen]:
    """Return the records of a topic that the application has committed."""
    done = bus.committed(GROUP, tps(bus, topic))
    return [seen for seen in read_all(bus, topic) if seen.offset < done[seen.tp].offset]


@pytest.mark.crash
@pytest.mark.slow
def test_alerts_totals_and_replica_survive_a_kill(tmp_path: Path) -> None:
    bus = open_broker("sqlite://", tmp_path)
    try:
        with worker(tmp_path) as first:
            wait_until(lambda: any(n.status == "firing" for n in notices(bus)), tmp_path)
            first.send_signal(signal.SIGKILL)
            first.wait()
        before = committed(bus, "orders")
        with worker(tmp_path) as second:
            wait_until(
                lambda: (
                    committed(bus, "orders") > before + 2_000
                    and any(n.status == "resolved" for n in notices(bus))
                ),
                tmp_path,
            )
            second.terminate()
            assert second.wait(DEADLINE_S) == 0
        assert_totals(bus)
        assert_replica(bus)
        assert_notices(notices(bus))
    finally:
        bus.close()


def assert_totals(bus: Broker) -> None:
    """Compare the table of users with the committed orders, summed up one after the other."""
    expected: dict[str, Moments] = {}
    for record in processed(bus, "orders"):
        try:
            order = msgspec.json.decode(record.value or b"", type=Order)
        except msgspec.DecodeError:
            continue
        expected[order.user] = add(expected.get(order.user), order.amount)
    rows = [msgspec.convert(row, Moments) for row in table(bus, "orders_by_user").values()]
    assert len(rows) == 10
    assert sorted(row.n for row in rows) == sorted(row.n for row in expected.values())
    assert sorted(row.sum for row in rows) == pytest.approx(
        sorted(row.sum for row in expected.values())
    )


def assert_replica(bus: Broker) -> None:
    expected: dict[str, RowState | None] = {}
    decisions: Counter[str] = Counter()
    for record in processed(bus, "shop.public.customers"):
        change = parse(record.key, record.value, topic=record.tp.topic)
        assert isinstance(change, Change)
        key = row_key(change.key)
        outcome = apply_change(expected.get(key), change)
        expected[key] = outcome.state
        decisions[outcome.decision.value] += 1
        if outcome.unresolved:
            decisions["unresolved"] += len(outcome.unresolved)
    rows = [msgspec.convert(row, RowState) for row in table(bus, "customers").values()]
    by_id = {str(row.row["id"]): row for row in rows if row.row}
    assert by_id
    assert {"inserted", "updated"} <= decisions.keys()
    assert by_id == {key: state for key, state in expected.items() if state and state.row}
    counted = table(bus, "change_counts").values()
    assert sorted(counted) == sorted(decisions.values())


def assert_notices(told: list[Notice]) -> None:
    """No alert is told of twice, and firing and resolved take turns."""
    assert len({notice.id for notice in told}) == len(told)
    by_alert: dict[str, list[str]] = {}
    for notice in told:
        by_alert.setdefault(notice.id.partition(":")[0], []).append(notice.status)
    for statuses in by_alert.values():
        assert statuses == [("firing", "resolved")[n % 2] for n in range(len(statuses))]
