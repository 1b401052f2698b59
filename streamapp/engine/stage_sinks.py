"""Where the rows of a pipeline leave it: into topics, into the next stage, into a table."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from streamapp.core.batch import TP, Headers, OutRecord
from streamapp.core.rows import Rows
from streamapp.core.times import NEVER_MS
from streamapp.errors import UsageError
from streamapp.operators.operator import RowError
from streamapp.operators.results import CORRECTION, RETRACT, WindowRow
from streamapp.pipelines.clock import watermark_header
from streamapp.serde.ordered_keys import encode_key
from streamapp.state.rows import ABSENT
from streamapp.state.scope import EventScope
from streamapp.state.shard import Shard, memory_key
from streamapp.transport.partitioner import partition_for_key

if TYPE_CHECKING:
    from streamapp.engine.topic import Topic
    from streamapp.pipelines.codecs import StateCodec
    from streamapp.pipelines.nodes import ToTopic
    from streamapp.state.result_table import ResultTable

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

    def write(self, rows: Rows) -> None:
        """See ``pipelines.task.Sink``."""
        for index, value in enumerate(rows.values):
            if self._only and isinstance(value, WindowRow) and value.kind not in self._only:
                continue
            try:
                key, data = self._encoded(rows.keys[index], value)
            except Exception as exc:
                raise RowError(rows.origins[index]) from exc
            partition = self._choose(self._name, key, self._partitions)
            self._send(OutRecord(TP(self._name, partition), key, data, rows.times[index]))

    def _encoded(self, key: Any, value: Any) -> tuple[bytes | None, bytes | None]:
        if self._topic.key_type is None and not isinstance(key, str | bytes | None):
            # A topic that declares no keys takes what is bytes or text already.
            key = ",".join(map(str, key)) if isinstance(key, tuple) else str(key)
        return self._topic.encode("key", key), self._topic.encode("value", value)


class RegroupSink:
    """Rows go to the partition of their new key; each partition is told of the watermark."""

    def __init__(
        self, topic: str, codec: StateCodec, partitions: int, partition: int, send: Send
    ) -> None:
        self._topic = topic
        self._codec = codec
        self._told = [NEVER_MS] * partitions
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
        self._told_all, self._was_idle = watermark_ms, is_idle
        headers = watermark_header(self._partition, watermark_ms, is_idle=is_idle)
        for target in range(len(self._told)):
            self._told[target] = max(self._told[target], watermark_ms)
            record = OutRecord(TP(self._topic, target), None, None, max(watermark_ms, 0), headers)
            self._send(record)


class TableSink:
    """Rows become rows of a table; window rows under (key, start)."""

    def __init__(self, table: ResultTable, partition: int, *, is_windowed: bool) -> None:
        self._table = table
        self._partition = partition
        self._is_windowed = is_windowed
        self._scope = EventScope()

    def write(self, rows: Rows) -> None:
        """See ``pipelines.task.Sink``."""
        scope, shard = self._scope, self._table.shards[self._partition]
        try:
            for index, value in enumerate(rows.values):
                try:
                    self._put(shard, rows.keys[index], value)
                except Exception as exc:
                    raise RowError(rows.origins[index]) from exc
        finally:
            # Nothing awaits in between, so nobody has met the rows half done.
            scope.finish()
            scope.let_go()

    def _put(self, shard: Shard, key: Any, value: Any) -> None:
        ends_ms = 0
        if self._is_windowed:
            if value.kind == CORRECTION:
                return
            parts = key if isinstance(key, tuple) else (key,)
            key, ends_ms = (*parts, value.start), value.end - 1
        is_gone = value is None or (self._is_windowed and value.kind == RETRACT)
        held = ABSENT if is_gone else self._table.held(key, value, ends_ms)
        self._scope.write(shard, memory_key(key), held)
