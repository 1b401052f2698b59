"""Builds what works on one partition of a stage: units, clocks, state and sinks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from streamapp.core.batch import TP, OutRecord, RecordBatch
from streamapp.engine.policy import Verdict
from streamapp.engine.stage_sinks import Choose, ReadScope, RegroupSink, TableSink, TopicSink, Way
from streamapp.engine.stage_work import Note, Outputs, StageWork, read_note
from streamapp.errors import StateError
from streamapp.operators.fused import Fused
from streamapp.operators.join import TableJoin
from streamapp.pipelines.clock import RegroupedInput, SourceInput, TaskClock
from streamapp.pipelines.codecs import StateCodec
from streamapp.pipelines.nodes import Place, Regroup, Stateful, ToTable, ToTopic
from streamapp.pipelines.task import OnBadRow, Task, Unit
from streamapp.serde.ordered_keys import encode_key
from streamapp.state.operator_table import ShardView
from streamapp.state.scope import Instant

if TYPE_CHECKING:
    from streamapp.core.rows import Rows
    from streamapp.engine.rejects import Rejects
    from streamapp.operators.operator import Operator, RowError
    from streamapp.pipelines.clock import Input
    from streamapp.pipelines.plan import InputPlan, StagePlan, UnitPlan
    from streamapp.state.table import Table

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a stage needs to know of topics: their partitions, how one is chosen, what they take.

    ``before`` holds the partitions of the stage that writes to each regrouped topic. ``check``
    refuses records of one topic that its broker would refuse.
    """

    counts: Mapping[str, int]
    choose: Choose
    before: Mapping[str, int]
    check: Callable[[Sequence[OutRecord]], None] = lambda _: None


class Builder:
    """Knows the plan of a stage and how many ``partitions`` it has."""

    def __init__(self, plan: StagePlan, partitions: int, around: Surroundings) -> None:
        self.plan = plan
        self.partitions = partitions
        self._around = around
        #: Each topic has a clock of its own, also where one source reads several.
        self._inputs = plan.by_topic()

    def build(self, partition: int, notes: Mapping[str, str], bad_rows: BadRows) -> StageWork:
        """Return a partition as it was when the notes (by topic) were committed."""
        reader, outputs = ReadScope(), Outputs()
        read = {topic: read_note(text) for topic, text in notes.items()}
        watermark_ms = max(note.watermark_ms for note in read.values())
        clock = TaskClock(
            [self._input(of, read[name]) for name, of in self._inputs.items()], watermark_ms
        )
        units = [self._unit(plan, partition, outputs, reader) for plan in self.plan.units]
        for unit, plan in zip(units, self.plan.units, strict=True):
            unit.to += [(units[at], side) for at, side in plan.to]
            unit.late_to += [(units[at], side) for at, side in plan.late_to]
            if unit.operator is not None:
                unit.operator.restore(watermark_ms)
        task = Task(
            units,
            [[(units[at], side) for at, side in of.to] for of in self._inputs.values()],
            bad_rows.of(partition, outputs),
            watermark_ms,
        )
        reader.enter(Instant(watermark_ms), partition, self.partitions)
        return StageWork(
            task,
            clock,
            {name: (n, of) for n, (name, of) in enumerate(self._inputs.items())},
            [unit.sink for unit in units if isinstance(unit.sink, RegroupSink)],
            [unit.sink for unit in units if isinstance(unit.sink, TableSink)],
            [
                (plan.node.table, unit.operator)
                for plan, unit in zip(self.plan.units, units, strict=True)
                if isinstance(plan.node, Stateful)
                # A table without rows is as false as an empty dict.
                and plan.node.table is not None
                and unit.operator is not None
            ],
            outputs,
            reader,
            partition,
        )

    def watermark_ms(self, topic: str, note: str) -> int:
        """Return how far an input was when a note of its position was committed."""
        return self._input(self._inputs[topic], read_note(note)).headway.watermark_ms

    def _input(self, of: InputPlan, note: Note) -> Input:
        found: Input
        if of.is_regrouped:
            found = RegroupedInput(self._around.before[of.topic.get_topic_name()])
        else:
            found = SourceInput(of.topic.event_time)
        found.restore(note.of_input)
        return found

    def _unit(self, plan: UnitPlan, partition: int, outputs: Outputs, reader: ReadScope) -> Unit:
        node, counts = plan.node, self._around.counts
        way = Way(outputs.extend, self._around.check)
        if plan.steps:
            return Unit(node.name, plain=Fused(plan.steps))
        if isinstance(node, Stateful):
            operator = self._operator(node, partition, reader)
            if isinstance(operator, TableJoin):
                return Unit(node.name, plain=operator)
            return Unit(node.name, operator=operator)
        if isinstance(node, ToTable):
            return Unit(
                node.name, sink=TableSink(node.table, partition, is_windowed=node.is_windowed)
            )
        if isinstance(node, Regroup):
            name = node.topic.get_topic_name()
            codec = StateCodec(node.value_type)
            regroup = RegroupSink(name, codec, counts[name], partition, way)
            return Unit(node.name, sink=regroup)
        if isinstance(node, ToTopic):
            count = counts[node.topic.get_topic_name()]
            return Unit(node.name, sink=TopicSink(node, count, self._around.choose, way))
        msg = f"{node.name} is no step that runs"
        raise TypeError(msg)

    def _operator(self, node: Stateful, partition: int, reader: ReadScope) -> Operator:
        def read(table: Table, key: Any) -> Any:
            return table.get(key)

        state: Any = None
        if node.table is not None:
            state = ShardView(node.table.shards[partition])
        return node.make(Place(partition, state, read, reader.move_to, _now_ms))


@dataclass(slots=True)
class BadRows:
    """Deals with rows behind an operator that a step cannot use: they belong to no one record.

    ``stopped_by`` is set when the policy is to stop: everything that was begun has been done then.
    """

    stage: str
    rejects: Rejects
    stopped_by: Exception | None = field(default=None)

    def of(self, partition: int, outputs: Outputs) -> OnBadRow:
        """Return what deals with the rows of a partition, whose dead letters go to ``outputs``."""

        def deal(step: str, rows: Rows, error: RowError) -> None:
            if isinstance(error.__cause__, StateError):
                raise error.__cause__
            letter = self._judge(TP(f"{self.stage}/{step}", partition), rows, error)
            if letter is not None:
                outputs.add(letter)

        return deal

    def _judge(self, place: TP, rows: Rows, error: RowError) -> OutRecord | None:
        rejects = self.rejects
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        verdict = rejects.policy.verdict(rejects.policy.retries + 1, is_retriable=False)
        rejects.stats.count_error(cause)
        log.warning("Pipeline %s: a row cannot be used: %s", place.topic, cause)
        if verdict is Verdict.STOP:
            self.stopped_by = cause
        if verdict is Verdict.SKIP:
            rejects.stats.skipped += 1
            return None
        rejects.stats.dead_letters += 1
        return rejects.letter(_batch_of(place, rows), 0, cause, 1)


def _batch_of(tp: TP, rows: Rows) -> RecordBatch:
    """Return a row as a record that never was in a topic."""
    try:
        value = msgspec.json.encode(rows.values[0])
    except (TypeError, ValueError):
        value = ascii(rows.values[0]).encode()
    time_ms = max(rows.times[0], 0)
    return RecordBatch(tp, (-1,), (time_ms,), (encode_key(rows.keys[0]),), (value,), None, 0, 0)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
