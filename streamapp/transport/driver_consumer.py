"""Faust's Consumer over a member of a group, or over a reader where Faust wants no group.

It must never ask the broker on the event loop for each record: batches wait in memory, bounded,
and Faust takes them from there. Faust's times are seconds, ours are milliseconds; here is the edge.
"""

from __future__ import annotations

import asyncio
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from faust.transport.consumer import Consumer as FaustConsumer
from faust.types.tuples import TP as FaustTP  # noqa: N811 - ours is TP too
from faust.types.tuples import ConsumerMessage
from mode import Service

from streamapp.core.batch import TP, Headers, RecordBatch
from streamapp.errors import FencedError, UnknownTopicError
from streamapp.transport.broker import Assigned, Lost, Position, Revoking
from streamapp.transport.driver_assignor import tell_assignor
from streamapp.transport.driver_buffers import Buffers, Partition
from streamapp.transport.driver_pump import Pump
from streamapp.transport.partitioner import partition_for_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streamapp.transport.broker import Broker, Member, MemberEvent, OffsetRange, Reader
    from streamapp.transport.driver import Transport


class _Subscribe(NamedTuple):
    topics: frozenset[str]


class _Raw(NamedTuple):
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Consumer(FaustConsumer):
    """See ``faust.transport.consumer.Consumer``; made by ``Transport.create_consumer``."""

    transport: Transport

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._events: asyncio.Queue[_Subscribe | Assigned | Revoking | Lost] = asyncio.Queue()
        self._arrived = asyncio.Event()
        self._assignment: set[FaustTP] = set()
        self._highwaters: dict[Partition, int] = {}
        self._buffers = Buffers()
        self._throttled: set[TP] = set()
        self._pump: Pump | None = None
        self._member: Member | None = None
        self._reader: Reader | None = None

    @property
    def _broker(self) -> Broker:
        return self.transport.broker

    # --- life ------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Open the broker; the group is joined by ``subscribe``."""
        await super().on_start()
        await self.transport.hold()

    async def on_stop(self) -> None:
        """Commit, leave the group, close."""
        await super().on_stop()
        await self._unsubscribe()
        await self.transport.drop()

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Read these topics from now on; the rebalance runs after this has returned."""
        wanted = frozenset(topics)
        for topic in sorted(wanted):
            try:
                await self.transport.call(self.transport.ensure_topic, topic)
            except UnknownTopicError as exc:
                self.log.warning("%s", exc)
        if self.app.client_only:
            await self._read_without_group(wanted)
        else:
            self._events.put_nowait(_Subscribe(wanted))

    async def _read_without_group(self, topics: frozenset[str]) -> None:
        tps = {
            FaustTP(topic, partition)
            for topic in topics
            for partition in range(self.transport.topics.get(topic) or 0)
        }
        taken = self._buffers.positions
        await self._unsubscribe()
        self._assignment = tps
        # Faust's conductor would know partition 0 alone, and end at a record of another one: an
        # answer sent before its client had declared the topic made one of several partitions.
        await self.app.topics.on_partitions_assigned(tps)
        self._reader = self._broker.reader()
        self._start_pump(self._reader)
        # From the start on by default: an answer may have come before its reader.
        ranges = await self._ranges(tps)
        await self._seek_all({tp: taken.get(TP(*tp), self._initial(ranges[tp])) for tp in tps})

    def _start_pump(self, source: Member | Reader) -> None:
        self._pump = Pump(source, self._deliver, self._on_pump_failed)
        self._pump.start(asyncio.get_running_loop())

    def _on_pump_failed(self, exc: BaseException) -> None:
        self.add_future(self.crash(exc))

    async def _unsubscribe(self) -> None:
        pump, self._pump = self._pump, None
        if pump is not None:
            await self.transport.call(pump.stop)
        member, self._member = self._member, None
        if member is not None:
            await self.transport.call(member.leave)
        reader, self._reader = self._reader, None
        if reader is not None:
            await self.transport.call(reader.close)
        self._buffers = Buffers()
        self._throttled.clear()

    # --- what the group does ---------------------------------------------------------------------

    @Service.task
    async def _follow_group(self) -> None:
        while not self.should_stop:
            match await self._events.get():
                case _Subscribe(topics):
                    await self._join(topics)
                case Assigned() as event:
                    await self._take_over(event)
                case Revoking() as event:
                    await self._let_go(event.tps)
                    await self._release()
                case Lost() as event:
                    self.log.warning("lost %d partitions: %s", len(event.tps), event.reason)
                    await self._let_go(event.tps)

    async def _join(self, topics: frozenset[str]) -> None:
        if self._member is not None:
            await self._let_go(self._assignment)
            await self._unsubscribe()
        url = str(self.app.conf.canonical_url)
        self._member = await self.transport.call(self._broker.join, self.app.conf.id, topics, url)
        self._start_pump(self._member)

    async def _let_go(self, tps: Iterable[Partition]) -> None:
        revoked = {FaustTP(*tp) for tp in tps}
        self.app.on_rebalance_start()
        # Faust's handler forgets what was acked before it waits for the agents; commit that first.
        await self.commit()
        await self.on_partitions_revoked(revoked)
        self._assignment -= revoked
        self._buffers.forget(revoked)
        self._throttled -= revoked

    async def _take_over(self, event: Assigned) -> None:
        if not self.app.rebalancing:
            self.app.on_rebalance_start()
            await self.on_partitions_revoked(set())
        assigned = {FaustTP(*tp) for tp in event.tps}
        self._assignment = assigned
        ends = await self.highwaters(*assigned)
        self._highwaters = {TP(*tp): end for tp, end in ends.items()}
        await self._tell_assignor(assigned)
        # Recovery gives up silently if it sees another generation than the app's.
        self.app.consumer_generation_id = event.generation
        await self.on_partitions_assigned(set(assigned), event.generation)

    async def _tell_assignor(self, owned: Iterable[Partition]) -> None:
        groups = await self.transport.call(self._broker.groups)
        members = groups[self.app.conf.id].members
        tell_assignor(self.app, owned, {member.url: member.tps for member in members})

    async def _release(self) -> None:
        if self._pump is not None and self._member is not None:
            await self._pump.call(self._member.release)

    # --- records ---------------------------------------------------------------------------------

    def _deliver(self, events: Sequence[MemberEvent]) -> None:
        for event in events:
            if not isinstance(event, RecordBatch):
                self._events.put_nowait(event)
            elif self._buffers.put(event):
                self._highwaters[event.tp] = max(
                    event.next_offset, self._highwaters.get(event.tp, 0)
                )
                self._throttle(event.tp)
        self._arrived.set()

    def _throttle(self, tp: TP) -> None:
        member, pump = self._member, self._pump
        if member is None or pump is None:
            return
        if tp not in self._throttled and self._buffers.is_full(tp):
            self._throttled.add(tp)
            pump.submit(lambda: member.pause([tp]))
        elif tp in self._throttled and self._buffers.is_low(tp):
            self._throttled.discard(tp)
            pump.submit(lambda: member.resume([tp]))

    async def _getmany(
        self,
        active_partitions: set[FaustTP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust's
    ) -> dict[FaustTP, list[_Raw]]:
        deadline = self.loop.time() + timeout
        while not (batches := self._buffers.take(active_partitions)):
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), deadline - self.loop.time())
            except TimeoutError:
                return {}
        for batch in batches:
            self._throttle(batch.tp)
        return {FaustTP(*batch.tp): _raw(batch) for batch in batches}

    def _to_message(self, tp: FaustTP, record: _Raw) -> ConsumerMessage:
        offset, timestamp_ms, key, value, headers = record
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            offset,
            timestamp_ms / 1_000,
            0,
            list(headers),
            key,
            value,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def on_buffer_drop(self, tp: FaustTP) -> None:
        """Let a waiting fetch see the partition again."""
        super().on_buffer_drop(tp)
        self._arrived.set()

    def resume_partitions(self, tps: Iterable[FaustTP]) -> None:
        """Let a waiting fetch see the partitions again."""
        super().resume_partitions(tps)
        self._arrived.set()

    # --- positions -------------------------------------------------------------------------------

    def assignment(self) -> set[FaustTP]:
        """Return the partitions owned now."""
        return self._assignment

    async def _commit(self, offsets: Mapping[FaustTP, int]) -> bool:
        member = self._member
        if member is None:
            return False
        positions = {TP(*tp): Position(offset) for tp, offset in offsets.items()}
        try:
            await self.transport.call(member.commit, [], positions)
        except FencedError as exc:
            self.log.warning("%s", exc)
            return False
        return True

    async def seek_to_committed(self) -> dict[FaustTP, int | None]:
        """Go to the committed offsets; where none is, to ``conf.consumer_auto_offset_reset``.

        Returns:
            Exactly what is committed, ``None`` for nothing (whatever Faust declares): it forgets
            what it had read, and refuses to commit behind a hole.
        """
        tps = [tp for tp in self._assignment if not self._is_changelog_tp(tp)]
        ranges = await self._ranges(tps)
        have = await self.transport.call(self._broker.committed, self.app.conf.id, _ours(tps))
        committed: dict[FaustTP, int | None] = dict.fromkeys(tps)
        committed.update({FaustTP(*tp): position.offset for tp, position in have.items()})
        await self._seek_all(
            {tp: self._initial(ranges[tp]) if at is None else at for tp, at in committed.items()}
        )
        return committed

    def _initial(self, readable: OffsetRange) -> int:
        from_end = self.app.conf.consumer_auto_offset_reset == "latest"
        return readable.end if from_end else readable.earliest

    async def _seek(self, partition: FaustTP, offset: int) -> None:
        await self._seek_all({partition: offset})

    async def seek_wait(self, partitions: Mapping[FaustTP, int]) -> None:
        """Go to these offsets, and let Faust's fetch loop accept records from there on."""
        await self._seek_all(partitions)
        for tp, offset in partitions.items():
            self._read_offset[tp] = offset or None

    async def seek_to_beginning(self, *partitions: FaustTP) -> None:
        """Go to the earliest offsets."""
        await self._seek_all(await self.earliest_offsets(*partitions))

    async def _seek_all(self, positions: Mapping[FaustTP, int]) -> None:
        wanted = {TP(*tp): offset for tp, offset in positions.items() if tp in self._assignment}
        pump, buffers = self._pump, self._buffers
        if pump is None:
            return
        buffers.begin_seek(wanted)
        self._throttled.difference_update(wanted)
        loop = asyncio.get_running_loop()

        def move() -> None:
            self._move(wanted)
            # In line with the batches, even if whoever waits for the seek has been cancelled.
            loop.call_soon_threadsafe(buffers.end_seek, wanted)

        await pump.call(move)

    def _move(self, positions: Mapping[TP, int]) -> None:
        if self._member is not None:
            self._member.seek(positions)
            self._member.resume(positions)
        elif self._reader is not None:
            self._reader.assign({**self._buffers.positions, **positions})

    async def position(self, tp: FaustTP) -> int | None:
        """Return the next offset that Faust will get."""
        return self._buffers.positions.get(TP(*tp))

    async def _ranges(self, tps: Iterable[FaustTP]) -> dict[FaustTP, OffsetRange]:
        ranges = await self.transport.call(self._broker.offsets, _ours(tps))
        return {FaustTP(*tp): readable for tp, readable in ranges.items()}

    async def earliest_offsets(self, *partitions: FaustTP) -> dict[FaustTP, int]:
        """Return the first readable offsets."""
        return {tp: readable.earliest for tp, readable in (await self._ranges(partitions)).items()}

    async def highwaters(self, *partitions: FaustTP) -> dict[FaustTP, int]:
        """Return the end offsets: the next ones to be written."""
        return {tp: readable.end for tp, readable in (await self._ranges(partitions)).items()}

    def highwater(self, tp: FaustTP) -> int:
        """Return the end offset as last seen; asked for every record."""
        return self._highwaters.get(tp, 0)

    # --- topics ----------------------------------------------------------------------------------

    def topic_partitions(self, topic: str) -> int | None:
        """Return the number of partitions, ``None`` for an unknown topic."""
        return self.transport.topics.get(topic)

    def key_partition(
        self, topic: str, key: bytes | None, partition: int | None = None
    ) -> int | None:
        """Return the partition of a key, ``None`` for an unknown topic or no key."""
        if partition is not None:
            return partition
        partitions = self.topic_partitions(topic)
        return partition_for_key(key, partitions) if partitions and key is not None else None

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """Create the topic unless it exists."""
        await self.app.producer.create_topic(*args, **kwargs)

    def _new_topicpartition(self, topic: str, partition: int) -> FaustTP:
        return FaustTP(topic, partition)


def _ours(tps: Iterable[FaustTP]) -> list[TP]:
    return [TP(*tp) for tp in tps]


def _raw(batch: RecordBatch) -> list[_Raw]:
    headers = batch.headers or repeat((), len(batch))
    columns = zip(batch.offsets, batch.timestamps, batch.keys, batch.values, headers, strict=True)
    return [_Raw(*row) for row in columns]
