"""Laws of what is due at once and leaves in pieces: commits and crashes in between change nothing.

A record in hand counts whole or not at all: its results, its state, its position.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pieces import PieceDriver, PieceStage, What, in_pieces
from support.pipeline_flows import STEPS
from support.pipeline_recipes import BOUND_MS, Given, Recipe, Session

from streamapp.engine import stage_work
from streamapp.operators import aligned, aligned_results, session_columns, session_forms
from streamapp.testing import pipeline_driver

_WINDOWS = ["tumbling", "hopping", "session", "lasting", "every"]
_JUMPS = st.sampled_from([0, 0, 0, 1, 1, 5, 11, 40])
#: Each example runs whole pipelines twice.
few = settings(max_examples=max(settings().max_examples // 5, 20))


@pytest.fixture(autouse=True, scope="module")
def _small_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_work, "MUCH", 0)
        for module in (aligned, aligned_results, session_forms):
            patch.setattr(module, "PIECE", 1)
        patch.setattr(session_columns, "MANY", 1)
        yield


@st.composite
def histories(draw: st.DrawFn) -> list[Given]:
    """Draw records whose times stand for a while, and then jump."""
    latest, found = -9, []
    for _ in range(draw(st.integers(0, 25))):
        latest += draw(_JUMPS)
        value = {
            "k": draw(st.sampled_from("abcd")),
            "g": draw(st.integers(0, 2)),
            "n": draw(st.integers(0, 9)),
            "ts": latest - draw(st.integers(0, 3 * BOUND_MS)),
        }
        found.append(Given("left", 0, value))
    return found


def one_by_one(recipe: Recipe, history: list[Given]) -> list[str]:
    session = Session(recipe)
    for record in history:
        session.add(record)
        session.put()
    return session.finish()


def piecewise(recipe: Recipe, plan: list[What]) -> PieceDriver:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_driver, "StageDriver", PieceStage)
        return in_pieces(recipe, plan)


@few
@given(
    steps=st.tuples(st.sampled_from(_WINDOWS), st.sampled_from(sorted(STEPS))),
    history=histories(),
    size=st.sampled_from([1, 3, 7, 100]),
    commits=st.sets(st.integers(0, 24)),
    plan=st.lists(st.sampled_from(get_args(What)), max_size=30),
)
def test_pieces_commits_and_crashes_between_them_change_nothing(
    steps: tuple[str, str], history: list[Given], size: int, commits: set[int], plan: list[What]
) -> None:
    recipe = Recipe("one", steps)
    expected = one_by_one(recipe, history)
    driver = piecewise(recipe, plan)
    for number, record in enumerate(history, 1):
        driver.session.add(record)
        if number % size == 0:
            driver.put()
        if number in commits:
            driver.commit()
    assert driver.finish() == expected


@pytest.mark.parametrize("step", ["tumbling", "session"])
@pytest.mark.parametrize("behind", [0, 2])
def test_a_jump_in_a_batch_leaves_in_pieces_and_what_is_before_it_at_once(
    step: str, behind: int
) -> None:
    driver = piecewise(Recipe("one", (step,)), [])

    def put(times: list[tuple[str, int]]) -> None:
        for key, ts in times:
            driver.session.add(Given("left", 0, {"k": key, "g": 0, "n": 1, "ts": ts}))
        driver.put()

    put([(key, number) for number, key in enumerate("abcde", 20)])
    assert driver.pieces == 0
    put([("x", 24)] * behind + [("y", 60)])
    results = 5 + (behind > 0)
    # One for each result, and one or two to see that there are no more.
    assert results <= driver.pieces <= results + 2
