"""Counts and sums per user and per type, and the metrics that alert rules may name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import topics
from agents.measures import click_metrics, combine, order_metrics, series_key, type_metrics
from agents.records import Partial
from app import app
from streamapp.metrics.stats import add
from tables.clicks_by_user import clicks_by_user
from tables.orders_by_type import orders_by_type
from tables.orders_by_type_part import orders_by_type_part
from tables.orders_by_user import orders_by_user

if TYPE_CHECKING:
    from collections.abc import Iterable

    import streamapp
    from agents.records import Metric


@app.agent(topics.orders)
async def count_orders(stream: streamapp.Stream) -> None:
    """Add each order to its user's total and to its type's total in this partition."""
    async for event in stream.events():
        order = event.value
        total = add(orders_by_user.get(order.user), order.amount)
        orders_by_user[order.user] = total
        part = add(orders_by_type_part.get(order.type), order.amount)
        orders_by_type_part[order.type] = part
        partial = Partial(order.type, event.message.partition, part)
        await topics.order_partials.send(key=order.type, value=partial)
        await _send(order_metrics(order, total))


@app.agent(topics.order_partials)
async def combine_types(stream: streamapp.Stream) -> None:
    """Sum up the partitions' totals of each order type."""
    async for event in stream.events():
        partial = event.value
        totals = combine(orders_by_type.get(partial.type), partial)
        orders_by_type[partial.type] = totals
        ts_ms = round(event.message.timestamp * 1_000)
        await _send(type_metrics(partial.type, totals, ts_ms))


@app.agent(topics.clicks)
async def count_clicks(stream: streamapp.Stream) -> None:
    """Count each user's page views."""
    async for click in stream:
        clicks_by_user[click.user] += 1
        await _send(click_metrics(click))


async def _send(metrics: Iterable[Metric]) -> None:
    for metric in metrics:
        await topics.metrics.send(key=series_key(metric.name, metric.labels), value=metric)
