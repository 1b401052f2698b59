"""Where the rows of a pipeline leave it: into topics, into the next stage, into a table."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from streamapp.core.batch import TP, Headers, OutRecord
from streamapp.core.rows import Rows
from streamapp.core.times import NEVER_MS
from streamapp.errors import UsageError
from streamapp.operators.operator import RowError
from streamapp.operators.results import CORRECTION, RETRACT, WindowRow
from streamapp.pipelines.clock import watermark_header
from streamapp.serde.ordered_keys import encode_key, encode_with_last
from streamapp.state.scope import EventScope
from streamapp.state.shard import Shard
from streamapp.transport.partitioner import partition_for_key

if TYPE_CHECKING:
    from streamapp.engine.topic import Topic
    from streamapp.pipelines.codecs import StateCodec
    from streamapp.pipelines.nodes import ToTopic
    from streamapp.state.result_table import ResultTable

#: Kinds of rows that are not written as they are.
_UNWRITTEN: Final = frozenset({CORRECTION, RETRACT})
#: Less than every watermark.
_UNTOLD_MS = NEVER_MS - 1
#: Keys whose partition a sink remembers.
_PLACES: Final = 50_000
#: Takes a finished record; it is part of the next commit.
Send = Callable[[OutRecord], None]


class ReadScope(EventScope):
    """What the functions of a pipeline see of tables: the rows of finished events, to read only."""

    def __init__(self) -> None:
        super().__init__(tracks_always=True)

    def read(self, shard: Shard, key: Hashable) -> object:
        """See ``EventScope.read``."""
        if shard.owner is not None:
            shard.owner.yield_to_other(shard)
        return shard.read(key)

    def write(self, shard: Shard, key: Hashable, value: object) -> None:
        """Refuse."""
        del key, value
        msg = f"Table {shard.table} is written inside of a pipeline's function"
        raise UsageError(msg, hint="Let the pipeline write .to(table=...), or write in an agent")


class TopicSink:
    """Rows become records of a topic, under their key and with their time."""

    def __init__(self, node: ToTopic, partitions: int, choose: Any, send: Send) -> None:
        self._topic: Topic = node.topic
        self._name = node.topic.get_topic_name()
        self._only = node.only
        self._partitions = partitions
        self._choose = choose
        self._send = send
        #: Where records of a key go, and its bytes.
        self._places: dict[Hashable, tuple[TP, bytes | None]] = {}

    def write(self, rows: Rows) -> None:
        """See ``pipelines.task.Sink``."""
        only, send, encode = self._only, self._send, self._topic.encode
        columns = zip(rows.keys, rows.values, rows.times, rows.origins, strict=True)
        for key, value, time_ms, origin in columns:
            if only and isinstance(value, WindowRow) and value.kind not in only:
                continue
            try:
                tp, raw = self._places.get(key) or self._place(key)
                data = encode("value", value)
            except Exception as exc:
                raise RowError(origin) from exc
            send(OutRecord(tp, raw, data, time_ms))

    def _place(self, key: Any) -> tuple[TP, bytes | None]:
        given = key
        if self._topic.key_type is None and not isinstance(key, str | bytes | None):
            # A topic that declares no keys takes what is bytes or text already.
            key = ",".join(map(str, key)) if isinstance(key, tuple) else str(key)
        raw = self._topic.encode("key", key)
        place = TP(self._name, self._choose(self._name, raw, self._partitions)), raw
        if raw is not None:  # records without a key go everywhere
            if len(self._places) >= _PLACES:
                self._places.clear()
            self._places[given] = place
        return place


class RegroupSink:
    """Rows go to the partition of their new key; each partition is told of the watermark."""

    def __init__(
        self, topic: str, codec: StateCodec, partitions: int, partition: int, send: Send
    ) -> None:
        self._topic = topic
        self._codec = codec
        self._told = [_UNTOLD_MS] * partitions
        self._partition = partition
        self._send = send
        self._was_idle: bool | None = None
        self._told_all: int | None = None

    def write(self, rows: Rows) -> None:
        """See ``pipelines.task.Sink``."""
        told, encode = self._told, self._codec.encode
        for index, value in enumerate(rows.values):
            try:
                key, data = encode_key(rows.keys[index]), encode(value)
            except Exception as exc:
                raise RowError(rows.origins[index]) from exc
            target = partition_for_key(key, len(told))
            mark = rows.marks[index]
            headers: Headers = ()
            if mark > told[target]:
                told[target] = mark
                headers = watermark_header(self._partition, mark)
            self._send(OutRecord(TP(self._topic, target), key, data, rows.times[index], headers))

    def tell(self, watermark_ms: int, *, is_idle: bool) -> None:
        """Tell all partitions how far this one is, if that is news."""
        if watermark_ms == self._told_all and is_idle == self._was_idle:
            return
        if is_idle and watermark_ms != self._told_all:
            # It moved before it fell silent, and that counts.
            self._signal(watermark_ms, is_idle=False)
        self._signal(watermark_ms, is_idle=is_idle)
        self._told_all, self._was_idle = watermark_ms, is_idle

    def _signal(self, watermark_ms: int, *, is_idle: bool) -> None:
        headers = watermark_header(self._partition, watermark_ms, is_idle=is_idle)
        for target, told_ms in enumerate(self._told):
            # The next record ends the silence, so it must say so, however far it is.
            self._told[target] = _UNTOLD_MS if is_idle else max(told_ms, watermark_ms)
            record = OutRecord(TP(self._topic, target), None, None, max(watermark_ms, 0), headers)
            self._send(record)


class TableSink:
    """Rows become rows of a table; window rows under (key, start)."""

    def __init__(self, table: ResultTable, partition: int, *, is_windowed: bool) -> None:
        self._table = table
        self._partition = partition
        self._packed = self._packed_windows if is_windowed else self._packed_rows

    def write(self, rows: Rows) -> None:
        """See ``pipelines.task.Sink``."""
        shard = self._table.shards[self._partition]
        if shard.owner is not None:
            shard.owner.yield_to_other(shard)
        try:
            shard.stage(self._packed(rows))
        except Exception:  # noqa: BLE001 - written one by one, it says which row and why
            self._write_singly(shard, rows)

    def _write_singly(self, shard: Shard, rows: Rows) -> None:
        for index, origin in enumerate(rows.origins):
            try:
                packed = self._packed(rows.part(index, index + 1))
            except Exception as exc:
                raise RowError(origin) from exc
            shard.stage(packed)

    def _packed_rows(self, rows: Rows) -> dict[bytes, bytes | None]:
        there = [value for value in rows.values if value is not None]
        data = iter(self._encoded(there, [0] * len(there)))
        packed = [None if value is None else next(data) for value in rows.values]
        return dict(zip(map(encode_key, rows.keys), packed, strict=True))

    def _packed_windows(self, rows: Rows) -> dict[bytes, bytes | None]:
        values: Any = rows.values
        if not _UNWRITTEN.isdisjoint([value.kind for value in values]):
            return self._packed_others(rows)
        keys = encode_with_last(rows.keys, [value.start for value in values])
        data = self._encoded(values, [value.end - 1 for value in values])
        return dict(zip(keys, data, strict=True))

    def _packed_others(self, rows: Rows) -> dict[bytes, bytes | None]:
        """Do as ``_packed_windows`` where rows are taken back, or correct others."""
        packed: dict[bytes, bytes | None] = {}
        for key, value in zip(rows.keys, cast("Sequence[WindowRow]", rows.values), strict=True):
            if value.kind != CORRECTION:
                (raw,) = encode_with_last([key], [value.start])
                is_gone = value.kind == RETRACT
                packed[raw] = None if is_gone else self._encoded([value], [value.end - 1])[0]
        return packed

    def _encoded(self, values: Sequence[object], ends_ms: Sequence[int]) -> list[bytes]:
        found = self._table.encoded(values)
        if self._table.spec.ttl_ms is None:
            return found
        heads = {end: end.to_bytes(8, "big", signed=True) for end in {*ends_ms}}
        return [heads[end] + data for end, data in zip(ends_ms, found, strict=True)]
