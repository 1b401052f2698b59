"""Laws of whole pipelines: batches, commits, crashes and disorder change no result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.engine_app import Bench
from support.pipeline_flows import HEADS, MODELLED, PER_COMMIT, STEPS
from support.pipeline_recipes import BOUND_MS, Given, Recipe, Session

import streamapp
from streamapp.errors import ConfigError
from streamapp.testing.pipeline_driver import PipelineDriver

_SIZES = st.sampled_from([1, 7, 100, 10_000])
_PLACES = st.sets(st.integers(0, 24))
_JUMPS = st.sampled_from([0, 0, 1, 1, 2, 3, 5, 11])
_GROUPED = ("join", "outer", "merge", "self", "again")
#: Steps that refuse a value whose number is a text.
_PICKY = [
    "map", "filter", "tumbling", "hopping", "session", "lasting", "every", "sliding", "count",
]  # fmt: skip
#: Each example runs whole pipelines twice.
few = settings(max_examples=max(settings().max_examples // 5, 20))


@st.composite
def recipes(
    draw: st.DrawFn, heads: Sequence[str], steps: Sequence[str], *, is_grouped: bool = False
) -> Recipe:
    """Draw a flow; ``is_grouped`` lets its sources meet behind a ``group_by`` at times."""
    head = draw(st.sampled_from(heads))
    drawn = draw(st.lists(st.sampled_from(steps), min_size=1, max_size=3))
    return Recipe(head, tuple(drawn), is_grouped and head in _GROUPED and draw(st.booleans()))


@st.composite
def histories(draw: st.DrawFn, most_behind: int, partitions: int = 1) -> list[Given]:
    """Draw records of both sources that are up to so much behind the latest of their partition."""
    latest: dict[tuple[str, int], int] = {}
    found = []
    for _ in range(draw(st.integers(0, 25))):
        source, key = draw(st.sampled_from(["left", "right"])), draw(st.sampled_from("ab"))
        place = source, "ab".index(key) % partitions
        latest[place] = latest.get(place, -9) + draw(_JUMPS)
        value = {
            "k": key,
            "g": draw(st.integers(0, 2)),
            "n": draw(st.integers(0, 9)),
            "ts": latest[place] - draw(st.integers(0, most_behind)),
        }
        found.append(Given(*place, value))
    return found


def of_sources(recipe: Recipe, history: Sequence[Given]) -> list[Given]:
    return [record for record in history if record.source in recipe.uses]


def run(
    session: Session,
    history: Sequence[Given],
    size: int,
    commits: Container[int] = (),
    crashes: Container[int] = (),
) -> list[str]:
    """Return the results of records that come in batches of a size."""
    for number, record in enumerate(history, 1):
        session.add(record)
        if number % size == 0:
            session.put()
        if number in commits:
            session.commit()
        if number in crashes:
            session.crash()
    return session.finish()


def heard(recipe: Recipe, commits: set[int]) -> set[int]:
    """Return the commits that change no result.

    What a stage hears of time behind a ``group_by`` comes with records and commits: those say which
    updates "every" some time there are before a window closes.
    """
    steps = recipe.steps
    is_told = "group_by" in steps and "every" in steps[steps.index("group_by") :]
    return set() if is_told else commits


def one_by_one(recipe: Recipe, history: Sequence[Given]) -> list[str]:
    return run(Session(recipe), history, 1)


@few
@given(
    recipe=recipes(list(HEADS), list(STEPS)),
    history=histories(3 * BOUND_MS),
    size=_SIZES,
    commits=_PLACES,
)
def test_batches_and_commits_change_nothing_not_even_the_order(
    recipe: Recipe, history: list[Given], size: int, commits: set[int]
) -> None:
    history = of_sources(recipe, history)
    found = run(Session(recipe), history, size, heard(recipe, commits))
    assert found == one_by_one(recipe, history)


@few
@given(
    recipe=recipes(["one", "self"], list(STEPS)),
    history=histories(3 * BOUND_MS),
    size=_SIZES,
    commits=_PLACES,
    crashes=_PLACES,
)
def test_crashes_change_nothing_where_one_partition_says_the_order(
    recipe: Recipe, history: list[Given], size: int, commits: set[int], crashes: set[int]
) -> None:
    history = of_sources(recipe, history)
    found = run(Session(recipe), history, size, heard(recipe, commits), crashes)
    assert found == one_by_one(recipe, history)


@few
@example(
    # What a commit brings to a window that speaks at times, one of which has passed by then.
    recipe=Recipe("one", ("updates", "every")),
    history=[Given("left", 0, {"k": "a", "g": 0, "n": 1, "ts": ts}) for ts in (0, 9, 14)],
    size=1,
    commits={2},
)
@given(
    recipe=recipes(list(HEADS), [*STEPS, *PER_COMMIT], is_grouped=True),
    history=histories(3 * BOUND_MS, 2),
    size=_SIZES,
    commits=_PLACES,
)
def test_a_restart_at_a_commit_changes_nothing_not_even_the_order(
    recipe: Recipe, history: list[Given], size: int, commits: set[int]
) -> None:
    history = of_sources(recipe, history)
    undisturbed = run(Session(recipe, 2), history, size, commits)
    assert run(Session(recipe, 2), history, size, commits, crashes=commits) == undisturbed


@few
@given(
    recipe=recipes([name for name in HEADS if HEADS[name].model], MODELLED, is_grouped=True),
    history=histories(BOUND_MS, 2),
    size=_SIZES,
    commits=_PLACES,
    crashes=_PLACES,
)
def test_what_is_not_late_counts_as_in_a_plain_list(
    recipe: Recipe, history: list[Given], size: int, commits: set[int], crashes: set[int]
) -> None:
    """Whatever the order within the bound, the batches, the commits and the crashes."""
    # Keys that move without their records are of one partition each.
    partitions = 1 if "key_by" in recipe.steps else 2
    history = of_sources(recipe, history)
    if partitions == 1:
        history = _in_one_partition(history)
    found = run(Session(recipe, partitions), history, size, commits, crashes)
    assert Counter(found) == recipe.model(history)


def _in_one_partition(history: Sequence[Given]) -> list[Given]:
    """Put records into the order of time: those of several partitions may be far apart."""
    found = sorted(history, key=lambda record: record.value["ts"])
    return [record._replace(partition=0) for record in found]


@few
@given(
    recipe=recipes(["one", "merge", "branch", "again"], list(STEPS)),
    picky=st.sampled_from(_PICKY),
    history=histories(3 * BOUND_MS),
    bad=_PLACES,
    size=_SIZES,
)
def test_record_that_a_function_refuses_leaves_nothing(
    recipe: Recipe, picky: str, history: list[Given], bad: set[int], size: int
) -> None:
    recipe = replace(recipe, steps=(picky, *recipe.steps[:2]))
    history = of_sources(recipe, history)
    good = [record for number, record in enumerate(history) if number not in bad]
    for number, record in enumerate(history):
        if number in bad:
            value = {**record.value, "n": "text", "ts": record.value["ts"] + 30}
            history[number] = record._replace(value=value)
    session = Session(recipe)
    assert run(session, history, size, heard(recipe, bad)) == one_by_one(recipe, good)
    assert len(session.dead_letters) == len(history) - len(good)


# --- single cases --------------------------------------------------------------------------------


def encoded(*values: dict[str, Any]) -> list[bytes | None]:
    return [json.dumps(value).encode() for value in values]


@pytest.mark.parametrize("size", [1, 3, 6])
def test_record_that_the_second_of_two_steps_refuses_counts_once_in_the_first(size: int) -> None:
    app = Bench().app()
    source = app.topic("in", event_time="ts", key_type=str)
    flow = app.pipeline("p").source(source).key_by("k")
    for name in ("n", "m"):
        flow.window(streamapp.tumbling(1)).aggregate(total=streamapp.sum(name)).to(table=name)
    driver = PipelineDriver(app.pipelines["p"])
    values = [{"k": "a", "ts": 1, "n": 1, "m": 1} for _ in range(5)]
    values[2]["m"] = "text"
    records = encoded(*values, {"k": "a", "ts": 5_000, "n": 1, "m": 1})
    for start in range(0, len(records), size):
        driver.put("in", records[start : start + size])
    driver.commit()
    totals = [driver.table(name)["a", 0].total for name in ("n", "m")]
    assert totals == [5, 4]
    assert driver.stats.dead_letters == 1


def test_flows_grouped_by_one_field_do_not_mix() -> None:
    app = Bench().app()
    pipeline = app.pipeline("p")
    left, right = (pipeline.source(app.topic(name, event_time="ts")) for name in ("a", "b"))
    joined = left.group_by("k").join(right.group_by("k"), after=1, combine=lambda *both: [*both])
    joined.to(topic="out")
    driver = PipelineDriver(pipeline)
    for name in ("a", "b"):
        driver.put(name, encoded({"k": "x", "ts": 1, "of": name}))
    driver.commit()
    (out,) = driver.records("out")
    assert [value["of"] for value in json.loads(out.value or b"")] == ["a", "b"]
    with pytest.raises(ConfigError, match="two group_by"):
        left.group_by("n", name="k")


def test_topic_that_a_stage_reads_twice_tells_one_time() -> None:
    app = Bench().app()
    pipeline = app.pipeline("p")
    first, second = (pipeline.source(app.topic("a", event_time=field)) for field in ("x", "y"))
    first.merge(second).to(topic="out")
    with pytest.raises(ConfigError, match="two event times"):
        pipeline.stages()


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("key_type", "types of keys"),
        ("value_type", "types of values"),
        ("value_serializer", "codecs of values"),
    ],
)
def test_topic_that_a_stage_reads_twice_has_one_type(option: str, told: str) -> None:
    """The records of both sources were of the type of the first one."""
    app = Bench().app()
    given: dict[str, list[Any]] = {"value_serializer": ["raw", "json"]}
    pipeline = app.pipeline("p")
    first, second, third = (
        pipeline.source(app.topic("a", **{option: of}))
        for of in [*given.get(option, [str, int]), given.get(option, [str])[0]]
    )
    first.merge(third).to(topic="one")
    second.to(topic="other")
    assert pipeline.stages()
    first.merge(second).to(topic="out")
    with pytest.raises(ConfigError, match=f"a is read with two {told}"):
        pipeline.stages()


def test_flow_that_would_wait_for_itself_is_refused() -> None:
    pipeline = Bench().app().pipeline("p")
    flow = pipeline.source("a")
    flow.join(flow.group_by("k"), after=1).to(topic="out")
    with pytest.raises(ConfigError, match="that it was made of"):
        pipeline.stages()
