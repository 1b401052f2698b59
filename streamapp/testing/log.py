"""One partition of a topic in memory, as columns: what is put in comes out as batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

from streamapp.core.batch import TP, Headers, OutRecord, RecordBatch


class Log:
    """See the module. The offset of a record is its index."""

    def __init__(self, tp: TP) -> None:
        self._tp = tp
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._timestamps: list[int] = []
        #: Of the records that have some, by offset.
        self._headers: dict[int, Headers] = {}

    def put(
        self,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None,
        timestamps: Sequence[int] | None,
    ) -> None:
        """Append records without headers; by default they have no key and the time of 1970.

        Raises:
            ValueError: The columns are not of one length.
        """
        if {len(values), len(keys or values), len(timestamps or values)} != {len(values)}:
            msg = "keys and timestamps must be as many as the values"
            raise ValueError(msg)
        self._values += values
        self._keys += keys or repeat(None, len(values))
        self._timestamps += timestamps or repeat(0, len(values))

    def add(self, record: OutRecord) -> None:
        """Append a record."""
        if record.headers:
            self._headers[len(self._values)] = record.headers
        self._keys.append(record.key)
        self._values.append(record.value)
        self._timestamps.append(record.timestamp_ms)

    def since(self, offset: int) -> RecordBatch | None:
        """Return the records from an offset on; ``None`` if there are none."""
        stop = len(self._values)
        if offset >= stop:
            return None
        offsets = range(offset, stop)
        return RecordBatch(
            self._tp,
            offsets,
            self._timestamps[offset:],
            self._keys[offset:],
            self._values[offset:],
            [self._headers.get(at, ()) for at in offsets] if self._headers else None,
            stop,
            0,  # what only bounds of queues ask for
        )

    def records(self) -> list[OutRecord]:
        """Return all records."""
        columns = zip(self._keys, self._values, self._timestamps, strict=True)
        return [
            OutRecord(self._tp, *record, self._headers.get(offset, ()))
            for offset, record in enumerate(columns)
        ]
