"""A worker whose windows close all at once goes on with all else meanwhile."""

from __future__ import annotations

import json

import pytest
from support.engine_app import Bench, running, until
from support.turns import counted_turns

import streamapp
from streamapp.engine import stage_work
from streamapp.engine.stage_work import StageWork
from streamapp.operators import aligned, aligned_results

KEYS = 50


@pytest.mark.parametrize("way", ["record", "silence"])
async def test_others_have_a_turn_between_two_pieces(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_work, "MUCH", 10)
    for module in (aligned, aligned_results):
        monkeypatch.setattr(module, "PIECE", 5)
    seen, go_on = [], StageWork.go_on
    bench = Bench()
    app = bench.app()
    advance = "wallclock" if way == "silence" else "no"
    topic = app.topic(
        "in", value_type=dict, event_time="ts", idle_after="100ms", advance_on_idle=advance
    )
    flow = app.pipeline("p").source(topic).key_by("k")
    flow.window(streamapp.tumbling("1s")).aggregate(n=streamapp.count()).to(topic="out")
    async with running(app), counted_turns() as turns:

        def noted(work: StageWork) -> None:
            seen.append(turns())
            go_on(work)

        monkeypatch.setattr(StageWork, "go_on", noted)
        bench.send("in", *(b'{"k":"k%d","ts":1}' % number for number in range(KEYS)))
        if way == "record":
            await until(lambda: bench.position("in") == KEYS)
            bench.send("in", b'{"k":"end","ts":60000}')
        await until(lambda: len(bench.log("out")) == KEYS)
    assert len({json.loads(value or b"")["key"] for _, value in bench.log("out")}) == KEYS
    assert len(seen) > KEYS // 5
    assert sorted(set(seen)) == seen
