"""Batches that were read and not yet taken, by partition, and the position behind the last taken.

It must never hand out a record from before a seek. Used on the event loop only; knows no thread.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from streamapp.core.batch import TP

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from streamapp.core.batch import RecordBatch

#: A TP, ours or Faust's: both are named tuples that are equal and hash alike.
Partition = tuple[str, int]

#: Records per partition: bounds the memory behind a slow agent; some polls, so that none waits.
_FULL = 4_000


class Buffers:
    """One first-in-first-out queue of batches for each partition that has a position."""

    def __init__(self) -> None:
        self._batches: dict[Partition, deque[RecordBatch]] = {}
        self._records: Counter[Partition] = Counter()
        self._positions: dict[TP, int] = {}
        self._seeks_under_way: Counter[Partition] = Counter()

    @property
    def positions(self) -> Mapping[TP, int]:
        """The next offset to take of each partition."""
        return self._positions

    def begin_seek(self, positions: Mapping[TP, int]) -> None:
        """Drop these partitions' batches, and all that arrive before ``end_seek``."""
        for tp, offset in positions.items():
            self._batches.pop(tp, None)
            self._records.pop(tp, None)
            self._positions[tp] = offset
        self._seeks_under_way.update(positions.keys())

    def end_seek(self, tps: Iterable[Partition]) -> None:
        """Accept batches again: what arrives from now on was read after the seek."""
        self._seeks_under_way.subtract(list(tps))  # a mapping would subtract its values

    def forget(self, tps: Iterable[Partition]) -> None:
        """Drop batches and positions; what still arrives of these partitions is dropped too."""
        for tp in tps:
            self._batches.pop(tp, None)
            self._records.pop(tp, None)
            self._positions.pop(TP(*tp), None)

    def put(self, batch: RecordBatch) -> bool:
        """Keep a batch; ``False`` if it is stale and was dropped."""
        tp = batch.tp
        if tp not in self._positions or self._seeks_under_way[tp] > 0:
            return False
        self._batches.setdefault(tp, deque()).append(batch)
        self._records[tp] += len(batch)
        return True

    def is_full(self, tp: Partition) -> bool:
        """Tell whether reading the partition should pause."""
        return self._records[tp] >= _FULL

    def is_low(self, tp: Partition) -> bool:
        """Tell whether reading the partition should go on."""
        return self._records[tp] <= _FULL // 2

    def take(self, wanted: Container[Partition] | None) -> list[RecordBatch]:
        """Take the next batch of each wanted partition; ``None`` wants all."""
        ready = [tp for tp in self._batches if wanted is None or tp in wanted]
        return [self._take_one(tp) for tp in ready]

    def _take_one(self, tp: Partition) -> RecordBatch:
        queue = self._batches[tp]
        batch = queue.popleft()
        if not queue:
            del self._batches[tp]
        self._records[tp] -= len(batch)
        self._positions[batch.tp] = batch.next_offset
        return batch
