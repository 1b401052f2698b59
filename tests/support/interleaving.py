"""Agents whose events meet at shared tables, in an order that the test draws.

``World`` drives the real scopes, windows, shards and tables one step at a time, beside a model: a
dict for each table on which every event is replayed, alone and whole, at the moment when the real
one is done. ``check`` compares the two; everything else is bookkeeping.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from streamapp.core.batch import TP, RecordBatch
from streamapp.engine.work import Chunk, Slot, Window, open_slot
from streamapp.serde.ordered_keys import decode_key
from streamapp.state.memory import MemoryStore
from streamapp.state.rows import row_codec
from streamapp.state.scope import EventScope, Instant, Outcome, current_scope
from streamapp.state.shard import CacheBudget, Shard
from streamapp.state.store import shard_prefix
from streamapp.state.table import Table, TableSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from random import Random

KEYS = ("a", 1, ("t", 1.0))
TABLES = ("first", "second")
#: What programs write: values that compare equal but are not the same, and a mutable one.
VALUES = (1, True, 1.0, [1], "a", None, 0)
PARTITION = 0

#: ``(what, table, key, number)``; see ``_run``.
Step = tuple[str, int, int, int]
Program = tuple[Step, ...]


class FailedError(Exception):
    """What a program raises."""


def _run(  # noqa: C901 - a branch for each kind of step
    program: Program, tables: Any, outputs: list[Any], attempt: int
) -> Iterator[None]:
    """Run an event's program; each ``yield`` is an await. Writes depend on all that was read."""
    seen = 0
    for what, table_number, key_number, number in program:
        table, key = tables[table_number], KEYS[key_number]
        if what == "read":
            seen = _mix(seen, table.get(key, "absent"))
        elif what == "write":
            table[key] = VALUES[(seen + number) % len(VALUES)]
        elif what == "delete":
            table.pop(key, None)
        elif what == "scan":
            seen = _mix(seen, rows_of(table))
        elif what == "send":
            outputs.append((seen, number))
        elif what == "await":
            yield
        elif what == "poison" or attempt == 0:
            raise FailedError


def _mix(seen: int, value: Any) -> int:
    return sum(json.dumps([seen, value]).encode()) % 1_009


def rows_of(table: Any) -> list[str]:
    """Return the rows in a form in which ``1``, ``1.0`` and ``True`` differ, sorted."""
    return sorted(f"{key!r}: {value!r}" for key, value in table.items())


@dataclass
class Event:
    """An event in hand of some agent."""

    program: Program
    scope: EventScope
    running: Iterator[None] | None = None
    attempt: int = 0
    slot: Slot | None = None


@dataclass
class Agent:
    """A reader of its own topic; ``width`` events may be in hand at once."""

    programs: list[Program]
    width: int
    position: int = 0
    in_hand: list[Event] = field(default_factory=list)
    scope: EventScope = field(default_factory=EventScope)
    window: Window = field(default_factory=lambda: Window(0, 0))
    begun: int = 0

    @property
    def is_done(self) -> bool:
        return self.begun == len(self.programs) and not self.in_hand


class World:
    """Agents over two tables of one partition, a store below, and the model beside them."""

    def __init__(self, agents: list[tuple[list[Program], int]], cache_bytes: int) -> None:
        self.budget = CacheBudget(cache_bytes)
        self.store = MemoryStore()
        self.tables = tuple(self._table(name) for name in TABLES)
        self.agents = [Agent(programs, width) for programs, width in agents]
        self.model: tuple[dict[Any, Any], ...] = tuple({} for _ in TABLES)
        self.outputs: list[Any] = []
        self.model_outputs: list[Any] = []
        #: What a reader of the changelog has, by table.
        self.log: tuple[dict[bytes, bytes], ...] = tuple({} for _ in TABLES)
        self._unwritten: list[tuple[Shard, dict[bytes, bytes | None]]] = []
        self._written: list[tuple[Shard, dict[bytes, bytes | None]]] = []
        self.finished: list[tuple[int, int]] = []
        self.conflicts = 0

    def _table(self, name: str) -> Table:
        table = Table(TableSpec(name), row_codec())
        table.partitions = 1
        prefix = shard_prefix(name, PARTITION)
        table.shards[PARTITION] = Shard(
            name, PARTITION, partitions=1, prefix=prefix, store=self.store, codec=table.codec,
            budget=self.budget,
        )  # fmt: skip
        return table

    @property
    def shards(self) -> list[Shard]:
        return [table.shards[PARTITION] for table in self.tables]

    # --- steps -----------------------------------------------------------------------------------

    def step(self, choice: int) -> None:
        """Do one thing: an agent's next step, or one of the commit's or the cache's."""
        kind, choice = choice % 6, choice // 6
        if kind == 4:
            self.flush()
        elif kind == 5:
            self.take()
        elif self.agents:
            self.advance(self.agents[choice % len(self.agents)], choice // len(self.agents))
        self.check_views()

    def advance(self, agent: Agent, choice: int = 0) -> None:
        """Take the agent on: a new event, or one in hand up to its next await or its end."""
        may_begin = agent.begun < len(agent.programs) and len(agent.in_hand) < agent.width
        ready = [event for event in agent.in_hand if not _waits(event)]
        if may_begin and (not ready or choice % 2):
            self._begin(agent)
        elif ready:
            self._proceed(agent, ready[choice // 2 % len(ready)])

    def finish_all(self) -> None:
        """Run what is left, one event after the other."""
        for agent in self.agents:
            for _ in range(10_000):
                if agent.is_done:
                    break
                self.advance(agent)
            assert agent.is_done, "an agent does not come to its end"

    def take(self) -> None:
        """Take a cut, as a commit does; the log must hold the finished events and nothing else."""
        if self._written:
            self.flushed()
        for shard, log in zip(self.shards, self.log, strict=True):
            changes = shard.take()
            _apply(log, changes)
            self._unwritten.append((shard, changes))
        for log, table, model in zip(self.log, self.tables, self.model, strict=True):
            rows = {decode_key(key): table.codec.decode(value) for key, value in log.items()}
            assert rows_of(rows) == rows_of(model), "a cut is not the finished events"

    def flush(self) -> None:
        """Write to the store; the shards learn of it at the next call, as from another thread."""
        if self._written:
            self.flushed()
            return
        for shard, changes in self._unwritten:
            self.store.apply({shard.prefix + key: value for key, value in changes.items()})
        self._written, self._unwritten = self._unwritten, []

    def flushed(self) -> None:
        """Tell the shards what the store has."""
        for shard, changes in self._written:
            shard.flushed(changes)
        self._written = []

    def check_views(self) -> None:
        """Compare what is visible outside of events with the model."""
        for table, model in zip(self.tables, self.model, strict=True):
            assert rows_of(table) == rows_of(model), "a view is not the finished events"
            for key in KEYS:
                assert repr(table.get(key, "absent")) == repr(model.get(key, "absent"))
        assert self.outputs == self.model_outputs, "outputs are not those of the finished events"

    def check(self) -> None:
        """Finish everything, cut once more and compare; every dirty row must have been taken."""
        self.finish_all()
        self.check_views()
        self.take()
        assert not any(shard.dirty for shard in self.shards)
        self.flush()
        self.flushed()
        assert not any(shard.pending for shard in self.shards)
        for agent in self.agents:
            number = self.agents.index(agent)
            mine = [index for of, index in self.finished if of == number]
            assert mine == sorted(mine), "events of an agent finished out of order"
            assert agent.position == len(agent.programs)

    # --- inside ----------------------------------------------------------------------------------

    def _begin(self, agent: Agent) -> None:
        index = agent.begun
        agent.begun += 1
        program = agent.programs[index]
        if agent.width == 1:
            if not agent.scope.tracked:
                agent.scope.enter(Instant(index), PARTITION, 1)
            agent.scope.source = Instant(index)
            event = Event(program, agent.scope)
        else:
            slot = open_slot(Chunk(_batch_of(index), [program], index), 0, 1, 1)
            agent.window.slots.append(slot)
            event = Event(program, slot.scope, slot=slot)
        agent.in_hand.append(event)
        self._proceed(agent, event)

    def _proceed(self, agent: Agent, event: Event) -> None:
        scope, token = event.scope, current_scope.set(event.scope)
        try:
            if event.running is None:
                event.running = _run(event.program, self.tables, scope.outputs, event.attempt)
            next(event.running)
        except StopIteration:
            self._end(agent, event)
        except FailedError:
            event.running = None
            event.attempt += 1
            scope.undo()
            if event.attempt > 2:
                event.program = ()  # the policy gives up: an event without effects
        finally:
            current_scope.reset(token)

    def _end(self, agent: Agent, event: Event) -> None:
        if event.slot is not None:
            self._retire(agent, event.slot)
        elif event.scope.finish() is Outcome.CONFLICT:
            self._again(event)
        else:
            self._count(agent, event)
            event.scope.outputs.clear()

    def _retire(self, agent: Agent, slot: Slot) -> None:
        slot.is_finished = True
        retired, again = agent.window.retire()
        for done in retired:
            event = _event_of(agent, done)
            assert agent.window.position > agent.position
            self._count(agent, event)
        if again is not None:
            self._again(_event_of(agent, again))

    def _again(self, event: Event) -> None:
        self.conflicts += 1
        event.running = None
        assert not event.scope.outputs

    def _count(self, agent: Agent, event: Event) -> None:
        """Replay the event, which is done, on the model."""
        agent.in_hand.remove(event)
        index = event.slot.batch.offsets[0] if event.slot is not None else event.scope.now_ms
        self.finished.append((self.agents.index(agent), index))
        agent.position += 1
        self.outputs.extend(event.scope.outputs)
        for _ in _run(event.program, self.model, self.model_outputs, event.attempt):
            pass


def _batch_of(index: int) -> RecordBatch:
    """Return a batch of one record at this offset."""
    return RecordBatch(TP("in", PARTITION), [index], [index], [None], [b""], None, index + 1, 1)


def _waits(event: Event) -> bool:
    return event.slot is not None and event.slot.is_finished


def _event_of(agent: Agent, slot: Slot) -> Event:
    return next(event for event in agent.in_hand if event.slot is slot)


def _apply(rows: dict[bytes, bytes], changes: Mapping[bytes, bytes | None]) -> None:
    for key, value in changes.items():
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value


@dataclass(frozen=True)
class History:
    """A run: agents with their programs and widths, a cache size, and what happens when."""

    agents: tuple[tuple[tuple[Program, ...], int], ...]
    cache_bytes: int
    choices: tuple[int, ...]


#: What a step may be, by how often: awaits and reads make events meet, the rest makes it matter.
_KINDS = (
    *("await",) * 5, *("read",) * 4, *("write",) * 4,
    "delete", "send", "scan", "fail", "poison",
)  # fmt: skip
#: Everything fits; a row or two fit.
_CACHES = (1 << 20, 600)
_WIDTHS = (1, 1, 3)
#: Numbers of ``World.step``: kind, agent, event in hand.
_CHOICES = 6 * 3 * 12


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw a run in which few agents write few keys, so that they meet; shrinks well."""
    step = st.tuples(
        st.sampled_from(_KINDS),
        st.integers(0, draw(st.integers(0, len(TABLES) - 1))),
        st.integers(0, draw(st.integers(0, len(KEYS) - 1))),
        st.integers(0, len(VALUES) - 1),
    )
    programs = st.lists(st.lists(step, max_size=6).map(tuple), min_size=1, max_size=5).map(tuple)
    agents = st.lists(st.tuples(programs, st.sampled_from(_WIDTHS)), min_size=1, max_size=3)
    choices = st.lists(st.integers(0, _CHOICES - 1), max_size=60)
    return History(tuple(draw(agents)), draw(st.sampled_from(_CACHES)), tuple(draw(choices)))


def random_history(chance: Random) -> History:
    """Return a run like those of ``histories``: fifty times as fast, does not shrink."""
    tables, keys = chance.randint(1, len(TABLES)), chance.randint(1, len(KEYS))

    def program() -> Program:
        return tuple(
            (
                chance.choice(_KINDS),
                chance.randrange(tables),
                chance.randrange(keys),
                chance.randrange(len(VALUES)),
            )
            for _ in range(chance.randint(1, 6))
        )

    agents = tuple(
        (tuple(program() for _ in range(chance.randint(1, 5))), chance.choice(_WIDTHS))
        for _ in range(chance.randint(1, 3))
    )
    choices = tuple(chance.randrange(_CHOICES) for _ in range(chance.randint(10, 80)))
    return History(agents, chance.choice(_CACHES), choices)


def run_history(history: History) -> World:
    """Run a history to its end, checking after every step; return what became of the world."""
    agents = [(list(programs), width) for programs, width in history.agents]
    world = World(agents, history.cache_bytes)
    for choice in history.choices:
        world.step(choice)
    world.check()
    return world
