"""What an event costs as the work grows: ``scripts/bench --only scaling``.

The keyed table of ``streamapp.bench.keyed`` over the embedded broker, whole workers, CPU time per
event; from few to many partitions, users (up to tables far larger than the cache) and processes.
Beside each run a plain loop over a dict is timed: what it takes longer than at its best, the
machine was busy, and the figure is corrected by. ``scaling_plot`` draws what was found.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from contextlib import ExitStack
from typing import Any

import msgspec

from streamapp.bench.end_to_end import cpu_s, wait
from streamapp.bench.keyed import runs
from streamapp.bench.keyed.workload import Workload

_EVENTS = 400_000
_PARTITIONS = (1, 4, 16, 64)
_USERS = (1_000, 10_000, 100_000, 1_000_000)
#: Events for each user at least, so that a table comes to be: half of the users have one.
_EACH = 0.75
#: Only with --full: minutes, and gigabytes.
_MANY_USERS = 10_000_000
_PROCESSES = (1, 2)
_LOOP_EVENTS = 60_000


class Event(msgspec.Struct, gc=False):
    """What the loop reads of an event."""

    user: str
    amount: int


def measure(shrink: int, times: int, *, is_full: bool) -> dict[str, Any]:
    """Measure all points ``times`` times in turns; print and return the medians."""
    users = (*_USERS, _MANY_USERS) if is_full else _USERS
    points = [
        *(("partitions", count, Workload(_EVENTS // shrink)) for count in _PARTITIONS),
        *(
            ("users", count, Workload(round(max(_EVENTS, _EACH * count)) // shrink, count))
            for count in users
            if count <= _MANY_USERS // shrink
        ),
        *(("processes", count, Workload(_EVENTS // shrink)) for count in _PROCESSES),
    ]
    found: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for _ in range(times):
        for kind, count, workload in points:
            loop = _loop_us()
            cpu = _processes_us(count, workload) if kind == "processes" else 0.0
            cpu = cpu or _worker_us(workload, count if kind == "partitions" else 4)
            found[kind, count].append((cpu, min(loop, _loop_us())))
    return _report(found)


def _report(found: dict[tuple[str, int], list[tuple[float, float]]]) -> dict[str, Any]:
    best = min(loop for runs_of in found.values() for _, loop in runs_of)
    print(
        f"\nScaling: CPU us per event, whole worker; plain loop beside it: {best:.2f} at its best"
    )
    figures: dict[str, Any] = {"loop_us": round(best, 3), "points": {}}
    for (kind, count), runs_of in found.items():
        corrected = [cpu / loop * best for cpu, loop in runs_of]
        middle = round(statistics.median(corrected), 2)
        figures["points"].setdefault(kind, {})[str(count)] = {
            "cpu_us": middle,
            "least": round(min(corrected), 2),
            "most": round(max(corrected), 2),
        }
        print(f"  {count:>10,} {kind:11}{middle:8.2f}  ({min(corrected):.2f}-{max(corrected):.2f})")
    return figures


def _loop_us() -> float:
    """Return the CPU us per event of decoding and adding up in a dict."""
    values = [value for _, value in Workload(_LOOP_EVENTS).records()]
    decode, totals = msgspec.json.Decoder(Event).decode, defaultdict[str, int](int)
    begun = time.process_time()
    for value in values:
        event = decode(value)
        totals[event.user] += event.amount
    return (time.process_time() - begun) / _LOOP_EVENTS * 1e6


def _worker_us(workload: Workload, partitions: int) -> float:
    with runs.place("sqlite://", {}) as here:
        return runs.run(here, "ours", workload, partitions=partitions)["cpu_us"]


def _processes_us(count: int, workload: Workload) -> float:
    """Let so many workers share the partitions before there is anything to do."""
    with (
        runs.place("sqlite://", {}) as here,
        runs.application(here, "ours", workload.events) as plan,
        ExitStack() as workers,
    ):
        runs.fill(here.broker, plan, Workload(0))
        processes = [workers.enter_context(runs.worker(here, plan)) for _ in range(count)]

        def is_shared() -> bool:
            group = here.broker.groups().get(plan.app)
            owners = [one for one in group.members if one.is_alive and one.tps] if group else []
            return len(owners) == count

        wait(is_shared, processes[0])
        before = sum(cpu_s(process.pid) for process in processes)
        runs.fill(here.broker, plan, workload)
        wait(lambda: runs.is_committed(here.broker, plan), processes[0])
        spent = sum(cpu_s(process.pid) for process in processes) - before
        runs.check(here.broker, plan, workload)
    return spent / workload.events * 1e6
