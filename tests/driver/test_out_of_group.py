"""A worker that its group went on without, and whose broker fails meanwhile."""

from __future__ import annotations

from support.engine_app import Bench, counting, running, until

from streamapp.engine.states import EngineState
from streamapp.errors import BrokerError
from streamapp.transport.broker import Assigned, Lost


async def test_failure_does_not_make_it_ready() -> None:
    bench = Bench()
    async with running(counting(bench)) as app:
        engine, group, seen = app.engine, app.engine.group, []
        owned, become = engine.owned, engine.become
        engine.become = lambda state: (seen.append(state), become(state))  # type: ignore[method-assign, assignment, func-returns-value]
        group.put(Lost(owned, "it was silent too long"))
        group.put(BrokerError("the broker is away"))
        out = [EngineState.JOINING, EngineState.REBUILDING, EngineState.JOINING]
        await until(lambda: seen == out or EngineState.RUNNING in seen)
        assert seen == out
        assert engine.problem == "the broker is away"
        group.put(Assigned(group.generation + 2, owned))
        bench.send("in", b"1")
        await until(lambda: bench.position("in") == 1)
        assert app.tables["counts"]["all"] == 1
