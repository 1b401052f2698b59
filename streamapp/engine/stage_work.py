"""One partition of a stage in a worker: decoded records in, what a commit must contain out.

Nothing here awaits: a commit finds the partition between two runs, so that positions, watermarks,
state and outputs belong together. What makes much due at once is *in hand* until all of that is
done, a piece at a time: meanwhile a commit finds the partition as it was before.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from streamapp.core.int_columns import ints
from streamapp.core.rows import Rows
from streamapp.core.times import NEVER_MS
from streamapp.engine.stage_records import keys_of, signals_of
from streamapp.engine.stage_sinks import ReadScope, RegroupSink, TableSink
from streamapp.errors import StateError
from streamapp.operators.limit import Wait
from streamapp.pipelines.clock import TaskClock
from streamapp.state.operator_table import OperatorTable
from streamapp.state.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamapp.core.batch import TP, Headers, OutRecord
    from streamapp.engine.work import Chunk
    from streamapp.operators.operator import Operator, SetAside
    from streamapp.pipelines.plan import InputPlan
    from streamapp.pipelines.task import Task

#: Records of a run at most, and behind one that cannot be used.
MOST = 5_000
_FEW = 64
#: Results that fall due at once from which on they leave in pieces: some 30 ms of work.
MUCH = 10_000


class Note(msgspec.Struct, array_like=True):
    """What is committed with the position of an input."""

    watermark_ms: int = NEVER_MS
    of_input: object = None


def read_note(text: str) -> Note:
    """Return a committed note; one that is none says nothing."""
    try:
        return msgspec.json.decode(text or "[]", type=Note)
    except msgspec.MsgspecError:
        return Note()


@dataclass(slots=True)
class Outputs:
    """Records that leave a partition, until the feed's outbox takes them."""

    records: list[OutRecord] = field(default_factory=list)
    #: Those that come after ``hold``, if it was called.
    held: list[OutRecord] | None = None

    def add(self, record: OutRecord) -> None:
        """Let a record wait."""
        self.extend([record])

    def extend(self, records: list[OutRecord]) -> None:
        """Let records wait."""
        if self.held is None:
            self.records += records
        else:
            self.held += records

    def take(self) -> list[OutRecord]:
        """Take all that waits and is not held back."""
        records, self.records = self.records, []
        return records

    def hold(self) -> None:
        """Hold back what comes from now on."""
        self.held = []

    def release(self) -> None:
        """Hold nothing back any more."""
        self.records += self.held or ()
        self.held = None


@dataclass(slots=True)
class StageWork:
    """See the module. ``inputs`` gives each topic its place among the stage's inputs."""

    task: Task
    clock: TaskClock
    inputs: Mapping[str, tuple[int, InputPlan]]
    regroups: list[RegroupSink]
    tables: list[TableSink]
    states: list[tuple[OperatorTable, Operator]]
    outputs: Outputs
    reader: ReadScope
    partition: int
    emitted_at: float = field(default_factory=time.monotonic)
    #: Rows of state that each operator keeps in memory after a commit.
    kept_rows: int = 200_000
    #: Records of the next run: few behind one that cannot be used, as the rest is run again.
    most: int = MOST
    #: What is in hand: the notes of before, by topic, and the work that is left.
    _notes: dict[str, str] | None = None
    _left: Iterator[None] = field(default_factory=lambda: iter(()))

    @property
    def is_in_hand(self) -> bool:
        """Whether ``go_on`` has more to do; until then ``run`` must not be called."""
        return self._notes is not None

    def run(self, chunk: Chunk, stop: int, *, in_pieces: bool = False) -> Exception | None:
        """Work on records ``[chunk.at, stop)``, none of which is ``Bad``; moves ``chunk.at``.

        With ``in_pieces`` it ends before a record that makes much due. If that is the first one, it
        is in hand then: ``go_on`` does what is due, and the caller moves ``chunk.at`` afterwards.

        Returns:
            Why the record at ``chunk.at`` cannot be used; ``None`` if all could.

        Raises:
            StateError: The store failed, which is no record's fault.
        """
        index, of_input = self.inputs[chunk.tp.topic]
        start, headers = chunk.at, chunk.batch.headers
        keys, failed = keys_of(chunk.batch, of_input, start, stop)
        stop = start + len(keys)
        before = self.clock.note(index)
        times = chunk.times[start:stop]
        marks, after_ms = self._marks(
            index, times, None if headers is None else headers[start:stop]
        )
        if in_pieces and keys and self.task.due_by(after_ms) > MUCH:
            self.clock.go_back(before)
            calm = bisect_right(marks, MUCH, 1, key=self.task.due_by) - 1
            return self.run(chunk, start + calm) if calm else self._take_in_hand(chunk)
        rows = Rows(keys, times, chunk.values_of(start, stop), marks, range(start, stop))
        signals = signals_of(chunk.batch, start, stop) if of_input.is_regrouped else ()
        token = current_scope.set(self.reader)
        try:
            # What is due behind a record in hand is left to ``go_on``.
            until_ms = marks[0] if self.is_in_hand else after_ms
            error = self.task.run(index, rows, until_ms, signals)
        finally:
            current_scope.reset(token)
        self.most = min(2 * self.most, MOST) if error is None and failed is None else _FEW
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

    def _take_in_hand(self, chunk: Chunk) -> Exception | None:
        """Work on one record, and leave what it makes due to ``go_on``."""
        self._hold(self._noted())
        failed = self.run(chunk, chunk.at + 1)
        if failed is None:
            chunk.at -= 1
            self._left = self.task.advancing(self.clock.headway.watermark_ms)
        else:
            self._release()
        return failed

    def _hold(self, notes: dict[str, str]) -> None:
        """Let commits find the partition as it is now, with these notes."""
        self._drain()
        self._notes = notes
        self.outputs.hold()
        for sink in self.tables:
            sink.hold()

    def _release(self) -> None:
        self._notes = None
        self.outputs.release()
        for sink in self.tables:
            sink.release()

    def go_on(self) -> None:
        """Do a piece of what is in hand; the last one brings it to an end."""
        token = current_scope.set(self.reader)
        try:
            next(self._left)
        except StopIteration:
            self._release()
        finally:
            current_scope.reset(token)

    def _marks(
        self, index: int, times: Sequence[int], headers: Sequence[Headers] | None
    ) -> tuple[Sequence[int], int]:
        """Return the watermark before each of the records that follow, and after the last."""
        if self.regroups or self.task.asks_marks:
            return self.clock.marks(index, times, headers)
        # Stateless steps ask nobody how late it is.
        before_ms = self.clock.headway.watermark_ms
        return ints([before_ms]) * len(times), self.clock.take(index, times, headers)

    def note(self, tp: TP) -> str:
        """Return what is to be found again with the position of an input."""
        return self._noted()[tp.topic] if self._notes is None else self._notes[tp.topic]

    def _noted(self) -> dict[str, str]:
        reached_ms = self.clock.headway.watermark_ms
        notes = {
            topic: Note(reached_ms, self.clock.inputs[index].note())
            for topic, (index, _) in self.inputs.items()
        }
        return {topic: msgspec.json.encode(note).decode() for topic, note in notes.items()}

    def tick(self, silences: Mapping[str, int], *, may_emit: bool, in_pieces: bool = False) -> None:
        """Bring the partition to where a commit may be made; what is in hand is where it was.

        With ``in_pieces``, much that is due because of a silence is in hand then.

        Args:
            silences: For how many ms there has been no record, by topic.
            may_emit: Whether it is time for what is emitted once per commit.
            in_pieces: Whether the caller goes on with what is in hand.
        """
        if self.is_in_hand:
            return
        notes = self._noted()
        for topic, silent_ms in silences.items():
            self.clock.be_silent(self.inputs[topic][0], silent_ms)
        headway = self.clock.headway
        if in_pieces and self.task.due_by(headway.watermark_ms) > MUCH:
            self._hold(notes)
            self._left = self.task.advancing(headway.watermark_ms)
            return
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

    def rest(self) -> None:
        """Bring a partition that works no more to where a commit may be made.

        It brings nothing any more, and is not idle: its records are to count when it goes on, so
        nobody behind it may go on without it.
        """
        if self.is_in_hand:
            return
        for index, _ in self.inputs.values():
            self.clock.be_silent(index, 0)
        for sink in self.regroups:
            sink.tell(self.clock.headway.watermark_ms, is_idle=False)
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


def _cause(error: Exception) -> Exception:
    if isinstance(error, Wait):
        return error
    cause = error.__cause__
    if isinstance(cause, StateError):
        raise cause
    return cause if isinstance(cause, Exception) else error
