"""Runs a pipeline in this process: no broker, no worker, no clock, nothing to wait for.

Topics are lists, tables and the state of operators live in a store in memory, and what works on
records is what does so in a worker. What a commit writes is there at once and for good; ``crash``
forgets everything else and goes on from there.

Example:
    >>> driver = PipelineDriver(per_minute)
    >>> driver.put("events", [b'{"user": "ann", "ts": 1000}'])
    >>> driver.commit()
    >>> driver.table("per_minute")
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streamapp.core.batch import TP, OutRecord
from streamapp.engine.policy import policy_of
from streamapp.engine.rejects import FeedStats, Rejects
from streamapp.engine.stage_build import Builder, Surroundings
from streamapp.state.memory import MemoryStore
from streamapp.state.scope import EventScope, Instant, current_scope
from streamapp.testing.log import Log
from streamapp.testing.stage_driver import StageDriver
from streamapp.transport.partitioner import partition_for_key

if TYPE_CHECKING:
    from streamapp.pipelines.pipeline import Pipeline
    from streamapp.pipelines.plan import StagePlan

#: Where records go that the error policy keeps.
DEAD_LETTERS = "dead-letters"


class PipelineDriver:
    """Drives one pipeline; all of its topics have ``partitions`` partitions.

    ``stats`` counts what the error policy has decided. Without ``keeps_read``, records that a stage
    has read are gone, as from the memory of a worker: what was not committed then is lost for good.
    """

    def __init__(self, pipeline: Pipeline, *, partitions: int = 1, keeps_read: bool = True) -> None:
        self.stats = FeedStats()
        self._pipeline = pipeline
        self._partitions = partitions
        self._keeps_read = keeps_read
        self._store = MemoryStore()
        self._logs: dict[TP, Log] = {}
        #: What the last commit wrote to changelogs: one record for each changed row.
        self.changelog: list[OutRecord] = []
        rejects = Rejects(pipeline.name, DEAD_LETTERS, policy_of(pipeline.on_error), self.stats)
        plans = pipeline.stages()
        counts = _counts(plans, partitions)
        around = Surroundings(counts, _choose, counts)
        self._stages = [StageDriver(Builder(plan, partitions, around), rejects) for plan in plans]
        self.crash()

    def put(
        self,
        topic: str,
        values: Sequence[bytes | None],
        *,
        keys: Sequence[bytes | None] | None = None,
        timestamps: Sequence[int] | None = None,
        partition: int = 0,
    ) -> None:
        """Append records to a topic and work on them, as one batch.

        Without ``timestamps`` (ms since 1970) they have that of 1970.
        """
        self._log(TP(topic, partition)).put(values, keys, timestamps)
        self._work()

    def fill(self, table: str, rows: Iterable[tuple[Any, Any]], *, partition: int = 0) -> None:
        """Let an agent's table, which a ``join_table`` reads, have rows: pairs of key and value."""
        scope = EventScope()
        scope.enter(Instant(0), partition, self._partitions)
        token = current_scope.set(scope)
        try:
            self._pipeline.app.tables[table].update(rows)
            scope.finish()
        finally:
            current_scope.reset(token)
            scope.leave()

    def commit(self, *, silent_ms: int = 0) -> None:
        """Do what a worker does at its commit interval, until no stage has anything more to do.

        ``silent_ms`` is for how long no partition has had a record.
        """
        self.changelog.clear()
        while True:
            outputs: list[OutRecord] = []
            for stage in self._stages:
                written, changed = stage.commit(self._store, silent_ms)
                outputs += written
                self.changelog += changed
            if not outputs:
                return
            self._deliver(outputs)
            self._work()

    def crash(self, *, stage: int | None = None) -> None:
        """Lose all that is not committed, and go on from there.

        With ``stage`` (0 is the first; each ``group_by`` begins another) only that one does so, as
        when its worker dies and those of the others live.
        """
        for one in self._stages if stage is None else [self._stages[stage]]:
            one.begin(self._store)
        self._work()

    def records(self, topic: str) -> list[OutRecord]:
        """Return the records of a topic, partition by partition."""
        logs = sorted(self._logs.items())
        return [record for tp, log in logs if tp.topic == topic for record in log.records()]

    def table(self, name: str) -> dict[Any, Any]:
        """Return the rows of a table, as of the last commit where it is an operator's."""
        return dict(self._pipeline.app.tables[name].items())

    def _deliver(self, outputs: Sequence[OutRecord]) -> None:
        """Put records where they belong, those of a partition at once."""
        by_partition: defaultdict[TP, list[OutRecord]] = defaultdict(list)
        for record in outputs:
            by_partition[record.tp].append(record)
        for tp, records in by_partition.items():
            self._log(tp).extend(records)

    def _log(self, tp: TP) -> Log:
        log = self._logs.get(tp)
        if log is None:
            log = self._logs[tp] = Log(tp)
        return log

    def _work(self) -> None:
        for stage in self._stages:
            stage.work(self._logs)
        for stage in () if self._keeps_read else self._stages:
            stage.forget_read(self._logs)


def _counts(plans: Sequence[StagePlan], partitions: int) -> Mapping[str, int]:
    units = [unit.node for plan in plans for unit in plan.units]
    topics = [node.topic for node in units if hasattr(node, "topic")]
    topics += [of.topic for plan in plans for of in plan.inputs]
    return {name: partitions for topic in topics for name in topic.topics}


def _choose(topic: str, key: bytes | None, partitions: int) -> int:
    del topic
    return 0 if key is None else partition_for_key(key, partitions)
