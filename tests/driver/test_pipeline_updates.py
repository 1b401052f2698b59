"""Updates once per commit: those of a commit without emission come after a crash, and only once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.engine_app import Bench

import streamapp
from streamapp.engine.stage_work import StageWork
from streamapp.errors import ConfigError
from streamapp.testing.pipeline_driver import PipelineDriver

SPECS = {
    "tumbling": streamapp.tumbling(10),
    "hopping": streamapp.hopping(10, 4),
    "session": streamapp.session(10),
    "global": streamapp.global_window(count=1_000),
}
#: One record at a time, and enough at once for columns.
SIZES = (1, 300)


class Bed:
    """A pipeline with updates, and commits of a worker that come too early for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, spec: Any) -> None:
        self._monkeypatch = monkeypatch
        app = Bench().app()
        source = app.topic("in", key_type=str, value_type=dict, event_time="ts")
        windows = app.pipeline("p").source(source).window(spec).emit("update")
        windows.aggregate(n=streamapp.count(), s=streamapp.sum("x")).to(topic="out")
        self.driver = PipelineDriver(app.pipelines["p"])

    def put(self, size: int, ts: int, keys: int = 300) -> None:
        """Put a record of each key, so many at once."""
        data = json.dumps({"ts": ts, "x": ts}).encode()
        for at in range(0, keys, size):
            names = [b"k%d" % n for n in range(at, min(at + size, keys))]
            self.driver.put("in", [data] * len(names), keys=names)

    def commit_early(self) -> None:
        tick = StageWork.tick

        def without(self: StageWork, silences: Any, **options: Any) -> None:
            tick(self, silences, **{**options, "may_emit": False})

        with self._monkeypatch.context() as patch:
            patch.setattr(StageWork, "tick", without)
            self.driver.commit()

    def new_rows(self, seen: int) -> list[tuple[Any, ...]]:
        """Return what a commit says that is not among the first ``seen`` rows."""
        self.driver.commit()
        found = [json.loads(one.value or b"") for one in self.driver.records("out")[seen:]]
        return [(row["key"], row["start"], row["kind"], row["n"], row["s"]) for row in found]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_updates_that_a_commit_left_out_come_after_a_crash(
    monkeypatch: pytest.MonkeyPatch, spec: Any, size: int
) -> None:
    def said(*, crashes: bool) -> list[Any]:
        bed = Bed(monkeypatch, spec)
        found: list[Any] = []
        for ts, keys in ((1, 300), (3, 40), (2, 7)):
            bed.put(size, ts, keys)
            bed.commit_early()
            bed.driver.crash() if crashes else None
        for _ in range(2):
            found.append(bed.new_rows(sum(map(len, found))))
            bed.driver.crash() if crashes else None
        bed.put(size, 4, 5)
        return [*found, bed.new_rows(sum(map(len, found)))]

    first, second, third = wanted = said(crashes=False)
    assert len(first) in {300, 900}
    assert second == []
    assert len(third) in {5, 15}
    assert said(crashes=True) == wanted


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("options", [{"count": 1}, {"every": "1s"}], ids=["count", "every"])
def test_table_has_one_row_of_a_global_window_whose_start_moves(
    options: dict[str, Any], *, crashes: bool
) -> None:
    app = Bench().app()
    source = app.topic("in", key_type=str, value_type=dict, event_time="ts")
    windows = app.pipeline("p").source(source).window(streamapp.global_window(**options))
    windows.aggregate(n=streamapp.count()).to(table="all")
    driver = PipelineDriver(app.pipelines["p"])
    for n, ts in enumerate((1_500, 1_200, 2_500, 1_100, 9_000), 1):
        driver.put("in", [json.dumps({"ts": ts}).encode()], keys=[b"k"])
        if crashes:
            driver.commit()
            driver.crash()
        if n == 4:
            driver.commit()
            assert len(driver.table("all")) == 1
    driver.commit()
    assert [(*key, row.n) for key, row in driver.table("all").items()] == [("k", 1_100, 5)]


def test_table_of_count_windows_is_refused() -> None:
    """Windows of a key may begin at one time: a table lost all but the last of them."""
    app = Bench().app()
    flow = app.pipeline("p").source("in").window(streamapp.count_window(2))
    rows = flow.aggregate(n=streamapp.count())
    with pytest.raises(ConfigError, match="count windows would lose rows"):
        rows.filter(bool).to(table="counted")
    rows.map(lambda row: {"n": row.n}).to(table="last")
