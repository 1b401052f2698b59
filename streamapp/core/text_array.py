"""The array that users get of a column of texts: it knows the numbers of its texts. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamapp.core.text_column import TextColumn


class TextArray(np.ndarray[Any, np.dtype[np.object_]]):  # type: ignore[explicit-any] # its shape
    """A read-only array of texts; ``known`` is the column that it was made of.

    What is made of it (parts, comparisons, copies) knows nothing of the column.
    """

    known: TextColumn | None

    def __array_finalize__(self, made_of: object) -> None:
        self.known = None

    def __array_wrap__(  # type: ignore[explicit-any] # as NumPy calls it
        self,
        array: Any,  # noqa: ANN401
        context: object = None,
        return_scalar: bool = False,  # noqa: FBT002
    ) -> Any:  # noqa: ANN401
        """Return what a function made of it as a plain array, or as what is in an array of none."""
        del context
        return array[()] if return_scalar else array.view(np.ndarray)


def text_array(column: TextColumn) -> TextArray:
    """Return the texts of a column."""
    base = column.objects()
    base.flags.writeable = False  # nor can its views be made so: they would differ from ``known``
    found = base.view(TextArray)
    found.known = column
    return found
