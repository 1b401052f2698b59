"""Any sequence of writes, commits, joins and losses against lists and dictionaries."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.brokers import Brokers, Worker, at, covers, drive, read_all

from streamapp.core.batch import TP, OutRecord
from streamapp.errors import FencedError, UnknownTopicError
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamapp.transport.broker import Broker, Position

TPS = [TP("t", 0), TP("t", 1)]
ABSENT = TP("t", 2)

small_bytes = st.none() | st.binary(max_size=3)
records = st.lists(
    st.builds(OutRecord, st.sampled_from(TPS), small_bytes, small_bytes, st.integers(0, 3)),
    max_size=5,
)
positions = st.dictionaries(
    st.sampled_from(TPS), st.builds(at, st.integers(0, 9), st.sampled_from(["", "x"])), max_size=2
)


class BrokerModel(RuleBasedStateMachine):
    """The broker as lists of records, a dictionary of positions and a set of owners.

    Where offsets are not dense, those that a write returns are taken for true if they rise.
    """

    open_brokers: Callable[[], Brokers]

    @initialize()
    def start(self) -> None:
        self.brokers = self.open_brokers()
        self.broker: Broker = self.brokers.open()
        self.broker.create_topic(TopicSpec("t", len(TPS)))
        self.logs: dict[TP, list[tuple[int, bytes | None]]] = {tp: [] for tp in TPS}
        self.committed: dict[TP, Position] = {}
        self.workers: list[Worker] = []

    def _note(self, written: list[OutRecord], offsets: list[int]) -> None:
        for record, offset in zip(written, offsets, strict=True):
            log = self.logs[record.tp]
            if self.brokers.is_dense:
                assert offset == len(log)
            assert not log or offset > log[-1][0]
            log.append((offset, record.value))

    @rule(batch=records)
    def append(self, batch: list[OutRecord]) -> None:
        self._note(batch, self.broker.append(batch))

    @rule(batch=records)
    def append_with_a_bad_partition(self, batch: list[OutRecord]) -> None:
        with pytest.raises(UnknownTopicError):
            self.broker.append([*batch, OutRecord(ABSENT, b"", b"", 0)])

    @rule()
    def reopen(self) -> None:
        assert self.brokers.open().topics() == self.broker.topics()

    @precondition(lambda self: len(self.workers) < 3)
    @rule()
    def join(self) -> None:
        self.workers.append(Worker(self.broker.join("g", ["t"])))
        self._settle()

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        worker.member.leave()
        self.workers.remove(worker)
        self._settle()
        with pytest.raises(FencedError):
            worker.member.commit([OutRecord(TPS[0], b"", b"late", 0)], {TPS[0]: at(99)})

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        self.brokers.evict(self.broker, worker.member)
        with pytest.raises(FencedError):
            worker.member.commit([OutRecord(TPS[0], b"", b"late", 0)], {TPS[0]: at(99)})
        before = len(worker.events)
        drive(self.workers, lambda: len(worker.events) > before)
        self._settle()

    def _settle(self) -> None:
        if self.workers:
            drive(self.workers, lambda: covers(self.workers, TPS))

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), batch=records, wanted=positions)
    def commit(
        self, data: st.DataObject, batch: list[OutRecord], wanted: dict[TP, Position]
    ) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        if wanted.keys() <= worker.owned:
            self._note(batch, worker.member.commit(batch, wanted))
            self.committed.update(wanted)
        else:
            with pytest.raises(FencedError):
                worker.member.commit(batch, wanted)

    @invariant()
    def ends_and_positions_agree(self) -> None:
        for tp, log in self.broker.offsets(TPS).items():
            behind = self.logs[tp][-1][0] + 1 if self.logs[tp] else 0
            assert log.end == behind if self.brokers.is_dense else log.end >= behind
        assert self.broker.committed("g", TPS) == self.committed

    def teardown(self) -> None:
        for worker in getattr(self, "workers", []):
            worker.member.leave()
        if hasattr(self, "broker"):
            for tp, log in self.logs.items():
                assert read_all(self.broker, tp) == log
            self.brokers.close_all()


def test_any_history_agrees_with_the_model(brokers: Brokers) -> None:
    with tempfile.TemporaryDirectory() as folder:
        count = iter(range(1_000_000))

        class Model(BrokerModel):
            open_brokers = staticmethod(lambda: brokers.at(Path(folder) / str(next(count))))

        run_state_machine_as_test(
            Model,
            settings=settings(
                max_examples=brokers.examples,
                stateful_step_count=15,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
