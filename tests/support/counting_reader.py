"""Values whose fields are columns, and how many objects were made of them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import msgspec

from streamapp.core.columned import Columned, PlainColumn


class CountingReader:
    """Reads JSON naively; ``made`` counts objects, ``asked`` are the columns that were read."""

    def __init__(self, value_type: type[msgspec.Struct]) -> None:
        self.made = 0
        self.asked: list[str] = []
        self._decode = msgspec.json.Decoder(value_type).decode
        self._types = {one.name: one.type for one in msgspec.structs.fields(value_type)}

    def objects(self, raw: Sequence[bytes]) -> list[object]:
        self.made += len(raw)
        return [self._decode(data) for data in raw]

    def column(self, raw: Sequence[bytes], name: str) -> PlainColumn | None:
        self.asked.append(name)
        found: list[Any] = [getattr(self._decode(data), name) for data in raw]
        if any(type(one) is not self._types[name] for one in found):
            return None
        code = {int: "q", float: "d"}.get(self._types[name])
        try:
            return found if code is None else array(code, found)
        except OverflowError:
            return None


def columned(values: Sequence[msgspec.Struct]) -> tuple[Columned, CountingReader]:
    """Return values (at least one) as their JSON, and what reads it."""
    reader = CountingReader(type(values[0]))
    return Columned([msgspec.json.encode(value) for value in values], reader, {}), reader
