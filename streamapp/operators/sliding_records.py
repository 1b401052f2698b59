"""The records of one key that record-aligned windows still need, and windows folded over them.

Time is divided into blocks as long as a window, so a window is the end of one block and the
beginning of the next. Folds of all ends of the block before, and of the growing beginning of the
block in hand, make a window two merges, however many records it has (van Herk 1992; Gil and
Werman 1993). What is merged with what depends on the records alone, never on batches, restarts or
what memory has forgotten: so results are the same to the last bit.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from streamapp.core.aggregates import Acc, AggregateSet
from streamapp.core.times import NEVER_MS
from streamapp.operators.keyed_state import Held


@dataclass(frozen=True, slots=True)
class Folding:
    """How records become windows; ``shield`` keeps functions of the application from our state.

    They may change what they are given, and return it.
    """

    size_ms: int
    aggregates: AggregateSet
    shield: Callable[[Acc], Acc]

    def add(self, into: Acc, other: Acc) -> None:
        """Add the records of ``other`` behind those of ``into``."""
        self.aggregates.merge(into, self.shield(other))

    def copy(self, acc: Acc) -> Acc:
        """Return the same, sharing nothing that may change."""
        made = self.aggregates.new()
        self.add(made, acc)
        return made


class Kept(Held):
    """Records by time, then arrival: ``accs`` has the accumulator of each of ``times`` alone.

    ``fired_ms`` is the watermark up to which windows were emitted; ``again`` holds the times below
    it that must be emitted again. ``added`` and ``gone`` are records, as ``(time, place among those
    of the same time)``, that the state does not know of.
    """

    __slots__ = ("accs", "added", "again", "fired_ms", "folds", "gone", "times")

    def __init__(self, key: Hashable) -> None:
        super().__init__(key)
        self.times: list[int] = []
        self.accs: list[Acc] = []
        self.fired_ms = NEVER_MS
        self.again: set[tuple[int, int]] = set()
        self.added: dict[tuple[int, int], Acc] = {}
        self.gone: list[tuple[int, int]] = []
        self.folds: Folds | None = None

    def insert(self, time: int, acc: Acc) -> tuple[int, int]:
        """Add a record behind those of its time, and return its name."""
        at = bisect_right(self.times, time)
        self.times.insert(at, time)
        self.accs.insert(at, acc)
        name = time, at - bisect_left(self.times, time)
        self.added[name] = acc
        if self.folds is not None and time <= self.folds.time:
            self.folds = None
        return name

    def names(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the names of the records at ``[start, stop)``, all of their times."""
        first = bisect_left(self.times, self.times[start]) if start < stop else 0
        names = []
        for at in range(start, stop):
            if self.times[at] != self.times[first]:
                first = at
            names.append((self.times[at], at - first))
        return names

    def drop_until(self, time: int) -> None:
        """Forget the records up to this time, included."""
        stop = bisect_right(self.times, time)
        for name in self.names(0, stop):
            if self.added.pop(name, None) is None:
                self.gone.append(name)
        del self.times[:stop], self.accs[:stop]

    def window(self, time: int, how: Folding) -> Acc:
        """Return the accumulator of the records in ``[time - size, time]``, to be read."""
        block = time // (how.size_ms + 1)
        folds = self.folds
        if folds is None or folds.block != block or time < folds.time:
            folds = self.folds = Folds(block, how)
            folds.read_ends(self)
        folds.grow(self, time)
        return folds.window(self)


class Folds:
    """Folds of a key's records for the windows that end in one block, in the order of time.

    ``time`` is that of the last window. The ends of the block before are counted from its end, so
    they stay right while old records go.
    """

    __slots__ = ("_begun", "_count", "_ends", "_how", "_start", "block", "time")

    def __init__(self, block: int, how: Folding) -> None:
        self.block = block
        self.time = self._start = block * (how.size_ms + 1)
        self._how = how
        #: ``_ends[n]`` is the fold of the last ``n + 1`` records before the block.
        self._ends: list[Acc] = []
        self._begun = how.aggregates.new()
        self._count = 0

    def read_ends(self, kept: Kept) -> None:
        """Fold the ends of the block before this one."""
        start = bisect_left(kept.times, self._start - self._how.size_ms)
        stop = bisect_left(kept.times, self._start)
        fold = self._how.aggregates.new()
        for at in range(stop - 1, start - 1, -1):
            fold, later = self._how.copy(kept.accs[at]), fold
            self._how.add(fold, later)
            self._ends.append(fold)

    def grow(self, kept: Kept, time: int) -> None:
        """Fold the records of this block up to a time, included."""
        self.time = time
        begin = bisect_left(kept.times, self._start)
        stop = bisect_right(kept.times, time)
        for at in range(begin + self._count, stop):
            self._how.add(self._begun, kept.accs[at])
        self._count = stop - begin

    def window(self, kept: Kept) -> Acc:
        """Return the fold of the window that ends at ``time``."""
        begin = bisect_left(kept.times, self._start)
        old = begin - bisect_left(kept.times, self.time - self._how.size_ms)
        if old <= 0:
            return self._how.shield(self._begun)
        fold = self._how.copy(self._ends[old - 1])
        self._how.add(fold, self._begun)
        return fold
