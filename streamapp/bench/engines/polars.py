"""Polars over all events at once: what a batch job costs that has the whole input in memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import polars as pl

from streamapp.bench.program import Program
from streamapp.bench.scenarios import GAP_MS, STATS_MS, THRESHOLD, TUMBLING_MS, keyed

_ORDER = {"id": pl.Int64, "user": pl.String, "amount": pl.Float64, "ts": pl.Int64}
_ROW = pl.Struct({"id": pl.Int64, "name": pl.String, "email": pl.String})
_CHANGE = {"op": pl.String, "before": _ROW, "after": _ROW}
_TOTALS = (pl.len().alias("n"), pl.col("amount").sum().alias("total"))


def _start(ms: int) -> pl.Expr:
    return (pl.col("ts") // ms * ms).alias("start")


def _filter(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.filter(pl.col("amount") > THRESHOLD).select("id", "user", pl.col("amount") * 1.5)


def _tumbling(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.group_by("user", _start(TUMBLING_MS)).agg(*_TOTALS)


def _sliding(orders: pl.DataFrame) -> pl.DataFrame:
    """Six panes of five seconds make a window: each pane counts in six of them."""
    panes = _tumbling(orders)
    shifted = [panes.with_columns(pl.col("start") - TUMBLING_MS * back) for back in range(6)]
    return (
        pl.concat(shifted).group_by("user", "start").agg(pl.col("n").sum(), pl.col("total").sum())
    )


def _session(orders: pl.DataFrame) -> pl.DataFrame:
    is_new = (pl.col("ts").diff() > GAP_MS).fill_null(value=True).over("user").cum_sum()
    ordered = orders.sort("user", "ts").with_columns(is_new.over("user").alias("session"))
    found = ordered.group_by("user", "session").agg(pl.col("ts").min().alias("start"), *_TOTALS)
    return found.select("user", "start", "n", "total")


def _stats(orders: pl.DataFrame) -> pl.DataFrame:
    amount = pl.col("amount")
    more = amount.min().alias("least"), amount.max().alias("most"), amount.std(ddof=0).alias("sd")
    return orders.group_by("user", _start(STATS_MS)).agg(*_TOTALS, *more)


def _debezium(changes: pl.DataFrame) -> pl.DataFrame:
    row_id = pl.coalesce(
        pl.col("after").struct.field("id"), pl.col("before").struct.field("id")
    ).alias("row_id")
    last = changes.group_by(row_id).agg(pl.col("op").last(), pl.col("after").last())
    return last.filter(pl.col("op") != "d").unnest("after").select("row_id", "name", "email")


_JOBS: dict[str, tuple[dict[str, Any], Callable[[pl.DataFrame], pl.DataFrame], int]] = {
    "filter": (_ORDER, _filter, 1),
    "tumbling": (_ORDER, _tumbling, 2),
    "sliding": (_ORDER, _sliding, 2),
    "session": (_ORDER, _session, 2),
    "stats": (_ORDER, _stats, 2),
    "debezium": (_CHANGE, _debezium, 1),
}


def make(scenario: str, events: list[bytes]) -> Program:
    """Return the job of a scenario; joining the events into one text is not measured."""
    schema, job, keys = _JOBS[scenario]
    text = b"\n".join(events)
    found: list[pl.DataFrame] = []

    def work() -> None:
        found.append(job(pl.read_ndjson(io.BytesIO(text), schema=schema)))

    return Program(work, lambda: keyed((row[:keys], row[keys:]) for row in found[0].iter_rows()))
