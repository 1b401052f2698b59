"""What a worker tells of itself over HTTP, its probes and metrics, and whom it answers."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.web_app import Total
from support.web_client import new_app, started, worker

from streamapp.core.batch import TP, OutRecord
from streamapp.engine.restore import RestoreProgress
from streamapp.engine.states import EngineState
from streamapp.errors import BrokerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.web_client import Json

TESTS = Path(__file__).parents[1]


async def test_agents_tell_of_errors() -> None:
    async with worker() as client:
        await client.send("orders", "ada", Total(1))
        await client.send("orders", "ada", Total(2, 0, "fail"))

        def add(got: Json) -> Json:
            return next(each for each in got["agents"] if each["name"] == "add")

        got = await client.until("/api/v1/agents", lambda got: add(got)["events"] == 2)
        agent = add(got)
        assert agent["errors"] == {"ValueError": 1}
        assert agent["last_error"] == "ValueError: fail"
        assert agent["dead_letters"] == 1
        assert agent["policy"] == {"retries": 0, "then": "dead_letter"}
        assert (agent["state"], agent["topics"]) == ("running", ["orders"])
        series = await client.series()
        assert series["stream_events_processed_total", ("add", "web-test")] == 2
        assert series["stream_errors_total", ("ValueError", "add", "web-test")] == 1
        assert series["streamapp_dlq_records_total", ("add", "web-test")] == 1


async def test_metrics_are_plain_for_a_scraper_of_an_unknown_format() -> None:
    async with worker() as client:
        for wanted in ("application/openmetrics-text; version=abc", "text/plain; version=1.x"):
            async with client.fetch("/metrics", headers={"Accept": wanted}) as response:
                assert response.status == 200
                assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                assert "streamapp_build_info" in await response.text()


async def test_partitions_tell_their_lag() -> None:
    async with worker() as client:
        await client.send("waits", "ada", -1, partition=0)
        await client.send("waits", "bob", 5, partition=0)

        def first(got: Json) -> Json:
            return next(
                p for p in got["partitions"] if (p["topic"], p["partition"]) == ("waits", 0)
            )

        got = await client.until("/api/v1/partitions", lambda got: first(got)["end"] == 2)
        partition = first(got)
        assert (partition["owned"], partition["lag"]) == (True, 2)
        assert partition["positions"] == {"wait": 0}
        series = await client.series()
        assert series["streamapp_consumer_lag_records", ("0", "waits")] == 2
        assert series["streamapp_consumer_end_offset", ("0", "waits")] == 2
        client.app.release.set()


async def test_watermarks_are_told_for_each_agent_and_partition() -> None:
    async with worker() as client:
        tp = TP("waits", 0)
        now_ms = time.time_ns() // 1_000_000
        future = OutRecord(tp, b'"bob"', b"5", now_ms + 2 * 86_400_000)
        client.app.broker.append([OutRecord(tp, b'"ada"', b"1", now_ms - 60_000), future])
        got = await client.until(
            "/api/v1/partitions",
            lambda got: any(p["committed"] == 2 for p in got["partitions"]),
        )
        told = {(p["topic"], p["partition"]): p["watermarks"] for p in got["partitions"]}
        (watermark,) = told["waits", 0].values()
        assert watermark["watermark_ms"] == now_ms - 60_001
        assert watermark["delay_ms"] >= 60_001
        assert watermark["is_idle"] is False
        assert told["waits", 1] == {
            "wait": {"watermark_ms": None, "delay_ms": None, "is_idle": False}
        }
        series = await client.series()
        labels = ("wait", "0", "web-test", "waits")
        assert series["streamapp_watermark_timestamp_seconds", labels] == pytest.approx(
            (now_ms - 60_001) / 1_000
        )
        assert series["streamapp_watermark_delay_seconds", labels] >= 60.0
        assert series["streamapp_watermark_idle", labels] == 0
        assert (
            "streamapp_watermark_delay_seconds",
            ("wait", "1", "web-test", "waits"),
        ) not in series
        # The record of the day after tomorrow was refused, and is counted as such.
        assert series["streamapp_future_records_total", ("wait", "web-test")] == 1
        agents = (await client.get("/api/v1/agents"))["agents"]
        assert {each["name"]: each["from_the_future"] for each in agents} == {"add": 0, "wait": 1}


async def test_status_tells_of_the_group_and_the_commits() -> None:
    async with worker() as client:
        await client.send("orders", "ada", Total(1))
        await client.row("totals", "ada")
        status = await client.until("/api/v1/status", lambda got: got["commits"]["commits"] > 0)
        assert (status["app"], status["phase"], status["problem"]) == ("web-test", "running", "")
        assert [each["url"] for each in status["group"]["members"]] == [client.base]
        assert status["group"]["rebalances"] == 1
        series = await client.series()
        assert series["streamapp_commit_seconds_count", ()] >= 1
        assert series["streamapp_assigned_partitions", ()] == 4
        assert "process_resident_memory_bytes" in {name for name, _ in series}


async def test_probes_of_a_worker_that_has_not_started() -> None:
    app = new_app()
    async with started(app.web, app) as client:
        async with client.fetch("/livez") as response:
            assert response.status == 200
        problem = await client.get("/readyz", 503)
        assert (problem["type"], problem["phase"]) == ("not_ready", "starting")
        await client.get("/api/v1/tables/totals/rows", 503)
        await client.get("/api/v1/tables/totals/newest", 503)
        for path in ("status", "tables", "tables/totals", "agents", "partitions"):
            await client.get(f"/api/v1/{path}")
        assert ("streamapp_phase", ("starting",)) in await client.series()
        await app.transport.drop()


async def test_a_restoring_worker_says_when_to_come_back() -> None:
    async with worker() as client:
        engine = client.app.engine
        progress = RestoreProgress()
        progress.total[TP("log", 0)], progress.done[TP("log", 0)] = 1_000, 400
        progress.begun -= 40.0
        engine.keeper.progress, engine.phase = progress, EngineState.RESTORING
        try:
            for path in ("/readyz", "/api/v1/tables/totals/keys/ada"):
                async with client.fetch(path) as response:
                    assert response.status == 503
                    assert 1 <= int(response.headers["Retry-After"]) <= 30
                    problem = await response.json(content_type=None)
                assert problem["phase"] == "restoring"
                assert (problem["restore"]["records"], problem["restore"]["total"]) == (400, 1_000)
                assert problem["restore"]["records_per_second"] == 10
            series = await client.series()
            assert series["streamapp_recovery_remaining_records", ("0", "log")] == 600
        finally:
            engine.phase = EngineState.RUNNING


async def test_a_failing_broker_is_told_and_hides_nothing_else() -> None:
    async with worker() as client:
        broker = client.app.broker
        broker.fail_next("members", BrokerUnavailableError("gone"))
        status = await client.get("/api/v1/status")
        assert (status["phase"], status["group"]["members"]) == ("running", [])
        broker.fail_next("offsets", BrokerUnavailableError("gone"))
        series = await client.series()
        assert series["streamapp_assigned_partitions", ()] == 4
        assert series["streamapp_consumer_position_offset", ("0", "orders")] == 0
        broker.fail_next("offsets", BrokerUnavailableError("gone"))
        problem = await client.get("/api/v1/partitions", 503)
        assert (problem["type"], problem["title"]) == ("unavailable", "gone")


async def test_a_silent_broker_holds_up_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.web.asked._PATIENCE_S", 0.2)
    async with worker() as client:
        broker, asked, answers = client.app.broker, Counter[str](), threading.Event()

        def silent(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
            def wait(*of: Any) -> Any:
                asked[name] += 1
                answers.wait(20.0)
                return original(*of)

            return wait

        for name in ("members", "offsets"):
            monkeypatch.setattr(broker, name, silent(name, getattr(broker, name)))
        try:
            for _ in range(10):
                status = await client.get("/api/v1/status")
                assert (status["phase"], status["group"]["members"]) == ("running", [])
                for path in ("partitions", "tables/totals", "tables/totals/newest"):
                    problem = await client.get(f"/api/v1/{path}", 503)
                    assert problem["title"] == "The broker has not answered for 0.2 s"
            # The threads are the engine's too: one question waits for its answer, of each kind.
            assert asked == {"members": 1, "offsets": 2}
        finally:
            answers.set()
        await client.until("/api/v1/tables/totals/newest", lambda got: "items" in got)
        assert (await client.get("/api/v1/status"))["group"]["members"] != []


async def test_pages_of_the_application_win_on_their_own_paths() -> None:
    async with worker() as client:
        for path, text in (("/hello", "hello"), ("/livez", "mine"), ("/api/v1", "mine too")):
            async with client.fetch(path) as response:
                assert await response.text() == text


@pytest.mark.parametrize(
    "path", ["/nothing", "/table/", "/router/totals/ada/", "/static/../page.js", "/api/v1/nothing"]
)
async def test_unknown_routes_are_problems(path: str) -> None:
    async with worker() as client:
        assert (await client.get(path, 404))["type"] == "unknown_route"


async def test_nothing_can_be_written() -> None:
    path = "/api/v1/tables/totals/keys/ada"
    async with worker() as client, client.fetch(path, "POST", data=b"1") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"]
        assert (await response.json(content_type=None))["type"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("10.1.2.3:80", True),
        ("worker.example", True),
        ("WORKER.example:6066", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example:127", False),
        ("", False),
        ("[", False),
    ],
)
async def test_only_our_own_names_are_answered(host: str, *, is_ours: bool) -> None:
    async with worker(web_host="worker.example") as client:
        for path in ("/api/v1/tables", "/", "/hello", "/nothing"):
            async with client.fetch(path, headers={"Host": host}) as response:
                assert (response.status != 403) is is_ours


async def test_answers_are_data_to_a_browser() -> None:
    async with worker() as client:
        for path in ("/", "/api/v1/tables", "/metrics", "/nothing", "/static/page.js"):
            async with client.fetch(path) as response:
                assert "default-src 'self'" in response.headers["Content-Security-Policy"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert "Access-Control-Allow-Origin" not in response.headers
                if not path.startswith(("/static", "/")) or path == "/metrics":
                    assert response.headers["Cache-Control"] == "no-store"


async def test_a_request_that_is_no_http_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with worker() as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.app.conf.web_port)
        writer.write('GET /api/v1/tables/totals/keys?key="Zoë" HTTP/1.1\r\n\r\n'.encode())
        assert (await reader.readline()).split()[1] == b"400"
        writer.close()
        (told,) = [each for each in caplog.records if each.name == "aiohttp.server"]
        assert told.levelname == "WARNING"
        assert told.exc_info is None
        assert told.getMessage().startswith("Error handling request from 127.0.0.1: Invalid char")


@pytest.mark.crash
def test_a_busy_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "faust", "-A", "support.web_app", "worker", "-l", "warn"]
        own = {"WEB_TEST_DATADIR": str(tmp_path), "WEB_TEST_PORT": str(port)}
        env = {**os.environ, **own, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
        ran = subprocess.run(
            [*command, "--web-port", str(port)],
            env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ran.returncode == 2
    output = ran.stdout + ran.stderr
    lines = [line for line in output.splitlines() if "cannot listen" in line]
    assert len(lines) == 1, output
    assert f"127.0.0.1:{port}: Address already in use" in lines[0]
    assert "web_port" in lines[0]
    assert "Traceback" not in output
