"""``streamapp topics``: what the broker holds."""

from dataclasses import dataclass
from typing import Annotated

from typer import Argument

from streamapp.cli.options import AsJson, BrokerUrl, Datadir, opened, topic_of
from streamapp.cli.show import duration, print_json, print_table
from streamapp.core.batch import TP
from streamapp.transport.broker import Broker, TopicInfo

Name = Annotated[str | None, Argument(metavar="[TOPIC]", help="Show the partitions of this one.")]


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """Readable offsets ``[earliest, end)`` of one partition, as ``--json`` writes them."""

    partition: int
    earliest: int
    end: int


@dataclass(frozen=True, slots=True)
class TopicRow:
    """A topic as ``--json`` writes it."""

    name: str
    partitions: list[PartitionRow]
    cleanup: list[str]
    retention_ms: int | None
    retention_bytes: int | None


def topics(
    topic: Name = None,
    *,
    as_json: AsJson = False,
    broker: BrokerUrl = None,
    datadir: Datadir = None,
) -> None:
    """List the topics, or the partitions of one."""
    with opened(broker, datadir, may_create=False) as bus:
        infos = [topic_of(bus, topic)] if topic else sorted(bus.topics().values(), key=_name)
        rows = [_row(bus, info) for info in infos]
    if as_json:
        print_json(rows)
    elif topic:
        print_table(
            ("PARTITION", "EARLIEST", "END"),
            [(each.partition, each.earliest, each.end) for each in rows[0].partitions],
            empty="",
        )
    else:
        print_table(
            ("TOPIC", "PARTITIONS", "OFFSETS", "CLEANUP", "RETENTION"),
            [_line(row) for row in rows],
            empty="No topics yet. `streamapp send TOPIC --create-partitions 4` makes one.",
        )


def _name(info: TopicInfo) -> str:
    return info.spec.name


def _row(bus: Broker, info: TopicInfo) -> TopicRow:
    """Read the offsets of a topic."""
    spec = info.spec
    have = bus.offsets([TP(spec.name, partition) for partition in range(spec.partitions)])
    return TopicRow(
        name=spec.name,
        partitions=[PartitionRow(tp.partition, *have[tp]) for tp in sorted(have)],
        cleanup=sorted(spec.cleanup),
        retention_ms=spec.retention_ms,
        retention_bytes=spec.retention_bytes,
    )


def _line(row: TopicRow) -> tuple[object, ...]:
    """Return the cells of a topic; offsets in use stand for records, compaction leaves holes."""
    offsets = sum(each.end - each.earliest for each in row.partitions)
    retention = duration(row.retention_ms) if "delete" in row.cleanup else None
    return (row.name, len(row.partitions), offsets, ", ".join(row.cleanup), retention)
