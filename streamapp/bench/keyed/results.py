"""What the programs write, read back: it is right, or there is no rate."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamapp.bench.end_to_end import WorkerFailedError
from streamapp.core.batch import TP
from streamapp.serde.ordered_keys import encode_key

if TYPE_CHECKING:
    from streamapp.bench.keyed.plan import Plan
    from streamapp.bench.keyed.workload import Workload
    from streamapp.transport.broker import Broker

_STR = len(encode_key(""))
#: Seconds that a result has to become visible, and between two looks.
_END_S, _LOOK_S = 10.0, 0.5


@dataclass(frozen=True, slots=True)
class Changelog:
    """How an engine writes a row: ``topic`` for an application, ``user`` decodes a record's key.

    ``key`` encodes it, where a changelog can be written by others than the engine.
    """

    topic: str
    user: Callable[[bytes], str]
    key: Callable[[str], bytes] | None = None

    def rows(self, broker: Broker, app: str) -> dict[str, int]:
        """Return what a new worker would have: the last total of each user."""
        return {
            self.user(key): _total(value)
            for key, value in _read(broker, self.topic.format(app=app))
            if key is not None and value is not None
        }


def _total(value: bytes) -> int:
    """Return the total in a row: the row itself, or a field of it."""
    row = json.loads(value)
    return int(row["total"] if isinstance(row, dict) else row)


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


_OURS = Changelog("{app}-totals-changelog", lambda key: key[_STR:].decode(), encode_key)
CHANGELOGS = {
    "ours": _OURS,
    "batches": _OURS,
    "plain": Changelog("{app}-changelog", bytes.decode),
    "quix": Changelog(
        "changelog__{app}--events-{app}--default",
        lambda key: str(json.loads(key.partition(b"|")[0])),
    ),
    "faust": Changelog(
        "{app}-totals-changelog", json.loads, lambda user: json.dumps(user).encode()
    ),
}


def outputs(broker: Broker, plan: Plan) -> dict[str, int]:
    """Return the total that was sent last for each event, by its number."""
    sent = (json.loads(value or b"{}") for _, value in _read(broker, plan.out))
    return {str(each["id"]): each["total"] for each in sent}


def _forwarded(broker: Broker, plan: Plan) -> dict[str, int]:
    return Counter((value or b"").decode() for _, value in _read(broker, plan.out))


def _added_up(plan: Plan) -> dict[str, int]:
    return {"all": json.loads(plan.report.read_text())["total"]}


def check(broker: Broker, plan: Plan, workload: Workload) -> None:
    """Compare what a program wrote with what it should have written.

    Raises:
        WorkerFailedError: They differ.
    """
    if plan.mode == "stateless":
        compare(lambda: _added_up(plan), {"all": sum(workload.totals().values())})
    elif plan.mode == "forward":
        expected = dict.fromkeys(map(str, range(workload.events)), 1)
        compare(lambda: _forwarded(broker, plan), expected)
    else:
        changelog = CHANGELOGS[plan.engine]
        compare(lambda: changelog.rows(broker, plan.app), workload.totals())


def compare(
    find: Callable[[], Mapping[str, int]],
    expected: Mapping[str, int],
    within_s: float | None = None,
) -> None:
    """Look until a result is as expected: what is sent may come after the commit.

    Raises:
        WorkerFailedError: It is not in time.
    """
    deadline = time.monotonic() + (_END_S if within_s is None else within_s)
    while (found := find()) != expected:
        if time.monotonic() > deadline:
            total = f"{len(found)} rows with {sum(found.values())} in all"
            right = f"{len(expected)} with {sum(expected.values())}"
            msg = f"wrong result: {total}, expected {right}"
            raise WorkerFailedError(msg)
        time.sleep(_LOOK_S)
