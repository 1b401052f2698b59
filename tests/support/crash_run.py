"""One run of the crash application on a bus of its own: feeds, kills, drains, compares.

The expected side is ``reference`` over the input log. The actual side is what others would read:
the changelogs, the output topics, and the local store.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from support.crash_app import Plan
from support.reference import Effects, Seen, effects_of

from streamapp.core.batch import TP, OutRecord
from streamapp.serde.ordered_keys import decode_key
from streamapp.state.rocksdb import RocksStore
from streamapp.transport.broker import TopicSpec
from streamapp.transport.connect import open_broker

if TYPE_CHECKING:
    from support.zygote import Running, Zygote

TABLES = (
    "counts", "sums", "lists", "present", "shared", "last", "chain", "groups", "members", "flaky",
)  # fmt: skip
REGROUPED = "crash-support.crash_app.regroup-group-repartition"
_KEYS = 40
_EVERYTHING = (b"\x01", b"\x02")


def wait_until(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Wait for a condition under a deadline."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the deadline is over"
        time.sleep(0.003)  # between two looks, not a guess at how long it takes


def random_plan(folder: Path, seed: int) -> Plan:
    """Draw the settings of a run."""
    draw = random.Random(seed)
    return Plan(
        str(folder),
        batch_max=draw.choice([1, 7, 100, 5_000]),
        commit_ms=draw.choice([5, 20, 100, 500]),
        store_ms=draw.choice([1, 50, 500, 2_000]),
        cache_bytes=draw.choice([1 << 16, 1 << 20, 1 << 26]),
        partitions=draw.randint(1, 4),
        concurrency=draw.randint(1, 4),
        wait_share=draw.choice([0.0, 0.02, 0.1]),
        wait_ms=draw.choice([0, 5, 30]),
        seed=seed,
    )


class Run:
    """A bus, the workers on it and the records that were fed."""

    def __init__(self, zygote: Zygote, plan: Plan) -> None:
        self.plan = plan
        self.draw = random.Random(plan.seed)
        self.folder = Path(plan.folder)
        self.folder.mkdir(exist_ok=True)
        self.kills = 0
        self._fed = 0
        self._zygote = zygote
        self.bus = open_broker(plan.broker, self.folder)
        for topic in ("in", "out"):
            self.bus.create_topic(TopicSpec(topic, plan.partitions))

    def close(self) -> None:
        self._zygote.kill_all()
        self.bus.close()

    # --- workers ---------------------------------------------------------------------------------

    def start(self, **changes: Any) -> Running:
        """Start a worker with the run's plan, or a changed one."""
        return self._zygote.start(msgspec.structs.replace(self.plan, **changes))

    def start_ready(self, **changes: Any) -> Running:
        """Start a worker and wait until it processes."""
        worker = self.start(**changes)
        self.wait_ready(worker)
        return worker

    def wait_ready(self, worker: Running, *, may_end: bool = False) -> None:
        """Wait until a worker processes (or ends, if it may)."""
        if may_end:
            self.wait_until(lambda: worker.is_ready or worker.is_gone())
        else:
            self.wait_until(lambda: worker.is_ready, worker)

    def start_ready_under_load(self) -> Running:
        """Start a worker and feed until it processes."""
        worker = self.start()

        def is_ready() -> bool:
            self.feed(10)
            return worker.is_ready

        self.wait_until(is_ready, worker)
        return worker

    def kill_once(self, feed: int = 150, **changes: Any) -> None:
        """Feed, start a worker, kill it some time after it has begun to process."""
        self.feed(feed)
        worker = self.start_ready(**changes)
        time.sleep(self.draw.uniform(0.02, 0.4))  # the moment of the kill is the test's input
        worker.kill()
        self.kills += 1

    def stop(self, worker: Running) -> None:
        """Stop a worker as an operator does: it must end well."""
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0, self.log_tail()

    def wait_until(
        self, condition: Callable[[], bool], worker: Running | None = None, limit_s: float = 60.0
    ) -> None:
        """Wait under a deadline, unless the worker ends."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert worker is None or not worker.is_gone(), f"worker ended\n{self.log_tail()}"
            assert time.monotonic() < deadline, f"the deadline is over\n{self.log_tail()}"
            time.sleep(0.003)  # between two looks, not a guess at how long it takes

    def log_tail(self) -> str:
        """Return what is needed to run it again, and how it ended."""
        log = self.folder / "log"
        return f"{self.plan}\n{log}\n{log.read_text()[-3_000:] if log.exists() else ''}"

    # --- records ---------------------------------------------------------------------------------

    def feed(self, count: int, **fields: Any) -> None:
        """Append records; ``fields`` replace what is drawn."""
        self.bus.append([self._record(fields) for _ in range(count)])

    def _record(self, fields: dict[str, Any]) -> OutRecord:
        draw, self._fed = self.draw, self._fed + 1
        key = self._key(fields.get("partition"))
        value = {
            "id": self._fed,
            "n": draw.randint(-5, 100),
            "group": f"g{draw.randrange(12)}",
            "op": draw.choices(["", "put", "del"], [5, 3, 2])[0],
            "fails": draw.choices([0, 1, 2, 3], [96, 2, 1, 1])[0],
        } | fields
        data = b'{"id": ' if not fields and draw.random() < 0.004 else json.dumps(value).encode()
        return OutRecord(TP("in", self._place(key)), key, data, 1_000_000 + self._fed)

    def _key(self, partition: int | None) -> bytes:
        """Draw one of a few hot keys, or of a tail that no small cache holds."""
        while True:
            spread = _KEYS if self.draw.random() < 0.8 else 500
            key = f"k-{self.draw.randrange(spread)}-ü".encode()
            if partition is None or partition == self._place(key):
                return key

    def _place(self, key: bytes) -> int:
        return zlib.crc32(key) % self.plan.partitions

    def is_drained(self) -> bool:
        """Whether everything that was fed is committed, also behind the repartition topic."""
        return all(self._behind(topic) == 0 for topic in ("in", REGROUPED))

    def drain(self, worker: Running | None = None, limit_s: float = 60.0) -> None:
        """Wait until everything is committed."""
        self.wait_until(self.is_drained, worker, limit_s)

    def _behind(self, topic: str) -> int:
        tps = self.partitions(topic)
        if not tps:
            return 1
        done = self.bus.committed("crash", tps)
        ranges = self.bus.offsets(tps)
        return sum(max(0, ranges[tp].end - (done[tp].offset if tp in done else 0)) for tp in tps)

    def partitions(self, topic: str) -> list[TP]:
        info = self.bus.topics().get(topic)
        return [TP(topic, number) for number in range(info.spec.partitions)] if info else []

    def read(self, topic: str) -> list[Seen]:
        """Return all records of a topic."""
        ranges = self.bus.offsets(self.partitions(topic))
        left = {tp: span.end for tp, span in ranges.items() if span.end > span.earliest}
        found: list[Seen] = []
        reader = self.bus.reader()
        try:
            reader.assign({tp: ranges[tp].earliest for tp in left})
            while left:
                for batch in reader.poll(1.0, 10_000):
                    heads = batch.headers or ((),) * len(batch)
                    rows = zip(batch.offsets, batch.keys, batch.values, heads, strict=True)
                    found += [Seen(batch.tp.partition, *row[:3], dict(row[3])) for row in rows]
                    if batch.next_offset >= left.get(batch.tp, 0):
                        left.pop(batch.tp, None)
        finally:
            reader.close()
        return found

    # --- judgement -------------------------------------------------------------------------------

    def expected(self) -> Effects:
        return effects_of(self.read("in"))

    def committed(self) -> Effects:
        """Return what the bus says was done."""
        effects = Effects()
        for name in TABLES:
            effects.tables[name] = self._changelog(name)
        for seen in self.read("out"):
            effects.outputs[seen.partition].append(json.loads(seen.value or b""))
        effects.letters = self.letters()
        return effects

    def letters(self) -> Counter[tuple[str, int, int]]:
        """Return how many dead letters there are by agent, partition and offset."""
        found: Counter[tuple[str, int, int]] = Counter()
        for seen in self.read("crash-dead-letters"):
            text = {name: value.decode() for name, value in seen.headers.items()}
            about = text["dead-letter-partition"], text["dead-letter-offset"]
            agent = text["dead-letter-agent"].rpartition(".")[2]
            found[agent, int(about[0]), int(about[1])] += 1
        return found

    def _changelog(self, table: str) -> dict[str, Any]:
        rows: dict[tuple[int, bytes | None], bytes | None] = {}
        for seen in self.read(f"crash-{table}-changelog"):
            rows[seen.partition, seen.key] = seen.value
        return _decoded((p, key, value) for (p, key), value in rows.items() if value is not None)

    def stored(self, datadir: Path | None = None, slot: int = 0) -> dict[str, dict[str, Any]]:
        """Return the tables as the local store of a stopped worker has them."""
        folder = (datadir or self.plan.data) / "crash" / "state" / str(slot) / "db"
        store = RocksStore.open(folder)
        rows = defaultdict(list)
        for key, value in store.scan(*_EVERYTHING):
            name, _, rest = key[1:].partition(b"\x00")
            rows[name.decode()].append((int.from_bytes(rest[:4], "big"), rest[4:], value))
        store.close()
        return {name: _decoded(rows[name]) for name in TABLES}

    def differences(self) -> list[str]:
        """Return how the bus differs from the reference; empty when it is exact."""
        expected, actual = self.expected(), self.committed()
        found = table_differences(expected.tables, actual.tables)
        for partition in range(self.plan.partitions):
            want, have = expected.outputs[partition], actual.outputs[partition]
            if _of(want, flaky=False) != _of(have, flaky=False):
                found.append(f"out/{partition}: {_first(_of(want), _of(have))}")
            if _of(want, flaky=True) != _of(have, flaky=True):
                found.append(f"out/{partition} of flaky: {_first(_of(want), _of(have))}")
        if lost := expected.letters - actual.letters:
            found.append(f"dead letters missing: {lost}")
        if extra := actual.letters - expected.letters:
            found.append(f"dead letters too many: {extra}")
        return found

    def finish(self, *, rebuild: bool = True) -> list[str]:
        """Drain, stop the worker, compare; then once more from an emptied state folder."""
        self.feed(20)
        worker = self.start()
        self.drain(worker)
        self.stop(worker)
        found = self.differences()
        found += [f"store: {text}" for text in self._store_differences()]
        if not rebuild:
            return found
        shutil.rmtree(self.plan.data)
        self.feed(20)
        worker = self.start()
        self.drain(worker)
        self.stop(worker)
        found += [f"again: {text}" for text in self.differences()]
        return found + [f"rebuilt store: {text}" for text in self._store_differences()]

    def _store_differences(self) -> list[str]:
        return table_differences(self.expected().tables, self.stored())

    def assert_exact(self, found: list[str]) -> None:
        """Fail with what is needed to run it again."""
        assert not found, "\n".join([*found[:20], self.log_tail()])


@contextmanager
def running(zygote: Zygote, plan: Plan) -> Iterator[Run]:
    """Open a run; its workers are gone afterwards."""
    run = Run(zygote, plan)
    try:
        yield run
    finally:
        run.close()


def table_differences(
    expected: dict[str, dict[str, Any]], actual: dict[str, dict[str, Any]]
) -> list[str]:
    """Return the rows that differ, one line for each table."""
    found = []
    for name in TABLES:
        want, have = expected[name], actual[name]
        wrong = [key for key in want.keys() | have.keys() if want.get(key) != have.get(key)]
        if wrong:
            key = min(wrong)
            found.append(
                f"{name}: {len(wrong)} of {len(want)} rows, {key}: "
                f"{want.get(key)} expected, {have.get(key)} found"
            )
    return found


def _decoded(rows: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _, raw, value in rows:
        key = decode_key(raw)
        assert key not in found, f"{key} is in two partitions"
        found[key] = json.loads(value)
    return found


def _of(outputs: list[dict[str, Any]], *, flaky: bool = False) -> list[int]:
    return [output["offset"] for output in outputs if ("flaky" in output) is flaky]


def _first(want: list[int], have: list[int]) -> str:
    shared = range(min(len(want), len(have)))
    at = next((i for i in shared if want[i] != have[i]), len(shared))
    lengths = f"{len(want)} expected, {len(have)} found"
    return f"{lengths}, at {at}: {want[at : at + 5]}, {have[at : at + 5]}"
