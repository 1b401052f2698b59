"""Batch agents beside agents of single events and a plain loop: ``python bench/batches.py``.

The same table, changelog and commits, in turns; CPU time of the whole worker per event. The loop
decodes the same bytes and adds them up in a dict: no broker, no state that lasts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict

import msgspec

from streamapp.bench.keyed import runs
from streamapp.bench.keyed.workload import Workload

#: What a table holds; what the program of single events does for it, and that of batches.
PROGRAMS = (
    ("table", "totals[user] += amount", "totals.add(batch.user, batch.amount)"),
    ("rows", "a row of four figures, event by event", "totals.aggregate(batch, 'user', ...)"),
)


class Event(msgspec.Struct):
    """What the programs read of an event."""

    id: int
    user: str
    amount: int


def loop_us(workload: Workload) -> float:
    """Return the CPU microseconds per event of decoding and adding up in a dict."""
    values = [value for _, value in workload.records()]
    decode = msgspec.json.Decoder(Event).decode
    totals: defaultdict[str, int] = defaultdict(int)
    begun = time.process_time()
    for value in values:
        one = decode(value)
        totals[one.user] += one.amount
    spent = time.process_time() - begun
    if totals != workload.totals():
        raise AssertionError(totals)
    return spent / workload.events * 1e6


def main() -> None:
    """Run all programs in turns and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--events", type=int, default=500_000)
    options = parser.parse_args()
    workload = Workload(options.events)
    loop: list[float] = []
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(options.runs):
        loop.append(loop_us(workload))
        for mode, _, _ in PROGRAMS:
            for engine in ("ours", "batches"):
                with runs.place("sqlite://", {}) as here:
                    run = runs.run(here, engine, workload, mode)
                found[engine, mode].append(run["cpu_us"])
    print(f"CPU us per event, median (least-most) of {options.runs} runs")
    print(_line(loop, "a plain loop over a dict"))
    for mode, single, batch in PROGRAMS:
        events, batches = found["ours", mode], found["batches", mode]
        gain = statistics.median(events) / statistics.median(batches)
        print(_line(events, single))
        print(_line(batches, f"{batch}: {gain:.2f} times as fast"))


def _line(spent: list[float], title: str) -> str:
    middle = statistics.median(spent)
    return f"{middle:6.2f} ({min(spent):.2f}-{max(spent):.2f})  {title}"


if __name__ == "__main__":
    main()
