"""Workers over a real Kafka: killed, taken over, rebalanced, and with a broker that dies."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from support.kafka_run import kafka_plan, running_on_kafka

if TYPE_CHECKING:
    from pathlib import Path

    from support.zygote import Zygote

pytestmark = [pytest.mark.crash, pytest.mark.slow]

SEED = int(os.environ.get("STREAMAPP_TEST_SEED") or random.SystemRandom().randrange(1 << 24))


def kills(zygote: Zygote, folder: Path, seed: int, count: int) -> None:
    with running_on_kafka(zygote, kafka_plan(folder, seed)) as run:
        for _ in range(count):
            run.kill_once()
        run.assert_exact(run.finish())


@pytest.mark.timeout(120)
def test_random_kills_over_kafka_lose_and_repeat_nothing(zygote: Zygote, tmp_path: Path) -> None:
    kills(zygote, tmp_path, SEED, 10)
