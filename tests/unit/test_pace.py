"""Where steps of a pipeline may stand that wait, or hold rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.engine_app import Bench

import streamapp
from streamapp.errors import ConfigError


def delayed(flow: Any) -> Any:
    return flow.rate_limit(5, excess="delay")


def twice(pipeline: Any) -> Any:
    delayed(pipeline.source("a")).to(topic="x")
    return delayed(pipeline.source("a"))


def beside(pipeline: Any) -> Any:
    flow = pipeline.source("a")
    flow.buffer(5, rate=1).to(topic="x")
    return delayed(flow.map(len))


def merged(pipeline: Any) -> Any:
    flow = pipeline.source("a")
    delayed(flow).to(topic="x")
    return delayed(pipeline.source("b").merge(flow))


#: From a pipeline to a flow that is then written to a topic.
Make = Callable[[Any], Any]
REFUSED: dict[str, tuple[Make, str]] = {
    "behind state": (lambda p: delayed(p.source("a").dedup("id", within="1s")), "behind dedup"),
    "behind another": (lambda p: delayed(delayed(p.source("a"))), "rate-limit-2 cannot wait"),
    "beside another": (beside, "buffer and rate-limit wait beside each other"),
    "beside, over a topic": (twice, "rate-limit and rate-limit-2 wait beside"),
    "beside, over a merge": (merged, "wait beside each other"),
    "a group behind a buffer": (
        lambda p: p.source("a").buffer(5, rate=1, when_full="fail").map(len).group_by("k"),
        "group-by comes behind buffer",
    ),
    "a join behind a buffer": (
        lambda p: p.source("a").join(p.source("b").buffer(5, rate=1, when_full="drop_oldest")),
        "join comes behind buffer",
    ),
}
ALLOWED: dict[str, Make] = {
    "drop behind state": lambda p: p.source("a").dedup("id", within="1s").rate_limit(5),
    "hold behind windows": lambda p: (
        p.source("a")
        .window(streamapp.tumbling("1s"))
        .aggregate(n=streamapp.count())
        .buffer(5, rate=1, when_full="drop_oldest")
    ),
    "wait before branches": lambda p: delayed(p.source("a")).branch(x=len, y=len)["x"],
    "wait behind a merge": lambda p: delayed(p.source("a").merge(p.source("b"))),
    "wait on both sides": lambda p: delayed(p.source("a")).join(delayed(p.source("b"))),
    "wait in two stages": lambda p: delayed(delayed(p.source("a")).group_by("k")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused(case: str) -> None:
    make, told = REFUSED[case]
    pipeline = Bench().app().pipeline("p")
    make(pipeline).to(topic="out")
    with pytest.raises(ConfigError, match=told):
        pipeline.stages()


@pytest.mark.parametrize("case", ALLOWED)
def test_what_can_work_is_not(case: str) -> None:
    pipeline = Bench().app().pipeline("p")
    ALLOWED[case](pipeline).to(topic="out")
    assert pipeline.stages()


def test_what_is_no_buffer_is_refused() -> None:
    flow = Bench().app().pipeline("p").source("a")
    for options, told in (
        ({"items": 0, "rate": 1}, "0 items"),
        ({"items": 1, "rate": 0}, "rate cannot be 0"),
        ({"items": 1, "rate": 1, "per": "0s"}, "in 0 ms"),
        ({"items": 1, "rate": 1, "size": "much"}, "not a size"),
        ({"items": 1, "rate": 1, "when_full": "spill"}, "Use one of block, drop_newest"),
    ):
        with pytest.raises(ConfigError) as caught:
            flow.buffer(**options)
        assert told in str(caught.value)
