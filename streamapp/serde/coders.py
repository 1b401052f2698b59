"""The one place where a failure to read or write bytes gets its error.

A coder wraps a fast function; whatever that function raises on bad input leaves as one error type
with a short reason. Must never let the content of a message decide the kind or size of an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

from streamapp.errors import DecodeError, EncodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Bytes of one key or value. A longer one would stall the worker's loop while it is parsed; it is
#: well above what brokers accept by default (1 MiB).
MAX_BYTES = 8 * 1024 * 1024
_QUOTED_BYTES = 200
_REASON_CHARS = 200

_NO_FORM_HINT = "Declare it as a streamapp.Record, or convert it to str, int, float, list or dict"


@dataclass(frozen=True, slots=True)
class Decoder:
    """Bytes to a value; raises ``DecodeError`` and nothing else, whatever the bytes are.

    ``read`` is the fast function, ``what`` completes "not valid ..." in errors.
    """

    read: Callable[[bytes], Any]
    what: str
    max_bytes: int = MAX_BYTES

    def __call__(self, data: bytes) -> Any:  # noqa: ANN401 - the declared type
        """Decode one key or value.

        Raises:
            DecodeError: The bytes are not what is declared; quotes at most their first 200.
        """
        try:
            self.check(data)
            return self.read(data)
        except MemoryError:  # the machine's fault, not the record's
            raise
        except Exception as exc:
            raise _cannot_decode(data, self.what, exc) from exc

    def many(self, values: Sequence[bytes]) -> list[Any]:
        """Decode all or raise whatever comes first: the fast path of a batch."""
        self.check_many(values)
        return [*map(self.read, values)]

    def check(self, data: bytes) -> None:
        """Refuse what ``read`` would take or choke on."""
        if len(data) > self.max_bytes:
            raise ValueError(_too_long(data, self.max_bytes))

    def check_many(self, values: Sequence[bytes]) -> None:
        """Do as ``check`` for each, at the cost of one pass."""
        if max(map(len, values), default=0) > self.max_bytes:
            message = "a value is longer than the bound"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Encoder:
    """A value to bytes; raises ``EncodeError`` and nothing else, and names the value's type.

    ``write`` is the fast function, ``what`` completes "not valid ..." in errors; ``write_many``
    does as ``write`` for many values, faster.
    """

    write: Callable[[Any], bytes]
    what: str
    max_bytes: int = MAX_BYTES
    write_many: Callable[[Sequence[Any]], list[bytes]] | None = None

    def __call__(self, value: Any) -> bytes:  # noqa: ANN401 - the declared type
        """Encode one key or value.

        Raises:
            EncodeError: It is not what is declared, or has no such bytes; says what to do.
        """
        try:
            data = self.write(value)
        except MemoryError:  # the machine's fault, not the record's
            raise
        except Exception as exc:
            raise _cannot_encode(value, self.what, exc) from exc
        if len(data) > self.max_bytes:
            raise _cannot_encode(value, self.what, ValueError(_too_long(data, self.max_bytes)))
        return data

    def many(self, values: Sequence[Any]) -> list[bytes]:
        """Do as ``__call__`` for each of them."""
        write_many = self.write_many
        if write_many is None:
            return [*map(self, values)]
        try:
            found = write_many(values)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - one by one, it is known which value it was
            return [*map(self, values)]
        if max(map(len, found), default=0) > self.max_bytes:
            return [*map(self, values)]
        return found


def only(accepted: tuple[type, ...], write: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Put a check of the value's type before ``write``; a bool is no number, NumPy's are."""

    def write_checked(value: Any) -> bytes:  # noqa: ANN401 - the declared type
        if int in accepted and not isinstance(value, int) and isinstance(value, Integral):
            return write(int(value))
        if not isinstance(value, accepted) or (value.__class__ is bool and bool not in accepted):
            message = f"expected {' or '.join(each.__name__ for each in accepted)}"
            raise TypeError(message)
        return write(value)

    return write_checked


def _too_long(data: bytes, bound: int) -> str:
    return f"{len(data)} bytes, more than the bound of {bound}"


def _cannot_decode(data: bytes, what: str, cause: Exception) -> DecodeError:
    quoted = repr(data[:_QUOTED_BYTES]) + ("..." if len(data) > _QUOTED_BYTES else "")
    return DecodeError(f"not valid {what}: {_reason(cause)}: {quoted}")


def _cannot_encode(value: object, what: str, cause: Exception) -> EncodeError:
    message = f"a value of type {type(value).__qualname__} is not valid {what}: {_reason(cause)}"
    if isinstance(cause, UnicodeError):
        return EncodeError(message, hint="Replace lone surrogates in the text before sending it")
    if isinstance(cause, NotImplementedError | TypeError):
        return EncodeError(message, hint=_NO_FORM_HINT)
    return EncodeError(message)


def _reason(cause: Exception) -> str:
    """Return one printable, bounded line: the cause may repeat parts of the message."""
    if isinstance(cause, RecursionError):
        return "nested too deep, or it contains itself"
    if isinstance(cause, UnicodeDecodeError):
        return f"invalid UTF-8 (byte {cause.start})"
    if isinstance(cause, UnicodeEncodeError):
        return "the text holds a lone surrogate"
    text = f"{cause}" or type(cause).__name__
    return text[:_REASON_CHARS].encode("unicode_escape").decode("ascii")
