"""How far the agents of a group have come in one partition, as one committed position.

The broker keeps one offset for each partition and group: that of the agent that is furthest behind.
Agents that are ahead of it are named in the position's metadata, so that after a restart no agent
sees a record again that it has already counted. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from streamapp.core.times import NEVER_MS


class _Note(msgspec.Struct, omit_defaults=True):
    ahead: dict[str, int] = {}
    time_ms: int | None = None
    times: dict[str, int] = {}
    notes: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Place:
    """How far one agent is: its next offset, the greatest event time before it, its own note."""

    offset: int
    time_ms: int = NEVER_MS
    note: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """The place of each agent in one partition.

    ``offset`` and ``time_ms`` are those of agents that ``ahead`` and ``times`` do not name; the
    time is the greatest event time that they have seen, ``NEVER_MS`` if there was none. ``notes``
    are the agents' own words.
    """

    offset: int
    ahead: Mapping[str, int] = field(default_factory=dict)
    time_ms: int = NEVER_MS
    times: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def of(self, agent: str) -> int:
        """Return the next offset of an agent."""
        return max(self.offset, self.ahead.get(agent, self.offset))

    def place_of(self, agent: str) -> Place:
        """Return where an agent goes on; one that is new begins with the slowest one."""
        time_ms = self.times.get(agent, self.time_ms)
        return Place(self.of(agent), time_ms, self.notes.get(agent, ""))

    def up_to(self, end: int) -> Progress:
        """Return the same in a log that ends here: whoever was beyond is at its end."""
        ahead = {name: min(at, end) for name, at in self.ahead.items()}
        return replace(self, offset=min(self.offset, end), ahead=ahead)

    def metadata(self) -> str:
        """Return the note that the broker keeps beside the offset; empty if there is none."""
        time_ms = None if self.time_ms == NEVER_MS else self.time_ms
        note = _Note(dict(self.ahead), time_ms, dict(self.times), dict(self.notes))
        return "" if note == _Note() else msgspec.json.encode(note).decode()


def progress_of(agents: Mapping[str, Place]) -> Progress:
    """Return the position of a partition out of the place of each agent (at least one)."""
    slowest = min(agents.values(), key=lambda place: (place.offset, place.time_ms))
    return Progress(
        slowest.offset,
        {name: at.offset for name, at in agents.items() if at.offset > slowest.offset},
        slowest.time_ms,
        {name: at.time_ms for name, at in agents.items() if at.time_ms != slowest.time_ms},
        {name: at.note for name, at in agents.items() if at.note},
    )


def parse_progress(offset: int, metadata: str) -> Progress:
    """Read a committed position; a note that is not ours means that no agent is ahead."""
    try:
        note = msgspec.json.decode(metadata or "{}", type=_Note)
    except msgspec.MsgspecError:
        note = _Note()
    time_ms = NEVER_MS if note.time_ms is None else note.time_ms
    return Progress(offset, note.ahead, time_ms, note.times, note.notes)
