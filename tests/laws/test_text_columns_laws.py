"""A column of texts by their numbers is the list of its texts, whatever is done with it."""

from __future__ import annotations

from array import array
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.twins import Twins

from streamapp.core import text_column
from streamapp.core.columns import ColumnType, column, exact, listed, numbered, part, texts_of
from streamapp.core.text_array import TextArray, text_array
from streamapp.core.text_column import TextColumn

#: Some texts have two codes, as when one was pushed out of its place and came again.
TEXTS = ["", "a", "b", "a", "é", "", "c", "b"]
#: Sums of these pass 64 bits, or depend on the order in which they are added.
INTS = (0, 1, -3, 2**62, -(2**62), 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 0.1, 0.2, 1e16, -1e16, 1.5)

codes = st.lists(st.integers(0, len(TEXTS) - 1), max_size=30)
rows_of = st.lists(
    st.tuples(st.integers(0, len(TEXTS) - 1), st.sampled_from(INTS), st.sampled_from(FLOATS)),
    max_size=30,
)


def column_of(given: list[int]) -> TextColumn:
    return TextColumn(array("i", given), TEXTS)


@given(codes)
def test_texts_are_numbered_as_they_first_appear(given: list[int]) -> None:
    texts = [TEXTS[code] for code in given]
    first = [*dict.fromkeys(texts)]
    found = column_of(given)
    names, rows = found.numbered()
    assert (names, rows.tolist()) == (first, [first.index(text) for text in texts])
    assert found.objects().tolist() == texts
    for few in (0, 1_000):  # both ways of all that has two
        with patch.object(text_column, "_TEXTS_OF_ROW", few):
            slots = numbered(text_array(found))
            assert (slots.keys, slots.rows.tolist()) == (first, rows.tolist())
            assert found.objects().tolist() == texts
            assert column(found, ColumnType(str), "user").tolist() == texts
            assert (texts_of(text_array(found)) is found) == bool(few and given)


@given(codes, st.data())
def test_rows_of_a_column_know_their_numbers(given: list[int], data: st.DataObject) -> None:
    rows = data.draw(
        st.lists(st.sampled_from(range(len(given))), max_size=9) if given else st.just([])
    )
    some: Any = part(text_array(column_of(given)), np.array(rows, np.int64))
    assert some.tolist() == [TEXTS[given[row]] for row in rows]
    assert [*some.known] == some.tolist()


@given(
    st.lists(st.tuples(rows_of, st.sampled_from(("", "cut", "rotate")), st.booleans()), max_size=5),
    st.sampled_from((int, float, bool)),
)
def test_numbers_added_by_texts_are_added_one_by_one(batches: list[Any], default: Any) -> None:
    twins = Twins(default=default)
    for rows, step, tracked in batches:
        keys = text_array(column_of([code for code, _, _ in rows]))
        for amounts in (
            np.array([whole for _, whole, _ in rows], np.int64),
            np.array([real for _, _, real in rows], np.float64),
            7,
            0.1,
        ):
            each = [amounts] * len(rows) if isinstance(amounts, float | int) else amounts.tolist()
            assert exact(amounts, len(rows)) is not None
            twins.event(
                lambda table, keys=keys, amounts=amounts: table.add(keys, amounts), tracked=tracked
            )
            with twins.single.event():
                for key, amount in zip(listed(keys), each, strict=True):
                    twins.single.table[key] += amount
        twins.between(step)
    twins.assert_same()


@pytest.mark.parametrize("amounts", [2**63, True, np.array([True, False]), np.array(["a"]), [1, 2]])
def test_what_arrays_add_otherwise_is_not_added_by_them(amounts: object) -> None:
    assert exact(amounts, 2) is None


def test_what_is_made_of_a_column_knows_nothing_of_it() -> None:
    texts = text_array(column_of([1, 2, 1]))
    assert isinstance(texts, np.ndarray)
    with pytest.raises(ValueError, match="WRITEABLE"):
        texts.flags.writeable = True
    copied = texts.copy()
    copied[0] = "other"  # the copy is the user's
    assert [type(one) for one in (texts == "a", texts + "!")] == [np.ndarray, np.ndarray]
    assert texts.max() == "b"
    for made in (copied, texts[1:], texts[texts == "a"], texts[::-1], np.sort(texts)):
        assert isinstance(made, TextArray)
        assert made.known is None


def test_what_is_no_number_cannot_be_added_to() -> None:
    twins = Twins(default=lambda: None)
    keys = text_array(column_of([1, 2] * 5))
    with pytest.raises(TypeError, match="NoneType"):
        twins.event(lambda table: table.add(keys, 1), tracked=False)
    twins.assert_same()
