"""The embedded broker when processes die, stop, starve or run out of disk."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import bus_programs
from support.brokers import numbered
from support.bus_programs import OPTIONS, PARTITIONS, value_of
from support.freezing import freeze_between_writes

from streamapp.core.batch import TP
from streamapp.transport.broker import TopicSpec
from streamapp.transport.sqlite import SqliteBroker
from streamapp.transport.sqlite.locks import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


class Program:
    """A process of ``bus_programs`` whose lines are collected with the time of their arrival."""

    def __init__(self, what: str, folder: Path, name: str) -> None:
        self.name = name
        self.lines: list[tuple[float, list[str]]] = []
        self.process = subprocess.Popen(
            [sys.executable, bus_programs.__file__, what, str(folder), name],
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # The last line of a killed process may be torn.
            if line.endswith("\n"):
                self.lines.append((time.monotonic(), line.split()))

    def said(self, word: str, since: float = 0.0) -> list[list[str]]:
        return [words for at, words in list(self.lines) if words[0] == word and at >= since]

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        """Kill it if it runs, and read the rest of what it said."""
        self.process.kill()
        self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str, str], Program]]:
    programs: list[Program] = []

    def start(what: str, name: str) -> Program:
        programs.append(Program(what, tmp_path / "bus", name))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[SqliteBroker]:
    with closing(SqliteBroker(tmp_path / "bus", OPTIONS)) as broker:
        broker.create_topic(TopicSpec("t", PARTITIONS))
        broker.create_topic(TopicSpec("in", PARTITIONS))
        broker.create_topic(TopicSpec("out", PARTITIONS))
        yield broker


def wait_until(condition: Callable[[], bool], within_s: float = DEADLINE_S) -> float:
    """Poll the condition; return how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s, "not in time"
        time.sleep(0.005)
    return time.monotonic() - started


def values_of(broker: SqliteBroker, tp: TP) -> list[bytes | None]:
    """Return all values of a partition, having checked that its offsets have no holes."""
    offsets: list[int] = []
    values: list[bytes | None] = []
    with closing(broker.reader()) as reader:
        reader.assign({tp: 0})
        while batches := reader.poll(0, 10_000):
            for batch in batches:
                offsets += batch.offsets
                values += batch.values
    assert offsets == list(range(broker.offsets([tp])[tp].end))
    return values


def assert_sound(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "bus.db")) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- producers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [8, pytest.param(60, marks=pytest.mark.nightly)])
def test_nothing_acknowledged_is_lost_when_producers_are_killed(
    tmp_path: Path, broker: SqliteBroker, start: Callable[[str, str], Program], seconds: int
) -> None:
    rng = random.Random(seconds)
    running = [start("produce", f"p{i}-0") for i in range(3)]
    ended: list[Program] = []
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        index = rng.randrange(3)
        victim = running[index]
        wait_until(lambda victim=victim: bool(victim.lines))  # type: ignore[misc]  # bound now
        time.sleep(rng.random() * 0.3)
        victim.end()
        ended.append(victim)
        running[index] = start("produce", f"p{index}-{len(ended)}")
    for program in running:
        program.end()
    assert_sound(tmp_path / "bus")
    logs = [values_of(broker, TP("t", p)) for p in range(PARTITIONS)]
    acknowledged = 0
    for program in [*ended, *running]:
        for _, words in program.lines:
            partition, first, count, number = map(int, words)
            expected = [value_of(program.name, number + i) for i in range(count)]
            assert logs[partition][first : first + count] == expected
            acknowledged += count
    assert len(ended) > seconds
    assert acknowledged > 1_000
    everything = [value for log in logs for value in log]
    assert len(everything) == len(set(everything)) >= acknowledged


def test_writers_get_equal_turns(
    tmp_path: Path,
    broker: SqliteBroker,  # noqa: ARG001 - makes the topic
    start: Callable[[str, str], Program],
) -> None:
    writers = [start("compete", f"w{i}") for i in range(4)]
    for writer in writers:
        wait_until(lambda writer=writer: bool(writer.said("ready")))  # type: ignore[misc]  # bound now
    (tmp_path / "bus" / "go").touch()
    time.sleep(2.0)
    (tmp_path / "bus" / "stop").touch()
    for writer in writers:
        wait_until(lambda writer=writer: len(writer.lines) == 2)  # type: ignore[misc]  # bound now
    counts = [int(writer.lines[1][1][0]) for writer in writers]
    assert min(counts) > 0.15 * sum(counts), counts


# --- groups ------------------------------------------------------------------------------------


def owners(programs: Iterable[Program]) -> dict[int, list[int]]:
    """Return the partitions handed out in each generation."""
    found: dict[int, list[int]] = {}
    for program in programs:
        for _, generation, *partitions in program.said("assigned"):
            found.setdefault(int(generation), []).extend(map(int, partitions))
    return found


def is_covered_by(programs: list[Program]) -> bool:
    """Tell whether the latest assignments of these are one generation and a full cover."""
    latest = [said[-1] for program in programs if (said := program.said("assigned"))]
    generations = {words[1] for words in latest}
    partitions = sorted(int(p) for words in latest for p in words[2:])
    return (
        len(latest) == len(programs)
        and len(generations) == 1
        and partitions == list(range(PARTITIONS))
    )


def assert_copied_once(broker: SqliteBroker) -> None:
    for p in range(PARTITIONS):
        assert values_of(broker, TP("out", p)) == values_of(broker, TP("in", p))


class Feed:
    """Keeps appending to all partitions of ``in`` until stopped."""

    def __init__(self, broker: SqliteBroker) -> None:
        self._broker = broker
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        first = 0
        while not self._is_stopping.wait(0.002):
            tps = [TP("in", p) for p in range(PARTITIONS)]
            self._broker.append([one for tp in tps for one in numbered(tp, 5, first)])
            first += 5

    def stop(self) -> None:
        self._is_stopping.set()
        self._thread.join()


def test_every_record_is_copied_once_through_kills_and_stops(
    tmp_path: Path, broker: SqliteBroker, start: Callable[[str, str], Program]
) -> None:
    feed = Feed(broker)
    try:
        first, second, third = (start("copy", name) for name in ("a", "b", "c"))
        everybody = [first, second, third]
        wait_until(lambda: is_covered_by(everybody))

        first.end()
        assert wait_until(lambda: is_covered_by([second, third])) < 3.0

        freeze_between_writes(second, tmp_path / "bus")
        try:
            wait_until(lambda: is_covered_by([third]))
        finally:
            resumed = time.monotonic()
            second.send(signal.SIGCONT)
        wait_until(lambda: bool(second.said("lost", resumed)))
        wait_until(lambda: is_covered_by([second, third]))

        fourth = start("copy", "d")
        wait_until(lambda: is_covered_by([second, third, fourth]))
        second.end()
        third.end()
        wait_until(lambda: is_covered_by([fourth]))
    finally:
        feed.stop()

    ins, outs = ([TP(t, p) for p in range(PARTITIONS)] for t in ("in", "out"))

    def is_done() -> bool:
        ends = broker.offsets([*ins, *outs])
        return all(ends[i].end <= ends[o].end for i, o in zip(ins, outs, strict=True))

    wait_until(is_done)
    assert_copied_once(broker)
    for generation, partitions in owners([first, second, third, fourth]).items():
        assert Counter(partitions).most_common(1)[0][1] == 1, generation


def test_death_is_noticed_at_once_not_by_a_time_out(
    broker: SqliteBroker, start: Callable[[str, str], Program]
) -> None:
    times = []
    survivor = start("copy", "survivor")
    for number in range(3):
        victim = start("copy", f"victim{number}")
        wait_until(lambda victim=victim: is_covered_by([survivor, victim]))  # type: ignore[misc]  # bound now
        victim.send(signal.SIGKILL)
        times.append(wait_until(lambda: is_covered_by([survivor])))
    # Half a second on a quiet machine; the session time-out is a whole one.
    assert min(times) < 0.5, times
    (member,) = broker.groups()["g"].members
    assert member.is_alive


def test_child_that_outlives_a_member_does_not_keep_it_alive(
    tmp_path: Path,
    broker: SqliteBroker,  # noqa: ARG001 - makes the topics
    start: Callable[[str, str], Program],
) -> None:
    program = start("fork", "parent")
    wait_until(lambda: bool(program.said("forked")))
    child = int(program.said("forked")[0][1])
    try:
        (alive,) = (tmp_path / "bus" / "groups").glob("*.alive")
        assert probe(alive) is not None
        program.process.kill()
        wait_until(lambda: probe(alive) is None)
    finally:
        os.kill(child, signal.SIGKILL)


# --- the disk ----------------------------------------------------------------------------------


def test_torn_log_keeps_every_commit_whose_bytes_are_there(tmp_path: Path) -> None:
    rng = random.Random(7)
    source, tps = tmp_path / "bus", [TP("t", p) for p in range(2)]
    wal = source / "bus.db-wal"
    ends: list[tuple[int, list[int]]] = []
    with closing(SqliteBroker(source)) as broker:
        broker.create_topic(TopicSpec("t", 2))
        written = [0, 0]
        for _ in range(60):
            p = rng.randrange(2)
            count = rng.choice([1, 5, 400])
            broker.append(numbered(tps[p], count, written[p]))
            written[p] += count
            ends.append((wal.stat().st_size, list(written)))
        assert [size for size, _ in ends] == sorted(size for size, _ in ends)
        for number in range(40):
            cut = rng.randrange(wal.stat().st_size + 1)
            copied = tmp_path / f"copy{number}"
            shutil.copytree(source, copied, ignore=shutil.ignore_patterns("bells", "*-shm"))
            os.truncate(copied / "bus.db-wal", cut)
            promised = max(
                (written for size, written in ends if size <= cut), default=[0, 0], key=sum
            )
            assert_whole_after_cut(copied, tps, promised)
            shutil.rmtree(copied)


def assert_whole_after_cut(folder: Path, tps: list[TP], promised: list[int]) -> None:
    with closing(SqliteBroker(folder)) as broker:
        if "t" not in broker.topics():
            assert sum(promised) == 0
            return
        for tp, least in zip(tps, promised, strict=True):
            values = values_of(broker, tp)
            assert len(values) >= least
            assert values == [b"v%d" % i for i in range(len(values))]
            again = broker.append(numbered(tp, 1))
            assert again == [len(values)]
    assert_sound(folder)


def test_full_disk_writes_nothing_and_room_heals_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    # In a mount namespace, so that the file system goes with the process, however it ends.
    namespace = ["/usr/bin/unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "/bin/true"], capture_output=True, check=False).returncode:
        pytest.skip("a small file system needs a mount namespace, which is not allowed here")
    python = f"exec {sys.executable} {bus_programs.__file__} fill {disk / 'bus'} name"
    script = f"mount -t tmpfs -o size=16m tmpfs {disk} && {python}"
    done = subprocess.run(
        [*namespace, "/bin/sh", "-c", script],
        capture_output=True,
        env=environment(),
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
