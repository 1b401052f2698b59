"""The grid of tumbling and hopping windows: formulas against plain searches."""

import numpy as np
import pytest

from streamapp.core.times import FOREVER_MS, NEVER_MS
from streamapp.core.windows import Grid, Hopping, Lateness, Tumbling, floor_to

SPECS = [
    Tumbling(5),
    Tumbling(5, 3, Lateness(2)),
    Hopping(6, 2),
    Hopping(7, 3, 1, Lateness(4)),  # the size is no multiple of the slide
    Hopping(2, 5),  # there are times in no window
    Hopping(6, 4, -1),
]
TIMES = range(-20, 21)


def starts(spec: Tumbling | Hopping, time: int) -> list[int]:
    """All windows of a time, by trying every start."""
    slide = spec.slide_ms if isinstance(spec, Hopping) else spec.size_ms
    return [
        start
        for start in range(time - spec.size_ms - 1, time + 2)
        if (start - spec.offset_ms) % slide == 0 and start <= time < start + spec.size_ms
    ]


@pytest.mark.parametrize("time", [-11, -10, -9, -1, 0, 1, 9, 10])
def test_floor_goes_down_below_zero_for_numbers_and_arrays(time: int) -> None:
    down = max(start for start in range(-30, 30, 10) if start <= time)
    assert floor_to(time, 10, 0) == down
    assert floor_to(np.array([time]), 10, 0).tolist() == [down]


@pytest.mark.parametrize("spec", SPECS)
def test_windows_of_a_time(spec: Tumbling | Hopping) -> None:
    grid = Grid.of(spec)
    for time in TIMES:
        assert [*grid.windows_at(time)] == starts(spec, time)


@pytest.mark.parametrize("spec", SPECS)
def test_a_time_is_in_one_pane_and_its_windows_are_those_over_the_pane(
    spec: Tumbling | Hopping,
) -> None:
    grid = Grid.of(spec)
    for time in TIMES:
        (pane,) = grid.cells_at(time)
        assert pane <= time < pane + grid.cell_ms
        assert [*grid.windows_over(pane)] == starts(spec, time)
        assert all(pane in grid.cells_in(start) for start in starts(spec, time))


@pytest.mark.parametrize("spec", SPECS)
def test_the_cells_of_a_window_cover_it_exactly(spec: Tumbling | Hopping) -> None:
    grid = Grid.of(spec)
    start = grid.offset_ms
    cells = [*grid.cells_in(start)]
    covered = [time for cell in cells for time in range(cell, cell + grid.cell_ms)]
    assert covered == [*range(start, start + grid.size_ms)]


def test_a_window_of_too_many_panes_is_kept_whole() -> None:
    grid = Grid.of(Hopping(10_000, 3_001))
    assert (grid.cell_ms, grid.step_ms) == (10_000, 3_001)
    assert [*grid.cells_at(9_500)] == [*grid.windows_at(9_500)] == [0, 3_001, 6_002, 9_003]
    assert [*grid.windows_over(3_001)] == [*grid.cells_in(3_001)] == [3_001]
    assert grid.is_single
    assert not grid.in_panes


def test_many_panes_are_kept_where_as_many_windows_overlap() -> None:
    assert Grid.of(Hopping(86_400, 1)).cell_ms == 1
    assert Grid.of(Hopping(64, 63)).cell_ms == 1
    assert Grid.of(Hopping(65, 64)).cell_ms == 65


def test_a_window_fires_at_its_last_instant_and_is_kept_for_the_allowed_lateness() -> None:
    grid = Grid.of(Tumbling(5, late=Lateness(3)))
    assert (grid.fire_ms(0), grid.clean_ms(0)) == (4, 7)
    assert grid.open_from(3) == 0
    assert grid.open_from(4) == 5


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mark", [NEVER_MS, *range(-12, 13)])
def test_dues_of_columns_are_those_of_each_row(spec: Tumbling | Hopping, mark: int) -> None:
    grid = Grid.of(spec)
    marks = np.full(len(TIMES), mark)
    expected = [grid.due_ms(time, mark) for time in TIMES]
    assert grid.dues_ms(np.array(TIMES), marks).tolist() == expected


def test_due_says_when_the_first_window_that_takes_a_record_fires() -> None:
    grid = Grid.of(Hopping(6, 3, late=Lateness(1)))  # 4 is in [0, 6) and [3, 9)
    assert grid.due_ms(4, NEVER_MS) == 5
    assert grid.due_ms(4, 4) == 5
    assert grid.due_ms(4, 5) == NEVER_MS  # fired, and still allowed
    assert grid.due_ms(4, 6) == 8  # late for the first
    assert grid.due_ms(4, 9) == FOREVER_MS  # late for both


def test_the_ends_of_windows_stop_at_the_end_of_time() -> None:
    grid = Grid.of(Tumbling(10, late=Lateness(5)))
    last = grid.windows_at(FOREVER_MS)[0]
    assert last + 10 > FOREVER_MS
    assert grid.fire_ms(last) == FOREVER_MS - 1
    assert grid.clean_ms(last) == FOREVER_MS
    assert grid.open_from(FOREVER_MS - 2) <= last < grid.open_from(FOREVER_MS - 1)


def test_sizes_that_could_overflow_columns_do_not_fit_them() -> None:
    assert Grid.of(Tumbling(1 << 59)).fits_columns
    assert not Grid.of(Tumbling(1 << 61)).fits_columns
