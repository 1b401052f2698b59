"""What the crash application must have done, out of its input log alone.

Plain dictionaries over the bytes of the log: nothing here is shared with the code under test.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LISTED = 8
AGENTS = ("count", "second", "ordered", "regroup", "forward", "flaky")
_TOO_OFTEN = 3


class Seen(NamedTuple):
    """A record of a log."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


@dataclass
class Effects:
    """Tables by name, outputs by partition in their order, dead letters."""

    tables: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    outputs: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    letters: Counter[tuple[str, int, int]] = field(default_factory=Counter)


def effects_of(log: Iterable[Seen]) -> Effects:
    """Return what one run without any crash does."""
    effects = Effects()
    for _, effects in replay(log):  # noqa: B007 - the last one
        pass
    return effects


def replay(log: Iterable[Seen]) -> Iterator[tuple[Seen, Effects]]:
    """Run without any crash; tell after each record what has been done so far."""
    effects = Effects()
    for record in sorted(log):
        try:
            value = json.loads(record.value or b"")
        except ValueError:
            for agent in AGENTS:
                effects.letters[agent, record.partition, record.offset] += 1
        else:
            _apply(effects, record, value)
        yield record, effects


def _apply(effects: Effects, record: Seen, value: dict[str, Any]) -> None:
    tables, place = effects.tables, (record.partition, record.offset)
    key, number = (record.key or b"").decode(), value["n"]
    _add(tables["counts"], key, 1)
    _add(tables["sums"], key, number)
    tables["lists"][key] = [*tables["lists"].get(key, []), value["id"]][-LISTED:]
    _add(tables["shared"], key, 1 if "hangs" in value else 1_001)
    if value["op"] == "put":
        tables["present"][key] = value["id"]
    elif value["op"] == "del":
        tables["present"].pop(key, None)
    tables["last"][key] = value["id"]
    text = f"{tables['chain'].get(key, 0)} {record.offset}"
    tables["chain"][key] = zlib.crc32(text.encode())
    _add(tables["groups"], value["group"], number)
    _add(tables["members"], value["group"], 1)
    output = {"id": value["id"], "offset": record.offset}
    effects.outputs[record.partition].append(output)
    if value["fails"] >= _TOO_OFTEN:
        effects.letters["flaky", *place] += 1
        return
    _add(tables["flaky"], key, 1)
    if value["fails"]:
        effects.outputs[record.partition].append({**output, "flaky": True})


def _add(table: dict[str, Any], key: str, number: int) -> None:
    table[key] = table.get(key, 0) + number
