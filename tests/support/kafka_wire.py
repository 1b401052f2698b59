"""One request of Kafka's protocol that no client offers: end the session of somebody else."""

from __future__ import annotations

import socket
import struct

_LEAVE_GROUP = 13


def remove_member(port: int, group: str, member_id: str) -> None:
    """Ask the coordinator, a broker on the loopback, to take a member for gone."""
    body = struct.pack(">hhih", _LEAVE_GROUP, 0, 1, -1) + _text(group) + _text(member_id)
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        answer = connection.makefile("rb").read(10)
    _, _, code = struct.unpack(">iih", answer)
    assert code == 0, f"error {code}"


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data
