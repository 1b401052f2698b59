"""One stage of a pipeline over topics that are lists; see ``pipeline_driver``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamapp.core.batch import TP, OutRecord
from streamapp.core.times import NEVER_MS
from streamapp.engine.feed import decoded
from streamapp.engine.policy import Verdict
from streamapp.engine.stage_build import BadRows, Builder
from streamapp.operators.limit import Wait
from streamapp.pipelines.nodes import Stateful, ToTable
from streamapp.state.changelog import change_records
from streamapp.state.result_table import ResultTable
from streamapp.state.shard import CacheBudget, Shard
from streamapp.state.store import shard_prefix

if TYPE_CHECKING:
    from streamapp.core.batch import RecordBatch
    from streamapp.engine.rejects import Rejects
    from streamapp.engine.stage_work import StageWork
    from streamapp.engine.work import Chunk
    from streamapp.state.memory import MemoryStore
    from streamapp.state.table import Table
    from streamapp.testing.log import Log

_CACHE_BYTES = 64 << 20


class StageDriver:
    """Works on what is new in its topics; ``begin`` goes back to what was committed."""

    def __init__(self, builder: Builder, rejects: Rejects) -> None:
        self._builder = builder
        self._rejects = rejects
        self._topics: dict[str, Any] = {
            name: of.topic for of in builder.plan.inputs for name in of.topic.topics
        }
        self._decoders = {name: topic.batch_decoder() for name, topic in self._topics.items()}
        self._committed: dict[TP, tuple[int, str]] = {
            TP(topic, number): (0, "")
            for topic in self._topics
            for number in range(builder.partitions)
        }
        self._next: dict[TP, int] = {}
        self._works: dict[int, StageWork] = {}
        self._letters: list[OutRecord] = []

    def begin(self, store: MemoryStore) -> None:
        """Go on from what was committed: tables from the store, records from the positions."""
        budget = CacheBudget(_CACHE_BYTES)
        partitions = self._builder.partitions
        for table in self._tables():
            table.spec = replace(table.spec, partitions=partitions)
            table.partitions = partitions
            table.now_ms = self._now_ms
            for number in range(partitions):
                table.shards[number] = Shard(
                    table.name,
                    number,
                    partitions=partitions,
                    prefix=shard_prefix(table.name, number),
                    store=store,
                    codec=table.codec,
                    budget=budget,
                )
        self._letters.clear()
        self._next = {tp: offset for tp, (offset, _) in self._committed.items()}
        bad_rows = BadRows(self._builder.plan.name, self._rejects)
        self._works = {
            number: self._builder.build(
                number,
                {topic: self._committed[TP(topic, number)][1] for topic in self._topics},
                bad_rows,
            )
            for number in range(partitions)
        }

    def work(self, logs: Mapping[TP, Log]) -> None:
        """Work on all records that are new."""
        for tp, start in self._next.items():
            batch = logs[tp].since(start) if tp in logs else None
            if batch is not None:
                self._next[tp] = batch.next_offset
                self._run(batch)

    def forget_read(self, logs: Mapping[TP, Log]) -> None:
        """Let go of the records that were worked on."""
        for tp, reached in self._next.items():
            if tp in logs:
                logs[tp].forget(reached)

    def commit(self, store: MemoryStore, silent_ms: int) -> tuple[list[OutRecord], list[OutRecord]]:
        """Bring everything to a commit and make it.

        Returns:
            The records that it writes to topics, and those that it writes to changelogs.
        """
        outputs, self._letters = self._letters, []
        changelog: list[OutRecord] = []
        for number, work in self._works.items():
            work.tick(dict.fromkeys(self._topics, silent_ms), may_emit=True)
            outputs += work.outputs.take()
            for topic in self._topics:
                tp = TP(topic, number)
                self._committed[tp] = self._next[tp], work.note(tp)
        for table in self._tables():
            for shard in table.shards.values():
                changes = shard.take()
                store.apply({shard.prefix + key: value for key, value in changes.items()})
                shard.flushed(changes)
                changelog += change_records(TP(table.name, shard.partition), changes, 0)
        return outputs, changelog

    def _run(self, batch: RecordBatch) -> None:
        decode, how = self._decoders[batch.tp.topic], self._topics[batch.tp.topic].event_time
        chunk = decoded(batch, decode, how, NEVER_MS)
        while chunk.at < chunk.end:
            error = self._work_on(chunk) if chunk.bad is None else chunk.bad.error
            if error is not None and not isinstance(error, Wait):
                self._reject(chunk, error)

    def _work_on(self, chunk: Chunk) -> Exception | None:
        """Work on what is next of a chunk; return why its next record cannot be used."""
        work = self._works[chunk.tp.partition]
        stop = chunk.run(work.most)
        error = work.run(chunk, stop)
        if error is not None:
            chunk.renew(self._decoders[chunk.tp.topic], chunk.at, stop)
        return error

    def _reject(self, chunk: Chunk, error: Exception) -> None:
        rejects = self._rejects
        rejects.stats.count_error(error)
        verdict = rejects.policy.verdict(rejects.policy.retries + 1, is_retriable=False)
        if verdict is Verdict.STOP:
            raise error
        if verdict is Verdict.SKIP:
            rejects.stats.skipped += 1
        else:
            rejects.stats.dead_letters += 1
            self._letters.append(rejects.letter(chunk.batch, chunk.at, error, 1))
        chunk.advance()

    def _now_ms(self, partition: int) -> int:
        """Return how far event time is, by which rows of windows have closed, or live no more."""
        work = self._works.get(partition)
        return NEVER_MS if work is None else work.task.watermark_ms

    def _tables(self) -> list[Table]:
        nodes = [unit.node for unit in self._builder.plan.units]
        own = [node.table for node in nodes if isinstance(node, Stateful | ToTable)]
        reads = [node.reads for node in nodes if isinstance(node, Stateful)]
        # What pipelines write is opened by the stage that does.
        agents = [None if isinstance(table, ResultTable) else table for table in reads]
        return [*{table.name: table for table in (*own, *agents) if table is not None}.values()]
