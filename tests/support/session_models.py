"""Naive models of windows by key: plain lists, everything computed anew from all records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

#: A row: kind, key, first time, last time, count, sum.
Row = tuple[str, str, int, int, int, int]


@dataclass(eq=False)
class Record:
    """A record, the watermark before it, and what has been said of it."""

    key: str
    time: int
    value: Any
    mark: int = 0
    is_sent: bool = False
    is_closed: bool = False


@dataclass
class SessionModel:
    """Sessions, grouped anew at each step from all records whose sessions have not expired."""

    gap: int
    allowed: int = 0
    every: int = 0
    kept: list[Record] = field(default_factory=list)
    shown: dict[tuple[str, int], Row] = field(default_factory=dict)
    late: list[Record] = field(default_factory=list)

    def groups(self, key: str, also: Sequence[Record] = ()) -> list[list[Record]]:
        groups: list[list[Record]] = []
        mine = [record for record in [*self.kept, *also] if record.key == key]
        for record in sorted(mine, key=lambda r: r.time):
            if groups and record.time - groups[-1][-1].time <= self.gap:
                groups[-1].append(record)
            else:
                groups.append([record])
        return groups

    def end(self, group: list[Record]) -> int:
        return group[-1].time + self.gap

    def all_groups(self) -> list[list[Record]]:
        keys = {record.key for record in self.kept}
        groups = [group for key in keys for group in self.groups(key)]
        return sorted(groups, key=lambda group: (self.end(group), group[0].key))

    def take(self, record: Record) -> None:
        (group,) = [g for g in self.groups(record.key, [record]) if record in g]
        if self.end(group) + self.allowed <= record.mark:
            self.late.append(record)
        else:
            self.kept.append(record)

    def go_to(self, watermark: int) -> list[Row]:
        rows: list[Row] = []
        for group in self.all_groups():
            if self.end(group) <= watermark:
                if not all(record.is_closed for record in group):
                    was_closed = any(record.is_closed for record in group)
                    rows += self.emit(group, "late" if was_closed else "final")
                    for record in group:
                        record.is_closed = True
            elif self.every and any(self.tick(record) <= watermark for record in group):
                rows += self.emit(group, "update")
            if self.end(group) + self.allowed <= watermark:
                self.forget(group)
        return rows

    def tick(self, record: Record) -> int:
        return 10**9 if record.is_sent else (record.mark // self.every + 1) * self.every

    def commit(self) -> list[Row]:
        groups = [g for g in self.all_groups() if not all(record.is_sent for record in g)]
        return [row for group in groups for row in self.emit(group, "update")]

    def emit(self, group: list[Record], kind: str) -> Iterator[Row]:
        for record in group:
            record.is_sent = True
        key, first, last = group[0].key, group[0].time, group[-1].time
        for _, start in sorted(at for at in self.shown if at[0] == key and first < at[1] <= last):
            yield ("retract", *self.shown.pop((key, start))[1:])
        row = (kind, key, first, last, len(group), sum(record.value for record in group))
        self.shown[key, first] = row
        yield row

    def forget(self, group: list[Record]) -> None:
        self.kept = [record for record in self.kept if record not in group]
        for key, start in [*self.shown]:
            if key == group[0].key and group[0].time <= start <= group[-1].time:
                del self.shown[key, start]


@dataclass
class SlidingModel:
    """A row for each record: ``(kind, key, time, values of the window in the order of time)``."""

    size: int
    allowed: int = 0
    taken: list[Record] = field(default_factory=list)
    late: list[Record] = field(default_factory=list)

    def take(self, record: Record) -> None:
        if record.time + self.allowed <= record.mark:
            self.late.append(record)
            return
        for other in self.taken:
            if other.key == record.key and 0 <= other.time - record.time <= self.size:
                other.is_sent = False
        record.is_closed = record.time <= record.mark
        self.taken.append(record)

    def go_to(self, watermark: int) -> list[tuple[str, str, int, list[Any]]]:
        rows = []
        for record in sorted(self.taken, key=lambda r: (r.time, r.key)):
            if record.time <= watermark and not record.is_sent:
                kind = "late" if record.is_closed else "final"
                rows.append((kind, record.key, record.time, self.window(record)))
                record.is_sent = record.is_closed = True
        return rows

    def window(self, record: Record) -> list[Any]:
        start = record.time - self.size
        mine = [r for r in self.taken if r.key == record.key and start <= r.time <= record.time]
        return [r.value for r in sorted(mine, key=lambda r: r.time)]
