"""When and where commits happen, and what a failed one leads to. One commit at a time.

A thread writes them, beside the agents. But to wake it, and to share the interpreter with it, takes
several times as long as a commit of a few records: such a one is written on the event loop, if the
broker can do that without waiting for others and the disk is fast.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from streamapp.engine.commit import Cut, StoreWriter, Written, write_cut, write_cut_at_once
from streamapp.errors import BrokerFullError, StateError
from streamapp.transport.at_once import CommitsAtOnce

if TYPE_CHECKING:
    from streamapp.engine.checkpoints import CheckpointMaker
    from streamapp.engine.gate import Gate
    from streamapp.engine.outbox import Outbox
    from streamapp.state.shard import CacheBudget
    from streamapp.transport.broker import Member

log = logging.getLogger(__name__)
_T = TypeVar("_T")

#: CPU seconds of a commit from which on the next outputs gather for as long before theirs, so that
#: commits take at most half of the CPU. Smaller ones follow each other at once: outputs gather
#: while the last commit waits for the disk, and a shorter sleep than this there is none.
_LINGER_S = 0.001
#: Records of a commit that is written on the event loop at most: a thread that shares the
#: interpreter with a busy loop takes longer for all that are less, and bounds what a turn takes.
_AT_ONCE_RECORDS = 2_000
#: Seconds that such a commit may have waited for the disk. After one that has waited longer the
#: thread writes them, for so many times as long: a slow disk takes a twentieth of the loop's time.
_AT_ONCE_WAIT_S, _AT_ONCE_PAUSE = 0.005, 20
#: Seconds after which a commit that is not done is worth a line in the log.
_SLOW_S = 5.0
#: Seconds between two tries while the broker has no room.
_FULL_PAUSE_S = 0.5


@dataclass(slots=True)
class CommitStats:
    """What commits have done since the worker started; times in seconds."""

    commits: int = 0
    records: int = 0
    failures: int = 0
    seconds: float = 0.0
    last_seconds: float = 0.0
    last_at: float = field(default_factory=time.time)


class Committer:
    """Commits every ``interval_s``, and early when outputs wait.

    ``take`` makes the cut; it is called on the loop with no agent running.
    """

    def __init__(  # noqa: PLR0913 - what a commit touches
        self,
        *,
        take: Callable[[], Cut],
        on_committed: Callable[[Cut], None],
        gate: Gate,
        outbox: Outbox,
        budget: CacheBudget,
        interval_s: float,
    ) -> None:
        self.stats = CommitStats()
        self.member: Member | None = None
        self.writer: StoreWriter | None = None
        self.is_full = False
        self.is_slow = False
        #: Its rows are in nobody's cut any more: a later one would commit positions beyond them.
        self._has_failed = False
        self._take = take
        self._on_committed = on_committed
        self._gate = gate
        self._outbox = outbox
        self._budget = budget
        self._interval_s = interval_s
        self._last_cpu_s = 0.0
        #: By the monotonic clock: before, commits are the thread's.
        self._at_once_from = 0.0
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="streamapp-commit")

    async def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Run a function on the commit thread, between two commits."""
        async with self._lock:
            return await self._call(function, *args)

    async def wait_until_due(self) -> None:
        """Wait for the end of the interval, or for outputs."""
        wanted = self._outbox.wanted
        # Unlike `wait_for` this needs no task, nor turns of the loop between an output and its cut.
        alarm = asyncio.get_running_loop().call_later(self._interval_s, wanted.set)
        try:
            await wanted.wait()
        finally:
            alarm.cancel()
        # If there can be no commit now, the next try is for the end of the next interval.
        wanted.clear()
        if self._last_cpu_s >= _LINGER_S:
            await asyncio.sleep(min(self._last_cpu_s, self._interval_s))

    async def reset(self) -> None:
        """Commit nothing any more of what was finished until now; waits for a running commit."""
        self.writer = None
        self._outbox.drop()
        async with self._lock:
            await self._call(lambda: None)
            self._has_failed = False

    async def commit(self, *, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Commit all events that are finished; returns when that is durable.

        While the broker has no room it tries again, and agents begin no events, until ``give_up``.
        After a commit that failed nothing is committed until ``reset``: ``False``.

        Raises:
            FencedError: The partitions belong to someone else now.
            BrokerFullError: It gave up.
            StateError: The store failed, now or at a read; it must be opened again.
        """
        async with self._lock:
            if self._has_failed:
                return False
            if self._budget.fault is not None:
                raise self._budget.fault
            if self._budget.is_crowded:
                self._gate.close("rows wait for the commit")
            self._has_failed = True
            try:
                await self._commit(self._take(), give_up)
            finally:
                self._gate.open("rows wait for the commit")
            self._has_failed = False
            return True

    async def flush(self) -> None:
        """Write everything that waits for the store."""
        async with self._lock:
            await self._flush()

    async def checkpoint(self, maker: CheckpointMaker) -> None:
        """Make a checkpoint of what is committed.

        Raises:
            StateError: The store failed, or there is no room.
        """
        async with self._lock:
            if self.writer is not None:
                _mark_flushed(await self._call(maker.make, self.writer))

    def close(self) -> None:
        """End the thread. Blocks until a running commit ends."""
        self._thread.shutdown()

    async def _commit(self, cut: Cut, give_up: Callable[[], bool]) -> None:
        if self.member is None or self.writer is None:
            return
        if not cut.is_empty:
            written = await self._write(self.member, self.writer, cut, give_up)
            self._note(written)
            self._on_committed(cut)
            _mark_flushed(written.flushed)
        if cut.is_empty or self._budget.is_crowded:
            await self._flush(force=self._budget.is_crowded)
        self._budget.relax()

    async def _write(
        self, member: Member, writer: StoreWriter, cut: Cut, give_up: Callable[[], bool]
    ) -> Written:
        try:
            while True:
                try:
                    written = self._write_at_once(member, writer, cut)
                    if written is None:
                        written = await self._watched(write_cut, member, cut, writer)
                except BrokerFullError as exc:
                    self._note_full(exc)
                    if give_up():
                        raise
                    await asyncio.sleep(_FULL_PAUSE_S)
                else:
                    if self.is_full:
                        log.info("The broker has room again")
                    return written
        except StateError:
            # The broker has the cut: its positions count.
            self._on_committed(cut)
            raise
        finally:
            # Also when it gives up: the next commit finds out by itself whether there is room.
            self.is_full = False
            self._gate.open("the broker has no room")

    def _write_at_once(self, member: Member, writer: StoreWriter, cut: Cut) -> Written | None:
        size = cut.size
        if (
            size > _AT_ONCE_RECORDS
            or time.monotonic() < self._at_once_from
            or writer.is_due(size)
            or not isinstance(member, CommitsAtOnce)
        ):
            return None
        written = write_cut_at_once(member, cut, writer)
        if written is not None:
            waited_s = written.seconds - written.cpu_seconds
            if waited_s > _AT_ONCE_WAIT_S:
                self._at_once_from = time.monotonic() + waited_s * _AT_ONCE_PAUSE
        return written

    def _note_full(self, exc: BrokerFullError) -> None:
        self.stats.failures += 1
        if not self.is_full:
            log.error("%s. Agents wait until the commit succeeds", exc)
        self.is_full = True
        self._gate.close("the broker has no room")

    async def _flush(self, *, force: bool = True) -> None:
        if self.writer is not None:
            writer = self.writer
            _mark_flushed(await self._call(lambda: writer.flush(force=force)))

    async def _call(self, function: Callable[..., _T], *args: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def _watched(self, function: Callable[..., _T], *args: Any) -> _T:
        """Like ``_call``, and say so when it takes so long that somebody must be told."""
        running = asyncio.ensure_future(self._call(function, *args))
        done, _ = await asyncio.wait({running}, timeout=_SLOW_S)
        if not done:
            self.is_slow = True
            log.warning(
                "A commit waits since %.0f s: the disk is busy, a cluster does not answer, or "
                "another process of this broker is frozen (stopped, in a debugger) while it writes",
                _SLOW_S,
            )  # fmt: skip
        try:
            return await running
        finally:
            if self.is_slow:
                log.warning("The commit that had been waiting is done")
                self.is_slow = False

    def _note(self, written: Written) -> None:
        stats = self.stats
        stats.commits += 1
        stats.records += written.records
        stats.seconds += written.seconds
        stats.last_seconds = written.seconds
        self._last_cpu_s = written.cpu_seconds
        stats.last_at = time.time()


def _mark_flushed(flushed: list[Any]) -> None:
    for shard, changes in flushed:
        shard.flushed(changes)
