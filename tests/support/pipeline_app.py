"""The pipelines that crash tests kill; ``pipeline_model`` says what they must have done.

``totals`` goes through a topic of its own, so that watermarks come with the records; ``visits``
stands on one partition; ``pairs`` reads two topics; ``early`` is two operators over one source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamapp
from streamapp.engine.policy import ErrorPolicy

BOUND_MS = 2_000
SIZE_MS = 1_000
ALLOWED_MS = 1_000
HOP_MS = 400
GAP_MS = 300
SOME = 5
AROUND_MS = 400
SAME_MS = 60_000
POLICY = ErrorPolicy(retries=1, backoff_ms=1)


def declare(app: streamapp.App, note_begin: Callable[[], None]) -> None:
    first, other = (
        app.topic(
            name,
            key_type=str,
            value_type=dict[str, Any],
            event_time="ts",
            out_of_order=f"{BOUND_MS}ms",
            idle_after=None,
        )
        for name in ("in", "other")
    )
    declare_totals(app, first, note_begin)
    declare_visits(app, first)
    declare_pairs(app, first, other)
    declare_early(app, first)


def declare_totals(app: streamapp.App, source: Any, note_begin: Callable[[], None]) -> None:
    rows = (
        app.pipeline("totals", on_error=POLICY)
        .source(source)
        .peek(lambda _: note_begin())
        .filter(lambda value: value["n"] >= 0)
        .group_by("g")
        .window(streamapp.tumbling(f"{SIZE_MS}ms", late=f"{ALLOWED_MS}ms"), on_late="late")
        .aggregate(n=streamapp.count(), total=streamapp.sum("n"), high=streamapp.max("n"))
    )
    rows.to(table="totals", topic="totals-out")


def declare_visits(app: streamapp.App, source: Any) -> None:
    rows = (
        app.pipeline("visits", on_error=POLICY)
        .source(source)
        .filter(lambda value: value["n"] > -SAME_MS)
        .key_by("k")
        .dedup("id", within=f"{SAME_MS}ms")
        .window(streamapp.session(f"{GAP_MS}ms"))
        .aggregate(n=streamapp.count(), total=streamapp.sum("n"))
    )
    rows.to(table="visits", topic="visits-out")


def declare_pairs(app: streamapp.App, first: Any, other: Any) -> None:
    def pair(left: dict[str, Any], right: dict[str, Any] | None) -> list[Any]:
        return [left["id"], right and right["id"]]

    pipeline = app.pipeline("pairs", on_error=POLICY)
    left = pipeline.source(first).filter(lambda value: value["n"] % 2 == 0)
    near = f"{AROUND_MS}ms"
    pairs = left.join(pipeline.source(other), before=near, after=near, kind="left", combine=pair)
    pairs.to(topic="pairs-out")


def declare_early(app: streamapp.App, source: Any) -> None:
    """Declare windows that emit before they close, and windows that know no time."""
    numbers = (
        app.pipeline("early", on_error=POLICY)
        .source(source)
        .filter(lambda value: value["n"] > -SAME_MS)
        .key_by("k")
    )
    hops = numbers.window(streamapp.hopping(f"{SIZE_MS}ms", f"{HOP_MS}ms")).emit("update")
    hops.aggregate(n=streamapp.count(), total=streamapp.sum("n")).to(table="early")
    some = numbers.window(streamapp.count_window(SOME))
    some.aggregate(n=streamapp.count(), total=streamapp.sum("n")).to(topic="some-out")
