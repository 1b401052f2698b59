"""Workers over a real Kafka whose network is cut: a proxy of TCP stands between them.

The producer of the test and whoever checks are not cut off.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest
from support import kafka
from support.kafka_run import kafka_plan, running_on_kafka
from support.tcp_proxy import Cut, TcpProxy

if TYPE_CHECKING:
    from pathlib import Path

    from support.kafka_run import OnKafka
    from support.zygote import Zygote

pytestmark = [pytest.mark.crash, pytest.mark.slow]

SEED = int(os.environ.get("STREAMAPP_TEST_SEED") or random.SystemRandom().randrange(1 << 24))
#: Seconds after the network is mended in which all is committed again. It takes 1 to 12 s, and more
#: where the machine of a test has other things to do.
RESUMED_S = 60.0
CUTS = [Cut.RESET, Cut.SILENCE, Cut.DEAF, Cut.STALE]
#: Seconds of the cuts; sessions end after six.
SHORT = [(Cut.RESET, 1.0), (Cut.SILENCE, 5.0), (Cut.DEAF, 1.0), (Cut.STALE, 5.0)]


def feed_for(run: OnKafka, seconds: float) -> None:
    """Keep the workers busy."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        run.feed(10)
        time.sleep(0.05)  # the pace of the records


def cut_off(zygote: Zygote, folder: Path, cuts: list[tuple[Cut, float]]) -> None:
    """Cut the network of a worker under load; it stays, goes on, and all is exact."""
    cluster = kafka.shared()
    node = cluster.nodes[0]
    plan = kafka_plan(folder, SEED, session_ms=6_000, guarantee="")
    far = plan.url.replace(cluster.bootstrap, f"127.0.0.1:{node.proxy_port}")
    with TcpProxy(node.proxy_port, node.far_port) as proxy, running_on_kafka(zygote, plan) as run:
        worker = run.start(url=far)
        run.wait_until(lambda: feed_for(run, 0.1) or worker.is_ready, worker)
        for how, seconds in cuts:
            feed_for(run, 0.5)
            proxy.cut(how)
            feed_for(run, seconds)
            proxy.cut(Cut.NONE)
            begun = time.monotonic()
            run.drain(worker)
            resumed_s = time.monotonic() - begun
            print(f"{how.value} of {seconds:.0f} s: up to date after {resumed_s:.1f} s")  # noqa: T201 - with -s
            assert resumed_s < RESUMED_S
        run.stop(worker)
        run.assert_exact(run.finish(rebuild=False))


@pytest.mark.timeout(180)
def test_worker_goes_on_after_short_cuts(zygote: Zygote, tmp_path: Path) -> None:
    cut_off(zygote, tmp_path, SHORT)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_worker_goes_on_after_all_cuts(zygote: Zygote, tmp_path: Path) -> None:
    cut_off(zygote, tmp_path, [(how, seconds) for how in CUTS for seconds in (1.0, 5.0, 30.0)])
