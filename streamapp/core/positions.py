"""How far the agents of a group have come in one partition, as one committed position.

The broker keeps one offset for each partition and group: that of the agent that is furthest behind.
Agents that are ahead of it are named in the position's metadata, so that after a restart no agent
sees a record again that it has already counted. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec


class _Note(msgspec.Struct, omit_defaults=True):
    ahead: dict[str, int] = {}
    time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The next offset of each agent in one partition.

    ``offset`` is that of agents that ``ahead`` does not name. ``time_ms`` is the greatest event
    time seen before ``offset``; ``None`` if there was none.
    """

    offset: int
    ahead: Mapping[str, int] = field(default_factory=dict)
    time_ms: int | None = None

    def of(self, agent: str) -> int:
        """Return the next offset of an agent."""
        return max(self.offset, self.ahead.get(agent, self.offset))

    def metadata(self) -> str:
        """Return the note that the broker keeps beside the offset; empty if there is none."""
        if not self.ahead and self.time_ms is None:
            return ""
        return msgspec.json.encode(_Note(dict(self.ahead), self.time_ms)).decode()


def progress_of(agents: Mapping[str, int], time_ms: int | None = None) -> Progress:
    """Return the position of a partition out of the next offset of each agent (at least one)."""
    least = min(agents.values())
    return Progress(least, {name: at for name, at in agents.items() if at > least}, time_ms)


def parse_progress(offset: int, metadata: str) -> Progress:
    """Read a committed position; a note that is not ours means that no agent is ahead."""
    try:
        note = msgspec.json.decode(metadata or "{}", type=_Note)
    except msgspec.MsgspecError:
        note = _Note()
    return Progress(offset, note.ahead, note.time_ms)
