"""A batch agent killed at random moments: good records count once, bad ones are kept."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support.batch_app import PARTITIONS

from streamapp.core.batch import TP, OutRecord
from streamapp.serde.ordered_keys import encode_key
from streamapp.transport.broker import TopicSpec
from streamapp.transport.connect import open_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamapp.transport.broker import Broker

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("STREAMAPP_TEST_SEED") or random.SystemRandom().randrange(1 << 24))
INPUT = [TP("in", number) for number in range(PARTITIONS)]
KILLS = 3


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-m", "support.batch_app", str(folder)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def until(condition: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, (folder / "log").read_text()[-4_000:]
        time.sleep(0.005)  # between two looks


def read(
    bus: Broker, topic: str, partitions: int = PARTITIONS
) -> list[list[tuple[bytes | None, Any]]]:
    """Return key and value of each record of each partition."""
    found = []
    for tp, log in bus.offsets([TP(topic, number) for number in range(partitions)]).items():
        with closing(bus.reader()) as reader:
            reader.assign({tp: 0})
            records: list[tuple[bytes | None, Any]] = []
            at = 0
            while at < log.end:
                for batch in reader.poll(1, 10_000):
                    records += zip(batch.keys, map(_value, batch.values), strict=True)
                    at = batch.next_offset
        found.append(records)
    return found


def _value(raw: bytes | None) -> Any:
    return None if raw is None else msgspec.json.decode(raw)


def feed(bus: Broker, draw: random.Random, first: int, count: int) -> None:
    records = []
    for number in range(first, first + count):
        user = draw.randrange(40)
        bad = draw.random() < 0.002
        order = {"id": number, "user": f"u{user}", "amount": -1 if bad else draw.randrange(9)}
        tp = INPUT[user % PARTITIONS]
        records.append(OutRecord(tp, b"u%d" % user, msgspec.json.encode(order), number))
    bus.append(records)


def test_killed_batches_count_once(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    with closing(open_broker(f"sqlite://{tmp_path}/bus", tmp_path)) as bus:
        for topic in ("in", "out"):
            bus.create_topic(TopicSpec(topic, PARTITIONS))
        for run in range(KILLS + 1):
            feed(bus, draw, run * 4_000, 4_000)
            before = sum(place.offset for place in bus.committed("batched", INPUT).values())
            with worker(tmp_path) as process:

                def is_ahead(before: int = before, more: int = draw.randrange(1, 3_500)) -> bool:
                    done = sum(place.offset for place in bus.committed("batched", INPUT).values())
                    return done >= min(before + more, (run + 1) * 4_000)  # noqa: B023 - of this run

                until(is_ahead, tmp_path)
                time.sleep(draw.uniform(0, 0.02))  # the moment of the kill is the test's input
                if run == KILLS:
                    until(lambda: _is_done(bus), tmp_path)
                    process.terminate()
                    process.wait()
        _assert_exact(bus)


def _is_done(bus: Broker) -> bool:
    ends = bus.offsets(INPUT)
    found = bus.committed("batched", INPUT)
    return all(tp in found and found[tp].offset == log.end for tp, log in ends.items())


def _assert_exact(bus: Broker) -> None:
    orders = [[order for _, order in records] for records in read(bus, "in")]
    good = [[order for order in some if order["amount"] >= 0] for some in orders]
    bad = [order for some in orders for order in some if order["amount"] < 0]
    sent = sorted(value for some in read(bus, "out") for _, value in some)
    assert sent == sorted(order["id"] for some in good for order in some), SEED
    (dead,) = read(bus, "batched-dead-letters", 1)
    assert sorted(value["id"] for _, value in dead) == sorted(order["id"] for order in bad), SEED
    amounts: dict[bytes, list[int]] = {}
    for order in (order for some in good for order in some):
        amounts.setdefault(encode_key(order["user"]), []).append(order["amount"])
    spent = dict(record for some in read(bus, "batched-spent-changelog") for record in some)
    assert spent == {key: sum(each) for key, each in amounts.items()}, SEED
    sums = dict(record for some in read(bus, "batched-sums-changelog") for record in some)
    assert sums == {
        key: {"n": len(each), "total": sum(each), "greatest": max(each)}
        for key, each in amounts.items()
    }, SEED
