"""A column of texts that repeat: each is an object once, and a row is its number. Pure.

What works on many rows looks at the numbers (``codes``), and at each text once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final, overload

import numpy as np
import numpy.typing as npt

#: Texts for each row up to which it pays to look at all of them.
_TEXTS_OF_ROW: Final = 2


class TextColumn(Sequence[str]):
    """Row ``i`` is ``texts[codes[i]]``; ``codes`` is an ``array("i")``.

    Columns share ``texts``, which only grows; a text may have several codes.
    """

    __slots__ = ("codes", "texts")

    def __init__(self, codes: array[int], texts: list[str]) -> None:
        self.codes = codes
        self.texts = texts

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        return map(self.texts.__getitem__, self.codes)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> TextColumn: ...  # type: ignore[explicit-any] # slice
    def __getitem__(self, at: int | slice) -> str | TextColumn:  # type: ignore[explicit-any]
        if isinstance(at, slice):
            return TextColumn(self.codes[at], self.texts)
        return self.texts[self.codes[at]]

    def __eq__(self, other: object) -> bool:
        return [*self] == ([*other] if isinstance(other, TextColumn) else other)

    __hash__ = None  # type: ignore[assignment] # like a list

    def __repr__(self) -> str:
        return repr([*self])

    def objects(self) -> npt.NDArray[np.object_]:
        """Return the texts as an array."""
        if not self.repeats:
            return np.fromiter(self, np.object_, len(self.codes))
        texts = np.fromiter(self.texts, np.object_, len(self.texts))
        found: npt.NDArray[np.object_] = texts[self.numbers()]
        return found

    @property
    def repeats(self) -> bool:
        """Whether there are so many rows that it pays to look at each text once."""
        return len(self.texts) <= _TEXTS_OF_ROW * len(self.codes)

    def numbered(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Number the texts densely, in the order in which they first appear.

        Takes as long as there are texts, also where few rows are.

        Returns:
            The texts, each once, and the number of each row's.
        """
        codes = self.numbers().astype(np.intp)  # as NumPy looks up: not once more for each step
        size = len(codes)
        first = np.full(len(self.texts), size)
        # Of several rows of a text the last one that is written stays: the first one.
        first[codes[::-1]] = np.arange(size - 1, -1, -1)
        there = np.flatnonzero(first < size)
        there = there[np.argsort(first.take(there))]
        texts = [*map(self.texts.__getitem__, there.tolist())]
        number_of = np.empty(len(self.texts), np.int64)
        if len({*texts}) == len(texts):
            number_of[there] = np.arange(len(texts))
        else:  # several codes of one text
            slots = {text: number for number, text in enumerate(dict.fromkeys(texts))}
            number_of[there] = [slots[text] for text in texts]
            texts = [*slots]
        return texts, number_of.take(codes)

    def numbers(self) -> npt.NDArray[np.int32]:
        """Return the codes for NumPy, to be read only."""
        return np.frombuffer(self.codes, np.int32) if self.codes else np.empty(0, np.int32)

    def pick(self, places: Sequence[int]) -> TextColumn:
        """Return the rows at these places, in this order."""
        if len(places) < 2:  # noqa: PLR2004 - a getter of several gives a tuple
            codes = [self.codes[place] for place in places]
        else:
            codes = [*itemgetter(*places)(self.codes)]
        return TextColumn(array("i", codes), self.texts)

    def joined(self, others: Sequence[TextColumn]) -> TextColumn | None:
        """Return these rows and those of others; ``None`` if they do not share their texts."""
        if any(other.texts is not self.texts for other in others):
            return None
        codes = self.codes[:]
        for other in others:
            codes += other.codes
        return TextColumn(codes, self.texts)
