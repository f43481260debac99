"""Asking and dialling servers that are not ours: each fault is a value, none is followed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.doctor import twilio

CONTEXT = twilio.client_context(verified=True)
SECRET = "telnyx-token-0001"


@contextmanager
def stranger(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers everything alike; its port, and what it was sent."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    received.append(peer.recv(65_536))
                    peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], received
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


ANSWERS = [
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"",
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer[:12].decode() or "nothing")
def test_a_stranger_is_no_stream_and_no_crash(answer: bytes) -> None:
    with stranger(answer) as (port, _):
        asked = twilio.ask(f"http://127.0.0.1:{port}/healthz", CONTEXT)
        assert bool(asked.fault) == (not answer.startswith(b"HTTP"))
        heard = twilio.call(f"ws://127.0.0.1:{port}/twilio", {}, CONTEXT, "CA1", 100)
        assert heard.fault or heard.status != 101
        assert twilio.status_of(f"ws://127.0.0.1:{port}/", {}, CONTEXT) != 101


def test_nobody_is_followed_elsewhere() -> None:
    """Twilio follows no redirect of a stream, and a token is not shown to another host."""
    with stranger(ANSWERS[0]) as (elsewhere, received):
        headers = f"Location: http://127.0.0.1:{elsewhere}/\r\nContent-Length: 0\r\n"
        answer = f"HTTP/1.1 302 Found\r\n{headers}Connection: close\r\n\r\n".encode()
        with stranger(answer) as (port, _):
            token = {"x-telnyx-streaming-auth-token": SECRET}
            assert twilio.status_of(f"ws://127.0.0.1:{port}/", token, CONTEXT) != 101
            heard = twilio.call(f"ws://127.0.0.1:{port}/", token, CONTEXT, "CA1", 100)
            assert heard.fault or heard.status != 101
            assert twilio.ask(f"http://127.0.0.1:{port}/", CONTEXT, {"a": "b"}).status == 302
        assert received == []


def test_a_port_where_nobody_listens_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert twilio.ask(f"http://127.0.0.1:{port}/", CONTEXT).fault
    assert twilio.call(f"ws://127.0.0.1:{port}/", {}, CONTEXT, "CA1", 100).fault
    assert twilio.status_of(f"ws://127.0.0.1:{port}/", {}, CONTEXT) == 0
    with pytest.raises(OSError, match="refused"):
        twilio.certificate_of("127.0.0.1", port)


def test_a_host_without_tls_has_no_certificate() -> None:
    with stranger(ANSWERS[2]) as (port, _), pytest.raises(OSError, match="SSL"):
        twilio.certificate_of("127.0.0.1", port)
