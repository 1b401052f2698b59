"""Naive models of windows: every record is kept, every window is recomputed from a plain list.

They know no panes, timers or batches: a list of records goes in, the list of all results comes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from streamapp.core.times import NEVER_MS
from streamapp.core.windows import Emission, Hopping, Tumbling
from streamapp.serde.ordered_keys import encode_key

#: Key, event time, number (text: a bad record).
Record = tuple[Any, int, Any]
#: Key, start, end, kind; count, sum, greatest and last (by time, then arrival) of the numbers.
Result = tuple[Any, int, int, str, int, int, int, int]


@dataclass
class AlignedModel:
    """Tumbling and hopping windows, record by record, as the rules say it."""

    spec: Tumbling | Hopping
    emission: Emission
    #: Whether a bad record is known only when it is added to a window, by a function that fails.
    fails_when_added: bool = False
    out: list[Result] = field(default_factory=list)
    side: list[Record] = field(default_factory=list)
    late: Counter[str] = field(default_factory=Counter)
    _held: dict[tuple[int, Any], list[Record]] = field(default_factory=dict)
    _unsaid: set[tuple[int, Any]] = field(default_factory=set)
    _watermark: int = NEVER_MS

    def run(
        self,
        records: Sequence[Record],
        marks: Sequence[int],
        origins: Sequence[int],
        commits: Collection[int],
    ) -> None:
        """Take records; those of one origin together or, if one of them is bad, not at all.

        ``marks`` has one more entry; ``commits`` are numbers of records.
        """
        indices = range(len(records))
        for _, group in groupby(indices, key=lambda index: origins[index]):
            run = [*group]
            if not any(self._fails(records[index], marks[index]) for index in run):
                again = {w for index in run for w in self._take(records[index], marks[index])}
                for start, key in self._in_order(again):
                    self._say(start, key, "late")
            self._advance(marks[run[-1] + 1])
            if run[-1] + 1 in commits and self.emission.kind == "update":
                self._update()

    def _starts(self, time: int) -> Iterator[int]:
        slide = self.spec.slide_ms if isinstance(self.spec, Hopping) else self.spec.size_ms
        for start in range(time - self.spec.size_ms + 1, time + 1):
            if (start - self.spec.offset_ms) % slide == 0:
                yield start

    def _fails(self, record: Record, mark: int) -> bool:
        _, time, number = record
        late = self.spec.late
        is_added = any(
            late.on_late == "correct" or self._last(start) + late.allowed_ms > mark
            for start in self._starts(time)
        )
        return isinstance(number, str) and (is_added or not self.fails_when_added)

    def _last(self, start: int) -> int:
        return start + self.spec.size_ms - 1

    def _take(self, record: Record, mark: int) -> Iterator[tuple[int, Any]]:
        """Add a record to its windows; yield those that had fired."""
        key, time, _ = record
        starts = [*self._starts(time)]
        closed = [s for s in starts if self._last(s) + self.spec.late.allowed_ms <= mark]
        kept = [s for s in starts if s not in closed]
        policy = self.spec.late.on_late
        if policy == "correct":
            self.late["corrected"] += bool(closed)
            self.out += [self._result(s, key, "correction", [record]) for s in closed]
        elif closed and not kept:
            self.late["dropped" if policy == "drop" else "side"] += 1
            self.side += [record] if policy == "side" else []
        for start in kept:
            self._held.setdefault((start, key), []).append(record)
            if self._last(start) <= mark:
                yield start, key
            else:
                self._unsaid.add((start, key))

    def _advance(self, watermark: int) -> None:
        before, self._watermark = self._watermark, watermark
        for start, key in self._in_order(self._held):
            if before < self._last(start) <= watermark:
                self._say(start, key, "final")
                self._unsaid.discard((start, key))
        every = self.emission.every_ms
        if self.emission.kind == "every" and before // every < watermark // every:
            self._update()

    def _update(self) -> None:
        for start, key in self._in_order(self._unsaid):
            self._say(start, key, "update")
        self._unsaid.clear()

    def _in_order(self, windows: Collection[tuple[int, Any]]) -> list[tuple[int, Any]]:
        return sorted(windows, key=lambda window: (window[0], encode_key(window[1])))

    def _say(self, start: int, key: Any, kind: str) -> None:
        self.out.append(self._result(start, key, kind, self._held[start, key]))

    def _result(self, start: int, key: Any, kind: str, records: Sequence[Record]) -> Result:
        numbers = [number for _, _, number in records]
        _, (_, _, last) = max(enumerate(records), key=lambda one: (one[1][1], one[0]))
        end = start + self.spec.size_ms
        return key, start, end, kind, len(numbers), sum(numbers), max(numbers), last
