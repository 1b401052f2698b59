"""One partition of a topic in memory: what is put in comes out as batches."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from streamapp.core.batch import TP, Headers, OutRecord, RecordBatch


class Log:
    """See the module. The offset of a record is its index."""

    def __init__(self, tp: TP) -> None:
        self._tp = tp
        #: What was put in, piece by piece, and the offset at which each begins.
        self._pieces: list[RecordBatch] = []
        self._starts: list[int] = []
        self._end = 0

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
        count = len(values)
        keys = [None] * count if keys is None else [*keys]
        timestamps = [0] * count if timestamps is None else [*timestamps]
        if {len(keys), len(timestamps)} != {count}:
            msg = "keys and timestamps must be as many as the values"
            raise ValueError(msg)
        self._append(timestamps, keys, [*values], None)

    def extend(self, records: Sequence[OutRecord]) -> None:
        """Append records of this partition."""
        if records:
            _, keys, values, times, headers = zip(*records, strict=True)
            self._append(times, keys, values, headers if any(headers) else None)

    def since(self, offset: int) -> RecordBatch | None:
        """Return the records from an offset on; ``None`` if there are none."""
        if offset >= self._end:
            return None
        first, *later = self._pieces[bisect_right(self._starts, offset) - 1 :]
        rest = first.since(offset)
        return rest if rest is None or not later else rest.joined(*later)

    def records(self) -> list[OutRecord]:
        """Return all records."""
        return [
            OutRecord(self._tp, *record)
            for piece in self._pieces
            for record in zip(
                piece.keys,
                piece.values,
                piece.timestamps,
                piece.headers or [()] * len(piece),
                strict=True,
            )
        ]

    def _append(
        self,
        timestamps: Sequence[int],
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None,
    ) -> None:
        start, self._end = self._end, self._end + len(values)
        if start == self._end:
            return
        offsets = range(start, self._end)
        # Its size is what only bounds of queues ask for.
        piece = RecordBatch(
            self._tp, offsets, timestamps, keys, values, headers, self._end, size_bytes=0
        )
        self._pieces.append(piece)
        self._starts.append(start)
