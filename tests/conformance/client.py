"""A WebSocket client that keeps no rule: raw bytes out, frames in."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.gateway.test_channel import UPGRADE

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@dataclass(frozen=True)
class Received:
    """One frame of the server's."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        """The code of a close; 0 when it has none."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big")


class RawClient:
    """One connection. ``head`` is what the server answered to the handshake."""

    def __init__(self, port: int, upgrade: bytes = UPGRADE) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""
        self.send(upgrade)
        while b"\r\n\r\n" not in self._held:
            if not self._read():
                break
        self.head, _, self._held = self._held.partition(b"\r\n\r\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(self, *pieces: bytes) -> None:
        """Send bytes as they are."""
        for piece in pieces:
            self._socket.sendall(piece)

    def frame(self) -> Received | None:
        """The next frame; None at the end of the stream."""
        while True:
            found = self._whole()
            if found is not None:
                return found
            if not self._read():
                assert self._held == b"", "the stream ended within a frame"
                return None

    def ends(self) -> bool:
        """Whether the server has closed the connection, and said nothing before."""
        return self.frame() is None

    def _read(self) -> bool:
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self._held += data
        return bool(data)

    def _whole(self) -> Received | None:
        held = self._held
        if len(held) < 2:
            return None
        assert held[0] & 0x70 == 0, "a server sets no reserved bit"
        assert held[0] & 0x80, "this server does not fragment"
        assert held[1] < 0x80, "a server does not mask"
        begin = {126: 4, 127: 10}.get(held[1], 2)
        size = held[1] if begin == 2 else int.from_bytes(held[2:begin], "big")
        if len(held) < begin + size:
            return None
        self._held = held[begin + size :]
        return Received(held[0] & 0x0F, held[begin : begin + size])
