"""Programs that the crash tests of the embedded broker start, to kill them at any moment.

Each prints what it did only after the broker has confirmed it, one line for each step.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamapp.core.batch import TP, OutRecord, RecordBatch
from streamapp.errors import BrokerFullError, FencedError
from streamapp.transport.broker import Assigned, Lost, Position, Revoking, TopicSpec
from streamapp.transport.sqlite import SqliteBroker, SqliteOptions

if TYPE_CHECKING:
    from streamapp.transport.sqlite.member import SqliteMember

PARTITIONS = 4
OPTIONS = SqliteOptions(session_timeout_ms=1_000, rebalance_timeout_ms=5_000)


def produce(folder: Path, name: str) -> None:
    """Append batches of all sizes; say ``partition first-offset count number`` for each."""
    broker = SqliteBroker(folder)
    rng = random.Random(name)
    number = 0
    while True:
        count = rng.choice([1, 1, 7, 300, 1_500])
        tp = TP("t", rng.randrange(PARTITIONS))
        values = (value_of(name, number + i) for i in range(count))
        offsets = broker.append([OutRecord(tp, None, value, 0) for value in values])
        say(tp.partition, offsets[0], count, number)
        number += count


def fill(folder: Path, _name: str) -> None:
    """Fill the disk that the bus is on, show that nothing is half written, and make room again."""
    tp = TP("in", 0)
    broker = SqliteBroker(folder, OPTIONS)
    broker.create_topic(TopicSpec("in", 1))
    member = broker.join("g", ["in"])
    assert member.poll(5, 1) == [Assigned(1, frozenset({tp}))]
    member.seek({tp: 0})
    filler = folder.parent / "filler"
    filler.write_bytes(b"x" * (9 << 20))
    full = OutRecord(tp, None, b"x" * 50_000, 0)
    written = 0
    while is_written(broker, full):
        written += 1
    for _ in range(50):
        assert not is_written(broker, full._replace(value=b"x" * 3_000_000))
        with pytest.raises(BrokerFullError):
            member.commit([full] * 60, {tp: Position(1)})
        for event in member.poll(0, 1):
            assert isinstance(event, RecordBatch)
    assert broker.offsets([tp])[tp] == (0, written)
    assert broker.committed("g", [tp]) == {}
    filler.unlink()
    assert member.commit([full], {tp: Position(1)}) == [written]
    assert broker.committed("g", [tp]) == {tp: Position(1)}
    assert broker.offsets([tp])[tp] == (0, written + 1)
    broker.close()


def is_written(broker: SqliteBroker, record: OutRecord) -> bool:
    try:
        broker.append([record])
    except BrokerFullError:
        return False
    return True


def value_of(name: str, number: int) -> bytes:
    return b"%s:%d" % (name.encode(), number)


def compete(folder: Path, name: str) -> None:
    """Append from the moment that the file ``go`` exists until ``stop`` does; say how often."""
    broker = SqliteBroker(folder)
    records = [OutRecord(TP("t", 0), None, b"x" * 100, 0)] * 100
    broker.append(records)
    say("ready", name)
    while not (folder / "go").exists():
        time.sleep(0.001)
    count = 0
    while not (folder / "stop").exists():
        broker.append(records)
        count += 1
    say(count)
    broker.close()


def copy(folder: Path, name: str) -> None:
    """Copy ``in`` to ``out`` as a group member, each poll one commit; say what happens."""
    broker = SqliteBroker(folder, OPTIONS)
    member = broker.join("g", ["in"])
    say("joined", name, member.id)
    while True:
        for event in member.poll(0.05, 50):
            match event:
                case Assigned():
                    tps = sorted(tp.partition for tp in event.tps)
                    say("assigned", event.generation, *tps)
                    known = broker.committed("g", event.tps)
                    member.seek({tp: known.get(tp, Position(0)).offset for tp in event.tps})
                case Revoking():
                    member.release()
                case Lost():
                    say("lost")
                case RecordBatch():
                    _copy_batch(member, event)


def _copy_batch(member: SqliteMember, batch: RecordBatch) -> None:
    out = TP("out", batch.tp.partition)
    records = [OutRecord(out, None, value, 0) for value in batch.values]
    try:
        member.commit(records, {batch.tp: Position(batch.next_offset)})
    except FencedError:
        say("fenced")


def fork(folder: Path, _name: str) -> None:
    """Join, leave a child behind, and wait to be killed."""
    broker = SqliteBroker(folder, OPTIONS)
    member = broker.join("g", ["in"])
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    say("forked", child)
    while True:
        member.poll(0.05, 1)


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


if __name__ == "__main__":
    programs = (produce, compete, copy, fork, fill)
    {one.__name__: one for one in programs}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
