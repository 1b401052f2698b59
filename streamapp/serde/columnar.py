"""Batches of JSON records as columns, for readers that need fields and no objects.

The compiled reader looks at each record first; what it does not take is left to the decoder of the
topic, which alone says what is good. So columns and objects are two views of the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streamapp.core.columned import Columned, PlainColumn
from streamapp.core.columns import column_type
from streamapp.core.text_column import TextColumn
from streamapp.errors import DecodeError
from streamapp.serde.codecs import Decoded, decode_batch
from streamapp.serde.coders import Decoder
from streamapp.serde.strict_json import JsonDecoder

try:
    from streamapp.serde.plain_json import PlainJson
except ImportError:  # it is compiled, and there was no compiler
    PlainJson = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from streamapp.core.batch import RecordBatch

#: Whether the compiled reader is there.
IS_COMPILED: Final = PlainJson is not None
#: Records from which on columns pay: below, they cost more calls than they save objects.
_MANY: Final = 64
_MOST_FIELDS: Final = 63
#: Records that say whether columns pay: those before them count less and less.
_REMEMBERED: Final = 100_000
#: Batches of which objects are made at once, until columns are tried again.
_BATCHES_OF_OBJECTS: Final = 100
_KINDS: Final[dict[Any, int]] = {int: 0, float: 1, str: 2, bool: 3}
_MAY_BE_NULL: Final = 1
_MAY_BE_MISSING: Final = 2


class PlainReader:
    """Reads fields of records of one type, all of whose fields are plain."""

    def __init__(self, fields: Sequence[msgspec.structs.FieldInfo], decode: Decoder) -> None:
        self._decode = decode
        types = {field.name: column_type(field.type) for field in fields}
        self._types = {name: of.base for name, of in types.items()}
        self._bits = {field.name: 1 << place for place, field in enumerate(fields)}
        named = [
            (
                field.encode_name.encode(),
                _KINDS[types[field.name].base],
                _MAY_BE_NULL * types[field.name].has_gaps + _MAY_BE_MISSING * (not field.required),
            )
            for field in fields
        ]
        self._reader = PlainJson(named, decode.max_bytes)

    def bit_of(self, name: str) -> int:
        """Return the bit that stands for a field; 0 if there is none of this name."""
        return self._bits.get(name, 0)

    def objects(self, raw: Sequence[bytes]) -> list[object]:
        """Return the values of records that were found to be good."""
        return [*map(self._decode.read, raw)]

    def columns(
        self, raw: Sequence[bytes | None], wanted: int
    ) -> tuple[dict[str, PlainColumn | None], int] | None:
        """Return the columns of fields, and how many records had to be decoded for them.

        ``None`` if a record is not good; a column is ``None`` if a value of it is not plain.
        """
        values = raw if isinstance(raw, list) else [*raw]
        found, closer = self._reader.read(values, wanted)
        columns = {
            name: found[place]
            for place, (name, bit) in enumerate(self._bits.items())
            if wanted & bit
        }
        for row in closer:
            data = values[row]
            if data is None:
                return None
            try:
                value = self._decode(data)
            except DecodeError:
                return None
            for name, column in columns.items():
                if column is not None:
                    columns[name] = self._put(column, row, getattr(value, name), name)
        return columns, len(closer)

    def _put(self, column: PlainColumn, row: int, one: object, name: str) -> PlainColumn | None:
        """Put the value of a record that was decoded into its column, if it is a plain one."""
        if type(one) is not self._types[name]:
            return None
        if isinstance(column, TextColumn):
            column = [*column]
        try:
            column[row] = one  # type: ignore[call-overload] # of the column's type
        except OverflowError:
            return None
        return column


class BatchDecoder:
    """Decodes batches for one reader: into columns as long as it needs few of the objects.

    Which fields it needs is learned from what it asks for.
    """

    def __init__(
        self,
        decode: Callable[[bytes], Any],
        value_type: Any,  # noqa: ANN401 - any annotation
        *,
        allow_null: bool,
    ) -> None:
        self._decode = decode
        self._allow_null = allow_null
        self._plain = plain_reader(decode, value_type)
        self._wanted = 0
        #: Records that were read as columns, and those of which objects were made all the same.
        self._read = self._made = 0
        #: Batches since columns did not pay.
        self._waited = 0

    def __call__(self, batch: RecordBatch) -> Decoded:
        """Return the value of each record, or ``Bad`` with the reason."""
        values = batch.values
        found = None
        if self._plain is not None and len(values) >= _MANY and self._pays():
            found = self._plain.columns(values, self._wanted)
            self._read += len(values)
            self._made += len(values) if found is None else found[1]
        if found is not None:
            return Decoded(Columned(values, self, found[0]), has_bad=False)  # type: ignore[arg-type] # none is None
        return decode_batch(self._decode, values, allow_null=self._allow_null)

    def _pays(self) -> bool:
        """Tell whether to read the next batch as columns."""
        if self._made * 2 > self._read:
            self._waited += 1
            if self._waited <= _BATCHES_OF_OBJECTS:
                return False
            self._read = self._made = self._waited = 0
        elif self._read > _REMEMBERED:
            self._read, self._made = self._read // 2, self._made // 2
        return True

    # What ``Columned`` asks for.

    def objects(self, raw: Sequence[bytes]) -> list[object]:
        """See ``core.columned.Reader``."""
        self._made += len(raw)
        return [] if self._plain is None else self._plain.objects(raw)

    def column(self, raw: Sequence[bytes], name: str) -> PlainColumn | None:
        """See ``core.columned.Reader``; batches that come will have it from the start."""
        bit = 0 if self._plain is None else self._plain.bit_of(name)
        if self._plain is None or not bit:
            return None
        self._wanted |= bit
        found = self._plain.columns(raw, bit)
        return None if found is None else found[0][name]


def plain_reader(decode: Callable[[bytes], Any], value_type: Any) -> PlainReader | None:  # noqa: ANN401 - any annotation
    """Return the reader of a type; ``None`` if only its decoder can read it.

    It can where the type is a record of numbers, texts and booleans (or ``None``), in JSON.
    """
    if PlainJson is None or not isinstance(decode, JsonDecoder):
        return None
    if not (isinstance(value_type, type) and issubclass(value_type, msgspec.Struct)):
        return None
    config = value_type.__struct_config__
    is_usual = not (config.array_like or config.forbid_unknown_fields or config.tag is not None)
    fields = msgspec.structs.fields(value_type)
    if not is_usual or hasattr(value_type, "__post_init__"):
        return None
    if not 0 < len(fields) <= _MOST_FIELDS or not all(map(_is_plain, fields)):
        return None
    return PlainReader(fields, decode)


def _is_plain(field: msgspec.structs.FieldInfo) -> bool:
    base = column_type(field.type).base
    return isinstance(base, type) and base in _KINDS
