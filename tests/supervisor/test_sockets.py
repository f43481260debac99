"""Listeners keep what queues in them; one supervisor a port."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typing_extensions import override

from supervisor.sockets import BACKLOG, ListenError, claim_name, open_listener, refuse_strangers
from tests.supervisor.conftest import ROOT, free_ports

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


class Health(BaseHTTPRequestHandler):
    """Answers every GET; the server's ``name`` is its Server header."""

    @override
    def version_string(self) -> str:
        return str(getattr(self.server, "name", ""))

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Not a word."""


@contextmanager
def answering(name: str, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Somebody who listens with SO_REUSEPORT and says this name; yields the port."""
    server = HTTPServer(("127.0.0.1", 0), Health, bind_and_activate=False)
    server.socket.close()
    server.socket = open_listener("127.0.0.1", 0)
    server.socket.settimeout(None)
    port = port_of(server.socket)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.name = name  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command is not installed")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = [openssl, "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_orphans_of_our_own_are_joined() -> None:
    with answering("voice-gateway") as port:
        assert refuse_strangers("127.0.0.1", port)
        assert refuse_strangers("0.0.0.0", port)
        open_listener("127.0.0.1", port).close()


def test_orphans_that_speak_tls_are_joined(tls: ssl.SSLContext) -> None:
    with answering("voice-gateway", tls) as port:
        assert refuse_strangers("127.0.0.1", port)


@pytest.mark.parametrize("name", ["nginx", "voice-gateway-2", ""])
def test_stranger_who_would_share_the_port_is_refused(name: str) -> None:
    with (
        answering(name) as port,
        pytest.raises(ListenError, match=f"127.0.0.1:{port}: another program already listens"),
    ):
        refuse_strangers("127.0.0.1", port)


def test_stranger_who_says_nothing_is_refused() -> None:
    with open_listener("127.0.0.1", 0) as mute, pytest.raises(ListenError, match="already"):
        refuse_strangers("127.0.0.1", port_of(mute))


def test_free_port_has_no_strangers() -> None:
    (port,) = free_ports(1)
    assert not refuse_strangers("127.0.0.1", port)


def test_calls_that_still_run_on_a_port_are_no_strangers() -> None:
    with (
        open_listener("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0],
    ):
        port = port_of(listener)
        listener.close()
        assert not refuse_strangers("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "reason"),
    [("203.0.113.7", "does not have that address"), ("..", "no such host")],
)
def test_impossible_host_has_its_own_sentence(host: str, reason: str) -> None:
    with pytest.raises(ListenError, match=reason):
        refuse_strangers(host, 0)


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from gateway.errors import ConfigurationError
from gateway.settings import load_settings
from supervisor.sockets import ListenError, refuse_strangers
"localhost".encode("idna")  # imports what could not be read any more
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    refuse_strangers("127.0.0.1", 1)
except ListenError as error:
    print(error)
try:
    load_settings(Path(sys.argv[1]))
except ConfigurationError as error:
    print(error)
"""


def test_missing_permissions_are_sentences(tmp_path: Path) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 2:
        pytest.skip("here everybody may listen on every port")
    secret = tmp_path / "secret.env"
    secret.write_text("WORKERS=1\n")
    secret.chmod(0)
    result = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(secret)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    listening, reading = result.stdout.splitlines()
    assert listening == (
        "cannot listen on 127.0.0.1:1: ports below 1024 need root or CAP_NET_BIND_SERVICE"
    )
    assert reading.startswith(f"cannot read the env file {secret}: ")
    assert "Permission denied" in reading
