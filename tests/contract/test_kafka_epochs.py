"""Members of KIP-848: what a commit needs to know of its generation, and when nobody tells it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from support.brokers import DEADLINE_S, KafkaBrokers, Worker, at, drive

from streamapp.core.batch import TP
from streamapp.transport.broker import TopicSpec
from streamapp.transport.kafka import KafkaBroker, KafkaOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IN = TP("in", 0)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    brokers = KafkaBrokers(tmp_path)
    brokers.open()
    options = KafkaOptions(brokers.servers, prefix=brokers.prefix, protocol="consumer")
    broker = KafkaBroker(options)
    yield broker
    broker.close()
    brokers.close_all()


def test_commit_waits_for_no_client_that_is_in_a_rebalance(
    broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka's thread may need the member's condition before it answers."""
    broker.create_topic(TopicSpec("in", 1))
    worker = Worker(broker.join("g", ["in"]))
    drive([worker], lambda: worker.owned == {IN})
    asked, is_over = threading.Event(), threading.Event()

    def ask() -> None:
        asked.set()
        is_over.wait(DEADLINE_S)

    monkeypatch.setattr(worker.member._feeder, "_note_metadata", ask)  # type: ignore[attr-defined]
    commit = threading.Thread(target=worker.member.commit, args=([], {IN: at(1)}))
    commit.start()
    try:
        assert asked.wait(DEADLINE_S)
        assert worker.member.changed.acquire(timeout=0.5)  # type: ignore[attr-defined]
        worker.member.changed.release()  # type: ignore[attr-defined]
        commit.join(DEADLINE_S)
        assert broker.committed("g", [IN]) == {IN: at(1)}
    finally:
        is_over.set()
        commit.join()
