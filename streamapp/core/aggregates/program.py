"""Writes the functions of a set of aggregates and compiles them.

A loop that calls a method for each part of each row takes four times as long. The source holds
nothing of the application but its functions, under names; ``source_of`` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from textwrap import indent
from typing import cast

from streamapp.core.aggregates.layout import Acc, Layout, Placed
from streamapp.core.aggregates.parts import KINDS, Functions
from streamapp.core.aggregates.values import Field


class AddError(Exception):
    """A function of the application failed at a row (or in a merge); ``__cause__`` is why.

    Rows of earlier origins are in their accumulators; no other row is.
    """

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


@dataclass(frozen=True, slots=True)
class Program:
    """What ``AggregateSet`` does to one accumulator, and to many."""

    new: Callable[[], Acc]
    #: ``accs, lists, times, start, stop``
    add_all: Callable[[Sequence[Acc], list[list[object]], Sequence[int], int, int], None]
    #: ``into, other``
    merge: Callable[[Acc, Acc], None]
    results: Callable[[Acc], tuple[object, ...]]
    pack: Callable[[Acc], list[object]]


def program(layout: Layout) -> Program:
    """Compile the functions of a layout."""
    names = _names(layout)
    exec(compile(source_of(layout), "<aggregates>", "exec"), names)  # noqa: S102 - our own text
    return Program(*[names[field.name] for field in fields_of(Program)])  # type: ignore[arg-type]  # named alike


def source_of(layout: Layout) -> str:
    """Return the functions as text."""
    zeros = [zero.format(slot) for part, slot in layout.placed for zero in KINDS[part.kind].zero]
    results = [
        f"result{i}({', '.join(f'acc[{slot}]' for slot in slots)})"
        for i, (_, slots) in enumerate(layout.results)
    ]
    packed = [
        f"acc[{slot}]" if codec is None else f"pack{slot}(acc[{slot}])"
        for slot, codec in enumerate(layout.codecs)
    ]
    return "\n".join(
        (
            _function("new()", [f"return [{', '.join(zeros)}]"]),
            _add_all(layout.fields, layout.placed),
            _merge(layout.fields, layout.placed),
            _function("results(acc)", [f"return ({''.join(f'{one}, ' for one in results)})"]),
            _function("pack(acc)", [f"return [{', '.join(packed)}]"]),
        )
    )


def _names(layout: Layout) -> dict[str, object]:
    """Return what the source calls."""
    names: dict[str, object] = {"AddError": AddError}
    for part, slot in layout.placed:
        if (make := KINDS[part.kind].make) is not None:
            names[f"zero{slot}"] = make(part)
        if isinstance(part.param, Functions):
            names[f"add{slot}"] = part.param.add
            names[f"merge{slot}"] = part.param.merge
    for slot, codec in enumerate(layout.codecs):
        if codec is not None:
            names[f"pack{slot}"] = codec[0]
    for i, (result, _) in enumerate(layout.results):
        names[f"result{i}"] = result
    return names


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
    # What may fail comes first: nothing of the row is stored before.
    lines = []
    for part, slot in placed:
        if part.kind == "functions":
            x = f"x{fields.index(cast('Field', part.field))}"
            lines.append(f"new{slot} = acc[{slot}] if {x} is None else add{slot}(acc[{slot}], {x})")
    lines += [KINDS[part.kind].add.format(slot) for part, slot in placed if part.field is None]
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
