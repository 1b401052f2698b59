"""Measures the programs of the keyed table from outside, one after the other, in turns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import streamapp
from streamapp.bench.end_to_end import WorkerFailedError, clean, cpu_s, peak_mib, wait
from streamapp.bench.keyed.plan import PARTITIONS, Plan
from streamapp.bench.keyed.results import CHANGELOGS, check
from streamapp.bench.keyed.workload import Workload, record
from streamapp.bench.runs import Measured, is_installed
from streamapp.bench.runs import Plan as Runs
from streamapp.core.batch import TP
from streamapp.errors import StreamappError
from streamapp.transport.broker import TopicSpec
from streamapp.transport.connect import open_broker

if TYPE_CHECKING:
    from streamapp.core.batch import OutRecord
    from streamapp.transport.broker import Broker

_WRITTEN_AT_ONCE = 20_000
_ROOT = str(Path(streamapp.__file__).parents[1])
_OURS = (
    *("-m", "faust", "-A", "streamapp.bench.keyed.ours"),
    *("worker", "-l", "error", "--without-web"),
)
_FAUST = ("-m", "streamapp.bench.keyed.faust")
#: The program of each engine in each scenario, as words for its interpreter.
_TABLE_WORDS = {
    "ours": _OURS,
    "batches": _OURS,
    "plain": ("-m", "streamapp.bench.keyed.loop"),
    "quix": ("-m", "streamapp.bench.keyed.quix"),
    "faust": _FAUST,
}
_STATELESS_WORDS = {
    "ours": _OURS,
    "batches": _OURS,
    "plain": ("-m", "streamapp.bench.keyed.consume"),
    "faust": _FAUST,
}
#: The mode of the programs that each scenario is.
_MODES = {"keyed": "table", "stateless": "stateless"}
#: Programs that know no other broker than Kafka; and the parts of the events that slow ones get.
_KAFKA_ONLY = {("plain", "table"), ("quix", "table")}
_FRACTION = {"quix": 8, "faust": 50}


@dataclass(frozen=True, slots=True)
class Place:
    """Where programs run: over ``broker``, which is open, with state below ``folder``.

    ``pythons`` runs an engine by another interpreter than this one.
    """

    url: str
    broker: Broker
    folder: Path
    pythons: Mapping[str, str] = field(default_factory=dict)


def measure(scenario: str, plan: Runs, url: str, say: Callable[[str], None]) -> list[Measured]:
    """Measure all engines that are chosen, installed and able to, in turns; ours first.

    Args:
        scenario: ``keyed``, a table of sums by user, or ``stateless``, which only adds up.
        plan: Whom, how many events, how often.
        url: A broker's; ``sqlite://`` is in a temporary folder.
        say: Told what is about to run.
    """
    mode = _MODES[scenario]
    engines = [
        engine
        for engine in _words(mode)
        if engine in plan.engines
        and is_installed(engine, plan.pythons)
        and (url.startswith("kafka://") or (engine, mode) not in _KAFKA_ONLY)
    ]
    found: dict[str, list[dict[str, float]]] = {engine: [] for engine in engines}
    errors: dict[str, str] = {}
    for number in range(plan.runs):
        for engine in engines:
            if engine in errors:
                continue
            say(f"{scenario} over {url}: {engine}, run {number + 1} of {plan.runs}")
            try:
                with place(url, plan.pythons) as here:
                    found[engine].append(run(here, engine, _workload(plan, engine), mode))
            except StreamappError as exc:
                errors[engine] = str(exc)
    return [
        Measured(
            engine,
            scenario,
            _workload(plan, engine).events,
            () if engine in errors else tuple(found[engine]),
            errors.get(engine, ""),
        )
        for engine in engines
    ]


def _words(mode: str) -> Mapping[str, tuple[str, ...]]:
    return _STATELESS_WORDS if mode == "stateless" else _TABLE_WORDS


def _workload(plan: Runs, engine: str) -> Workload:
    return Workload(max(1_000, plan.events // _FRACTION.get(engine, 1)))


@contextmanager
def place(url: str, pythons: Mapping[str, str]) -> Iterator[Place]:
    """Open a broker and a temporary folder; ``sqlite://`` is in the folder."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        where = f"sqlite://{name}/bus" if url == "sqlite://" else url
        broker = open_broker(_plainly(where), Path(name))
        try:
            yield Place(where, broker, Path(name), pythons)
        finally:
            broker.close()


def _plainly(url: str) -> str:
    """Write records as they are: not every client can read those that are compressed."""
    if not url.startswith("kafka://"):
        return url
    return f"{url}{'&' if '?' in url else '?'}rdkafka.compression.type=none"


@contextmanager
def application(
    here: Place, engine: str, events: int, mode: str = "table", partitions: int = PARTITIONS
) -> Iterator[Plan]:
    """Name an application that nobody else has; on Kafka its topics are removed afterwards."""
    name = f"bench-{uuid4().hex[:8]}"
    try:
        yield Plan(engine, mode, name, here.url, str(here.folder), events, partitions)
    finally:
        clean(here.url, name)


def run(
    here: Place, engine: str, workload: Workload, mode: str = "table", partitions: int = PARTITIONS
) -> dict[str, float]:
    """Run a program over all events until they are committed, and check what came of it.

    Returns:
        ``events_per_s`` of CPU, ``wall_per_s`` (first event to last), ``cpu_us`` of the whole
        process up to the commit, ``peak_mib``.

    Raises:
        WorkerFailedError: It ended, was stuck, or its result is wrong.
    """
    with application(here, engine, workload.events, mode, partitions) as plan:
        fill(here.broker, plan, workload)
        with worker(here, plan) as process:
            wait(lambda: is_committed(here.broker, plan), process)
            cpu, peak = cpu_s(process.pid), peak_mib(process.pid)
            told = report(plan, process)
        check(here.broker, plan, workload)
    cpu -= told["cpu_began"]
    return {
        "events_per_s": round(workload.events / cpu),
        "wall_per_s": round(workload.events / (told["ended_at"] - told["began_at"])),
        "cpu_us": round(cpu / workload.events * 1e6, 3),
        "peak_mib": round(peak, 1),
    }


def fill(broker: Broker, plan: Plan, workload: Workload) -> None:
    """Make the topics of a program and write the events."""
    changelog = CHANGELOGS["plain"].topic.format(app=plan.app)
    for topic in (plan.topic, plan.out, *([changelog] if plan.engine == "plain" else [])):
        broker.create_topic(TopicSpec(topic, plan.partitions))
    append(
        broker,
        (
            record(plan.topic, number, key, value, plan.partitions)
            for number, (key, value) in enumerate(workload.records())
        ),
    )


def append(broker: Broker, records: Iterator[OutRecord]) -> None:
    """Write many records, some at once."""
    while part := list(islice(records, _WRITTEN_AT_ONCE)):
        broker.append(part)


@contextmanager
def worker(here: Place, plan: Plan) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program; it is ended at the end, politely if all went well."""
    command = [here.pythons.get(plan.engine, sys.executable), *_words(plan.mode)[plan.engine]]
    log_file = here.folder / f"{plan.app}.log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, or the user's choice
            command,
            stdout=log,
            stderr=log,
            cwd=here.folder,
            env={**os.environ, **plan.environ(), "PYTHONPATH": _ROOT},
        )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            process.wait(_END_S)
        except WorkerFailedError as exc:
            # Faust's spinner leaves lines of its own that say nothing.
            lines = log_file.read_text(errors="replace").splitlines()
            said = [line for line in lines if line.strip() and not line.startswith("\x1b")]
            exc.message = f"{exc.message}: {said[-1][:200] if said else 'it said nothing'}"
            raise
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
            process.wait()


#: Seconds that a program has for its end.
_END_S = 10.0


def is_committed(broker: Broker, plan: Plan) -> bool:
    """Tell whether the group's positions are at the end of all partitions."""
    tps = [TP(plan.topic, number) for number in range(plan.partitions)]
    ends = {tp: log.end for tp, log in broker.offsets(tps).items() if log.end}
    done = broker.committed(plan.app, ends)
    return all(tp in done and done[tp].offset >= end for tp, end in ends.items())


def report(plan: Plan, process: subprocess.Popen[bytes]) -> dict[str, float]:
    """Wait for what a program tells."""
    wait(plan.report.exists, process)
    return dict(json.loads(plan.report.read_text()))
