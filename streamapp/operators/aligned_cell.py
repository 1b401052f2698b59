"""One cell of aligned windows in memory."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from streamapp.core.aggregates import Acc
from streamapp.operators.aligned_rows import head_of
from streamapp.serde.ordered_keys import encode_under


@dataclass(eq=False, slots=True)
class Cell:
    """The keys of one cell that memory holds: in ``accs``, or as rows of the columns.

    ``changed`` and ``touched`` (since the last drain, and the last update) lack what the columns
    mark themselves. The columns know the cell by its ``number``, and note here which of their rows
    are its own: ``count`` of those in ``spans``, the others were dropped. ``waiting``
    are keys of which the state says that an update is due at a commit.
    """

    start: int
    number: int
    whole: bool
    stored: bool
    accs: dict[Hashable, Acc] = field(default_factory=dict)
    changed: set[Hashable] = field(default_factory=set)
    touched: set[Hashable] = field(default_factory=set)
    waiting: set[Hashable] = field(default_factory=set)
    count: int = 0
    spans: list[range] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of keys in memory."""
        return len(self.accs) + self.count

    def raw(self, key: Hashable) -> bytes:
        """Return the key of a row in the state."""
        return encode_under(head_of(self.start), key)
