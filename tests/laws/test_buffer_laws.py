"""Buffers against plain lists: never above a bound, and no item is unaccounted for."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.buffer import Bounds, Buffer, BufferFullError, Excess, Offer
from streamapp.errors import TooLargeError

BOUNDS = st.builds(Bounds, st.integers(1, 4), st.none() | st.integers(1, 9))
#: The size of an item that is offered, or ``None`` to take one.
STEPS = st.lists(st.none() | st.integers(0, 5), max_size=40)
POLICIES = st.sampled_from(get_args(Excess))


@given(BOUNDS, POLICIES, st.integers(1, 3), STEPS)
def test_bounds_hold_and_every_item_is_accounted_for(
    bounds: Bounds, excess: Excess, every: int, steps: list[int | None]
) -> None:
    buffer = Buffer[int](bounds, excess, every)
    sizes = dict(enumerate(steps))
    given_in, taken, refused = 0, [], 0
    for number, size in sizes.items():
        if size is None:
            if len(buffer):
                taken.append(buffer.take())
            continue
        given_in += 1
        try:
            refused += buffer.offer(number, size) is Offer.MUST_WAIT
        except (BufferFullError, TooLargeError):
            refused += 1
        assert len(buffer) <= bounds.items
        assert bounds.size_bytes is None or buffer.size_bytes <= bounds.size_bytes
        assert buffer.offered == given_in - refused
        assert buffer.offered == len(taken) + len(buffer) + buffer.dropped.total()
        assert buffer.accepted == len(taken) + len(buffer)
    rest = [buffer.take() for _ in range(len(buffer))]
    assert taken + rest == sorted(taken + rest)
    assert buffer.size_bytes == 0
    assert set(buffer.dropped) <= {excess}


@given(BOUNDS, STEPS)
def test_drop_oldest_holds_the_latest_that_fit(bounds: Bounds, steps: list[int | None]) -> None:
    buffer = Buffer[int](bounds, "drop_oldest")
    model: list[tuple[int, int]] = []
    most = 10**9 if bounds.size_bytes is None else bounds.size_bytes
    for number, size in enumerate(steps):
        if size is None:
            assert (buffer.take() if len(buffer) else None) == (model.pop(0)[0] if model else None)
            continue
        buffer.offer(number, size)
        if size <= most:
            model.append((number, size))
        while len(model) > bounds.items or sum(held for _, held in model) > most:
            del model[0]
    assert [buffer.take() for _ in range(len(buffer))] == [number for number, _ in model]
