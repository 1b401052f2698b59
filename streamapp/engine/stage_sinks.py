"""Where the rows of a pipeline leave it: into topics, into the next stage, into a table."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from streamapp.core.batch import TP, Headers, OutRecord, out_records
from streamapp.core.rows import Rows
from streamapp.core.times import NEVER_MS
from streamapp.engine.places import Places
from streamapp.errors import UsageError
from streamapp.operators.operator import RowError
from streamapp.operators.pick import picked
from streamapp.operators.results import CORRECTION, RETRACT, WindowRow
from streamapp.pipelines.clock import watermark_header
from streamapp.serde.codecs import ATOMS, key_encoder
from streamapp.serde.ordered_keys import encode_key, encode_with_last
from streamapp.state.rows import KEY_ROOM, check_row
from streamapp.state.scope import EventScope, Instant
from streamapp.state.shard import Shard

if TYPE_CHECKING:
    from streamapp.engine.topic import Topic
    from streamapp.pipelines.codecs import StateCodec
    from streamapp.pipelines.nodes import ToTopic
    from streamapp.state.result_table import ResultTable

T = TypeVar("T")

#: Kinds of rows that are not written as they are.
_UNWRITTEN: Final = frozenset({CORRECTION, RETRACT})
#: Types of keys that a topic without a declared type takes.
_AS_THEY_ARE: Final = frozenset({str, bytes, type(None)})
_as_json = key_encoder(codec="json")
#: Less than every watermark.
_UNTOLD_MS = NEVER_MS - 1
#: Chooses the partition of a record: ``(topic, key, partitions)``.
Choose = Callable[[str, bytes | None, int], int]
#: Takes finished records; they are part of the next commit.
Send = Callable[[list[OutRecord]], None]
#: Raises for records that no broker would take.
Check = Callable[[Sequence[OutRecord]], None]


@dataclass(frozen=True, slots=True)
class Way:
    """How the records of a sink leave: each is checked before any of them is sent."""

    send: Send
    check: Check = lambda _: None


class ReadScope(EventScope):
    """What the functions of a pipeline see of tables: the rows of finished events, to read only."""

    def __init__(self) -> None:
        super().__init__(tracks_always=True)

    def move_to(self, now_ms: int) -> None:
        """Let rows live or be expired as of this event time."""
        self.source = Instant(now_ms)

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

    def __init__(self, node: ToTopic, partitions: int, choose: Choose, way: Way) -> None:
        self._topic: Topic = node.topic
        self._only = node.only
        self._way = way
        self._name = node.topic.get_topic_name()
        self._partitions = partitions
        self._choose = choose
        self._places = Places(self._name, partitions, self._raw_keys)

    def write(self, rows: Rows) -> None:
        """See ``pipelines.task.Sink``."""
        _write(rows if not self._only else self._wanted(rows), self._records, self._way.send)

    def _wanted(self, rows: Rows) -> Rows:
        """Return the rows but for those of windows that are of a kind that is not wanted."""
        kinds = [value.kind if isinstance(value, WindowRow) else None for value in rows.values]
        wanted = {None, *self._only}
        if wanted.issuperset(kinds):
            return rows
        return picked(rows, [place for place, kind in enumerate(kinds) if kind in wanted])

    def _records(self, rows: Rows) -> list[OutRecord]:
        data = self._topic.encode_many("value", rows.values)
        tps, keys = self._places.of(rows.keys)
        if not all(tps):
            tps = [tp or self._anywhere() for tp in tps]
        records = out_records(cast("Sequence[TP]", tps), keys, data, rows.times)
        self._way.check(records)
        return records

    def _anywhere(self) -> TP:
        return TP(self._name, self._choose(self._name, None, self._partitions))

    def _raw_keys(self, keys: Sequence[Any]) -> Sequence[bytes | None]:
        if self._topic.key_type is None and not _AS_THEY_ARE.issuperset(map(type, keys)):
            # A topic that declares no keys takes what is bytes or text already.
            keys = [key if type(key) in _AS_THEY_ARE else _text_of(key) for key in keys]
        return self._topic.encode_many("key", keys)


class RegroupSink:
    """Rows go to the partition of their new key; each partition is told of the watermark."""

    def __init__(
        self, topic: str, codec: StateCodec, partitions: int, partition: int, way: Way
    ) -> None:
        self._topic = topic
        self._codec = codec
        self._places = Places(topic, partitions, lambda keys: [*map(encode_key, keys)])
        self._told = [_UNTOLD_MS] * partitions
        self._partition = partition
        self._way = way
        self._was_idle: bool | None = None
        self._told_all: int | None = None

    def write(self, rows: Rows) -> None:
        """See ``pipelines.task.Sink``."""
        _write(rows, self._records, self._way.send)

    def _records(self, rows: Rows) -> list[OutRecord]:
        data: Sequence[bytes | None] = self._codec.encode_many(rows.values)
        if type(None) in {*map(type, rows.values)}:
            data = [None if v is None else raw for v, raw in zip(rows.values, data, strict=True)]
        tps: Any
        tps, keys = self._places.of(rows.keys)  # each has a key
        # A copy: after a refusal nobody has been told.
        told, records = [*self._told], []
        columns = zip(tps, keys, data, rows.times, rows.marks, strict=True)
        for tp, raw, value, time_ms, mark in columns:
            headers: Headers = ()
            if mark > told[tp.partition]:
                told[tp.partition] = mark
                headers = watermark_header(self._partition, mark)
            records.append(OutRecord(tp, raw, value, time_ms, headers))
        self._way.check(records)
        self._told = told
        if self._was_idle:
            # Some partitions know by these that the silence is over, until they are told of it.
            self._was_idle = None
        return records

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
            self._way.send([record])


class TableSink:
    """Rows become rows of a table; window rows under (key, start)."""

    def __init__(self, table: ResultTable, partition: int, *, is_windowed: bool) -> None:
        self._table = table
        self._partition = partition
        self._packed = self._packed_windows if is_windowed else self._packed_rows
        self._held: list[dict[bytes, bytes | None]] | None = None

    def write(self, rows: Rows) -> None:
        """See ``pipelines.task.Sink``."""
        _write(rows, self._checked, self._stage if self._held is None else self._held.append)

    def hold(self) -> None:
        """Keep rows back until ``release``: they are part of no commit before."""
        self._held = []

    def release(self) -> None:
        """Write the rows that were kept back."""
        held, self._held = self._held or (), None
        for changes in held:
            self._stage(changes)

    def _stage(self, changes: dict[bytes, bytes | None]) -> None:
        shard = self._table.shards[self._partition]
        if shard.owner is not None:
            shard.owner.yield_to_other(shard)
        shard.stage(changes)

    def _checked(self, rows: Rows) -> dict[bytes, bytes | None]:
        packed, most = self._packed(rows), self._table.max_bytes
        longest = max(map(len, filter(None, packed.values())), default=0)
        if most is not None and longest > most - KEY_ROOM:
            for key, data in packed.items():
                check_row(self._table.name, key, data or b"", most)
        return packed

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


def _write(rows: Rows, make: Callable[[Rows], T], take: Callable[[T], None]) -> None:
    """Write what is made of rows: of all at once or, if that fails, of each record's by themselves.

    Raises:
        RowError: Nothing can be made of the rows of a record.
    """
    try:
        made = make(rows)
    except Exception:  # noqa: BLE001 - one by one, it is known which record it was
        _write_singly(rows, make, take)
    else:
        take(made)


def _write_singly(rows: Rows, make: Callable[[Rows], T], take: Callable[[T], None]) -> None:
    start = 0
    while start < len(rows):
        origin = rows.origins[start]
        stop = bisect_right(rows.origins, origin, start)
        try:
            made = make(rows.part(start, stop))
        except Exception as exc:
            raise RowError(origin) from exc
        take(made)
        start = stop


def _text_of(key: object) -> str:
    if isinstance(key, tuple):
        return ",".join(map(str, key))
    return str(key) if type(key) in ATOMS else _as_json(key).decode()
