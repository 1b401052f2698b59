"""What is measured: from events and totals to metrics. Pure.

Running totals travel as whole values, never as increments, so a total that is delivered twice or
late does no harm: the larger one of a partition is the newer one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.records import Click, Labels, Metric, Order, Partial, TypeTotals

if TYPE_CHECKING:
    from streamapp.metrics.stats import Moments


def order_metrics(order: Order, total: Moments) -> list[Metric]:
    """Return the metrics of one order and of its user's total including it."""
    labels = {"user": order.user}
    return [
        Metric("order_amount", order.amount, labels, order.ts_ms),
        Metric("user_total", total.sum, labels, order.ts_ms),
    ]


def click_metrics(click: Click) -> list[Metric]:
    """Return the metrics of one page view."""
    return [Metric("page_load_ms", click.load_ms, {"page": click.page}, click.ts_ms)]


def type_metrics(order_type: str, totals: TypeTotals, ts_ms: int) -> list[Metric]:
    """Return the metrics of one order type over all partitions."""
    labels = {"type": order_type}
    return [
        Metric("orders_total", totals.total.n, labels, ts_ms),
        Metric("orders_amount_total", totals.total.sum, labels, ts_ms),
    ]


def combine(totals: TypeTotals | None, partial: Partial) -> TypeTotals:
    """Return the totals of a type with a partition's new part; safe to repeat."""
    parts = dict(totals.parts) if totals else {}
    name = str(partial.partition)
    if name not in parts or parts[name].n < partial.amounts.n:
        parts[name] = partial.amounts
    ordered = [parts[key] for key in sorted(parts)]
    total = ordered[0]
    for part in ordered[1:]:
        total = total.merge(part)
    return TypeTotals(total, parts)


def series_key(name: str, labels: Labels) -> str:
    """Name a series: what the metrics are partitioned by."""
    inner = ",".join(f"{label}={labels[label]}" for label in sorted(labels))
    return f"{name}{{{inner}}}"
