"""A random flow as a whole: declared, driven with batches, commits and crashes, and its model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from support.engine_app import Bench
from support.pipeline_flows import HEADS, PER_COMMIT, SOURCES, STEPS, Event, Value, ms

import streamapp
from streamapp.testing.pipeline_driver import DEAD_LETTERS, PipelineDriver

#: How far records are out of order at most, where nothing is to be late.
BOUND_MS = 4
#: Beyond all other times: these records let every window close.
END_MS = 100_000


class Given(NamedTuple):
    """A record of a source."""

    source: str
    partition: int
    value: Value


@dataclass(frozen=True)
class Recipe:
    """A flow: its head, its steps, and whether sources are regrouped before they meet."""

    head: str
    steps: tuple[str, ...]
    is_grouped: bool = False

    @property
    def uses(self) -> tuple[str, ...]:
        return HEADS[self.head].uses

    def declare(self, app: streamapp.App) -> None:
        pipeline = app.pipeline("p")
        flows = {name: pipeline.source(self._topic(app, name)) for name in self.uses}
        if self.is_grouped:
            flows = {name: flow.group_by("k") for name, flow in flows.items()}
        flow = HEADS[self.head].declare(flows["left"], flows.get("right", flows["left"]))
        for name in self.steps:
            flow = {**STEPS, **PER_COMMIT}[name].declare(flow)
        flow.to(topic="out")

    def model(self, given: Sequence[Given]) -> Counter[str]:
        """Return all results of records none of which is late."""
        of: dict[str, list[Event]] = {name: [] for name in SOURCES}
        for source, _, value in given:
            of[source].append(Event(value["k"], value["ts"], value))
        head = HEADS[self.head].model
        assert head is not None
        events = head(of["left"], of["right"])
        for name in self.steps:
            model = STEPS[name].model
            assert model is not None
            events = model(events)
        return Counter(_told(str(e.key), e.time, e.value) for e in events)

    def _topic(self, app: streamapp.App, name: str) -> Any:
        return app.topic(
            name,
            key_type=str,
            value_type=dict[str, Any],
            event_time="ts",
            out_of_order=ms(BOUND_MS),
        )


@dataclass
class Session:
    """A flow in a driver, and the records that wait to be put as one batch."""

    recipe: Recipe
    partitions: int = 1
    driver: PipelineDriver = field(init=False)
    _batch: list[Given] = field(default_factory=list)

    def __post_init__(self) -> None:
        app = Bench().app()
        self.recipe.declare(app)
        self.driver = PipelineDriver(app.pipelines["p"], partitions=self.partitions)

    def add(self, given: Given) -> None:
        """Let a record wait; those of another partition that wait are put before it."""
        if self._batch and self._batch[-1][:2] != given[:2]:
            self.put()
        self._batch.append(given)

    def put(self) -> None:
        """Put what waits."""
        if self._batch:
            source, partition, _ = self._batch[0]
            values = [value for _, _, value in self._batch]
            self.driver.put(
                source,
                [json.dumps(value).encode() for value in values],
                keys=[value["k"].encode() for value in values],
                partition=partition,
            )
            self._batch.clear()

    def commit(self) -> None:
        self.put()
        self.driver.commit()

    def crash(self) -> None:
        self.put()
        self.driver.crash()

    def finish(self) -> list[str]:
        """Let all windows close; return all results in their order."""
        self.put()
        end = {"k": "end", "g": 0, "n": 1, "ts": END_MS}
        for source in self.recipe.uses:
            for partition in range(self.partitions):
                self.add(Given(source, partition, end))
        self.commit()
        return [
            _told((r.key or b"").decode(), r.timestamp_ms, json.loads(r.value or b""))
            for r in self.driver.records("out")
            if r.timestamp_ms < END_MS // 2
        ]

    @property
    def dead_letters(self) -> list[bytes | None]:
        return [record.value for record in self.driver.records(DEAD_LETTERS)]


def _told(key: str, time: int, value: Value) -> str:
    return f"{key} at {time}: {json.dumps(value, sort_keys=True)}"
