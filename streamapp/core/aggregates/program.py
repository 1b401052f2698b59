"""Writes the loops of a set of aggregates as one function each, and compiles them.

A loop that calls a method for each part of each row takes four times as long. The source holds
nothing of the application but its functions, under names; ``sources`` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import cast

from streamapp.core.aggregates.layout import Layout, Placed
from streamapp.core.aggregates.parts import KINDS, Functions
from streamapp.core.aggregates.values import Field

AddAll = Callable[[object, list[list[object]], Sequence[int], int, int], None]
Merge = Callable[[list[object], list[object]], None]


class AddError(Exception):
    """A function of the application failed at a row; ``__cause__`` is why.

    Rows of earlier origins are in their accumulators; no other row is.
    """

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


@dataclass(frozen=True, slots=True)
class Program:
    """``add_all(accs, lists, times, start, stop)`` and ``merge(into, other)``."""

    add_all: AddAll
    merge: Merge


def program(layout: Layout) -> Program:
    """Compile the loops of these parts."""
    names: dict[str, object] = {"AddError": AddError}
    for part, slot in layout.placed:
        if isinstance(part.param, Functions):
            names[f"add{slot}"] = part.param.add
            names[f"merge{slot}"] = part.param.merge
    for source in sources(layout):
        exec(compile(source, "<aggregates>", "exec"), names)  # noqa: S102 - our own text, see above
    return Program(cast("AddAll", names["add_all"]), cast("Merge", names["merge"]))


def sources(layout: Layout) -> tuple[str, str]:
    """Return the source of ``add_all`` and of ``merge``."""
    fields, placed = layout.fields, layout.placed
    return _add_all(fields, placed), _merge(fields, placed)


def _add_all(fields: Sequence[Field], placed: Sequence[Placed]) -> str:
    fails = any(part.kind == "functions" for part, _ in placed)
    names = ["acc", *(f"x{i}" for i in range(len(fields)))]
    columns = ["accs", *(f"lists[{i}][start:stop]" for i in range(len(fields)))]
    if any(part.kind in ("first", "last") for part, _ in placed):
        names.append("t")
        columns.append("times[start:stop]")
    body = [f"for {', '.join(names)}, in zip({', '.join(columns)}):"]
    body += ["    row += 1"] * fails
    body += [indent(line, "    ") for line in _steps(fields, placed)]
    if fails:
        body = [
            "row = start - 1",
            "try:",
            *(indent(line, "    ") for line in body),
            "except Exception as error:",
            "    raise AddError(row) from error",
        ]
    return _function("add_all(accs, lists, times, start, stop)", body)


def _steps(fields: Sequence[Field], placed: Sequence[Placed]) -> list[str]:
    """Return what is done for one row."""
    lines = []
    for part, slot in placed:
        if part.kind == "functions":
            x = f"x{fields.index(cast('Field', part.field))}"
            lines.append(f"new{slot} = acc[{slot}] if {x} is None else add{slot}(acc[{slot}], {x})")
        if part.field is None:
            lines.append(KINDS[part.kind].add.format(slot))
    for i, field in enumerate(fields):
        steps = []
        for part, slot in placed:
            if part.field == field:
                step = KINDS[part.kind].add.format(slot, slot + 1)
                y = "" if part.by is None else f"y = x{fields.index(part.by)}\n"
                steps.append(y + step)
        if steps:
            lines += [f"x = x{i}", "if x is not None:", indent("\n".join(steps), "    ")]
    return lines


def _merge(fields: Sequence[Field], placed: Sequence[Placed]) -> str:
    body = []
    for field in (None, *fields):
        mine = [(part, slot) for part, slot in placed if part.field == field]
        merges = [KINDS[part.kind].merge.format(slot, slot + 1) for part, slot in mine]
        counts = [slot for part, slot in mine if part.kind == "count"]
        if counts:
            body += [f"a = into[{counts[0]}]", f"b = other[{counts[0]}]", "if b:"]
            merges = [indent(merge, "    ") for merge in merges]
        body += merges
    return _function("merge(into, other)", body)


def _function(head: str, body: list[str]) -> str:
    return f"def {head}:\n" + indent("\n".join(body or ["pass"]), "    ") + "\n"
