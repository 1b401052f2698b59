"""One partition of a stage in a worker: decoded records in, what a commit must contain out.

Nothing here awaits: a commit finds the partition between two runs, so that positions, watermarks,
state and outputs belong together.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from streamapp.core.int_columns import ints
from streamapp.core.rows import Rows
from streamapp.core.times import NEVER_MS
from streamapp.engine.stage_sinks import ReadScope, RegroupSink
from streamapp.errors import DecodeError
from streamapp.operators.limit import Wait
from streamapp.pipelines.clock import WATERMARK_HEADER, TaskClock
from streamapp.serde.ordered_keys import decode_key
from streamapp.state.operator_table import OperatorTable
from streamapp.state.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamapp.core.batch import TP, Headers, OutRecord, RecordBatch
    from streamapp.engine.work import Chunk
    from streamapp.operators.operator import Operator, SetAside
    from streamapp.pipelines.plan import InputPlan
    from streamapp.pipelines.task import Task

#: Stands for the key of a record whose key nobody asks for.
_NO_KEY = ""


class _Note(msgspec.Struct, array_like=True):
    """What is committed with the position of an input."""

    watermark_ms: int = NEVER_MS
    of_input: object = None


def read_note(text: str) -> _Note:
    """Return a committed note; one that is none says nothing."""
    try:
        return msgspec.json.decode(text or "[]", type=_Note)
    except msgspec.MsgspecError:
        return _Note()


@dataclass(slots=True)
class Outputs:
    """Records that leave a partition, until the feed's outbox takes them."""

    records: list[OutRecord] = field(default_factory=list)

    def add(self, record: OutRecord) -> None:
        """Let a record wait."""
        self.records.append(record)

    def extend(self, records: list[OutRecord]) -> None:
        """Let records wait."""
        self.records += records

    def take(self) -> list[OutRecord]:
        """Take all that waits."""
        records, self.records = self.records, []
        return records


@dataclass(slots=True)
class StageWork:
    """See the module. ``inputs`` gives each topic its place among the stage's inputs."""

    task: Task
    clock: TaskClock
    inputs: Mapping[str, tuple[int, InputPlan]]
    regroups: list[RegroupSink]
    states: list[tuple[OperatorTable, Operator]]
    outputs: Outputs
    reader: ReadScope
    partition: int
    emitted_at: float = field(default_factory=time.monotonic)
    #: Rows of state that each operator keeps in memory after a commit.
    kept_rows: int = 200_000

    def run(self, chunk: Chunk, stop: int) -> Exception | None:
        """Work on records ``[chunk.at, stop)``, none of which is ``Bad``; moves ``chunk.at``.

        Returns:
            Why the record at ``chunk.at`` cannot be used; ``None`` if all could.
        """
        index, of_input = self.inputs[chunk.tp.topic]
        start, headers = chunk.at, chunk.batch.headers
        keys, failed = self._keys(chunk.batch, of_input, start, stop)
        stop = start + len(keys)
        before = self.clock.note(index)
        times = chunk.times[start:stop]
        marks, after_ms = self._marks(
            index, times, None if headers is None else headers[start:stop]
        )
        rows = Rows(keys, times, chunk.values_of(start, stop), marks, range(start, stop))
        signals = _signals(chunk.batch, start, stop) if of_input.is_regrouped else ()
        token = current_scope.set(self.reader)
        try:
            error = self.task.run(index, rows, after_ms, signals)
        finally:
            current_scope.reset(token)
        if error is None:
            chunk.at = chunk.given = stop
            return failed
        # The watermark of records that are not done is not known yet.
        self.clock.go_back(before)
        done = error.origin
        self.clock.marks(
            index, chunk.times[start:done], None if headers is None else headers[start:done]
        )
        chunk.at = chunk.given = done
        return _cause(error)

    def _marks(
        self, index: int, times: Sequence[int], headers: Sequence[Headers] | None
    ) -> tuple[Sequence[int], int]:
        """Return the watermark before each of the records that follow, and after the last."""
        if self.regroups or self.task.has_operators:
            return self.clock.marks(index, times, headers)
        # Stateless steps ask nobody how late it is.
        before_ms = self.clock.headway.watermark_ms
        return ints([before_ms]) * len(times), self.clock.take(index, times, headers)

    def note(self, tp: TP) -> str:
        """Return what is to be found again with the position of an input."""
        index, _ = self.inputs[tp.topic]
        note = _Note(self.clock.headway.watermark_ms, self.clock.inputs[index].note())
        return msgspec.json.encode(note).decode()

    def tick(self, silences: Mapping[str, int], *, may_emit: bool) -> None:
        """Bring the partition to where a commit may be made.

        Args:
            silences: For how many ms there has been no record, by topic.
            may_emit: Whether it is time for what is emitted once per commit.
        """
        for topic, silent_ms in silences.items():
            self.clock.be_silent(self.inputs[topic][0], silent_ms)
        headway = self.clock.headway
        token = current_scope.set(self.reader)
        try:
            self.task.advance(headway.watermark_ms)
            if may_emit:
                self.task.commit()
        finally:
            current_scope.reset(token)
        if may_emit:
            for sink in self.regroups:
                sink.tell(headway.watermark_ms, is_idle=headway.is_idle)
        self._drain()

    @property
    def changed(self) -> int:
        """Number of rows of state that the next commit will write."""
        return sum(operator.changed for _, operator in self.states)

    @property
    def set_aside(self) -> Counter[tuple[str, SetAside, str]]:
        """See ``StageRunner.set_aside``."""
        return Counter(
            {
                (name, *why): count
                for name, operator in self.task.operators
                for why, count in operator.set_aside.items()
            }
        )

    def _drain(self) -> None:
        for table, operator in self.states:
            if changes := operator.drain():
                table.shards[self.partition].stage(changes)
            operator.trim(self.kept_rows)

    def _keys(
        self, batch: RecordBatch, of_input: InputPlan, start: int, stop: int
    ) -> tuple[Sequence[Hashable], Exception | None]:
        """Return the keys of records up to the first that has none that can be used."""
        if not of_input.needs_keys:
            return [_NO_KEY] * (stop - start), None
        keys: list[Hashable] = []
        for raw in batch.keys[start:stop]:
            try:
                keys.append(_key_of(raw, of_input))
            except DecodeError as exc:
                return keys, exc
        return keys, None


def _key_of(raw: bytes | None, of_input: InputPlan) -> Hashable:
    if of_input.is_regrouped:
        return _NO_KEY if raw is None else decode_key(raw)
    if raw is None:
        if not of_input.requires_keys:
            return None
        msg = "The record has no key"
        raise DecodeError(msg, hint="Give it one with .key_by(...) or .group_by(...)")
    return of_input.topic.decode_key(raw)


def _signals(batch: RecordBatch, start: int, stop: int) -> list[int]:
    """Return which of the records ``[start, stop)`` only tell of a watermark."""
    if batch.headers is None:
        return []
    return [
        place
        for place, value in enumerate(batch.values[start:stop])
        if value is None
        and any(name == WATERMARK_HEADER for name, _ in batch.headers[start + place])
    ]


def _cause(error: Exception) -> Exception:
    if isinstance(error, Wait):
        return error
    cause = error.__cause__
    return cause if isinstance(cause, Exception) else error
