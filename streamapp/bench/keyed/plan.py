"""What a measured program is told, and what it tells; imports nothing of any engine."""

from __future__ import annotations

import json
import os
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path

PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of one program.

    ``events`` is how many come, in all partitions together. ``mode`` is what is done with them:
    ``stateless`` (adds up all amounts), ``forward`` (each event's id to the topic ``out``),
    ``table`` (totals by user), ``rows`` (four figures by user), ``output`` (totals, and each
    event's id and new total to ``out``) or ``recovery`` (tells when the table is back, then does
    what ``output`` does).
    """

    engine: str
    mode: str
    app: str
    broker: str
    folder: str
    events: int
    partitions: int = PARTITIONS

    @property
    def topic(self) -> str:
        """Where the events are."""
        return f"events-{self.app}"

    @property
    def out(self) -> str:
        """Where the outputs go; its name does not make it the application's own."""
        return f"out-{self.app}"

    @property
    def report(self) -> Path:
        """What the program tells."""
        return Path(self.folder) / f"{self.app}-{self.mode}.json"

    @property
    def servers(self) -> str:
        """The servers of a ``kafka://`` broker."""
        return self.broker.removeprefix("kafka://").partition("?")[0]

    def environ(self) -> dict[str, str]:
        """Return what tells a program of it."""
        return {"BENCH_PLAN": json.dumps(asdict(self))}


def told() -> Plan:
    """Return the plan that this process was started with."""
    return Plan(**json.loads(os.environ["BENCH_PLAN"]))


class Stopwatch:
    """Counts handled events; writes down time and CPU at the first and at the last one."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._found: dict[str, float] = {}
        self.seen = 0
        #: What a program without a table has added up.
        self.total = 0

    def count(self, events: int = 1) -> None:
        """Note that so many events were handled."""
        if not self.seen:
            self.start()
        self.seen += events
        if self.seen == self._plan.events:
            self.stop()

    def start(self) -> None:
        """Begin; by the clock that all processes of a machine share."""
        self._found |= {"began_at": time.monotonic(), "cpu_began": cpu_s()}

    def stop(self) -> None:
        """End, and write the report."""
        self._found |= {"ended_at": time.monotonic(), "cpu_ended": cpu_s(), "total": self.total}
        part = self._plan.report.with_suffix(".part")
        part.write_text(json.dumps(self._found))
        part.rename(self._plan.report)


def cpu_s() -> float:
    """Return the CPU seconds of this process, all its threads, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
