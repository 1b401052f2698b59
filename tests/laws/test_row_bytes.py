"""The bytes of a row are those of the table's codec, whichever way memory holds the value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.errors import EncodeError
from streamapp.state.rows import ABSENT, Packed, row_codec

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63) - 2, (1 << 64) + 2)
    | st.sampled_from([1 << 63, (1 << 63) - 1, -(1 << 63), -(1 << 63) - 1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["x" * 5_000, 'a"b\\c\n\x00\x7f'])
)


def _can_be_held(value: object) -> bool:
    try:
        row_codec().hold(value)
    except EncodeError:
        return False
    return True


@given(_SCALARS)
def test_a_held_scalar_is_packed_as_the_codec_writes_it(value: Any) -> None:
    codec = row_codec()
    try:
        expected = codec.encode(value)
    except Exception:  # noqa: BLE001 - whatever cannot be written must not be held
        with pytest.raises(Exception):  # noqa: B017, PT011 - as above
            codec.hold(value)
        return
    held = codec.hold(value)
    assert codec.pack(held) == expected
    again = codec.unpack(expected)
    assert type(again) is type(held) or Packed in (type(again), type(held))
    assert codec.pack(again) == expected


@given(
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1))
    | st.lists(st.floats(allow_nan=False, allow_infinity=False))
    | st.lists(_SCALARS.filter(_can_be_held) | st.sampled_from([ABSENT, Packed(b"[1,2]")]))
)
def test_values_that_are_packed_at_once_are_those_packed_singly(values: list[Any]) -> None:
    codec = row_codec()
    held = [one if one is ABSENT or type(one) is Packed else codec.hold(one) for one in values]
    assert codec.pack_all(held) == [*map(codec.pack, held)]
