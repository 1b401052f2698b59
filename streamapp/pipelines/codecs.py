"""How values inside of a pipeline become bytes and come back as what they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from streamapp.errors import EncodeError
from streamapp.serde.codecs import value_decoder, value_encoder
from streamapp.serde.hooks import type_name

#: What JSON gives back as it was given, whatever is declared.
_PLAIN = (dict, list, str, int, float, bool, type(None))
#: The bytes of a deletion.
_NO_VALUE: Final = b"null"


class StateCodec:
    """Encodes the values of one flow as JSON; ``value_type`` is ``None`` where it is not known.

    A deletion is a value of every flow, whatever its type: it comes back as one.
    """

    def __init__(self, value_type: Any = None) -> None:
        self.value_type = value_type
        self._encode = value_encoder(value_type, "json")
        self._decode = value_decoder(value_type, "json")

    def decode(self, data: bytes) -> Any:
        """Return the value of which these are the bytes."""
        return None if data == _NO_VALUE else self._decode(data)

    def encode(self, value: object) -> bytes:
        """Return the bytes of a value.

        Raises:
            EncodeError: It would come back as something else.
        """
        self._check(type(value))
        return self._encode(value)

    def encode_many(self, values: Sequence[object]) -> list[bytes]:
        """Return the bytes of each value.

        Raises:
            EncodeError: One of them would come back as something else, or has no bytes.
        """
        for kind in {*map(type, values)}:
            self._check(kind)
        return self._encode.many(values)

    def _check(self, kind: type) -> None:
        if self.value_type is None and kind not in _PLAIN:
            msg = f"A {type_name(kind)} would come back as plain JSON"
            raise EncodeError(msg, hint="Say what it is: .map(function, into=Type)")
