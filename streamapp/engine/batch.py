"""Batches: consecutive records of one partition in the hands of an agent, as typed columns.

A batch is a view: columns are made when they are asked for, once, and nothing in it can be changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamapp.core.columned import picked_values
from streamapp.core.columns import (
    ColumnType,
    Slots,
    chosen,
    column,
    column_type,
    field_types,
    fields,
    listed,
    numbered,
    part,
)
from streamapp.engine.batch_frames import arrow_table, polars_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamapp.core.batch import RecordBatch
    from streamapp.core.columns import Column
    from streamapp.engine.topic import Topic
    from streamapp.engine.work import Chunk


@dataclass(frozen=True, slots=True)
class Schema:
    """What a topic says about its columns; ``has_gaps``: values may be ``None`` (tombstones)."""

    fields: dict[str, ColumnType]
    value: ColumnType
    key: ColumnType
    has_gaps: bool
    decode_key: Callable[[bytes | None], Any]

    @classmethod
    def of(cls, topic: Topic) -> Schema:
        """Return the schema of a topic."""
        has_gaps = bool(topic.allow_empty)
        return cls(
            field_types(topic.value_type),
            column_type(topic.value_type),
            column_type(topic.key_type),
            has_gaps,
            topic.decode_key,
        )

    def type_of(self, name: str) -> ColumnType:
        """Return the type of a field's column; objects where no class declares fields.

        Raises:
            AttributeError: The value type has no such field; tells which there are.
        """
        found = self.fields.get(name)
        if found is None:
            if not self.fields:
                return ColumnType()
            names = ", ".join(self.fields)
            msg = f"The records have no field {name!r}. They have: {names}"
            raise AttributeError(msg)
        return ColumnType(found.base, has_gaps=found.has_gaps or self.has_gaps)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the records of a batch stand: at ``places`` of a batch of bytes; and their times."""

    raw: RecordBatch
    times: Sequence[int]
    places: Sequence[int]

    def of(self, whole: Sequence[Any]) -> Sequence[Any]:
        """Return what these records have in a column of the whole batch."""
        if isinstance(self.places, range):
            return whole[self.places.start : self.places.stop]
        return [whole[i] for i in self.places]


def origin_of(chunk: Chunk, first: int, places: Sequence[int]) -> Origin:
    """Return the origin of some of the records in hand, which are those from ``first`` on."""
    if isinstance(places, range):
        return Origin(chunk.batch, chunk.times, range(first, first + len(places)))
    return Origin(chunk.batch, chunk.times, [first + place for place in places])


class Batch:
    """Consecutive records of one partition; ``batch.amount`` is the column of the field ``amount``.

    A column is a read-only NumPy array: ``int64`` for ``int``, ``float64`` for ``float``, ``bool``
    for ``bool``, objects for the rest; a masked array where the field may be ``None``. A field with
    the name of a method or property here is read by ``column``. Iteration gives the records.
    """

    __slots__ = ("_columns", "_origin", "_schema", "records")

    def __init__(self, schema: Schema, origin: Origin, records: Sequence[Any]) -> None:
        self._schema, self._origin = schema, origin
        self._columns: dict[str | None, Column] = {}
        #: The records, decoded.
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.records)

    def __repr__(self) -> str:
        where = f"{self.topic}/{self.partition}"
        return f"<Batch of {where}: {len(self)} records>"

    # --- columns ---------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.column(name)

    def column(self, name: str, kind: type | None = None) -> Any:
        """Return the column of a field, also of one that has the name of a method.

        Args:
            name: A field of the records, or a key where they are dicts.
            kind: ``int``, ``float`` or ``bool``: the type of a field that no class declares.

        Raises:
            AttributeError: The declared records have no such field.
            InputError: A record has no such field, or its value is of another type.
        """
        if kind is not None:
            return column(fields(name, self.records), ColumnType(kind, has_gaps=True), name)
        found = self._columns.get(name)
        if found is None:
            of = self._schema.type_of(name)
            found = self._columns[name] = column(fields(name, self.records), of, name)
        return found

    @property
    def values(self) -> Any:
        """The records themselves as a column: numbers for a topic of numbers."""
        found = self._columns.get(None)
        if found is None:
            of = self._schema.value
            of = ColumnType(of.base, has_gaps=of.has_gaps or self._schema.has_gaps)
            found = self._columns[None] = column(self.records, of, "values")
        return found

    @property
    def keys(self) -> Any:
        """Keys of the records; any of them may be null, so numbers are a masked array.

        Raises:
            DecodeError: A key is not what the topic declares.
        """
        decode, origin = self._schema.decode_key, self._origin
        keys = [decode(raw) for raw in origin.of(origin.raw.keys)]
        return column(keys, ColumnType(self._schema.key.base, has_gaps=True), "keys")

    @property
    def offsets(self) -> Any:
        """Offset of each record; not the same as counting, as a log may have holes."""
        return np.array(self._origin.of(self._origin.raw.offsets), np.int64)

    @property
    def timestamps_ms(self) -> Any:
        """Timestamp of each record, in ms since 1970."""
        return np.array(self._origin.of(self._origin.raw.timestamps), np.int64)

    @property
    def times_ms(self) -> Any:
        """Event time of each record in ms: by default its timestamp, else as the topic says."""
        return np.array(self._origin.of(self._origin.times), np.int64)

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._origin.raw.tp.topic

    @property
    def partition(self) -> int:
        """Number of the partition; all records of a batch are of one."""
        return self._origin.raw.tp.partition

    # --- parts and numbers -----------------------------------------------------------------------

    def where(self, mask: Any) -> Batch:
        """Return the rows that a mask (an array of booleans) chooses, in their order.

        Raises:
            UsageError: It is no mask of as many rows.
        """
        rows = chosen(mask, len(self))
        at, origin = rows.tolist(), self._origin
        places = [origin.places[i] for i in at]
        few = Batch(
            self._schema,
            Origin(origin.raw, origin.times, places),
            picked_values(self.records, at),
        )
        few._columns.update({name: part(held, rows) for name, held in self._columns.items()})
        return few

    def slots(self, by: Any) -> Slots:
        """Number the values of a field (or of any column of as many rows) densely.

        Returns:
            ``keys``, each once and in the order of appearance, and ``rows``: the number of each
            row's key, as an ``int64`` array. ``np.bincount(rows, amounts)`` is then a sum by key.
        """
        return numbered(self.column(by) if isinstance(by, str) else by)

    # --- frames ----------------------------------------------------------------------------------

    def to_polars(self) -> Any:
        """Return the declared fields as a Polars frame, one column each.

        Raises:
            ConfigError: Polars is not installed: ``pip install streamapp[batch]``.
        """
        return polars_frame(self._lists())

    def to_arrow(self) -> Any:
        """Return the declared fields as an Arrow table, one column each.

        Raises:
            ConfigError: PyArrow is not installed: ``pip install streamapp[batch]``.
        """
        return arrow_table(self._lists())

    def _lists(self) -> dict[str, tuple[object, Sequence[Any]]]:
        """Return type and values of each field; of ``value`` where the records have no fields."""
        schema = self._schema
        if schema.fields:
            return {
                name: (of.base, listed(self.column(name))) for name, of in schema.fields.items()
            }
        if all(isinstance(record, dict) for record in self.records):
            names = dict.fromkeys(name for record in self.records for name in record)
            return {name: (object, fields(name, self.records)) for name in names}
        return {"value": (schema.value.base, self.records)}
