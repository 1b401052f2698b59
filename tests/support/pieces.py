"""A flow in a driver that works on much that is due a piece at a time, as a worker does.

Between two pieces a commit may be made, and everything may crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from support.pipeline_recipes import Recipe, Session

from streamapp.testing.stage_driver import StageDriver

if TYPE_CHECKING:
    from streamapp.core.batch import OutRecord
    from streamapp.engine.stage_work import StageWork
    from streamapp.engine.work import Chunk
    from streamapp.state.memory import MemoryStore
    from streamapp.testing.pipeline_driver import PipelineDriver

What = Literal["nothing", "commit", "crash"]


class CrashError(Exception):
    """All is lost that was not committed."""


class PieceStage(StageDriver):
    """Does between two pieces what ``driver`` has planned."""

    driver: PieceDriver | None = None

    def _work_on(self, chunk: Chunk) -> Exception | None:
        work = self._works[chunk.tp.partition]
        error = work.run(chunk, chunk.run(chunk.end), in_pieces=True)
        if work.is_in_hand:
            self._next[chunk.tp] = chunk.position
            self._go_on(work)
            chunk.advance()
            self._next[chunk.tp] = chunk.batch.next_offset
        return error

    def commit(self, store: MemoryStore, silent_ms: int) -> tuple[list[OutRecord], list[OutRecord]]:
        for work in self._works.values():
            if not work.is_in_hand:
                silences = dict.fromkeys(self._topics, silent_ms)
                work.tick(silences, may_emit=False, in_pieces=True)
                self._go_on(work)
        return super().commit(store, silent_ms)

    def _go_on(self, work: StageWork) -> None:
        while work.is_in_hand:
            if self.driver is not None:
                self.driver.between(self)
            work.go_on()


class PieceDriver:
    """Commits and crashes as ``plan`` says, a word for each piece, as long as it has words."""

    def __init__(self, session: Session, plan: Sequence[What]) -> None:
        self.session = session
        self.pieces = 0
        self._plan: Iterator[What] = iter(plan)
        self._driver: PipelineDriver = session.driver
        for stage in self._driver._stages:
            assert isinstance(stage, PieceStage)
            stage.driver = self

    def between(self, stage: PieceStage) -> None:
        self.pieces += 1
        what = next(self._plan, "nothing")
        if what == "commit":
            outputs, _ = StageDriver.commit(stage, self._driver._store, 0)
            self._driver._deliver(outputs)
        if what == "crash":
            raise CrashError

    def put(self) -> None:
        try:
            self.session.put()
        except CrashError:
            self._crash()

    def commit(self) -> None:
        try:
            self.session.commit()
        except CrashError:
            self._crash()
            self.commit()

    def finish(self) -> list[str]:
        try:
            return self.session.finish()
        except CrashError:
            self._crash()
            return self.finish()

    def _crash(self) -> None:
        self.session._batch.clear()
        try:
            self._driver.crash()
        except CrashError:
            self._crash()


def in_pieces(recipe: Recipe, plan: Sequence[What]) -> PieceDriver:
    """Return a flow that does so; its driver must make ``PieceStage``."""
    return PieceDriver(Session(recipe), plan)
