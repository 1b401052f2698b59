"""A pipeline in YAML yields what the same one in Python yields: rows, records, dead letters."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.engine_app import Bench, running, until
from support.yaml_shop import SEEN
from support.yaml_twins import BOTH, ONE, SALES, TWO, Make, both, sales

import streamapp
from streamapp.operators.results import WindowRow
from streamapp.testing.pipeline_driver import DEAD_LETTERS, PipelineDriver

ROOT = Path(__file__).parents[2]


def records(seed: int, topic: str, count: int) -> list[tuple[bytes, bytes | None]]:
    """Make records that are mostly in order; a few are late, and a few are none."""
    rng, made = Random(f"{seed}{topic}"), []
    for n in range(count):
        user = rng.choice("abc")
        late = rng.choice([0, 0, 0, 1, 2, 9])
        value: dict[str, Any] = {"user": user, "ts": (n - late) * 700, "id": n - n % 3}
        value |= {"kind": rng.choice(["b", "lamp", "pen"]), "amount": rng.randrange(5)}
        value |= {"note": rng.choice([None, "x"]), "paid": rng.choice([0.5, 2.0])}
        data = json.dumps(value).encode() if rng.random() < 0.97 else b"{"
        made.append((user.encode(), data))
    return made


def driven(app: streamapp.App, *, partitions: int) -> dict[str, Any]:
    """Run records through the pipeline, with commits and crashes; return all it made."""
    driver = PipelineDriver(app.pipelines["p"], partitions=partitions)
    topics = {
        of.topic.get_topic_name() for plan in app.pipelines["p"].stages() for of in plan.inputs
    }
    rng = Random(partitions)
    for part in range(12):
        for topic in sorted(topics & {"sales", "payments"}):
            given = records(part // 2, topic, 240)[part * 20 : part * 20 + 20]
            partition = part % partitions
            driver.put(
                topic, [v for _, v in given], keys=[k for k, _ in given], partition=partition
            )
        if rng.random() < 0.6:
            driver.commit()
        if rng.random() < 0.3:
            driver.crash()
    driver.commit(silent_ms=60_000)
    tables = {name: driver.table(name) for name in app.tables}
    logs = {
        name: [
            # Headers of dead letters tell when, by the clock.
            (r.tp, r.key, r.value, r.timestamp_ms, name != DEAD_LETTERS and r.headers)
            for r in driver.records(name)
        ]
        for name in {tp.topic for tp in driver._logs} - topics
    }
    return {"tables": plain(tables), "logs": logs, "letters": driver.stats.dead_letters}


def plain(value: Any) -> Any:
    """Return rows as plain data: the types of window rows are made anew for each pipeline."""
    if isinstance(value, dict):
        return {key: plain(below) for key, below in value.items()}
    if isinstance(value, WindowRow):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    return value


def loaded(tmp_path: Path, text: str) -> streamapp.App:
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    app = Bench().app()
    app.load_pipelines(tmp_path)
    return app


def twin(make: Make, flows: Any) -> streamapp.App:
    app = Bench().app()
    make(app, flows(app))
    return app


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_yaml_yields_what_python_yields(tmp_path: Path, name: str) -> None:
    text, make = {**ONE, **TWO}[name]
    head, flows = (SALES, sales) if name in ONE else (BOTH, both)
    SEEN.clear()
    found = driven(loaded(tmp_path, head + text), partitions=2)
    expected = driven(twin(make, flows), partitions=2)
    assert found == expected
    assert found["letters"] > 0
    assert found["tables"].get("out") or found["logs"]["out"]


async def test_a_worker_lets_rows_of_a_buffer_leave_when_no_more_records_come() -> None:
    bench = Bench()
    app = bench.app()
    flow = app.pipeline("mails").source(app.topic("orders", value_type=dict))
    flow.buffer(100, rate=2, per="50ms", when_full="fail").to(topic="mails")
    flow.to(topic="all")
    async with running(app):
        bench.send("orders", *(b'{"n": %d}' % n for n in range(9)))
        await until(lambda: len(bench.log("all")) == 9)
        await until(lambda: len(bench.log("mails")) == 9)
        assert bench.log("mails") == bench.log("all")
        assert bench.rows("mails-buffer") == dict.fromkeys(bench.rows("mails-buffer"))


async def test_what_a_buffer_holds_is_found_by_the_next_worker() -> None:
    bench = Bench()
    for per in ("1d", "10ms"):
        app = bench.app()
        flow = app.pipeline("mails").source(app.topic("orders", value_type=dict))
        flow.buffer(100, rate=1, per=per).to(topic="mails")
        flow.to(topic="all")
        async with running(app):
            if per == "1d":
                bench.send("orders", *(b'{"n": %d}' % n for n in range(9)))
                await until(lambda: len(bench.log("all")) == 9)
            else:
                await until(lambda: len(bench.log("mails")) == 9)
    assert bench.log("mails") == bench.log("all")
