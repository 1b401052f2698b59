"""What one operator of a pipeline hands to the next: records as columns of equal length."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rows:
    """Records inside of a pipeline, in the order in which they are worked on.

    ``keys`` are ``str``, ``int``, ``bytes`` or tuples of these. ``times`` are event times in ms.
    ``marks`` holds the watermark *before* each record, non-decreasing: what decides whether the
    record is late. ``origins`` holds, non-decreasing, the index of the source record that each row
    comes from; rows of one origin take effect together or not at all.
    """

    keys: Sequence[Hashable]
    times: Sequence[int]
    values: Sequence[object]
    marks: Sequence[int]
    origins: Sequence[int]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.values)

    def part(self, start: int, stop: int) -> Rows:
        """Return the rows ``[start, stop)``."""
        if start == 0 and stop >= len(self.values):
            return self
        return Rows(
            self.keys[start:stop],
            self.times[start:stop],
            self.values[start:stop],
            self.marks[start:stop],
            self.origins[start:stop],
        )


#: No rows at all.
NO_ROWS = Rows((), (), (), (), ())


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts, one after the other."""
    full = [part for part in parts if len(part)]
    if len(full) < 2:  # noqa: PLR2004 - nothing to join
        return full[0] if full else NO_ROWS
    return Rows(
        [key for part in full for key in part.keys],
        [time for part in full for time in part.times],
        [value for part in full for value in part.values],
        [mark for part in full for mark in part.marks],
        [origin for part in full for origin in part.origins],
    )
