"""Listening sockets that live as long as the supervisor, and the name that makes it the only one.

One SO_REUSEPORT listener a worker is opened before the first fork and held for life: a worker that
dies leaves its accept queue in the socket, and its successor serves it. Closing a listener instead
resets whoever is queued in it.

SO_REUSEPORT lets any program of the same user listen beside us, and take half of the calls in
silence. Two checks forbid that. The abstract name is held by a living supervisor. Where it is free
but somebody listens, these may be the children of a supervisor that was killed, which go on until
their calls have ended; they say so at ``/healthz``, and then we join them. Anybody else is refused.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import struct
from contextlib import suppress

#: Connections the kernel keeps for us until they are accepted; a burst of calls must fit.
BACKLOG = 4096

#: Refused second supervisors whose question "who are you?" may wait unanswered.
_NAME_BACKLOG = 128

#: What our own children say of themselves in every answer to /healthz.
SERVER_HEADER = b"server: voice-gateway"

#: One of several listeners may belong to a worker that hangs; the kernel picks another each time.
_QUESTIONS = 3
_ANSWER_TIMEOUT_S = 0.5
_ANSWER_BYTES_MAX = 1024
_ANSWER_READS_MAX = 4

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
    listener = _bind(host, port, reuse_port=reuse_port)
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(host, port, error) from error
    return listener


def refuse_strangers(host: str, port: int) -> bool:
    """``ListenError`` when somebody listens there who is not ours; whether somebody does."""
    try:
        _bind(host, port, reuse_port=False).close()
    except ListenError as error:
        cause = error.__cause__
        is_taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        if is_taken and _is_ours(host or "localhost", port):
            return True
        raise
    return False


def _bind(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (socket.gaierror, UnicodeError) as error:
        raise ListenError(f"cannot listen on {host}:{port}: no such host") from error
    family, _, _, _, address = found[0]
    bound = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _refused(host, port, error) from error
    return bound


def _refused(host: str, port: int, error: OSError) -> ListenError:
    reason = _REASONS.get(error.errno or 0, error.strerror)
    return ListenError(f"cannot listen on {host}:{port}: {reason}")


def _is_ours(host: str, port: int) -> bool:
    for _ in range(_QUESTIONS):
        with suppress(TimeoutError):
            if any(SERVER_HEADER in _health(host, port, tls=tls) for tls in (False, True)):
                return True
    return False


def _health(host: str, port: int, *, tls: bool) -> list[bytes]:
    """The head of an answer to ``GET /healthz``, in lower case, by lines; may time out."""
    head = b""
    try:
        with socket.create_connection((host, port), timeout=_ANSWER_TIMEOUT_S) as connection:
            peer = _over_tls(connection) if tls else connection
            with peer:
                peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                for _ in range(_ANSWER_READS_MAX):
                    more = peer.recv(_ANSWER_BYTES_MAX)
                    head += more
                    if not more or b"\r\n\r\n" in head:
                        break
    except TimeoutError:
        raise
    except OSError:  # refused, reset, no TLS
        return []
    return head.lower().split(b"\r\n")


def _over_tls(connection: socket.socket) -> socket.socket:
    """Whoever answers is on this machine and told nothing: its certificate does not matter."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)


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
