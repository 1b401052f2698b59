"""What a checkpoint says about itself: identity, positions, files. Data and its bytes, no folders.

On disk it is JSON ``{"crc32": n, "manifest": {...}}``, the checksum being that of the bytes of the
manifest: a flipped digit of an offset would otherwise be believed.
"""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

from streamapp.errors import StateCorruptError

#: Raised with any change that an older program would misread.
FORMAT: Final = 1


class SourcePosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The next offset to read of a source partition, and the engine's note kept with it."""

    topic: str
    partition: int
    offset: int
    metadata: str = ""


class ChangelogPosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The changelog offset up to which (exclusive) the copy holds a partition of a table.

    ``topic_uid`` is the incarnation of the changelog topic: with another one the offset is void.
    """

    table: str
    partition: int
    topic_uid: str
    offset: int


class FileSum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the copy: its path below it with ``/``, its length in bytes, its CRC-32."""

    name: str
    size: int
    crc32: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A checkpoint's description. ``id`` is positive and sorts by age; ``created_ms`` is a label.

    ``files`` is left empty by the caller and filled when the copy is made.
    """

    id: int
    created_ms: int
    app: str
    sources: tuple[SourcePosition, ...] = ()
    changelogs: tuple[ChangelogPosition, ...] = ()
    files: tuple[FileSum, ...] = ()
    format: int = FORMAT


class _Envelope(msgspec.Struct, frozen=True):
    crc32: int
    manifest: msgspec.Raw


class _Version(msgspec.Struct, frozen=True):
    format: int


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json``; equal manifests give equal bytes."""
    body = msgspec.json.encode(manifest)
    return msgspec.json.encode(_Envelope(zlib.crc32(body), msgspec.Raw(body)))


def decode_manifest(stored: bytes) -> Manifest:
    """Undo ``encode_manifest``.

    Raises:
        StateCorruptError: Cut, changed, no manifest, or of a newer format than ours.
    """
    try:
        envelope = msgspec.json.decode(stored, type=_Envelope)
        if zlib.crc32(envelope.manifest) != envelope.crc32:
            message = "the manifest's checksum is wrong"
            raise StateCorruptError(message)
        found = msgspec.json.decode(envelope.manifest, type=_Version).format
        if found > FORMAT:
            message = f"the manifest has format {found}, this program reads up to {FORMAT}"
            raise StateCorruptError(message, hint="Use the program that wrote it")
        return msgspec.json.decode(envelope.manifest, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        message = f"the manifest is unreadable: {exc}"
        raise StateCorruptError(message) from exc
