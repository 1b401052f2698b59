"""How each engine writes a row of its table to its changelog; read back, it is the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamapp.core.batch import TP
from streamapp.serde.ordered_keys import encode_key

if TYPE_CHECKING:
    from streamapp.transport.broker import Broker

_STR = len(encode_key(""))


@dataclass(frozen=True, slots=True)
class Changelog:
    """``topic`` names it for an application; ``user`` and ``total`` decode a record."""

    topic: str
    user: Callable[[bytes], str]
    total: Callable[[bytes], int] = int

    def rows(self, broker: Broker, app: str) -> dict[str, int]:
        """Return what a new worker would have: the last total of each user."""
        user, total = self.user, self.total
        return {
            user(key): total(value)
            for key, value in _read(broker, self.topic.format(app=app))
            if key is not None and value is not None
        }


def _read(broker: Broker, topic: str) -> Iterator[tuple[bytes | None, bytes | None]]:
    reader = broker.reader()
    tps = [TP(topic, number) for number in range(broker.topics()[topic].spec.partitions)]
    ends = {tp: log.end for tp, log in broker.offsets(tps).items()}
    reader.assign(dict.fromkeys(tps, 0))
    try:
        while any(reader.positions()[tp] < end for tp, end in ends.items()):
            for batch in reader.poll(1.0, 10_000):
                yield from zip(batch.keys, batch.values, strict=True)
    finally:
        reader.close()


_OURS = Changelog("{app}-totals-changelog", lambda key: key[_STR:].decode())
CHANGELOGS = {
    "ours": _OURS,
    "batches": _OURS,
    "plain": Changelog("{app}-changelog", bytes.decode),
    "quix": Changelog(
        "changelog__{app}--events-{app}--default",
        lambda key: str(json.loads(key.partition(b"|")[0])),
    ),
    "faust": Changelog("{app}-totals-changelog", json.loads),
}
