"""One zygote for all crash tests, and a place to run in that stays when a test fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.zygote import Zygote


@pytest.fixture(scope="session")
def forge() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def zygote(forge: Zygote) -> Iterator[Zygote]:
    yield forge
    forge.kill_all()
