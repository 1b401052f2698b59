"""Keeps the replica of the shop's customers from their change events."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agents import topics
from app import app
from streamapp.cdc.change import Change, Op, row_key
from streamapp.cdc.envelope import parse
from streamapp.cdc.replica import Outcome, apply_change, raise_floor
from tables.change_counts import change_counts
from tables.customers import customers
from tables.truncates import truncates

if TYPE_CHECKING:
    import streamapp

log = logging.getLogger(__name__)


@app.agent(topics.customer_changes)
async def replicate(stream: streamapp.Stream) -> None:
    """Apply each change once, in the order of the database; count what became of it."""
    async for event in stream.events():
        parsed = parse(event.key, event.value, topic=event.message.topic)
        if not isinstance(parsed, Change):
            _count(parsed.kind.value)
        elif parsed.op is Op.TRUNCATE:
            _truncate(parsed)
        else:
            _replicate(parsed)


def _replicate(change: Change) -> None:
    key = row_key(change.key)
    outcome = _apply(key, change)
    _count(outcome.decision.value)
    if outcome.unresolved:
        _count("unresolved", len(outcome.unresolved))
        log.warning(
            "Row %s of %s lacks %s: its database sent no value, and no earlier row has one",
            *(key, change.table, ", ".join(outcome.unresolved)),
        )


def _truncate(change: Change) -> None:
    """Empty this partition's share of the table up to the truncate's position.

    The record is in one partition only, so a change topic with several partitions would keep the
    rows of the others: this one has one.
    """
    truncates[change.table] = raise_floor(truncates.get(change.table), change)
    for key in list(customers):
        outcome = _apply(key, change)
        if outcome.before is not None:
            _count(outcome.decision.value)


def _apply(key: str, change: Change) -> Outcome:
    outcome = apply_change(customers.get(key), change, floor=truncates.get(change.table))
    if outcome.is_applied:
        customers[key] = outcome.state
    return outcome


def _count(what: str, number: int = 1) -> None:
    change_counts[what] += number
