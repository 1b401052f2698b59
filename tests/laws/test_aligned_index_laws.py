"""The index of rows agrees with a dict, whatever collides in its table."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamapp.operators.aligned_index import RowIndex

#: Few numbers, far apart as those of cells are, and with equal last bits.
names = st.builds(lambda cell, key: cell << 32 | key, st.integers(0, 5), st.integers(0, 20))
steps = st.lists(
    st.tuples(st.sampled_from(["add", "drop"]), st.lists(names, max_size=15)), max_size=8
)


def array(numbers: Any) -> Any:
    return np.array([*numbers], np.int64)


@given(steps, st.lists(names, min_size=1))
def test_what_is_found_is_what_a_dict_finds(
    steps: list[tuple[str, list[int]]], asked: list[int]
) -> None:
    index = RowIndex()
    rows: dict[int, int] = {}
    given_away = 0
    for what, named in steps:
        if what == "add":
            new = [*dict.fromkeys(name for name in named if name not in rows)]
            index.add(array(new))
            rows |= zip(new, range(given_away, given_away + len(new)), strict=True)
            given_away += len(new)
        else:
            index.drop(array({rows.pop(name) for name in named if name in rows}))
        assert len(index) == given_away
        assert index.find(array(asked)).tolist() == [rows.get(name, -1) for name in asked]
        assert [index.find_one(name) for name in asked] == [*map(rows.get, asked)]
        held = index.live(np.arange(given_away))
        assert dict(zip(index.names(held).tolist(), held.tolist(), strict=True)) == rows
