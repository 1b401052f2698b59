"""Faust's signals of the group: what handlers of the application are told, and when.

Tables can be read in all of them: partitions are told when they are restored, and when they are to
be given up, while their events may still finish. A handler that fails ends the worker, as in Faust.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamapp.engine.states import EngineState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamapp.core.batch import TP
    from streamapp.engine.engine import Engine


class GroupSignals:
    """Tells of each assignment once, also where its first restore has failed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._told: int | None = None

    async def assigned(self) -> None:
        """Tell of the partitions that the worker has, if it works on them and has not told yet."""
        engine = self._engine
        generation = engine.group.generation
        if engine.phase is EngineState.RUNNING and generation != self._told:
            self._told = generation
            await engine.app.on_partitions_assigned.send(set(engine.owned))
            await engine.app.on_rebalance_complete.send()

    async def revoked(self, tps: Iterable[TP]) -> None:
        """Tell of partitions that the worker gives up, or has lost; those that follow are news."""
        self._told = None
        await self._engine.app.on_partitions_revoked.send(set(tps))
