"""One partition of a topic in memory: what is put in comes out as batches."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import repeat

from streamapp.core.batch import TP, Headers, OutRecord, RecordBatch


class Log:
    """See the module. The offset of a record is its index."""

    def __init__(self, tp: TP) -> None:
        self._tp = tp
        #: What was put in, piece by piece, and the offset at which each begins. Records that a
        #: stage has sent become columns when somebody reads them: of many logs nobody does.
        self._pieces: list[RecordBatch | Sequence[OutRecord]] = []
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
        if count:
            self._append(self._columns(self._end, timestamps, keys, [*values], None))

    def extend(self, records: Sequence[OutRecord]) -> None:
        """Append records of this partition."""
        if records:
            self._append(records)

    def since(self, offset: int) -> RecordBatch | None:
        """Return the records from an offset on; ``None`` if there are none."""
        if offset >= self._end:
            return None
        at = bisect_right(self._starts, offset) - 1
        first, *later = map(self._batch, range(at, len(self._pieces)))
        rest = first.since(offset)
        return rest if rest is None or not later else rest.joined(*later)

    def forget(self, offset: int) -> None:
        """Let go of the pieces that end at or before an offset."""
        count = max(bisect_right(self._starts, offset) - (offset < self._end), 0)
        del self._pieces[:count], self._starts[:count]

    def records(self) -> list[OutRecord]:
        """Return all records that were not let go."""
        found: list[OutRecord] = []
        for piece in self._pieces:
            if isinstance(piece, RecordBatch):
                headers = piece.headers or repeat((), len(piece))
                columns = piece.keys, piece.values, piece.timestamps, headers
                found += map(OutRecord, repeat(self._tp), *columns)
            else:
                found += piece
        return found

    def _append(self, piece: RecordBatch | Sequence[OutRecord]) -> None:
        self._starts.append(self._end)
        self._pieces.append(piece)
        self._end += len(piece)

    def _batch(self, number: int) -> RecordBatch:
        piece = self._pieces[number]
        if not isinstance(piece, RecordBatch):
            _, keys, values, times, headers = zip(*piece, strict=True)
            start = self._starts[number]
            held = headers if any(headers) else None
            piece = self._pieces[number] = self._columns(start, times, keys, values, held)
        return piece

    def _columns(
        self,
        start: int,
        timestamps: Sequence[int],
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None,
    ) -> RecordBatch:
        end = start + len(values)
        # Its size is what only bounds of queues ask for.
        return RecordBatch(
            self._tp, range(start, end), timestamps, keys, values, headers, end, size_bytes=0
        )
