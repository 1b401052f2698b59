"""One run of the crash application's pipelines: feeds, kills, closes all windows, compares."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import msgspec
from support.crash_run import Run
from support.pipeline_app import BOUND_MS
from support.pipeline_model import (
    END,
    Row,
    early_of,
    pairs_of,
    read_json,
    told_wrongly,
    totals_of,
    visits_of,
)  # fmt: skip

from streamapp.core.batch import TP, OutRecord
from streamapp.core.positions import parse_progress
from streamapp.serde.ordered_keys import decode_key
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from support.crash_app import Plan
    from support.reference import Seen
    from support.zygote import Running, Zygote

MIDDLE = "crash-totals-g-repartition"
#: The stages by the topics that they read.
STAGES = {"in": ("totals", "visits", "pairs", "early"), "other": ("pairs",), MIDDLE: ("totals-2",)}
END_MS = 10_000_000
_KEYS = 6
_PACE_MS = 12
_JITTER_MS = BOUND_MS - 700


class PipelineRun(Run):
    """See the module; ``watch`` notes all watermarks that are ever seen."""

    def __init__(self, zygote: Zygote, plan: Plan) -> None:
        super().__init__(zygote, msgspec.structs.replace(plan, pipelines=True))
        self.bus.create_topic(TopicSpec("other", plan.partitions))
        self.watermarks: dict[tuple[Any, ...], int] = {}
        self._now = 0
        self._recent: list[OutRecord] = []

    # --- records ---------------------------------------------------------------------------------

    def _record(self, fields: dict[str, Any]) -> OutRecord:
        """Draw a record: some are late, come twice, or cannot be used."""
        draw = self.draw
        self._fed += 1
        self._now += draw.randint(0, 2 * _PACE_MS)
        kind = draw.choices(["", "other", "late", "again", "bad", "torn"], [55, 35, 4, 3, 2, 1])[0]
        if kind == "again" and self._recent:
            return self._again(draw.choice(self._recent[-5:]))
        value = {
            "at": self._fed,
            "id": self._fed,
            "k": f"k{draw.randrange(_KEYS)}",
            "g": draw.randrange(5),
            "n": draw.randint(-10, 100),
            "ts": self._now - draw.randint(0, _JITTER_MS),
        }
        if kind == "late":
            value |= {"n": 2 * value["n"] + 1, "ts": self._now - draw.randint(2_500, 6_000)}
        if kind == "bad":
            value |= {"n": "text", "ts": self._now + 30_000}
        record = self._of("other" if kind == "other" else "in", value | fields)
        if kind == "":
            self._recent.append(record)
        return record if kind != "torn" else OutRecord(record.tp, record.key, b"{", 1)

    def _again(self, record: OutRecord) -> OutRecord:
        value = json.loads(record.value or b"")
        return self._of("in", {**value, "at": self._fed})

    def _of(self, topic: str, value: dict[str, Any], partition: int | None = None) -> OutRecord:
        key = value["k"].encode()
        place = self._place(key) if partition is None else partition
        return OutRecord(TP(topic, place), key, json.dumps(value).encode(), 1)

    def close_windows(self) -> None:
        """Feed to every partition a record that lets all windows close."""
        end = {"at": END_MS, "id": END_MS, "k": END, "g": 0, "n": -1, "ts": END_MS}
        for topic in ("in", "other"):
            self.bus.append([self._of(topic, end, tp.partition) for tp in self.partitions(topic)])

    def is_closed(self) -> bool:
        """Whether all stages have come to the end of all records."""
        marks = self.committed_watermarks()
        stages = sum(len(names) for names in STAGES.values())
        if len(marks) < stages * self.plan.partitions:
            return False
        return self.is_drained() and min(marks.values()) == END_MS - BOUND_MS - 1

    def is_drained(self) -> bool:
        return all(self._behind(topic) == 0 for topic in STAGES)

    # --- watermarks ------------------------------------------------------------------------------

    def committed_watermarks(self) -> dict[tuple[Any, ...], int]:
        """Return what is committed of each stage, topic and partition."""
        found: dict[tuple[Any, ...], int] = {}
        for topic, stages in STAGES.items():
            for tp, position in self.bus.committed("crash", self.partitions(topic)).items():
                progress = parse_progress(position.offset, position.metadata)
                for stage in stages:
                    note = json.loads(progress.place_of(stage).note or "[]")
                    if note:
                        found[stage, topic, tp.partition] = note[0]
        return found

    def watch(self, *workers: Running) -> None:
        """Look at all watermarks, committed and told by workers: none ever goes back."""
        seen = self.committed_watermarks()
        for worker in workers:
            seen |= {(worker.pid, *place): mark for place, mark in told_by(worker).items()}
        for place, mark in seen.items():
            before = self.watermarks.get(place, mark)
            assert mark >= before, f"{place}: {before}, then {mark}\n{self.log_tail()}"
            self.watermarks[place] = mark

    # --- judgement -------------------------------------------------------------------------------

    def finish(self, *, rebuild: bool = False) -> list[str]:
        """Close all windows with one worker, stop it, and compare."""
        del rebuild
        self.close_windows()
        worker = self.start(crash_at="")
        # Nearly all records may be left to this worker, one in a batch.
        self.wait_until(self.is_closed, worker, 60 + self._fed / 30)
        self.stop(worker)
        return self.differences()

    def differences(self) -> list[str]:
        first, middle = self.read("in"), self.read(MIDDLE)
        totals = totals_of(middle, self.plan.partitions)
        visits, early = visits_of(first), early_of(first)
        wanted: dict[str, Any] = {
            "totals": totals.table,
            "totals-out": _grouped(row for rows in totals.rows.values() for row in rows),
            "late": totals.late,
            "visits": {row[:2]: row[3:] for row in visits},
            "visits-out": visits,
            "early": early.table,
            "some-out": early.some,
            "pairs-out": pairs_of(first, self.read("other")),
            "dead-letters": self._refused(first),
        }
        found: dict[str, Any] = {
            "totals": self._table("totals"),
            "totals-out": _grouped(self._rows("totals-out")),
            "late": Counter(json.loads(seen.value or b"")["at"] for seen in self.read("late")),
            "visits": self._table("visits"),
            "visits-out": Counter(self._rows("visits-out")),
            "early": self._table("early"),
            "some-out": Counter((row[0], row[4]) for row in self._rows("some-out")),
            "pairs-out": Counter(tuple(json.loads(s.value or b"")) for s in self.read("pairs-out")),
            "dead-letters": self._letters(),
        }
        # What a bug did to the topic in the middle is what the reference begins with.
        untested = [] if self.plan.planted else [name for name, of in wanted.items() if not of]
        assert not untested, f"nothing was tested of {untested}"
        wrong = told_wrongly(first, middle)
        return wrong + [_told(k, wanted[k], found[k]) for k in wanted if wanted[k] != found[k]]

    def _rows(self, topic: str) -> list[Row]:
        rows = [json.loads(seen.value or b"") for seen in sorted(self.read(topic), key=_place)]
        return [(row["key"], row["start"], row["kind"], row["n"], row["total"]) for row in rows]

    def _table(self, name: str) -> dict[Any, tuple[int, int]]:
        rows: dict[Any, tuple[int, int]] = {}
        for seen in sorted(self.read(f"crash-{name}-changelog"), key=_place):
            # Before the row stands the time that its window ends.
            row = json.loads((seen.value or b"")[8:])
            key = decode_key(seen.key or b"")
            if isinstance(key, tuple) and key[0] != END:
                rows[key] = row["n"], row["total"]
        return rows

    def _refused(self, first: list[Seen]) -> Counter[Any]:
        bad = [seen[:2] for seen in first if read_json(seen) is None]
        return Counter((stage, *place) for stage in STAGES["in"] for place in bad)

    def _letters(self) -> Counter[Any]:
        found: Counter[Any] = Counter()
        for seen in self.read("crash-dead-letters"):
            about = {name: value.decode() for name, value in seen.headers.items()}
            place = int(about["dead-letter-partition"]), int(about["dead-letter-offset"])
            found[about["dead-letter-agent"], *place] += 1
        return found


def told_by(worker: Running) -> dict[tuple[Any, ...], int]:
    """Ask a worker for its watermarks; none where it does not answer (yet, or any more)."""
    url = f"http://127.0.0.1:{worker.plan.web_port}/api/v1/partitions"
    try:
        with urlopen(url, timeout=5) as answer:
            found = json.load(answer)
    except OSError:
        return {}
    return {
        (name, of["topic"], of["partition"]): mark["watermark_ms"]
        for of in found["partitions"]
        for name, mark in of["watermarks"].items()
        if mark["watermark_ms"] is not None
    }


def _place(seen: Seen) -> tuple[int, int]:
    return seen.partition, seen.offset


def _grouped(rows: Any) -> dict[Any, list[Any]]:
    """Return the rows of each key in their order."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        found[row[0]].append(row)
    return found


def _told(name: str, want: Any, have: Any) -> str:
    """Tell of one difference."""
    keys = [key for key in want.keys() | have.keys() if want.get(key) != have.get(key)]
    key = min(keys, key=str)
    return (
        f"{name}: {len(keys)} differ of {len(want)}, at {key}: "
        f"{str(want.get(key))[-300:]} expected, {str(have.get(key))[-300:]} found"
    )
