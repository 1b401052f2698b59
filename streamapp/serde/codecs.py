"""Which bytes a declared key or value type has: the table of codecs, and the decoding of batches.

Codecs are ``json``, ``msgpack``, ``raw`` and ``str``. None of them runs code named by a message, so
there is no pickle. Encoded keys are the same bytes on every process: names sorted, records in order
of declaration, one form per number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import msgspec

from streamapp.errors import ConfigError, DecodeError, InputError
from streamapp.serde import faust_records
from streamapp.serde.coders import MAX_BYTES, Decoder, Encoder, only
from streamapp.serde.hooks import check_type, decode_hook, encode_hook, type_name
from streamapp.serde.strict_json import STABLE_ORDER, json_decoder, json_lines, json_writer
from streamapp.serde.text import RAW, TEXTS, Text, write_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Immutable types, by exact class: their values may be shared between a table and its users.
ATOMS: frozenset[type] = frozenset(
    {type(None), bool, int, float, complex, str, bytes, Decimal, UUID}
    | {date, datetime, time, timedelta}
)

#: JSON and MessagePack refuse a value that is not of these, where one is declared; an integer is
#: a fine float.
_SCALARS: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    bytes: (bytes, bytearray),
    float: (float, int),
    int: (int,),
    str: (str,),
}

_RAW_BY_DEFAULT: dict[Any, str] = {bytes: "raw", str: "str"}


@dataclass(frozen=True, slots=True)
class Bad:
    """What stands in a decoded batch for a record that is not what its topic declares."""

    error: InputError


class Decoded(NamedTuple):
    """The values of a batch; ``has_bad`` is false only if none of them is ``Bad``."""

    values: Sequence[Any]
    has_bad: bool


def value_decoder(
    value_type: Any = None,  # noqa: ANN401 - any annotation
    codec: str | None = None,
    *,
    max_bytes: int = MAX_BYTES,
) -> Callable[[bytes], Any]:
    """Return the function from the bytes of a value to the value; it raises ``DecodeError`` only.

    Args:
        value_type: ``None`` or ``Any`` (whatever the bytes hold), a scalar, a ``Record``, anything
            msgspec knows, or a ``faust.Record``.
        codec: ``None`` takes ``raw`` for ``bytes``, ``str`` for ``str``, a Faust record's own
            serializer, and ``json`` for the rest.
        max_bytes: Longer values are refused before they are parsed.

    Raises:
        ConfigError: The codec is unknown, or it cannot hold the type.
    """
    return _codec(value_type, codec or _value_codec(value_type)).decoder(value_type, max_bytes)


def value_encoder(
    value_type: Any = None,  # noqa: ANN401 - any annotation
    codec: str | None = None,
    *,
    max_bytes: int = MAX_BYTES,
) -> Encoder:
    """Return the way from a value to its bytes; it raises ``EncodeError`` only.

    ``None`` is encoded as the codec's null: a tombstone is the caller's to tell apart. A declared
    scalar refuses other types; records and collections are written as they are.

    Raises:
        ConfigError: The codec is unknown, or it cannot hold the type.
    """
    return _codec(value_type, codec or _value_codec(value_type)).value_encoder(
        value_type, max_bytes
    )


def key_decoder(
    key_type: Any = None,  # noqa: ANN401 - any annotation
    codec: str | None = None,
    *,
    max_bytes: int = MAX_BYTES,
) -> Callable[[bytes], Any]:
    """Return the function from the bytes of a key to the key, as ``value_decoder`` does.

    With no codec given, ``None`` and ``bytes`` are raw, ``str`` is UTF-8, ``int`` and ``float`` are
    decimal text, and the rest is JSON.
    """
    return _codec(key_type, codec or _key_codec(key_type)).decoder(key_type, max_bytes)


def key_encoder(
    key_type: Any = None,  # noqa: ANN401 - any annotation
    codec: str | None = None,
    *,
    max_bytes: int = MAX_BYTES,
) -> Encoder:
    """Return the way from a key to its bytes, the same for equal keys on every process.

    An undeclared raw key may be ``bytes`` or ``str``. Dicts inside a key need names of type
    ``str``, as others have no common order.
    """
    return _codec(key_type, codec or _key_codec(key_type)).key_encoder(key_type, max_bytes)


def decode_batch(
    decode: Callable[[bytes], Any],
    values: Sequence[bytes | None],
    *,
    allow_null: bool = False,
) -> Decoded:
    """Decode the values of a batch; a bad one becomes ``Bad`` and harms no other.

    Equal to decoding record by record, but in one go while all are good.

    Args:
        decode: From ``value_decoder`` or ``key_decoder``, or any function that raises
            ``DecodeError`` on bad input.
        values: Values of a batch; ``None`` is a tombstone.
        allow_null: Keep tombstones as ``None`` instead of ``Bad``.

    Returns:
        As many entries as there are values, in their order.
    """
    try:
        if isinstance(decode, Decoder):
            # A tombstone raises, see below.
            return Decoded(decode.many(values), has_bad=False)  # type: ignore[arg-type]
    except MemoryError:  # the machine's fault, not the records'
        raise
    except Exception:  # noqa: BLE001, S110 - the next line finds which record it was, and says so
        pass
    found = [_decode_one(decode, value, allow_null) for value in values]
    return Decoded(found, has_bad=Bad in {*map(type, found)})


def _decode_one(decode: Callable[[bytes], Any], value: bytes | None, allow_null: bool) -> Any:  # noqa: ANN401 - the declared type
    if value is None:
        return None if allow_null else Bad(_null_value())
    try:
        return decode(value)
    except DecodeError as error:
        return Bad(error)


def _null_value() -> DecodeError:
    hint = "Set allow_empty=True on the topic if deletions are expected there"
    return DecodeError("null value (tombstone) on a topic that declares none", hint=hint)


# --- the table of codecs -----------------------------------------------------------------------


class _Codec(NamedTuple):
    """Makers of functions for a declared type; the second argument is the bound in bytes."""

    decoder: Callable[[Any, int], Decoder]
    value_encoder: Callable[[Any, int], Encoder]
    key_encoder: Callable[[Any, int], Encoder]


def _json_decoder(declared: Any, max_bytes: int) -> Decoder:  # noqa: ANN401 - any annotation
    return json_decoder(_checked(declared), max_bytes)


def _msgpack_decoder(declared: Any, max_bytes: int) -> Decoder:  # noqa: ANN401 - any annotation
    wanted = _checked(declared)
    read = msgspec.msgpack.Decoder(wanted, dec_hook=decode_hook).decode
    return Decoder(read, _what("MessagePack", wanted), max_bytes)


def _encoder_maker(
    write: Callable[[Any], bytes],
    form: str,
    write_many: Callable[[Sequence[Any]], list[bytes]] | None = None,
) -> Callable[[Any, int], Encoder]:
    def make(declared: Any, max_bytes: int) -> Encoder:  # noqa: ANN401 - any annotation
        what, accepted = _what(form, declared), _SCALARS.get(_checked(declared))
        if accepted:
            return Encoder(only(accepted, write), what, max_bytes)
        return Encoder(write, what, max_bytes, write_many)

    return make


def _text_codec(name: str, undeclared: Text) -> _Codec:
    def text_of(declared: Any) -> Text:  # noqa: ANN401 - any annotation
        text = undeclared if declared is None or declared is Any else TEXTS.get(declared)
        if text is None:
            message = f"the codec {name!r} cannot hold {type_name(declared)}"
            raise ConfigError(message, hint="It takes bytes, str, int and float; try codec 'json'.")
        return text

    def decoder(declared: Any, max_bytes: int) -> Decoder:  # noqa: ANN401 - any annotation
        return Decoder(text_of(declared).read, _what(f"{name} bytes", declared), max_bytes)

    def encoder(declared: Any, max_bytes: int) -> Encoder:  # noqa: ANN401 - any annotation
        text, what = text_of(declared), _what(f"{name} bytes", declared)
        many = write_texts if str in text.accepts else None
        return Encoder(only(text.accepts, text.write), what, max_bytes, many)

    return _Codec(decoder, encoder, encoder)


_msgpack = msgspec.msgpack.Encoder(enc_hook=encode_hook).encode
_stable_msgpack = msgspec.msgpack.Encoder(enc_hook=encode_hook, order=STABLE_ORDER).encode

_CODECS = {
    "json": _Codec(
        _json_decoder,
        _encoder_maker(json_writer(None), "JSON", json_lines),
        _encoder_maker(json_writer(STABLE_ORDER), "JSON"),
    ),
    "msgpack": _Codec(
        _msgpack_decoder,
        _encoder_maker(_msgpack, "MessagePack"),
        _encoder_maker(_stable_msgpack, "MessagePack"),
    ),
    "raw": _text_codec("raw", RAW),
    "str": _text_codec("str", TEXTS[str]),
}


def _codec(declared: Any, name: str) -> _Codec:  # noqa: ANN401 - any annotation
    found = _CODECS.get(name)
    if found is not None:
        return found
    message = f"unknown codec {name!r} for {type_name(declared)}"
    if name == "pickle":
        message = "the codec 'pickle' is not shipped: it runs code chosen by a message's writer"
    raise ConfigError(message, hint=f"Use one of: {', '.join(sorted(_CODECS))}.")


def _value_codec(declared: Any) -> str:  # noqa: ANN401 - any annotation
    if faust_records.is_faust_record(declared):
        return faust_records.declared_codec(declared) or "json"
    return _RAW_BY_DEFAULT.get(declared, "json")


def _key_codec(declared: Any) -> str:  # noqa: ANN401 - any annotation
    if declared is None or declared is Any:
        return "raw"
    return "str" if declared is int or declared is float else _value_codec(declared)


def _checked(declared: Any) -> Any:  # noqa: ANN401 - any annotation
    wanted = Any if declared is None else declared
    check_type(wanted)
    return wanted


def _what(form: str, declared: Any) -> str:  # noqa: ANN401 - any annotation
    return form if declared is None or declared is Any else f"{form} for {type_name(declared)}"
