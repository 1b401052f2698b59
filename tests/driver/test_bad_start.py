"""What cannot start says so in one line and ends: real processes, under both commands."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.programs import Ended, Programs

from streamapp.state.checkpoint import CheckpointStore
from streamapp.state.manifest import Manifest
from streamapp.state.rocksdb import RocksStore
from streamapp.state.slots import claim_slot
from streamapp.transport.broker import TopicSpec
from streamapp.transport.connect import open_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAUST = ("faust", "-A", "prog", "worker", "--without-web", "-l", "warn")
STREAMAPP = ("streamapp", "worker", "-A", "prog", "-l", "warning")


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with closing(Programs()) as started:
        yield started


def said(ended: Ended, status: int) -> str:
    """Return the one line of a failure."""
    assert ended.status == status, ended.err
    assert "Traceback" not in ended.out + ended.err
    (line,) = (line for line in ended.err.splitlines() if line.strip())
    return line


# --- declarations: nothing is started ------------------------------------------------------------

APP = "app = streamapp.App('a', topic_partitions=2)\n"
AGENT = "@app.agent(app.topic('in'))\nasync def n(stream):\n    async for _ in stream: pass\n"

#: What stands in the program -> the line.
DECLARATIONS = {
    "unknown setting": (
        "streamapp.App('a', comit_interval='1s')",
        "App has no setting 'comit_interval'. Did you mean 'commit_interval'?",
    ),
    "no duration": (
        "streamapp.App('a', commit_interval='soon')",
        "'soon' is not a duration. Write",
    ),
    "negative duration": ("streamapp.App('a', store_interval=-1)", "-1 is a negative duration"),
    "no time": ("streamapp.App('a', commit_interval=0)", "App: commit_interval_ms=0. It must be"),
    "no size": ("streamapp.App('a', cache_size='much')", "'much' is not a size in bytes. Write"),
    "no count": ("streamapp.App('a', batch_max='5k')", "App: batch_max='5k'. It must be a whole"),
    "no partitions": (
        "streamapp.App('a', topic_partitions='two').topic('t')",
        "'two'. Look at topic_partitions",
    ),
    "unknown broker": (
        "streamapp.App('a', broker='redis://localhost').topic('t')",
        "no broker has the scheme 'redis'. Use sqlite://",
    ),
    "no broker": ("streamapp.App('a', broker='').topic('t')", "falsy. Look at broker"),
    "unknown store": (
        "streamapp.App('a', store='leveldb://').topic('t')",
        "no store has the scheme 'leveldb'. Use rocksdb:// or memory://",
    ),
    "unknown guarantee": (
        "streamapp.App('a', guarantee='maybe')",
        "guarantee='maybe' is not offered by this broker. Use \"exactly_once\"",
    ),
    "id with a space": ("streamapp.App('my shop')", "'my shop' is no name for an application. Use"),
    "id above": ("streamapp.App('..')", "'..' is no name for an application. Use 1 to 249 of"),
    "no id": ("streamapp.App('')", "'' is no name for an application"),
    "no async": (
        f"{APP}@app.agent(app.topic('in'))\ndef n(stream): pass",
        "Agent prog.n is no coroutine function. Write `async def`",
    ),
    "no stream": (
        f"{APP}@app.agent(app.topic('in'))\nasync def n(): pass",
        "Agent prog.n cannot be called with one argument, the stream. Write `async def n(stream)`",
    ),
    "more than a stream": (
        f"{APP}@app.agent(app.topic('in'))\nasync def n(stream, more): pass",
        "Agent prog.n cannot be called with one argument, the stream",
    ),
    "bare decorator": (
        f"{APP}@app.agent\nasync def n(stream): pass",
        "@app.agent stands bare over n. Write @app.agent(topic)",
    ),
    "two agents": (
        APP + AGENT + AGENT.replace("'in'", "'other'"),
        "There are two agents named 'prog.n'. Rename one: @app.agent(topic, name='other')",
    ),
    "no instances": (
        f"{APP}@app.agent(app.topic('in'), concurrency=0)\nasync def n(stream): pass",
        "Agent prog.n: concurrency=0. It must be a whole number of at least 1",
    ),
    "unknown policy": (
        f"{APP}@app.agent(app.topic('in'), on_error='ignore')\nasync def n(stream): pass",
        "Unknown error policy 'ignore'. Use one of dead_letter, retry, skip, stop",
    ),
    "two tables": (
        f"{APP}app.Table('t')\napp.Table('t')",
        "There are two tables named 't'. Rename one of them",
    ),
    "table's name": (f"{APP}app.Table('a b')", "'a b' is no name for a table. Use 1 to 249 of"),
    "table's default": (
        f"{APP}app.Table('t', default=0)",
        "Table t: default=0 cannot be called. Give what makes the value, like default=int",
    ),
    "table of sets": (
        f"{APP}app.Table('t', default=set)",
        "its form in JSON. Say of what it is: value_type=set[str]",
    ),
    "table's partitions": (f"{APP}app.Table('t', partitions=0)", "Table t: partitions=0. It must"),
    "table's option": (
        f"{APP}app.Table('t', on_recover=1)",
        "on_recover is not supported. Support",
    ),
    "topic without a name": (
        f"{APP}app.topic()",
        "A topic has no name. Name it: app.topic('orders",
    ),
    "type without a form": (
        f"{APP}class Odd: pass\napp.topic('t', value_type=Odd)",
        "Odd uses Odd, which has no form as bytes. Make it a streamapp.Record",
    ),
    "unknown codec": (
        f"{APP}app.topic('t', value_serializer='yaml')",
        "Use one of: json, msgpack, raw, str.",
    ),
}


@pytest.mark.parametrize("case", DECLARATIONS)
def test_declaration_that_cannot_work(programs: Programs, tmp_path: Path, case: str) -> None:
    program, expected = DECLARATIONS[case]
    (tmp_path / "prog.py").write_text(f"import streamapp\n{program}\n")
    line = said(programs.run(tmp_path, *FAUST), 2)
    assert line.startswith("faust: ")
    assert expected in line
    assert not (tmp_path / "data").exists()


def test_streamapp_command_says_the_same(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(f"import streamapp\n{APP}{AGENT}{AGENT}")
    ended = programs.run(tmp_path, *STREAMAPP)
    assert said(ended, 2).startswith("streamapp: There are two agents named 'prog.n'")
    assert ended.out == ""


@pytest.mark.parametrize(
    ("broker", "told"),
    [
        ("memory://", "memory://: each process would have its own records"),
        ("kafka://localhost:1?instance_id=a", "instance_id: all processes would have that name"),
    ],
)
def test_processes_of_one_broker_and_several_names(
    programs: Programs, tmp_path: Path, broker: str, told: str
) -> None:
    app = f"app = streamapp.App('a', broker={broker!r})"
    (tmp_path / "prog.py").write_text(f"import streamapp\n{app}\n{AGENT}")
    line = said(programs.run(tmp_path, *STREAMAPP, "--processes", "2"), 2)
    assert f"--processes 2 with {told}" in line


@pytest.mark.parametrize("program", ["other = 1", "app = 1", ""])
def test_module_without_an_application(programs: Programs, tmp_path: Path, program: str) -> None:
    (tmp_path / "prog.py").write_text(program)
    line = said(programs.run(tmp_path, *STREAMAPP), 2)
    assert "app of module prog is no application. Write `app = streamapp.App(...)`" in line


def test_wrong_settings_of_the_file_are_told_together(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "app.toml").write_text('comit_interval = "1s"\ncache_size = "much"\n')
    (tmp_path / "prog.py").write_text(
        "import streamapp\nfrom streamapp.settings import load_settings\nload_settings()\n"
    )
    for command in (FAUST, STREAMAPP):
        line = said(programs.run(tmp_path, *command), 2)
        assert "comit_interval (config/app.toml): no such setting; did you mean commit_" in line
        assert "cache_size (config/app.toml): 'much' is not a size" in line


@pytest.mark.parametrize(
    "command", [["faust"], [sys.executable, "-m", "faust"], ["streamapp"]], ids=lambda c: c[-1]
)
def test_installed_commands_end_with_the_status(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "prog.py").write_text("import streamapp\nstreamapp.App('a', x=1)\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    arguments = ["worker", "-A", "prog"] if command == ["streamapp"] else ["-A", "prog", "worker"]
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        timeout=60,
        check=False,
    )
    name = "streamapp" if command == ["streamapp"] else "faust"
    assert done.stderr == f"{name}: App has no setting 'x'. See the README\n"
    assert done.returncode == 2


# --- what is found at start ----------------------------------------------------------------------

WRITER = (
    "totals = app.Table('totals', default=int{options})\n"
    "@app.agent(app.topic('in'))\n"
    "async def n(stream):\n    async for x in stream: totals[x] += 1\n"
)


def has_topic(name: str, partitions: int) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        with closing(open_broker("sqlite://", folder / "data")) as broker:
            broker.create_topic(TopicSpec(name, partitions))

    return prepare


def has_file(name: str, text: str = "") -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return prepare


def has_read_only(name: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(0o500)

    return prepare


def has_nothing(_: Path) -> None:
    pass


#: Program, what is there before, exit status, the line.
STARTS: dict[str, tuple[str, Callable[[Path], None], int, str]] = {
    "unknown topic": (
        AGENT.replace("@app", "app.conf.topic_allow_declare = False\n@app", 1),
        has_nothing,
        2,
        "Topic in does not exist. Create it, or set topic_allow_declare=True",
    ),
    "source has other partitions": (
        AGENT.replace("'in'", "'in', partitions=3"),
        has_topic("in", 2),
        2,
        "topic in has 2 partitions, 3 were asked. Declare the number that it has",
    ),
    "changelog has other partitions": (
        WRITER.format(options=""),
        has_topic("a-totals-changelog", 3),
        2,
        "topic a-totals-changelog has 3 partitions, 2 were asked. Declare the number that it has",
    ),
    "table and topic differ": (
        WRITER.format(options=", partitions=3"),
        has_nothing,
        2,
        "Agent prog.n writes table totals with 3 partitions from topic in with 2. Declare both",
    ),
    "topic's name": (
        AGENT.replace("'in'", "'in put'"),
        has_nothing,
        2,
        "'in put' is no name for a topic. Use 1 to 249 of the characters",
    ),
    "agent's own topic": (
        AGENT.replace("app.topic('in')", "name='n/m'"),
        has_nothing,
        2,
        "'a-n/m' is no name for a topic. Use 1 to 249 of the characters",
    ),
    "data folder is a file": (
        AGENT,
        has_file("data"),
        3,
        "cannot use data/bus: Not a directory. Name a folder on a local disk",
    ),
    "data folder is read-only": (
        AGENT,
        has_read_only("data"),
        3,
        "cannot use data/bus: Permission denied. Name a folder on a local disk",
    ),
    "bus is newer": (
        AGENT,
        has_file("data/bus/FORMAT", "2\n"),
        3,
        "data/bus has layout version '2'; this streamapp reads 1. Use the version of streamapp",
    ),
    "state is a file": (
        WRITER.format(options=""),
        has_file("data/a/state"),
        2,
        "state folder data/a/state cannot be made: File exists. Choose a folder",
    ),
    "state is read-only": (
        WRITER.format(options=""),
        has_read_only("data/a/state"),
        2,
        "data/a/state/0.lock cannot be opened: Permission denied. Choose a folder",
    ),
    "broker's URL has a host": (
        f"app = streamapp.App('a', broker='sqlite://host/folder')\n{AGENT}",
        has_nothing,
        2,
        "'sqlite://host/folder' names no folder. Use sqlite://",
    ),
}


@pytest.mark.parametrize("case", STARTS)
def test_start_that_cannot_work(programs: Programs, tmp_path: Path, case: str) -> None:
    program, prepare, status, expected = STARTS[case]
    (tmp_path / "prog.py").write_text(f"import streamapp\n{APP}{program}")
    prepare(tmp_path)
    line = said(programs.run(tmp_path, *FAUST), status)
    assert "[CRITICAL]" in line
    assert expected in line


def test_streamapp_worker_ends_with_the_brokers_status(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(f"import streamapp\n{APP}{AGENT}")
    has_file("data/bus/FORMAT", "2\n")(tmp_path)
    assert "Use the version of streamapp" in said(programs.run(tmp_path, *STREAMAPP), 3)


def test_busy_port(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(f"import streamapp\n{APP}{AGENT}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        faust = (*FAUST[:4], "--web-port", str(port), "-l", "warn")
        line = said(programs.run(tmp_path, *faust), 2)
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in line
        assert "choose another port with --web-port" in line
        line = said(programs.run(tmp_path, *STREAMAPP, "--web-port", str(port)), 2)
        assert f"Port {port} of 127.0.0.1 is in use. Choose another one with --web-port" in line


def test_state_that_is_held_is_not_replaced(programs: Programs, tmp_path: Path) -> None:
    home = tmp_path / "data" / "shop"
    with closing(RocksStore.open(tmp_path / "db")) as store:
        store.apply({b"key": b"value"})
        checkpoints = CheckpointStore(home / "checkpoints" / "0")
        checkpoints.write(store, Manifest(id=3, created_ms=1_000, app="shop"))
    with claim_slot(home, 0):
        line = said(programs.run(tmp_path, "streamapp", "checkpoints", "restore", "3"), 1)
    assert f"slot 0 in data/shop/state is held by process {os.getpid()}" in line
    assert "Stop that worker, or choose another slot" in line
