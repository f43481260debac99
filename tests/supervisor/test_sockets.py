"""Listeners keep what queues in them; one supervisor a port."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from supervisor.sockets import BACKLOG, ListenError, claim_name, open_listener

#: Offset of tcpi_sacked in struct tcp_info: for a listener, the longest its queue may grow.
TCPI_SACKED_AT = 28


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def test_backlog_is_what_we_asked_for() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        (backlog,) = struct.unpack_from("I", info, TCPI_SACKED_AT)
        assert backlog == min(BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()))


def test_workers_share_a_port() -> None:
    with (
        open_listener("127.0.0.1", 0) as first,
        open_listener("127.0.0.1", port_of(first)) as second,
    ):
        assert port_of(first) == port_of(second)
        assert not first.getblocking()
        assert not first.get_inheritable()


def test_queued_caller_is_served_by_whoever_accepts_later() -> None:
    with (
        open_listener("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()) as caller,
    ):
        caller.sendall(b"hello")
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(5) == b"hello"


def test_port_of_a_stranger_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = port_of(stranger)
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}: another program already"):
            open_listener("127.0.0.1", port)


def test_listener_of_its_own_is_not_shared() -> None:
    with (
        open_listener("127.0.0.1", 0, reuse_port=False) as first,
        pytest.raises(ListenError, match="another program already"),
    ):
        open_listener("127.0.0.1", port_of(first), reuse_port=False)


@pytest.mark.parametrize(
    ("host", "reason"),
    [("203.0.113.7", "does not have that address"), ("..", "no such host")],
)
def test_impossible_host_is_refused(host: str, reason: str) -> None:
    with pytest.raises(ListenError, match=reason):
        open_listener(host, 0)


def test_name_has_one_owner_at_a_time() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        port = port_of(listener)
    with claim_name(port):
        sentence = f"another voice gateway \\(pid {os.getpid()}\\) already serves port {port}$"
        with pytest.raises(ListenError, match=sentence):
            claim_name(port)
    claim_name(port).close()


def test_name_is_refused_even_when_nobody_can_be_asked_any_more() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        port = port_of(listener)
    with claim_name(port) as owner:
        owner.listen(0)
        with pytest.raises(ListenError, match="pid"):
            claim_name(port)
        with pytest.raises(ListenError, match=f"another voice gateway already serves port {port}"):
            claim_name(port)
