"""Changes between two drains, and timers over memory and state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.join_models import MapView

from streamapp.core.times import FOREVER_MS, NEVER_MS
from streamapp.operators.expiring import Changes, Timers, int_part, rounded_up, step_of
from streamapp.serde.ordered_keys import encode_key


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_a_number_is_what_it_is_in_every_key(number: int) -> None:
    assert encode_key(()) + int_part(number) == encode_key((number,))


@pytest.mark.parametrize(("time_ms", "expected"), [(-101, -100), (-100, -100), (1, 100), (0, 0)])
def test_times_are_rounded_up(time_ms: int, expected: int) -> None:
    assert rounded_up(time_ms, 100) == expected


def test_steps_are_an_eighth_but_not_tiny_and_end_with_time() -> None:
    assert (step_of(0), step_of(8_000)) == (100, 1_000)
    assert rounded_up(FOREVER_MS, 100) == FOREVER_MS


def test_changes_tell_what_the_state_lacks() -> None:
    changes = Changes()
    changes.insert(b"came and went", b"1")
    changes.update(b"came and went", b"2")
    changes.delete(b"came and went")
    changes.delete(b"was there")
    changes.insert(b"was there", b"3")
    changes.delete(b"gone")
    assert changes.has_deleted(b"gone")
    assert not changes.has_deleted(b"was there")
    assert changes.take() == {b"was there": b"3", b"gone": None}
    changes.delete(b"was there")
    changes.insert(b"was there", b"4")
    changes.delete(b"was there")
    assert changes.take() == {b"was there": None}


def test_timers_that_memory_gave_up_are_found_in_the_state() -> None:
    view, changes = MapView(), Changes()
    timers = Timers(view, changes)
    for due_ms, name in ((3, "c"), (1, "a"), (2, "b")):
        timers.move(name_of(name), FOREVER_MS, due_ms)
    view.apply(changes.take())
    timers.due(0)
    timers.trim(1)
    # One that is also in memory may come twice.
    assert {*timers.due(1)} == {(1, name_of("a"))}
    assert timers.next_ms == 2
    assert timers.due(3) == [(2, name_of("b")), (3, name_of("c"))]


#: At each step: a name and where its timer goes, a watermark, or a number of timers to keep.
STEPS = st.lists(
    st.tuples(st.just("move"), st.sampled_from("abc"), st.integers(-4, 4) | st.just(FOREVER_MS))
    | st.tuples(st.just("look"), st.integers(-5, 5))
    | st.tuples(st.just("drain"), st.integers(0, 2))
    | st.tuples(st.just("restart")),
    max_size=25,
)


@given(STEPS)
def test_what_is_due_is_what_a_list_says(steps: list[tuple[str, ...]]) -> None:
    view, changes = MapView(), Changes()
    timers = Timers(view, changes)
    model: dict[str, int] = {}
    for what, *rest in steps:
        if what == "move":
            name, due_ms = rest[0], int(rest[1])
            timers.move(name_of(name), model.pop(name, FOREVER_MS), due_ms)
            model |= {name: due_ms} if due_ms < FOREVER_MS else {}
        elif what == "look":
            check_due(timers, model, int(rest[0]))
        else:
            view.apply(changes.take())
            if what == "drain":
                timers.trim(int(rest[0]))
            else:
                timers = Timers(view, changes)
    assert timers.next_ms <= min(model.values(), default=FOREVER_MS)
    check_due(timers, model, 5)
    view.apply(changes.take())
    assert view.rows == {}
    assert timers.next_ms == FOREVER_MS


def check_due(timers: Timers, model: dict[str, int], watermark_ms: int) -> None:
    """Look at what is due, and move it away, as an operator does."""
    found = []
    for due_ms, raw in timers.due(watermark_ms):
        name = names()[raw]
        if model.get(name) == due_ms:
            found.append((due_ms, name))
            del model[name]
            timers.move(raw, due_ms, FOREVER_MS)
    assert [(due, name) for due, name in sorted(found)] == found
    assert all(due_ms > watermark_ms for due_ms in model.values())
    assert timers.next_ms > max(watermark_ms, NEVER_MS)


def name_of(name: str) -> bytes:
    return encode_key((name,))[1:]


def names() -> dict[bytes, str]:
    return {name_of(name): name for name in "abc"}
