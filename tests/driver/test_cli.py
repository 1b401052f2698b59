"""The command line on a real broker: what it writes, and how it fails."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from streamapp.core.batch import TP
from streamapp.state.checkpoint import CheckpointStore
from streamapp.state.manifest import Manifest
from streamapp.state.rocksdb import RocksStore
from streamapp.transport.broker import Position, TopicSpec
from streamapp.transport.connect import open_broker
from streamapp.transport.partitioner import partition_for_key

COMMAND = Path(sys.executable).with_name("streamapp")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """No settings but a data folder of the test's own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("STREAMAPP_") and k != "PORT"}
    return {**kept, "STREAMAPP_DATADIR": str(tmp_path / "data")}


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Run one command to its end, in an empty folder."""

    def call(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=60,
            check=False,
        )

    return call


def rows(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return the documents that ``tail --json`` wrote."""
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def fails(result: subprocess.CompletedProcess[str], status: int) -> str:
    """Return the one line that explains the failure."""
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("streamapp: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['streamapp', '--help']\n"
        "from streamapp.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'faust', 'mode', 'aiohttp', 'rocksdict', 'pydantic', 'rich', 'sqlite3'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "checkpoints" in done.stdout


def test_sent_record_comes_back(run: Run) -> None:
    arguments = ("-k", "ann", "-H", "trace=1", "--create-partitions", "4")
    assert run("send", "orders", '{"id": 1}', *arguments).stderr == "Sent 1 record to orders\n"
    (row,) = rows(run("tail", "orders", "--json"))
    assert row["timestamp_ms"] > 0
    del row["timestamp_ms"]
    assert row == {
        "topic": "orders",
        "partition": partition_for_key(b"ann", 4),
        "offset": 0,
        "key": "ann",
        "value": {"id": 1},
        "headers": [["trace", 1]],
    }


def test_lines_of_stdin_with_their_keys(run: Run) -> None:
    lines = "".join(f'{{"id": {i}, "user": "u{i % 7}"}}\n' for i in range(20_000))
    create = ("--create-partitions", "3")
    sent = run("send", "clicks", "--key-field", "user", *create, stdin=lines + "\n\r\n")
    assert sent.stderr == "Sent 20,000 records to clicks\n"
    got = rows(run("tail", "clicks", "--from", "earliest", "--json"))
    assert sorted(row["value"]["id"] for row in got) == list(range(20_000))
    assert {(row["key"], row["partition"]) for row in got} == {
        (f"u{n}", partition_for_key(f"u{n}".encode(), 3)) for n in range(7)
    }
    for key in range(7):
        ids = [row["value"]["id"] for row in got if row["key"] == f"u{key}"]
        assert ids == sorted(ids)


def test_last_line_needs_no_end(run: Run) -> None:
    run("send", "t", "--create-partitions", "1", stdin='{"n": 1}\n{"n": 2}')
    assert [row["value"]["n"] for row in rows(run("tail", "t", "--json"))] == [1, 2]


def test_bad_line_stops_there_and_says_where(run: Run) -> None:
    bad = run("send", "t", "--create-partitions", "1", stdin='{"n": 1}\n\n{"n": \n{"n": 2}\n')
    said = fails(bad, 1)
    assert "Line 3 is not JSON" in said
    assert "1 records before it were sent" in said
    assert "tail -n +3" in said
    assert [row["value"] for row in rows(run("tail", "t", "--json"))] == [{"n": 1}]


def test_raw_lines_are_not_looked_at(run: Run) -> None:
    run("send", "t", "--raw", "--create-partitions", "1", stdin="plain\n\x1b[31mred\n")
    shown = run("tail", "t").stdout
    assert shown.splitlines()[0].endswith("(null)  plain")
    assert shown.splitlines()[1].endswith("\\x1b[31mred")  # no escape reaches the terminal


def test_arguments_may_be_any_bytes(run: Run) -> None:
    no_text, shown = "\udcff", {"base64": "/w=="}  # how Python tells of an argument of the byte ff
    header = ("-H", f"a={no_text}")
    run("send", "t", no_text, "--raw", "-k", no_text, *header, "--create-partitions", "1")
    (row,) = rows(run("tail", "t", "--json", "-k", no_text))
    assert (row["key"], row["value"], row["headers"]) == (shown, shown, [["a", shown]])


def test_line_without_the_key_field(run: Run) -> None:
    bad = run("send", "t", "--key-field", "id", "--create-partitions", "1", stdin='{"n": 1}\n')
    assert "Line 1 is without the field id of the key" in fails(bad, 1)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("send", "ordres", "{}"), 2, "Topic ordres does not exist. Did you mean orders?"),
        (("tail", "nothing-like-it"), 2, "does not exist. `send --create-partitions 4` makes it"),
        (("send", "orders", "{}", "-p", "2"), 2, "has no partition 2. It has 2, numbered from 0"),
        (("send", "orders", "{}", "--create-partitions", "3"), 2, "3"),
        (("send", "orders", "{}", "-H", "novalue"), 2, "'novalue' is not a header"),
        (("send", "orders", "{bad"), 1, "The value is not JSON"),
        (("send", "orders", "[" * 5_000), 1, "not JSON (nested deeper than 128 levels)"),
        (("send", "orders", "\udcff"), 1, "The value is not JSON"),
        (("send", "orders", "{}", "-H", "\udcff=1"), 2, "name of the header '\\udcff=1' is not"),
        (("send", "orders", "{}", "--key-field", "id"), 1, "value is without the field id"),
        (("send", "orders", "{}", "-k", "a", "--key-field", "b"), 2, "--key-field goes with"),
        (("tail", "orders", "--from", "yesterday"), 2, "'yesterday' is no place in a topic"),
        (("topics", "--broker", "ftp://x"), 2, "ftp"),
        (("checkpoints", "restore", "7"), 2, "No checkpoints in "),
        (("checkpoints", "restore", "7", "--app-id", "x"), 2, "no checkpoint 7 of slot 0"),
        (("worker", "-A", "nosuch"), 2, "There is no module nosuch in this folder"),
    ],
)
def test_user_mistakes_are_one_line(
    run: Run, arguments: tuple[str, ...], status: int, said: str
) -> None:
    run("send", "orders", "{}", "--create-partitions", "2")
    assert said in fails(run(*arguments), status)


def test_unwritable_folder_is_broker_unavailable(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fails(run("topics", "--datadir", str(tmp_path / "file")), 3)


def test_tail_places(run: Run) -> None:
    lines = "".join(f'{{"n": {n}}}\n' for n in range(30))
    run("send", "t", "--create-partitions", "1", stdin=lines)

    def numbers(*arguments: str) -> list[int]:
        return [row["value"]["n"] for row in rows(run("tail", "t", "--json", *arguments))]

    assert numbers() == list(range(20, 30))
    assert numbers("-n", "2") == [28, 29]
    assert numbers("--from", "27") == [27, 28, 29]
    assert numbers("--from", "5", "-n", "2") == [5, 6]
    assert numbers("--from", "latest") == []
    assert numbers("--from", "2020-01-01T00:00Z", "-n", "1") == [0]
    assert numbers("--from", "2999-01-01") == []


def test_last_records_are_the_last_of_all_partitions(run: Run) -> None:
    run("send", "t", '{"n": 0}', "-p", "1", "--create-partitions", "2")
    run("send", "t", '{"n": 1}', "-p", "0")
    run("send", "t", '{"n": 2}', "-p", "1")
    got = rows(run("tail", "t", "--json", "-n", "2"))
    assert [(row["partition"], row["value"]["n"]) for row in got] == [(0, 1), (1, 2)]


def test_tail_of_one_key_looks_further_back(run: Run) -> None:
    run("send", "t", "1", "-k", "rare", "--create-partitions", "1")
    run("send", "t", "-k", "usual", stdin="2\n" * 50)
    assert [row["value"] for row in rows(run("tail", "t", "-k", "rare", "--json"))] == [1]


def test_follow_shows_what_comes_and_ends_with_ctrl_c(
    run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    run("send", "t", "1", "--create-partitions", "1")
    with subprocess.Popen(
        [COMMAND, "tail", "t", "-f", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    ) as following:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["value"] == 1
        run("send", "t", "2")
        assert json.loads(following.stdout.readline())["value"] == 2
        following.send_signal(signal.SIGINT)
        assert following.wait(timeout=30) == 0


def test_topics_and_groups(run: Run, tmp_path: Path) -> None:
    with closing(open_broker("sqlite://", tmp_path / "data")) as bus:
        bus.create_topic(TopicSpec("kept", 1, frozenset({"compact"}), None))
        bus.create_topic(TopicSpec("orders", 2))
    run("send", "orders", "-p", "1", stdin="1\n2\n3\n")
    with closing(open_broker("sqlite://", tmp_path / "data")) as bus:
        member = bus.join("billing", ["orders"], url="http://127.0.0.1:6066")
        deadline = time.monotonic() + 30
        while not (events := member.poll(0.1, 1)) and time.monotonic() < deadline:
            pass
        assert events
        member.seek({TP("orders", 1): 0})
        member.commit([], {TP("orders", 1): Position(1, '{"time_ms":1500}')})
        (group,) = json.loads(run("groups", "--json").stdout)
        member.leave()
    kept, orders = json.loads(run("topics", "--json").stdout)
    assert (kept["name"], kept["cleanup"], kept["retention_ms"]) == ("kept", ["compact"], None)
    assert orders["partitions"][1] == {"partition": 1, "earliest": 0, "end": 3}
    assert group["name"] == "billing"
    assert [(m["url"], m["is_alive"]) for m in group["members"]] == [
        ("http://127.0.0.1:6066", True)
    ]
    at = {position["partition"]: position for position in group["positions"]}
    assert (at[1]["position"], at[1]["end"], at[1]["lag"]) == (1, 3, 2)
    assert (at[0]["position"], at[0]["lag"]) == (None, 0)
    assert (at[1]["time_ms"], at[0]["time_ms"]) == (1_500, None)
    assert at[1]["member"] == group["members"][0]["id"]
    assert "1970-01-01T00:00:01.500Z" in run("groups").stdout
    for table in (run("topics"), run("topics", "orders"), run("groups")):
        assert table.returncode == 0
        assert "orders" in table.stdout or "PARTITION" in table.stdout


def test_checkpoint_is_listed_and_restored(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with closing(RocksStore.open(tmp_path / "db")) as store:
        store.apply({b"key": b"value"})
        CheckpointStore(data / "shop" / "checkpoints" / "0").write(
            store, Manifest(id=3, created_ms=1_000, app="shop")
        )
    (found,) = json.loads(run("checkpoints", "list", "--json").stdout)
    assert (found["app"], found["slot"], found["id"], found["damage"]) == ("shop", "0", 3, "")
    assert found["created"] == "1970-01-01T00:00:01.000Z"
    assert run("checkpoints", "list").returncode == 0
    assert run("checkpoints", "restore", "3").returncode == 0
    with closing(RocksStore.open(data / "shop" / "state" / "0" / "db")) as store:
        assert store.get(b"key") == b"value"


def test_worker_takes_a_free_port_and_ends_well(
    run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "tiny.py").write_text(
        "import faust\n"
        "from streamapp.settings import load_settings\n"
        "import sys\n"
        "at = load_settings()\n"
        "app = faust.App('tiny', broker=at.broker, datadir=at.datadir)\n"
        "@app.task\n"
        "async def say(): print('port', at.web_port, file=sys.__stdout__, flush=True)\n"
    )
    with socket.socket() as other, socket.socket() as taken:
        other.bind(("127.0.0.1", 0))
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        assert f"Port {port} of 127.0.0.1 is in use" in fails(
            run("worker", "-A", "tiny", "--web-port", port), 2
        )
        free = str(other.getsockname()[1])
    with subprocess.Popen(
        [COMMAND, "worker", "-A", "tiny", "--web-port", free, "-l", "warning"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    ) as worker:
        assert worker.stdout is not None
        assert f"http://127.0.0.1:{free}/" in worker.stdout.readline()
        printed = (line for line in worker.stdout if line.startswith("port "))
        assert next(printed) == f"port {free}\n"
        worker.send_signal(signal.SIGINT)
        assert worker.wait(timeout=30) == 0


def test_worker_looks_first_at_the_port_that_its_application_names(
    run: Run, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "tiny.py").write_text(
            "import os, streamapp\n"
            f"app = streamapp.App('tiny', web_port={port})\n"
            "@app.task\n"
            "async def end(): os._exit(0)\n"
        )
        told = run("worker", "-A", "tiny").stdout.splitlines()[0]
    assert int(told.split(":")[2].split("/")[0]) in range(port + 1, port + 50)
