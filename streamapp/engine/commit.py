"""The commit: outputs, changed rows and positions become one atomic step of the broker.

The cut is taken on the event loop between two steps of all agents, so it needs no waiting: agents
at the end of an event contribute their position, an event in hand contributes nothing (its rows are
taken as they were before it). Then it is written (``committer`` says by whom), in this order:

1. the broker's one transaction: outputs, changelog records and positions;
2. at its own slower pace the local store: rows, then the marks up to which they are complete.

The reverse order would let the store hold rows that the changelog lacks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from streamapp.core.batch import TP, OutRecord
from streamapp.faults import crash_point
from streamapp.state.changelog import Mark, change_records, fingerprint, mark_key, write_mark
from streamapp.state.store import note_key
from streamapp.transport.broker import Position

if TYPE_CHECKING:
    from streamapp.state.shard import Shard
    from streamapp.state.store import Store
    from streamapp.transport.at_once import CommitsAtOnce
    from streamapp.transport.broker import Member

#: Rows that wait for the store before it is written although its interval has not passed: bounds
#: their memory and the time of one write.
_FLUSH_ROWS = 50_000
#: Rows of one write: RocksDB holds the interpreter's lock meanwhile, which stalls all agents.
_WRITE_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Cut:
    """The effects of all events finished since the last cut."""

    outputs: list[OutRecord]
    rows: list[tuple[Shard, TP, dict[bytes, bytes | None]]]
    positions: dict[TP, Position]

    @property
    def size(self) -> int:
        """Number of records that it becomes."""
        return len(self.outputs) + sum(len(changes) for _, _, changes in self.rows)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (self.outputs or self.positions or self.rows)


@dataclass(slots=True)
class Written:
    """What a commit did: which rows the store has now; times in seconds, ``cpu`` of the thread."""

    flushed: list[tuple[Shard, dict[bytes, bytes | None]]]
    records: int
    seconds: float
    cpu_seconds: float


@dataclass(slots=True)
class StoreWriter:
    """Rows that are in the changelog and wait for the local store. Used by one commit at a time.

    ``uids`` names the incarnation of each changelog topic.
    """

    store: Store
    uids: Mapping[str, str]
    interval_s: float
    _changes: dict[bytes, bytes | None] = field(default_factory=dict)
    _notes: dict[bytes, bytes | None] = field(default_factory=dict)
    _rows: list[tuple[Shard, dict[bytes, bytes | None]]] = field(default_factory=list)
    _last: float = field(default_factory=time.monotonic)

    def add(self, cut: Cut, last: Mapping[TP, tuple[int, int]]) -> None:
        """Take the rows of a cut that the broker has now.

        ``last`` holds offset and fingerprint of the last record written to each changelog.
        """
        now_ms = time.time_ns() // 1_000_000
        for shard, tp, changes in cut.rows:
            prefix = shard.prefix
            self._changes.update({prefix + key: value for key, value in changes.items()})
            offset, check = last[tp]
            mark = Mark(self.uids[tp.topic], offset + 1, now_ms, check)
            self._notes[mark_key(shard.table, shard.partition)] = write_mark(mark)
            self._rows.append((shard, changes))
        for tp, position in cut.positions.items():
            note = note_key(f"position/{tp.topic}/{tp.partition}")
            self._notes[note] = f"{position.offset} {position.metadata}".encode()

    def is_due(self, more: int = 0) -> bool:
        """Tell whether it is time to write, also with so many rows more."""
        is_late = time.monotonic() - self._last >= self.interval_s
        return is_late or len(self._changes) + more >= _FLUSH_ROWS

    def flush(self, *, force: bool = False) -> list[tuple[Shard, dict[bytes, bytes | None]]]:
        """Write what waits if it is time; return the rows that the store has now.

        Raises:
            StateError: The store failed; what waited is lost here but is in the changelog.
        """
        if not self._notes or not (force or self.is_due()):
            return []
        crash_point("store.before")
        # The marks come last: rows that are ahead of their mark are written again from the
        # changelog, a mark that is ahead of its rows would lose them.
        changes = iter(self._changes.items())
        while part := dict(islice(changes, _WRITE_ROWS)):
            self.store.apply(part)
            crash_point("store.between")
        self.store.apply(self._notes)
        crash_point("store.after")
        rows, self._rows, self._changes, self._notes = self._rows, [], {}, {}
        self._last = time.monotonic()
        return rows


def write_cut(member: Member, cut: Cut, writer: StoreWriter) -> Written:
    """Commit a cut. Called by the commit thread; see the module for the order.

    Raises:
        FencedError: The partitions belong to someone else now; nothing was written.
        BrokerFullError: Nothing was written; may be called again as it is.
        StateError: The broker has the cut, the store has not: it must be opened again and follow
            the changelog.
    """
    begun = _Times.now()
    records = _records_of(cut)
    return _written(cut, writer, records, member.commit(records, cut.positions), begun)


def write_cut_at_once(member: CommitsAtOnce, cut: Cut, writer: StoreWriter) -> Written | None:
    """Commit a cut as ``write_cut`` does; ``None`` if others would have to be waited for."""
    begun = _Times.now()
    records = _records_of(cut)
    offsets = member.commit_at_once(records, cut.positions)
    return None if offsets is None else _written(cut, writer, records, offsets, begun)


class _Times(NamedTuple):
    """Seconds by the clock, and of the thread's CPU."""

    clock: float
    cpu: float

    @classmethod
    def now(cls) -> _Times:
        return cls(time.perf_counter(), time.thread_time())


def _records_of(cut: Cut) -> list[OutRecord]:
    now_ms = time.time_ns() // 1_000_000
    records = [*cut.outputs]
    for _, tp, changes in cut.rows:
        records.extend(change_records(tp, changes, now_ms))
    crash_point("commit.before")
    return records


def _written(
    cut: Cut,
    writer: StoreWriter,
    records: Sequence[OutRecord],
    offsets: Sequence[int],
    begun: _Times,
) -> Written:
    """Let the rows of a cut that the broker has at these offsets go to the store."""
    crash_point("commit.after")
    last = {record.tp: (offset, record) for record, offset in zip(records, offsets, strict=True)}
    writer.add(
        cut,
        {
            tp: (offset, fingerprint(record.key, record.value, record.timestamp_ms))
            for tp, (offset, record) in last.items()
        },
    )
    flushed = writer.flush()
    ended = _Times.now()
    return Written(flushed, len(records), ended.clock - begun.clock, ended.cpu - begun.cpu)
