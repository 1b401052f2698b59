"""Restoring: a store follows the changelogs of its partitions to their end.

Runs in a thread, before any record of the partitions is processed. Starts at the store's own mark,
never at the group's position: the store may be behind (power cut), ahead (another log) or empty.
``standby`` follows changelogs by the same steps, without an end.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamapp.errors import BrokerUnavailableError
from streamapp.faults import crash_point
from streamapp.state.changelog import (
    TOMBSTONES_KEPT_MS,
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


@dataclass(frozen=True, slots=True)
class Start:
    """Where a store goes on in a changelog that ends at ``end``; without a mark from nothing."""

    offset: int
    end: int
    mark: Mark | None


@dataclass(slots=True)
class RestoreProgress:
    """How far a restore is, in changelog records by partition; read by other threads.

    ``at_hand`` are offsets that the store had followed before.
    """

    total: dict[TP, int] = field(default_factory=dict)
    done: dict[TP, int] = field(default_factory=dict)
    at_hand: dict[TP, int] = field(default_factory=dict)
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
    by_log = {plan.log: plan for plan in plans}
    starts = find_starts(broker, store, by_log)
    prepare(store, by_log, starts)
    ahead = {tp: start for tp, start in starts.items() if start.offset < start.end}
    progress.total.update({tp: start.end - start.offset for tp, start in ahead.items()})
    progress.at_hand.update({tp: one.offset for tp, one in starts.items() if one.mark is not None})
    target = Target(store, by_log, progress, as_of(starts))
    _follow(broker, target, ahead, stop)
    target.renew(ahead)
    progress.ended = time.monotonic()


def find_starts(broker: Broker, store: Store, plans: Mapping[TP, ShardPlan]) -> dict[TP, Start]:
    """Return where the store goes on in each changelog, as it is now; writes nothing.

    ``plans`` by their logs. Raises what ``restore`` does.
    """
    logs = broker.offsets(plans)
    marks = _trusted(broker, plans, logs, _marks(store, plans.values()))
    return {
        tp: Start(log.earliest if (mark := marks.get(tp)) is None else mark.offset, log.end, mark)
        for tp, log in logs.items()
    }


def prepare(store: Store, plans: Mapping[TP, ShardPlan], starts: Mapping[TP, Start]) -> None:
    """Wipe what cannot be trusted, and note that the store was at the end where it is."""
    for tp, start in starts.items():
        if start.mark is None:
            _wipe(store, plans[tp])
        if start.offset >= start.end:
            plan, check = plans[tp], 0 if start.mark is None else start.mark.check
            mark = write_mark(Mark(plan.uid, start.end, _now_ms(), check))
            store.apply({mark_key(plan.table, plan.partition): mark})


def as_of(starts: Mapping[TP, Start]) -> dict[TP, int]:
    """Return when the store was last known to lack nothing of what it has followed.

    What is read from nothing on is as of the beginning of that: no deletion of a row that was read
    is gone from the log before it was there for ``TOMBSTONES_KEPT_MS``.
    """
    now_ms = _now_ms()
    return {tp: now_ms if one.mark is None else one.mark.at_ms for tp, one in starts.items()}


def _marks(store: Store, plans: Iterable[ShardPlan]) -> dict[TP, Mark]:
    found = {p.log: read_mark(store.get(mark_key(p.table, p.partition))) for p in plans}
    return {tp: mark for tp, mark in found.items() if mark is not None}


def _trusted(
    broker: Broker,
    plans: Mapping[TP, ShardPlan],
    logs: dict[TP, OffsetRange],
    marks: dict[TP, Mark],
) -> dict[TP, Mark]:
    """Return the marks that belong to the logs as they are."""
    now_ms = _now_ms()
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


@dataclass(frozen=True, slots=True)
class Target:
    """The store that changes are written to, by their logs; see ``as_of``."""

    store: Store
    plans: Mapping[TP, ShardPlan]
    progress: RestoreProgress
    as_of: dict[TP, int]

    @property
    def is_stale(self) -> bool:
        """Whether a log may have lost deletions that the store has not seen."""
        return min(self.as_of.values()) < _now_ms() - TOMBSTONES_KEPT_MS

    def apply(self, batches: Sequence[RecordBatch], starts: Mapping[TP, Start]) -> None:
        """Write consecutive records of some logs with their marks, as one atomic step."""
        changes: dict[bytes, bytes | None] = {}
        for batch in batches:
            plan = self.plans[batch.tp]
            prefix = shard_prefix(plan.table, plan.partition)
            for key, value in zip(batch.keys, batch.values, strict=True):
                if key is not None:
                    changes[prefix + key] = value
            at_ms = self.as_of[batch.tp]
            mark = Mark(plan.uid, batch.offsets[-1] + 1, at_ms, _check(batch, -1))
            changes[mark_key(plan.table, plan.partition)] = write_mark(mark)
            self.progress.done[batch.tp] = batch.next_offset - starts[batch.tp].offset
        self.store.apply(changes)

    def renew(self, tps: Iterable[TP]) -> None:
        """Note that the store is at the end of these logs now."""
        now_ms = _now_ms()
        notes: dict[bytes, bytes | None] = {}
        for tp, mark in _marks(self.store, [self.plans[tp] for tp in tps]).items():
            key = mark_key(self.plans[tp].table, self.plans[tp].partition)
            notes[key] = write_mark(Mark(mark.uid, mark.offset, now_ms, mark.check))
            self.as_of[tp] = now_ms
        self.store.apply(notes)


def _follow(broker: Broker, target: Target, starts: Mapping[TP, Start], stop: Event) -> None:
    reader = broker.reader()
    try:
        reader.assign({tp: start.offset for tp, start in starts.items()})
        left = {tp: start.end for tp, start in starts.items()}
        patience = time.monotonic() + _PATIENCE_S
        while left:
            if stop.is_set():
                raise RestoreStoppedError
            batches = reader.poll(0.2, _BATCH)
            if batches:
                target.apply(batches, starts)
                crash_point("restore.batch")
                patience = time.monotonic() + _PATIENCE_S
            # Not the last record's offset: on Kafka the ends of commits stand behind it.
            at = reader.positions()
            left = {tp: end for tp, end in left.items() if at.get(tp, 0) < end}
            if time.monotonic() > patience:
                msg = f"The changelog {', '.join(tp.topic for tp in left)} brings no more records"
                raise BrokerUnavailableError(msg, hint="Is the broker's log damaged or locked?")
    finally:
        reader.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
