"""An application whose records set and cancel timers, and what has become of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamapp.core.batch import TP

if TYPE_CHECKING:
    from support.engine_app import Bench

    import streamapp


class Shop:
    """Records say what is to be done with a timer; one that fires is sent to ``out``."""

    def __init__(self, app: streamapp.App, **options: Any) -> None:
        self.app = app
        self.fired = app.Table("fired", default=int)
        self.seen: list[Any] = []
        self.out = app.topic("out", key_type=str)
        self.due = app.on_timer("due", **options)(self.handle)
        app.agent(app.topic("in", key_type=str, value_type=dict), name="shop")(self.work)

    async def work(self, stream: Any) -> None:
        async for key, value in stream.items():
            if "at" in value or "after" in value:
                self.due.set(key, at=value.get("at"), after=value.get("after"), value=value)
            if "cancel" in value:
                self.due.cancel(key)
            if "fails" in value:
                msg = "as it is told"
                raise ValueError(msg)

    async def handle(self, timer: Any) -> None:
        self.seen.append((timer.key, timer.at_ms))
        self.fired[timer.key] += 1
        await self.out.send(key=timer.key, value=[timer.at_ms, timer.value])


def fired_keys(bench: Bench) -> list[str]:
    """Return the keys of the timers that have fired, in that order."""
    if "out" not in bench.broker.topics():
        return []
    return [key.decode() for key, _ in bench.log("out") if key is not None]


def timestamps(bench: Bench, topic: str) -> list[int]:
    reader = bench.broker.reader()
    reader.assign({TP(topic, 0): 0})
    found = [stamp for batch in reader.poll(0, 100) for stamp in batch.timestamps]
    reader.close()
    return found


def letter_headers(bench: Bench) -> dict[str, bytes]:
    reader = bench.broker.reader()
    reader.assign({TP("bench-dead-letters", 0): 0})
    (batch,) = reader.poll(0, 10)
    reader.close()
    assert batch.headers is not None
    return dict(batch.headers[0])
