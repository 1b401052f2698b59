"""Feeds the shop's made-up events at a steady rate; goes on where it stopped after a restart.

One worker sends ticks; the owner of the tick partition turns each into events. The number of the
next event is in a table, so it is committed together with the events: none is left out or sent
twice by a crash.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agents import topics
from agents.demo_events import demo_records
from agents.records import Tick
from app import app, settings
from tables.demo_cursor import demo_cursor

if TYPE_CHECKING:
    import streamapp

SEED = 7
#: Seconds between ticks: short enough to look steady, long enough to cost nothing.
INTERVAL_S = 0.1

ticks = app.topic("demo-ticks", key_type=str, value_type=Tick, partitions=1)
# The same topics as raw bytes, so that broken records can be sent too.
_outlets = {
    "orders": app.topic("orders", key_type=bytes, value_type=bytes),
    "clicks": app.topic("clicks", key_type=bytes, value_type=bytes),
    "shop.public.customers": topics.customer_changes,
}


@app.timer(INTERVAL_S, on_leader=True)
async def tick() -> None:
    """Ask for the events of one interval."""
    count = max(1, round(settings.demo_rate * INTERVAL_S))
    await ticks.send(key="tick", value=Tick(time.time_ns() // 1_000_000, count))


@app.agent(ticks)
async def feed(stream: streamapp.Stream) -> None:
    """Send the next events of the shop."""
    async for asked in stream:
        first = demo_cursor["next"]
        for number in range(first, first + asked.count):
            for record in demo_records(SEED, number, asked.now_ms):
                await _outlets[record.topic].send(key=record.key, value=record.value)
        demo_cursor["next"] = first + asked.count
