"""Bugs to be planted in a worker, so that the checker shows that it can see them.

Each one replaces a method in the worker's process; where a bug needs a death at one moment, that
moment is made longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from streamapp.core.batch import TP, OutRecord, RecordBatch
from streamapp.engine import commit, committer, restore
from streamapp.engine.engine import Engine
from streamapp.engine.group import GroupFollower
from streamapp.engine.topic import Topic
from streamapp.engine.work import Slot, Window
from streamapp.state.shard import Shard
from streamapp.transport.broker import Position
from streamapp.transport.sqlite.member import SqliteMember

#: Seconds between two steps that should be one.
_GAP_S = 0.03


def _by_thread() -> None:
    """Let no commit be written on the event loop."""
    SqliteMember.commit_at_once = lambda *_: None  # type: ignore[method-assign]


def two_transactions() -> None:
    """Commit changelog and outputs first, positions in a transaction of their own."""
    one = SqliteMember.commit

    def two(
        self: SqliteMember, records: Sequence[OutRecord], positions: Mapping[TP, Position]
    ) -> list[int]:
        offsets = one(self, records, {})
        time.sleep(_GAP_S)
        one(self, [], positions)
        return offsets

    SqliteMember.commit = two  # type: ignore[method-assign]
    _by_thread()


def positions_first() -> None:
    """Commit positions first, changelog and outputs in a transaction of their own."""
    one = SqliteMember.commit

    def two(
        self: SqliteMember, records: Sequence[OutRecord], positions: Mapping[TP, Position]
    ) -> list[int]:
        one(self, [], positions)
        time.sleep(_GAP_S)
        return one(self, records, {})

    SqliteMember.commit = two  # type: ignore[method-assign]
    _by_thread()


def store_first() -> None:
    """Write rows to the store before the broker has them; the restore trusts them."""
    right = commit.write_cut

    def wrong(member: Any, cut: commit.Cut, writer: commit.StoreWriter) -> commit.Written:
        for shard, _, changes in cut.rows:
            writer.store.apply({shard.prefix + key: value for key, value in changes.items()})
        time.sleep(_GAP_S)
        return right(member, cut, writer)

    committer.write_cut = wrong  # type: ignore[attr-defined]
    _by_thread()


def last_of_batch_dropped() -> None:
    """Lose the last record of each batch of several."""
    right = Engine._deliver

    def wrong(self: Engine, batch: RecordBatch) -> None:
        right(self, _shorter(batch) if len(batch) > 1 else batch)

    Engine._deliver = wrong  # type: ignore[method-assign]


def position_off_by_one() -> None:
    """Commit the offset after the next one."""
    right = GroupFollower.take_cut

    def wrong(self: GroupFollower) -> commit.Cut:
        cut = right(self)
        moved = {tp: Position(at.offset + 1, at.metadata) for tp, at in cut.positions.items()}
        return replace(cut, positions=moved)

    GroupFollower.take_cut = wrong  # type: ignore[method-assign]


def half_events() -> None:
    """Let the cut have the rows that an event in hand has written so far."""

    def wrong(self: Shard) -> dict[Hashable, tuple[object, bool]]:  # noqa: ARG001 - a method
        return {}

    Shard.begun = wrong  # type: ignore[method-assign]


def early_effects() -> None:
    """Let events of a concurrent agent take effect before those that were before them."""
    right = Window.retire

    def wrong(self: Window) -> tuple[list[Slot], Slot | None]:
        for slot in self.slots:
            if slot.is_finished:
                slot.scope.finish()
        return right(self)

    Window.retire = wrong  # type: ignore[method-assign]


def outputs_at_once() -> None:
    """Send outputs before the event's commit."""
    right = Topic.send

    async def wrong(self: Topic, **record: Any) -> Any:
        return await right(self, **{**record, "force": True})

    Topic.send = wrong  # type: ignore[method-assign]


def restore_one_short() -> None:
    """Leave out the last record of each changelog partition that is restored."""
    right = restore.Target.apply

    def wrong(
        self: restore.Target, batches: Sequence[RecordBatch], starts: Mapping[TP, restore.Start]
    ) -> None:
        shorter = []
        for batch in batches:
            is_last = batch.next_offset >= starts[batch.tp].end
            shorter.append(_shorter(batch) if is_last and len(batch.offsets) > 1 else batch)
        right(self, shorter, starts)

    restore.Target.apply = wrong  # type: ignore[method-assign]


def _shorter(batch: RecordBatch) -> RecordBatch:
    headers = batch.headers
    return replace(
        batch,
        offsets=batch.offsets[:-1],
        timestamps=batch.timestamps[:-1],
        keys=batch.keys[:-1],
        values=batch.values[:-1],
        headers=None if headers is None else headers[:-1],
    )


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        two_transactions,
        positions_first,
        store_first,
        last_of_batch_dropped,
        position_off_by_one,
        half_events,
        early_effects,
        outputs_at_once,
        restore_one_short,
    )
}
