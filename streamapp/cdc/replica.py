"""One row of a replica under its changes: the position decides, and every decision has a name.

A change at or below the row's last applied position is dropped, so repeats and replays do no
harm. A delete leaves a state without a row behind, whose position keeps older changes out that
arrive later. It is kept as long as the table that holds it keeps it: without a time to live,
for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import msgspec

from streamapp.cdc.change import Change, Op, Row
from streamapp.cdc.position import Position, compare
from streamapp.errors import DecodeError

#: What Debezium sends for an unchanged column that PostgreSQL keeps out of line (TOAST).
PLACEHOLDER = "__debezium_unavailable_value"


class RowState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a replica keeps of one row; goes into a table as JSON (``msgspec.to_builtins``).

    ``row`` is ``None`` after a delete. ``position`` is that of the last applied change which
    had one. ``is_wrapped`` says whether that change had its envelope. ``is_open`` marks a row
    that a bare tombstone deleted: a change at its very position is then no repeat.
    """

    row: Row | None
    position: Position | None
    is_wrapped: bool = True
    is_open: bool = False


class Decision(Enum):
    """What became of a change. The first four changed the row, the others left it alone."""

    INSERTED = "inserted"
    UPDATED = "updated"
    DELETED = "deleted"
    TRUNCATED = "truncated"
    #: At the last applied position: delivered again.
    REPEATED = "repeated"
    #: Below the last applied position: late or replayed.
    OUTDATED = "outdated"
    #: At or below a truncate that emptied the table.
    TRUNCATED_BEFORE = "truncated_before"
    #: A tombstone that follows a delete, or finds no row.
    NOTHING_TO_DELETE = "nothing_to_delete"


_APPLIED = {Decision.INSERTED, Decision.UPDATED, Decision.DELETED, Decision.TRUNCATED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The decision on one change and the row's state after it.

    ``before`` and ``after`` are the replica's own rows, complete as far as it knows them.
    ``unresolved`` names columns that came as placeholders and that no earlier row can fill:
    they are absent from ``after``.
    """

    decision: Decision
    state: RowState | None
    before: Row | None = None
    after: Row | None = None
    unresolved: tuple[str, ...] = ()

    @property
    def is_applied(self) -> bool:
        """Whether the change took effect."""
        return self.decision in _APPLIED


def apply_change(
    state: RowState | None, change: Change, *, floor: Position | None = None
) -> Outcome:
    """Decide on one change of one row.

    Pure; safe to repeat. Any replay of a run of changes of the row ends in the same state.

    Args:
        state: The row's state, ``None`` for a row never seen.
        change: A change of this row; or a truncate, to be applied to each row of its table.
        floor: The position of the last truncate of the table, which keeps out the older
            changes of rows that it removed or that were never seen.

    Raises:
        DecodeError: The change has no key, or its position cannot be compared with the row's.
    """
    if change.key is None and change.op is not Op.TRUNCATE:
        message = f"A change of {change.table} has no key: it cannot be told which row it changes"
        raise DecodeError(message, hint="Give the table a primary key, or set message.key.columns")
    if change.op is Op.TOMBSTONE:
        return _bury(state)
    refusal = _refusal(state, change, floor)
    if refusal is not None:
        row = None if state is None else state.row
        return Outcome(refusal, state, before=row, after=row)
    if change.op is Op.TRUNCATE:
        return _remove(state, change, Decision.TRUNCATED)
    if change.op is Op.DELETE:
        return _remove(state, change, Decision.DELETED)
    return _write(state, change)


def raise_floor(floor: Position | None, change: Change) -> Position | None:
    """Return the floor of a table after a truncate; truncates may arrive in any order.

    A truncate has no key and lies in one partition only. Whoever keeps the replica passes it
    on to every partition and stores the floor in each.
    """
    if floor is None or change.position is None:
        return change.position or floor
    return change.position if compare(change.position, floor) > 0 else floor


def _refusal(state: RowState | None, change: Change, floor: Position | None) -> Decision | None:
    """Name the reason to drop the change, if there is one."""
    if change.position is None:
        return None  # nothing orders it but its arrival
    is_change = change.op is not Op.TRUNCATE
    if floor is not None and is_change and compare(change.position, floor) <= 0:
        return Decision.TRUNCATED_BEFORE
    if state is None or state.position is None:
        return None
    order = compare(change.position, state.position)
    if order < 0:
        return Decision.OUTDATED
    # Two changes of one millisecond are not one change twice; a replay brings both again.
    may_repeat = change.position.is_exact and not state.is_open
    return Decision.REPEATED if order == 0 and may_repeat else None


def _bury(state: RowState | None) -> Outcome:
    """Apply a tombstone: it deletes only where the envelope, and with it the delete, is lost.

    It has no position. Behind an envelope the delete went before it, and by the time that a
    replay brings the tombstone again, the row may have been created anew.
    """
    if state is None or state.row is None or state.is_wrapped:
        row = None if state is None else state.row
        return Outcome(Decision.NOTHING_TO_DELETE, state, before=row, after=row)
    buried = RowState(None, state.position, is_wrapped=False, is_open=True)
    return Outcome(Decision.DELETED, buried, before=state.row)


def _remove(state: RowState | None, change: Change, decision: Decision) -> Outcome:
    row = None if state is None else state.row
    return Outcome(decision, _stamp(state, change, None), before=row)


def _write(state: RowState | None, change: Change) -> Outcome:
    """Write the new image over our row; what the image leaves out keeps our value."""
    row = None if state is None else state.row
    image = change.after or {}
    # A created or read row is whole: columns of an earlier life of its key must not show.
    base = (row or {}) if change.op is Op.UPDATE else {}
    known = {**(change.before or {}), **base}
    after = {**base, **image}
    unresolved = []
    for column in [name for name, value in image.items() if _is_placeholder(value)]:
        if column in known and not _is_placeholder(known[column]):
            after[column] = known[column]
        else:
            del after[column]
            unresolved.append(column)
    return Outcome(
        Decision.INSERTED if row is None else Decision.UPDATED,
        _stamp(state, change, after),
        before=row,
        after=after,
        unresolved=tuple(unresolved),
    )


def _stamp(state: RowState | None, change: Change, row: Row | None) -> RowState:
    last = None if state is None else state.position
    return RowState(row, change.position or last, is_wrapped=change.is_wrapped)


def _is_placeholder(value: object) -> bool:
    """Recognise the placeholder in the shapes that it takes for the types of PostgreSQL."""
    return value in _PLACEHOLDERS


#: Text; bytea as base64; arrays of text; arrays of numbers as code points; hstore as JSON, map.
_PLACEHOLDERS: tuple[object, ...] = (
    PLACEHOLDER,
    "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==",
    [PLACEHOLDER],
    list(PLACEHOLDER.encode()),
    f'{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}',
    {PLACEHOLDER: PLACEHOLDER},
)
