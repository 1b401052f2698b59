"""The commands that look into a broker, over a Kafka whose commits take offsets for themselves."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support.brokers import KafkaBrokers, Worker, at, drive, numbered
from support.programs import Programs

from streamapp.core.batch import TP
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OUT = [TP("out", partition) for partition in range(2)]


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[KafkaBrokers]:
    brokers = KafkaBrokers(tmp_path)
    yield brokers
    brokers.close_all()


def test_commands_show_records_and_not_what_commits_leave(
    brokers: KafkaBrokers, tmp_path: Path
) -> None:
    broker = brokers.open()
    for name in ("in", "out"):
        broker.create_topic(TopicSpec(name, 2))
    worker = Worker(broker.join("g", ["in"]))
    drive([worker], lambda: len(worker.owned) == 2)
    for n in range(20):  # each commit ends with an offset of its own in each partition
        worker.member.commit(
            [record for tp in OUT for record in numbered(tp, 1, n)], {TP("in", 0): at(0)}
        )
    url = f"kafka://{brokers.servers}?prefix={brokers.prefix}"
    with closing(Programs()) as programs:

        def run(*words: str) -> str:
            ended = programs.run(tmp_path, "streamapp", *words, "--broker", url)
            assert ended.status == 0, ended.err
            return ended.out

        for count in (1, 10, 39, 100):
            shown = [
                json.loads(line)
                for line in run("tail", "out", "-n", str(count), "--json").splitlines()
            ]
            expected = [f"v{n}" for n in range(20) for _ in OUT][-count:]
            assert [row["value"] for row in shown] == expected
        everything = run("tail", "out", "--from", "earliest")
        assert len(everything.splitlines()) == 40
        assert run("send", "in", '{"a": 1}', "-k", "me") == ""
        assert '{"a":1}' in run("tail", "in", "-k", "me").replace(" ", "")
        assert "out             2" in run("topics")
        assert "g      in             0    0         0    0" in run("groups")
