"""Restoring: a store follows the changelogs of its partitions to their end.

Runs in a thread, before any record of the partitions is processed. Starts at the store's own mark,
never at the group's position: the store may be behind (power cut), ahead (another log) or empty.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamapp.errors import BrokerUnavailableError
from streamapp.faults import crash_point
from streamapp.state.changelog import (
    Mark,
    fingerprint,
    mark_key,
    read_mark,
    restore_from,
    write_mark,
)
from streamapp.state.store import prefix_end, shard_prefix

if TYPE_CHECKING:
    from threading import Event

    from streamapp.core.batch import TP, RecordBatch
    from streamapp.state.store import Store
    from streamapp.transport.broker import Broker, OffsetRange

#: Records of one read and write of a restore: bounds its memory and how long it stalls others.
_BATCH = 4_000
#: Seconds without a record before a restore gives up on a broker that should have some.
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One partition of a table and the changelog partition that it follows."""

    table: str
    partition: int
    log: TP
    uid: str


@dataclass(slots=True)
class RestoreProgress:
    """How far a restore is, in changelog records by partition; read by other threads."""

    total: dict[TP, int] = field(default_factory=dict)
    done: dict[TP, int] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def records(self) -> tuple[int, int]:
        """Records applied, and records in all."""
        return sum(self.done.values()), sum(self.total.values())

    @property
    def rate(self) -> float:
        """Records applied per second so far."""
        return self.records[0] / max((self.ended or time.monotonic()) - self.begun, 1e-9)


class RestoreStoppedError(Exception):
    """The worker lost the partitions (or stops) while they were being restored."""


def restore(
    broker: Broker,
    store: Store,
    plans: Sequence[ShardPlan],
    progress: RestoreProgress,
    stop: Event,
) -> None:
    """Bring the store to the end of each changelog, as it is at the time of the call.

    Raises:
        RestoreStoppedError: ``stop`` was set. What was applied is marked and stays valid.
        BrokerUnavailableError: The broker brought no records for a long time.
        StateError: The store failed.
    """
    starts: dict[TP, int] = {}
    ends: dict[TP, int] = {}
    by_log = {plan.log: plan for plan in plans}
    logs = broker.offsets(by_log)
    marks = _trusted(broker, by_log, logs, _marks(store, plans))
    for tp, log in logs.items():
        mark = marks.get(tp)
        offset = log.earliest if mark is None else mark.offset
        if mark is None:
            _wipe(store, by_log[tp])
        if offset < log.end:
            starts[tp], ends[tp] = offset, log.end
        else:
            _renew(store, by_log[tp], mark, log.end)
    progress.total.update({tp: ends[tp] - starts[tp] for tp in ends})
    _follow(broker, _Target(store, by_log, progress), starts, ends, stop)
    for tp in ends.keys() & marks.keys() - progress.done.keys():
        _renew(store, by_log[tp], marks[tp], marks[tp].offset)
    progress.ended = time.monotonic()


def _marks(store: Store, plans: Sequence[ShardPlan]) -> dict[TP, Mark]:
    found = {p.log: read_mark(store.get(mark_key(p.table, p.partition))) for p in plans}
    return {tp: mark for tp, mark in found.items() if mark is not None}


def _trusted(
    broker: Broker, plans: dict[TP, ShardPlan], logs: dict[TP, OffsetRange], marks: dict[TP, Mark]
) -> dict[TP, Mark]:
    """Return the marks that belong to the logs as they are."""
    now_ms = time.time_ns() // 1_000_000
    usable = {
        tp: mark
        for tp, mark in marks.items()
        if restore_from(mark, plans[tp].uid, logs[tp], now_ms) is not None
    }
    checks = _checks(broker, {tp: mark.offset - 1 for tp, mark in usable.items() if mark.offset})
    return {tp: mark for tp, mark in usable.items() if mark.check == checks.get(tp, 0)}


def _checks(broker: Broker, offsets: dict[TP, int]) -> dict[TP, int]:
    """Return the fingerprint of the record at each offset; 0 for one that compaction removed."""
    checks: dict[TP, int] = {}
    reader = broker.reader()
    try:
        reader.assign(offsets)
        patience = time.monotonic() + _PATIENCE_S
        while len(checks) < len(offsets) and time.monotonic() < patience:
            for batch in reader.poll(0.2, len(offsets)):
                if batch.tp not in checks:
                    is_there = batch.offsets[0] == offsets[batch.tp]
                    checks[batch.tp] = _check(batch, 0) if is_there else 0
            # Compaction may have left nothing there, and nothing behind it.
            at = reader.positions()
            checks.update({tp: 0 for tp in offsets.keys() - checks if at[tp] > offsets[tp]})
    finally:
        reader.close()
    # A mark without a record has 0 too: nothing found must not look like that.
    return {tp: check or -1 for tp, check in checks.items()}


def _check(batch: RecordBatch, index: int) -> int:
    return fingerprint(batch.keys[index], batch.values[index], batch.timestamps[index])


def _wipe(store: Store, plan: ShardPlan) -> None:
    prefix = shard_prefix(plan.table, plan.partition)
    store.apply({mark_key(plan.table, plan.partition): None})
    store.delete_range(prefix, prefix_end(prefix))


def _renew(store: Store, plan: ShardPlan, mark: Mark | None, end: int) -> None:
    """Note that the store was at the end of the log now."""
    new = _mark(plan, end, mark.check if mark is not None else 0)
    store.apply({mark_key(plan.table, plan.partition): new})


@dataclass(frozen=True, slots=True)
class _Target:
    store: Store
    plans: dict[TP, ShardPlan]
    progress: RestoreProgress

    def apply(self, batches: Sequence[RecordBatch], starts: dict[TP, int]) -> None:
        changes: dict[bytes, bytes | None] = {}
        for batch in batches:
            plan = self.plans[batch.tp]
            prefix = shard_prefix(plan.table, plan.partition)
            for key, value in zip(batch.keys, batch.values, strict=True):
                if key is not None:
                    changes[prefix + key] = value
            mark = _mark(plan, batch.offsets[-1] + 1, _check(batch, -1))
            changes[mark_key(plan.table, plan.partition)] = mark
            self.progress.done[batch.tp] = batch.next_offset - starts[batch.tp]
        self.store.apply(changes)
        crash_point("restore.batch")


def _follow(
    broker: Broker, target: _Target, starts: dict[TP, int], ends: dict[TP, int], stop: Event
) -> None:
    reader = broker.reader()
    try:
        reader.assign(starts)
        left, patience = dict(ends), time.monotonic() + _PATIENCE_S
        while left:
            if stop.is_set():
                raise RestoreStoppedError
            batches = reader.poll(0.2, _BATCH)
            if batches:
                target.apply(batches, starts)
                patience = time.monotonic() + _PATIENCE_S
            # Not the last record's offset: on Kafka the ends of commits stand behind it.
            at = reader.positions()
            left = {tp: end for tp, end in left.items() if at.get(tp, 0) < end}
            if time.monotonic() > patience:
                msg = f"The changelog {', '.join(tp.topic for tp in left)} brings no more records"
                raise BrokerUnavailableError(msg, hint="Is the broker's log damaged or locked?")
    finally:
        reader.close()


def _mark(plan: ShardPlan, offset: int, check: int) -> bytes:
    return write_mark(Mark(plan.uid, offset, time.time_ns() // 1_000_000, check))
