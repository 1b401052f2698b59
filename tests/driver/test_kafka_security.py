"""A Kafka that wants to know who asks: every way in, every right that is needed, every refusal."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from confluent_kafka.admin import AclOperation, ResourceType
from support import kafka
from support.brokers import DEADLINE_S
from support.engine_app import running, until
from support.kafka_refusals import REFUSALS, TOKENS, url_of
from support.kafka_secure import CERTIFIED, PASSWORD, USER, start
from support.programs import Programs

import streamapp
from streamapp.core.batch import TP, OutRecord
from streamapp.errors import DeniedError, StreamappError
from streamapp.transport.broker import Assigned, Position, SendsEarly, TopicSpec
from streamapp.transport.connect import open_broker
from streamapp.transport.kafka import KafkaBroker, parse_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kafka_secure import Right, SecureCluster

    from streamapp.transport.broker import Broker, Member

_TABLE = Path(__file__).parents[2] / "docs" / "kafka.md"
_KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureCluster]:
    cluster = start(tmp_path_factory.mktemp("secure"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with closing(Programs()) as started:
        yield started


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a new application; the environment knows the password."""
    monkeypatch.setenv("STREAMAPP_KAFKA_PASSWORD", PASSWORD)
    return f"app{uuid4().hex[:8]}"


def documented(name: str) -> list[Right]:
    """Return the rights that docs/kafka.md lists, for an application of this name."""
    text = _TABLE.read_text().partition("## Rights")[2].partition("\n## ")[0]
    names = {"that it reads": f"{name}.in", "that it writes": f"{name}.out"}
    rights = []
    for row in re.findall(r"^\| (.+) \| (.+) \|$", text, re.MULTILINE)[2:]:
        kind, _, which = row[0].rpartition(" ") if "`" in row[0] else row[0].partition(" ")
        words = re.sub(r"(?<=.)([A-Z])", r"_\1", row[1]).upper().split(", _")
        operations = tuple(AclOperation[word.strip()] for word in words)
        resource = names.get(which) or which.strip("`").replace("shop", name)
        rights.append((_KINDS[kind], resource, operations))
    assert len(rights) == 5
    return rights


# --- ways in -------------------------------------------------------------------------------------

#: Listener, options of the URL, who that is.
WAYS = {
    "TLS with a certificate": ("MTLS", "tls=true", CERTIFIED),
    "PLAIN": ("SASL", f"user={USER}&tls=false", USER),
    "SCRAM over TLS": ("SASLTLS", f"user={USER}&sasl=SCRAM-SHA-512", USER),
    "a token over TLS": ("SASLTLS", "token=support.kafka_secure:alices_token", USER),
}


def application(name: str, url: str, folder: Path) -> streamapp.App:
    app = streamapp.App(
        name, broker=url, datadir=str(folder), topic_partitions=2, web_enabled=False,
        commit_interval="20ms",
    )  # fmt: skip
    counts = app.Table("counts", key_type=str, value_type=int, default=int)
    out = app.topic(f"{name}.out", key_type=str, value_type=str)

    @app.agent(app.topic(f"{name}.in", key_type=str, value_type=str))
    async def count(stream: streamapp.Stream) -> None:
        async for value in stream.group_by(lambda value: value[-2:], name="end"):
            counts[value] += 1
            await out.send(key=value, value=value)

    return app


def prepare(cluster: SecureCluster, name: str, principal: str) -> None:
    """Make the topics of others; the application makes its own."""
    cluster.topic(f"{name}.in", 2, [b"v%02d" % n for n in range(20)])
    cluster.topic(f"{name}.out", 2)
    cluster.allow(principal, documented(name))


@pytest.mark.parametrize("way", WAYS)
async def test_worker_by_every_way_with_the_documented_rights(
    cluster: SecureCluster, name: str, tmp_path: Path, way: str
) -> None:
    listener, query, principal = WAYS[way]
    await asyncio.to_thread(prepare, cluster, name, principal)
    if listener == "MTLS":
        certificate = cluster.certificates
        query += f"&rdkafka.ssl.certificate.location={certificate.path('client')}"
        query += f"&rdkafka.ssl.key.location={certificate.key('client')}"
    app = application(name, cluster.url(listener, query), tmp_path)
    async with running(app):
        await until(lambda: sum(app.tables["counts"].values()) == 20)
    if way == "PLAIN":  # another worker, which restores
        app = application(name, cluster.url(listener, query), tmp_path / "another")
        async with running(app):
            await until(lambda: len(app.tables["counts"].keys()) == 20)
    expected = [b"v%02d" % n for n in range(20)]
    assert sorted(await asyncio.to_thread(cluster.values, f"{name}.out", 20)) == expected


# --- rights --------------------------------------------------------------------------------------


def work(broker: Broker, name: str) -> None:
    """Do once what a worker does."""
    broker.create_topic(TopicSpec(f"{name}-changelog", 1))
    for theirs in (f"{name}.in", f"{name}.out"):
        broker.create_topic(TopicSpec(theirs, 2))  # is there: looks whether it fits
    member = broker.join(name, [f"{name}.in"])
    source, own, out = TP(f"{name}.in", 0), TP(f"{name}-changelog", 0), TP(f"{name}.out", 0)
    settle(member)
    assert isinstance(member, SendsEarly)
    own_records = member.send([OutRecord(out, b"k", b"v", 1), OutRecord(own, b"k", b"v", 1)])
    member.commit(own_records, {source: Position(1)})
    with closing(broker.reader()) as reader:
        reader.assign({own: 0})
        assert reader.poll(DEADLINE_S, 1)


def settle(member: Member) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        for event in member.poll(0.1, 10):
            if isinstance(event, Assigned) and event.tps:
                member.seek(dict.fromkeys(event.tps, 0))
                return
    pytest.fail("nothing was assigned")


def test_every_documented_right_is_needed(
    cluster: SecureCluster, name: str, tmp_path: Path
) -> None:
    prepare(cluster, name, USER)
    rights = documented(name)
    url = cluster.url("SASL", f"user={USER}&tls=false")

    def outcome(allowed: list[Right]) -> str:
        cluster.allow(USER, allowed)
        with closing(open_broker(url, tmp_path)) as broker:
            try:
                work(broker, name)
            except DeniedError as exc:
                return str(exc)
        return ""

    for index, (kind, resource, operations) in enumerate(rights):
        for one in operations:
            others = tuple(other for other in operations if other is not one)
            left = [*rights[:index], (kind, resource, others), *rights[index + 1 :]]
            said = outcome(left)
            assert "docs/kafka.md" in said, (resource, one)
            if one is not AclOperation.DESCRIBE_CONFIGS and not resource.endswith(".out"):
                assert resource.rstrip("*") in said, (resource, one, said)
    assert outcome(rights) == ""


async def test_right_that_is_lost_is_waited_for(
    cluster: SecureCluster, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(prepare, cluster, name, USER)
    own, *others = documented(name)
    without = (own[0], own[1], tuple(set(own[2]) - {AclOperation.WRITE}))
    app = application(name, cluster.url("SASL", f"user={USER}&tls=false"), tmp_path)
    async with running(app):
        await until(lambda: sum(app.tables["counts"].values()) == 20)
        await asyncio.to_thread(cluster.allow, USER, [without, *others])
        await asyncio.to_thread(cluster.write, f"{name}.in", [b"v99"])
        await until(lambda: app.engine.committer.is_full)
        await asyncio.to_thread(cluster.allow, USER, documented(name))
        await until(lambda: sum(app.tables["counts"].values()) == 21)
        await until(lambda: not app.engine.committer.is_full)
    assert re.search(rf"a commit to {name}-\S+ failed: .*authorization failed", caplog.text)


# --- refusals ------------------------------------------------------------------------------------


def test_every_refusal_is_one_clear_error(
    cluster: SecureCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokens.py").write_text(TOKENS)
    monkeypatch.syspath_prepend(tmp_path)

    def refusal(case: str) -> StreamappError | None:
        listener, query, password, _, _ = REFUSALS[case]
        environ = {"STREAMAPP_KAFKA_PASSWORD": password}
        try:
            options = parse_options(urlsplit(url_of(cluster, listener, query)), environ)
            KafkaBroker(options).close()
        except StreamappError as exc:
            return exc
        return None

    with ThreadPoolExecutor(len(REFUSALS)) as pool:  # they mostly wait
        found = dict(zip(REFUSALS, pool.map(refusal, REFUSALS), strict=True))
    for case, (_, _, password, status, expected) in REFUSALS.items():
        error = found[case]
        assert error is not None, case
        assert re.search(expected, str(error)), (case, str(error))
        assert error.exit_code == status, case
        assert "\n" not in str(error)
        for secret in (password, PASSWORD, "SECRET"):
            assert not secret or secret not in f"{error!s}{error!r}{error.__cause__!r}", case


#: What of this is tried with the commands: case, rights of the user, the line.
LINES = {
    "faust": ("wrong password", 3, "[CRITICAL] Kafka: asking the cluster for its topics failed"),
    "streamapp": ("wrong name", 3, "[CRITICAL] Kafka: the certificate of 127.0.0.1"),
    "no rights": ("", 1, "describing topic refused-dead-letters failed: Broker: Topic auth"),
}


@pytest.mark.parametrize("case", LINES)
def test_command_ends_with_one_line_and_a_status(
    cluster: SecureCluster, programs: Programs, tmp_path: Path, case: str
) -> None:
    refused, status, expected = LINES[case]
    listener, query, password, *_ = REFUSALS.get(
        refused, ("SASL", f"user={USER}&tls=false", PASSWORD)
    )
    cluster.allow(USER, [])
    (tmp_path / "prog.py").write_text(
        f"import os, streamapp\n"
        f"os.environ['STREAMAPP_KAFKA_PASSWORD'] = {password!r}\n"
        f"app = streamapp.App('refused', broker={url_of(cluster, listener, query)!r})\n"
        "@app.agent(app.topic('in'))\nasync def n(stream):\n    async for _ in stream: pass\n"
    )
    words = ("streamapp", "worker", "-A", "prog", "-l", "warning")
    if case == "faust":
        words = ("faust", "-A", "prog", "worker", "--without-web", "-l", "warn")
    ended = programs.run(tmp_path, *words)
    (line,) = (line for line in ended.err.splitlines() if "[?25" not in line and line.strip())
    assert expected in line
    assert ended.status == status
    assert password not in ended.out + ended.err or not password


# --- secrets -------------------------------------------------------------------------------------


def test_running_worker_shows_no_secret(cluster: SecureCluster, name: str, tmp_path: Path) -> None:
    prepare(cluster, name, USER)
    url = cluster.url("SASLTLS", f"user={USER}&sasl=SCRAM-SHA-512")
    (tmp_path / "prog.py").write_text(
        "import logging, streamapp\n"
        f"app = streamapp.App({name!r}, broker={url!r}, topic_partitions=2)\n"
        f"@app.agent(app.topic('{name}.in'))\n"
        "async def n(stream):\n    async for _ in stream: pass\n"
    )
    (port,) = kafka.free_ports(1)
    streamapp_command = "from streamapp.cli.main import main; main()"
    words = ["worker", "-A", "prog", "-l", "debug", "--web-port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-c", streamapp_command, *words],
            cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            ready(port, worker)
            pages = [fetch(port, path) for path in ("/metrics", "/api/worker", "/readyz", "/")]
            arguments = Path(f"/proc/{worker.pid}/cmdline").read_bytes()
        finally:
            worker.send_signal(signal.SIGTERM)
            status = worker.wait(DEADLINE_S)
    assert status == 0
    shown = b"".join((*pages, arguments, (tmp_path / "log").read_bytes()))
    assert b"127.0.0.1" in shown
    assert PASSWORD.encode() not in shown


def ready(port: int, worker: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 2 * DEADLINE_S
    while time.monotonic() < deadline:
        assert worker.poll() is None
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    pytest.fail("the worker was not ready in time")


def fetch(port: int, path: str) -> bytes:
    with closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()
