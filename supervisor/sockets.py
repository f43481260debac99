"""Listening sockets that live as long as the supervisor, and the name that makes it the only one.

One SO_REUSEPORT listener a worker slot is opened before the first fork and held for life: a
worker that dies leaves its accept queue in the socket, and its successor serves it. Closing a
listener instead resets whoever is queued in it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

#: Connections the kernel keeps for us until they are accepted; a burst of calls must fit.
BACKLOG = 4096

#: Refused second supervisors whose question "who are you?" may wait unanswered.
_NAME_BACKLOG = 128

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid

_REASONS = {
    errno.EADDRINUSE: "another program already listens there",
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
}


class ListenError(Exception):
    """A socket cannot be opened; the message is the sentence for the operator."""


def open_listener(host: str, port: int, *, reuse_port: bool = True) -> socket.socket:
    """A listening, non-blocking TCP socket; port 0 takes a free one.

    ``ListenError`` when the address is taken, foreign or forbidden.
    """
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (socket.gaierror, UnicodeError) as error:
        raise ListenError(f"cannot listen on {host}:{port}: no such host") from error
    family, _, _, _, address = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = _REASONS.get(error.errno or 0, error.strerror)
        raise ListenError(f"cannot listen on {host}:{port}: {reason}") from error
    return listener


def claim_name(port: int) -> socket.socket:
    """Become the one supervisor of a port, for as long as the returned socket is open.

    SO_REUSEPORT would let a second gateway of the same user take half of the calls in silence.
    An abstract name vanishes with its owner, however that ended. ``ListenError`` when taken.
    """
    name = f"\0voice-gateway-{port}"
    owner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        owner.bind(name)
        owner.listen(_NAME_BACKLOG)
    except OSError as error:
        owner.close()
        if error.errno != errno.EADDRINUSE:
            raise ListenError(
                f"cannot claim port {port}: {os.strerror(error.errno or 0)}"
            ) from error
        pid = _owner_pid(name)
        who = f" (pid {pid})" if pid else ""
        raise ListenError(f"another voice gateway{who} already serves port {port}") from error
    return owner


def _owner_pid(name: str) -> int:
    """Who listens on an abstract name; 0 when it cannot be told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asker:
        try:
            asker.connect(name)
            found = asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return 0
    pid: int = _CREDENTIALS.unpack(found)[0]
    return pid
