"""The processes around a worker whose latency is measured: producer, reader, and a bare loop.

Each notes in columns, one place per record, when a step had happened, by the clock that all
processes of a machine share.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Final

from streamapp.bench.keyed.plan import PARTITIONS
from streamapp.bench.keyed.workload import event, record
from streamapp.core.batch import TP, OutRecord
from streamapp.transport.broker import Assigned, Position, TopicSpec
from streamapp.transport.sqlite.broker import SqliteBroker

plan = json.loads(os.environ.get("LATENCY_PLAN", "{}"))
#: Steps of a record in their order; each is named after what is done then.
PRODUCED: Final = ("due", "append begun", "appended")
WORKED: Final = (
    "poll woke", "poll returned", "loop got it", "decoded", "agent ran", "cut taken",
    "commit begun", "lock taken", "committed", "bells rung",
)  # fmt: skip
READ: Final = "reader has it"
STEPS: Final = (*PRODUCED, *WORKED, READ)
SOURCE, OUT, GROUP = "latency-in", "latency-out", "latency"


def name_of(step: str) -> str:
    """Return what a table calls the time up to this step."""
    return f"until {step}"


class Stamps:
    """When each record passed each step; 0.0: it did not."""

    def __init__(self, *steps: str) -> None:
        self.columns = {step: array("d", bytes(8 * plan["count"])) for step in steps}

    def write(self) -> None:
        """Write all of them into the folder of the run."""
        for step, column in self.columns.items():
            (Path(plan["folder"]) / f"{step}.stamps").write_bytes(column.tobytes())


def number_in(value: bytes | None) -> int:
    """Return the number of an event (see ``workload.event``)."""
    return int((value or b"")[6 : (value or b"").index(b",")])


def _open() -> SqliteBroker:
    return SqliteBroker(Path(plan["folder"]) / "bus")


def produce() -> None:
    """Append records at a fixed pace, those that are due by then in one call."""
    per_s, count = plan["per_s"], plan["count"]
    broker = _open()
    for topic in (SOURCE, OUT):
        broker.create_topic(TopicSpec(topic, PARTITIONS))
    print("made", flush=True)
    while not any(
        len(member.tps) == PARTITIONS
        for group in broker.groups().values()
        for member in group.members
    ):
        time.sleep(0.05)
    time.sleep(1.0)
    gc.freeze()
    stamps = Stamps(*PRODUCED)
    dues, begins, ends = stamps.columns.values()
    begin = time.monotonic() + 0.1
    at = 0
    while at < count:
        now = time.monotonic()
        stop = min(count, int((now - begin) * per_s) + 1) if now >= begin else 0
        if stop <= at:
            time.sleep(max(0.0, begin + at / per_s - now))
            continue
        records = [
            record(SOURCE, number, b"%d" % number, event(number, number), PARTITIONS)
            for number in range(at, stop)
        ]
        broker.append(records)
        ended = time.monotonic()
        for number in range(at, stop):
            dues[number], begins[number], ends[number] = begin + number / per_s, now, ended
        at = stop
    stamps.write()
    print("produced", flush=True)
    broker.close()


def read() -> None:
    """Read the outputs until all are there."""
    broker, stamps = _open(), Stamps(READ)
    column, missing = stamps.columns[READ], plan["count"]
    reader = broker.reader()
    reader.assign({TP(OUT, number): 0 for number in range(PARTITIONS)})
    gc.freeze()
    print("reads", flush=True)
    while missing:
        for batch in reader.poll(0.5, 10_000):
            now = time.monotonic()
            missing -= len(batch)
            for value in batch.values:
                column[int(value or b"")] = now
    stamps.write()
    print("done", flush=True)
    broker.close()


def bare() -> None:
    """Do what a worker does for each record, without an engine."""
    broker = _open()
    member = broker.join(GROUP, [SOURCE])
    gc.freeze()
    done, begun = 0, 0.0
    while done < plan["count"]:
        outputs: list[OutRecord] = []
        positions: dict[TP, Position] = {}
        for each in member.poll(0.5, 5_000):
            if isinstance(each, Assigned):
                member.seek(dict.fromkeys(each.tps, 0))
                begun = time.process_time()
                continue
            outputs += [
                OutRecord(TP(OUT, each.tp.partition), key, b"%d" % number_in(value), 0)
                for key, value in zip(each.keys, each.values, strict=True)
            ]
            positions[each.tp] = Position(each.next_offset)
        if outputs:
            member.commit(outputs, positions)
            done += len(outputs)
    print("cpu", time.process_time() - begun, flush=True)
    with contextlib.suppress(EOFError):
        sys.stdin.read()
    broker.close()


_ROLES: dict[str, Callable[[], None]] = {"produce": produce, "read": read, "bare": bare}

if __name__ == "__main__":
    _ROLES[sys.argv[1]]()
