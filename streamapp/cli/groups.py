"""``streamapp groups``: who reads what, and how far behind."""

from dataclasses import dataclass

from streamapp.cli.options import AsJson, BrokerUrl, Datadir, opened
from streamapp.cli.show import print_json, print_table, timestamp
from streamapp.core.positions import parse_progress
from streamapp.core.times import NEVER_MS
from streamapp.transport.broker import Broker, GroupInfo, Position


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member as ``--json`` writes it."""

    id: str
    url: str
    is_alive: bool


@dataclass(frozen=True, slots=True)
class PositionRow:
    """How far a group has read one partition; no ``position`` before the first commit.

    ``time_ms`` is the event time at the position, where a record has told it.
    """

    topic: str
    partition: int
    position: int | None
    end: int
    lag: int
    member: str | None
    time_ms: int | None


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group as ``--json`` writes it."""

    name: str
    generation: int
    members: list[MemberRow]
    positions: list[PositionRow]


def groups(*, as_json: AsJson = False, broker: BrokerUrl = None, datadir: Datadir = None) -> None:
    """List the groups, their members, positions and lag."""
    with opened(broker, datadir, may_create=False) as bus:
        rows = [_row(bus, group) for _, group in sorted(bus.groups().items())]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("GROUP", "TOPIC", "PARTITION", "LAG", "POSITION", "END", "EVENT TIME", "MEMBER"),
        [
            (row.name, at.topic, at.partition, at.lag, at.position, at.end, _when(at), at.member)
            for row in rows
            for at in row.positions
        ],
        empty="No groups yet: no worker has read from this broker.",
    )


def _row(bus: Broker, group: GroupInfo) -> GroupRow:
    """Put a group's positions beside the ends of the partitions."""
    alive = [member for member in group.members if member.is_alive]
    owners = {tp: member.id for member in alive for tp in member.tps}
    ranges = bus.offsets({*group.positions, *owners})
    positions = []
    for tp, have in sorted(ranges.items()):
        at = group.positions.get(tp)
        lag = have.end - (have.earliest if at is None else at.offset)
        positions.append(
            PositionRow(
                *tp, None if at is None else at.offset, have.end, lag, owners.get(tp), _time_of(at)
            )
        )
    members = [MemberRow(member.id, member.url, member.is_alive) for member in group.members]
    return GroupRow(group.name, group.generation, members, positions)


def _time_of(position: Position | None) -> int | None:
    time_ms = NEVER_MS if position is None else parse_progress(*position).time_ms
    return None if time_ms == NEVER_MS else time_ms


def _when(row: PositionRow) -> str | None:
    return None if row.time_ms is None else timestamp(row.time_ms)
