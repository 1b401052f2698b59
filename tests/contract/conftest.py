"""Brokers to run the contract suites over; a new broker is one more entry of ``_KINDS``."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from support.brokers import Brokers

from streamapp.transport.memory import memory_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamapp.core.batch import TP
    from streamapp.transport.broker import Broker, Member

_numbers = itertools.count()


def memory_brokers(folder: Path) -> Brokers:
    name = f"{folder.name}-{next(_numbers)}"

    def trim(_broker: Broker, tp: TP, before: int) -> None:
        memory_broker(name).trim(tp, before)

    def evict(_broker: Broker, member: Member) -> None:
        memory_broker(name).evict(member.id)

    return Brokers("memory", lambda: memory_broker(name), evict, trim)


_KINDS: dict[str, Callable[[Path], Brokers]] = {"memory": memory_brokers}


@pytest.fixture(params=_KINDS)
def brokers(request: pytest.FixtureRequest, tmp_path: Path) -> Brokers:
    return _KINDS[request.param](tmp_path)


@pytest.fixture
def make_broker(brokers: Brokers) -> Iterator[Callable[[], Broker]]:
    opened: list[Broker] = []

    def make() -> Broker:
        opened.append(brokers.open())
        return opened[-1]

    yield make
    for broker in opened:
        broker.close()


@pytest.fixture
def broker(make_broker: Callable[[], Broker]) -> Broker:
    return make_broker()
