"""The brokers to run the contract suites over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.brokers import KINDS, Brokers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamapp.transport.broker import Broker


@pytest.fixture(params=KINDS)
def brokers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Brokers]:
    brokers = KINDS[request.param](tmp_path / "broker")
    yield brokers
    brokers.close_all()


@pytest.fixture
def make_broker(brokers: Brokers) -> Callable[[], Broker]:
    return brokers.open


@pytest.fixture
def broker(make_broker: Callable[[], Broker]) -> Broker:
    return make_broker()
