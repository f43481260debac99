"""Datagrams between workers, with or without a connection in them. Standard library only.

Every place has one SOCK_SEQPACKET pair. Its worker reads one end, everybody else writes to the
other; the supervisor holds both ends of all of them, so that connections in flight to a worker
that hangs or has died stay in the socket and can be read by the supervisor or the successor. The
first byte of a datagram is its kind.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

#: Kind of a datagram that carries an accepted connection.
CONNECTION = b"C"
#: Kind of one whose connection nobody takes: it is to be answered, and refused.
REFUSAL = b"R"

DATAGRAM_BYTES_MAX = 1024
_FDS_MAX = 4


@dataclass(frozen=True, slots=True)
class Datagram:
    """What was read: the bytes with their kind in front, and a descriptor (-1: none)."""

    body: bytes
    fd: int = -1


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """A place's hand-over socket: the end its worker reads, the end the others write to."""
    kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
    return socket.socketpair(socket.AF_UNIX, kind)


def hand_over(to: socket.socket, fd: int, kind: bytes = CONNECTION) -> bool:
    """Send a connection and close our descriptor; False (and still ours) when there is no room."""
    try:
        socket.send_fds(to, [kind], [fd])
    except OSError:
        return False
    os.close(fd)
    return True


def send(to: socket.socket, body: bytes) -> bool:
    """Send a datagram without a connection; False when there is no room."""
    assert 0 < len(body) <= DATAGRAM_BYTES_MAX, len(body)
    try:
        to.send(body)
    except OSError:
        return False
    return True


def receive(end: socket.socket) -> Datagram | None:
    """Read one datagram; None when there is none. Surplus descriptors are closed."""
    try:
        body, fds, _, _ = socket.recv_fds(end, DATAGRAM_BYTES_MAX, _FDS_MAX)
    except OSError:
        return None
    for fd in fds[1:]:
        os.close(fd)
    return Datagram(body, fds[0] if fds else -1) if body else None
