"""The fields of some values, read and checked once; as lists, and as arrays when asked for."""

from __future__ import annotations

from collections.abc import Sequence


class Inputs:
    """One list for each field of the set, all of the length of the values; ``None``: no value."""

    __slots__ = ("_length", "lists")

    def __init__(self, lists: list[list[object]], length: int) -> None:
        self.lists = lists
        self._length = length

    def __len__(self) -> int:
        """Return the number of values."""
        return self._length

    def row(self, index: int) -> tuple[object, ...]:
        """Return the fields of one value."""
        return tuple([fields[index] for fields in self.lists])

    def take(self, indices: Sequence[int]) -> Inputs:
        """Return the fields of these values, in this order."""
        return Inputs([[fields[i] for i in indices] for fields in self.lists], len(indices))
