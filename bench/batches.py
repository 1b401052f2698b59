"""Batch agents beside agents of single events and a plain loop: ``python bench/batches.py``.

The same table, changelog and commits, in turns; CPU time of the whole worker per event. The loop
decodes the same bytes and adds them up in a dict: no broker, no state that lasts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import msgspec
from worker import Bench
from workload import Workload, amount_of, event, preload

from streamapp.transport.connect import open_broker

#: Program, what it is the batch form of, and what it does.
PROGRAMS = (
    ("table", "", "totals[user] += amount"),
    ("batches", "table", "totals.add(batch.user, batch.amount)"),
    ("rows", "", "a row of four figures, event by event"),
    ("batch_rows", "rows", "totals.aggregate(batch, 'user', ...)"),
)


class Event(msgspec.Struct):
    """What the programs read of an event."""

    id: int
    user: str
    amount: int


def loop_us(workload: Workload) -> float:
    """Return the CPU microseconds per event of decoding and adding up in a dict."""
    values = [event(number, user) for number, user in enumerate(workload.users())]
    decode = msgspec.json.Decoder(Event).decode
    totals: defaultdict[str, int] = defaultdict(int)
    begun = time.process_time()
    for value in values:
        one = decode(value)
        totals[one.user] += one.amount
    spent = time.process_time() - begun
    if sum(totals.values()) != sum(map(amount_of, range(workload.events))):
        raise AssertionError(totals)
    return spent / workload.events * 1e6


def main() -> None:
    """Run all programs in turns and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--events", type=int, default=500_000)
    options = parser.parse_args()
    workload = Workload("events", options.events)
    found: defaultdict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bench-batches-") as name:
        broker = open_broker(f"sqlite://{name}/bus", Path(name))
        try:
            preload(broker, workload)
            bench = Bench(Path(name), broker)
            for number in range(options.runs):
                found["loop"].append(loop_us(workload))
                for program, _, _ in PROGRAMS:
                    run = bench.run(program, f"{program}-{number}", workload)
                    found[program].append(run.cpu_us_per_event)
        finally:
            broker.close()
    print(f"CPU us per event, median (least-most) of {options.runs} runs")
    print(_line("loop", found["loop"], "a plain loop over a dict"))
    for program, twin, title in PROGRAMS:
        gain = statistics.median(found[twin]) / statistics.median(found[program]) if twin else 0
        print(_line(program, found[program], title + (f": {gain:.2f}x {twin}" if gain else "")))


def _line(name: str, spent: list[float], title: str) -> str:
    middle = statistics.median(spent)
    return f"{name:12}{middle:6.2f} ({min(spent):.2f}-{max(spent):.2f})  {title}"


if __name__ == "__main__":
    main()
