"""One TCP connection that speaks HTTP or WebSocket, Sans-I/O: bytes in, events out.

A connection starts in HEAD: bytes are held until the head of a request is complete. A head that
asks for a WebSocket is replayed, raw, into the ``websockets`` package's Sans-I/O core, for good;
anything else goes into a fresh ``h11`` connection for this one request, after which the next head
is awaited (keep-alive and pipelining). The sniff only chooses a parser; the parser validates.

Nearly all traffic is one shape: a whole, unfragmented, masked text frame of 126 to 65,535 bytes.
The fast path reads it without the core. It keeps its own remainder and hands the core whole
frames only, so that the core always stops at a frame boundary; it steps aside while a fragmented
message is open or the closing handshake has begun. Both paths give the same events for any bytes,
cut anywhere (a property test shows it). ``current_size`` and ``state`` of the core are not
documented, which is why the package is pinned to a minor version.

Ours, because the cores leave it to their user: joining fragments, UTF-8 of text (close 1007), the
number of fragments, the size of a body, Transfer-Encoding beside Content-Length.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from enum import Enum, auto

import h11
from typing_extensions import override
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CONNECTING, OPEN
from websockets.server import ServerProtocol
from websockets.speedups import apply_mask
from websockets.typing import Subprotocol

from gateway.channel_events import (
    REASONS,
    Binary,
    ChannelEvent,
    Closed,
    HttpRequest,
    HttpResponse,
    Upgrade,
)
from gateway.flow import Patience
from gateway.limits import (
    BODY_BYTES_MAX,
    FRAGMENTS_PER_MESSAGE_MAX,
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    MESSAGE_BYTES_MAX,
)

#: What a plain client may ask for; other peers ask for nothing.
PLAIN_SUBPROTOCOL = Subprotocol("plain")

_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)
_TLS_HANDSHAKE = b"\x16"
_FAST_HEAD = b"\x81\xfe"  # FIN + text, masked + a 16-bit length


class _Core(ServerProtocol):
    """The library's core; a function given to it instead would hold it in a cycle."""

    @override
    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Ours, if it is offered: a browser hangs up when none of those it offers is taken."""
        return PLAIN_SUBPROTOCOL if PLAIN_SUBPROTOCOL in subprotocols else None


class _State(Enum):
    HEAD = auto()
    REQUEST = auto()
    ANSWER = auto()
    SOCKET = auto()
    OVER = auto()


class Channel:
    """The protocol state of one connection. Write ``take_output()`` after every call."""

    __slots__ = (
        "_at_rest",
        "_closed_said",
        "_core",
        "_decoder",
        "_fast",
        "_fragments",
        "_held",
        "_http",
        "_kind",
        "_messages",
        "_output",
        "_parts",
        "_request",
        "_state",
        "_upgrade",
        "is_socket",
        "patience",
    )

    def __init__(self, *, fast: bool = True) -> None:
        self._state = _State.HEAD
        self._held = b""
        self._output: list[bytes] = []
        self._http: h11.Connection | None = None
        self._request: h11.Request | None = None
        self._core: ServerProtocol | None = None
        self._upgrade: Request | None = None
        self._fast = fast
        self._parts: list[bytes] = []
        self._fragments = 0
        self._kind = Opcode.TEXT
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._closed_said = False
        self._messages = 0
        #: What is left for frames that are not the usual ones.
        self.patience = Patience()
        #: Whether the WebSocket handshake is complete and no close was sent or received.
        self.is_socket = False
        #: Whether, besides, no fragmented message is open: the fast path may be taken.
        self._at_rest = False

    @property
    def is_over(self) -> bool:
        """Whether the transport should be closed once the output is written."""
        return self._state is _State.OVER

    def take_output(self) -> list[bytes]:
        """Bytes to write to the peer, in order."""
        output, self._output = self._output, []
        return output

    # Input

    def receive(self, data: bytes) -> list[ChannelEvent]:
        """Take bytes from the peer. Never raises for anything a peer can send."""
        if self._state is _State.SOCKET:
            return self._socket_bytes(data)
        if self._state is _State.OVER:
            return []
        self._held += data
        events: list[ChannelEvent] = []
        if self._state is _State.HEAD:
            events = self._head()
        elif self._state is _State.REQUEST:
            events = self._request_bytes()
        elif len(self._held) > HEAD_BYTES_MAX + BODY_BYTES_MAX:
            self._end()  # a peer that pipelines without end while its answer is being made
        return events

    def one_text(self, data: bytes) -> str | None:
        """The text if ``data`` is just one whole frame of the common shape.

        Otherwise None, and nothing has happened: it is for ``receive``.
        """
        if not self._at_rest or self._held or data[:2] != _FAST_HEAD:
            return None
        if len(data) < 8 or len(data) != 8 + (data[2] << 8 | data[3]):
            return None
        try:
            return str(apply_mask(data[8:], data[4:8]), "utf-8")
        except UnicodeDecodeError:
            return None

    def receive_eof(self) -> list[ChannelEvent]:
        """The peer closed its side."""
        if self._state is _State.SOCKET and self._core is not None:
            self._core.receive_eof()
            return self._core_events()
        self._end()
        return []

    def abandon(self) -> None:
        """The connection is gone: let go of what refers to itself, so that it is freed at once."""
        if self._core is not None:
            self._core.parser.close()  # its frame holds the core that holds it
        self._core = self._http = None
        self.is_socket = self._at_rest = False
        self._end()

    def head_timeout(self) -> None:
        """The head did not arrive in time."""
        if self._state is _State.HEAD and not self._held:
            self._end()  # nothing was asked, so nothing is answered
        elif self._state in (_State.HEAD, _State.REQUEST):
            self._fail(408)

    # Plain HTTP

    def respond(self, response: HttpResponse) -> list[ChannelEvent]:
        """Answer the request; returns events of a pipelined next one."""
        assert self._state is _State.ANSWER, self._state
        http = self._http
        assert http is not None
        head = h11.Response(
            status_code=response.status, headers=_header_list(response), reason=_reason(response)
        )
        is_head = self._request is not None and self._request.method == b"HEAD"
        body = h11.Data(data=b"" if is_head else response.body)
        for event in (head, body, h11.EndOfMessage()):
            self._output.append(http.send(event) or b"")
        if http.our_state is h11.MUST_CLOSE:
            self._end()
            return []
        self._state = _State.HEAD
        return self._head() if self._held else []

    def _head(self) -> list[ChannelEvent]:
        end = self._held.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX + 4)
        if end < 0:
            if self._held.startswith(_TLS_HANDSHAKE):
                self._end()  # a TLS client on a plain port would not understand an answer
            elif len(self._held) >= HEAD_BYTES_MAX:
                self._fail(431)
            return []
        if self._held.count(b"\r\n", 0, end) > HEADERS_MAX:
            self._fail(431)
            return []
        if _UPGRADE.search(self._held, 0, end + 2):
            self._core = _Core(max_size=MESSAGE_BYTES_MAX)
            self._state = _State.SOCKET
            head, self._held = self._held[: end + 4], self._held[end + 4 :]
            self._core.receive_data(head)
            return self._core_events()
        self._state = _State.REQUEST
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX + 4)
        self._request = None
        self._parts = []
        return self._request_bytes()

    def _request_bytes(self) -> list[ChannelEvent]:
        http = self._http
        assert http is not None
        raw, self._held = self._held, b""
        try:
            http.receive_data(raw)
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    return self._continue_if_asked(http)
                if isinstance(event, h11.EndOfMessage):
                    return [self._complete(http)]
                if not self._take_part(event):
                    return []
        except h11.RemoteProtocolError as error:
            self._fail(error.error_status_hint)
            return []

    def _take_part(self, event: object) -> bool:
        """Note the request's head or a piece of its body; False when the request was refused."""
        if isinstance(event, h11.Request):
            names = {name for name, _ in event.headers}
            if {b"content-length", b"transfer-encoding"} <= names:
                self._fail(400)  # h11 takes the latter; a proxy before us may take the former
                return False
            self._request = event
            return True
        if isinstance(event, h11.Data):
            self._parts.append(bytes(event.data))
            if sum(map(len, self._parts)) <= BODY_BYTES_MAX:
                return True
            self._fail(413)
            return False
        self._end()
        return False

    def _continue_if_asked(self, http: h11.Connection) -> list[ChannelEvent]:
        if http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            self._output.append(http.send(go_on) or b"")
        return []

    def _complete(self, http: h11.Connection) -> HttpRequest:
        request = self._request
        assert request is not None
        self._held = bytes(http.trailing_data[0])
        self._state = _State.ANSWER
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers
        }
        method, target = request.method.decode("latin-1"), request.target.decode("latin-1")
        return HttpRequest(method, target, headers, b"".join(self._parts))

    # WebSocket

    def accept(self) -> list[ChannelEvent]:
        """Complete the handshake; returns messages that came with the request."""
        core, upgrade = self._core, self._upgrade
        assert core is not None
        assert upgrade is not None
        response = core.accept(upgrade)
        if response.status_code != 101:
            response.headers["Sec-WebSocket-Version"] = "13"  # RFC 6455 4.4: which one we speak
        core.send_response(response)
        self._flush_core()
        return self._socket_bytes(b"")

    def refuse(self, response: HttpResponse) -> None:
        """Refuse the handshake with an HTTP response."""
        core = self._core
        assert core is not None
        answer = core.reject(response.status, response.body.decode())
        for name, value in response.headers.items():
            answer.headers[name] = value
        core.send_response(answer)
        self._flush_core()
        self._end()

    @property
    def unfinished(self) -> int:
        """The number of the fragmented message that is being received; 0 when there is none."""
        return 0 if self._at_rest or not self.is_socket else self._messages

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self.is_socket and self._core is not None:
            self._core.send_ping(b"")
            self._flush_core()

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake."""
        if self._state is not _State.SOCKET:
            self._end()
        elif self.is_socket and self._core is not None:
            self._core.send_close(code, reason)
            self._flush_core()

    def _socket_bytes(self, data: bytes) -> list[ChannelEvent]:
        if self._held:
            data, self._held = self._held + data, b""
        events: list[ChannelEvent] = []
        if self._core is not None and self._core.state is CONNECTING:
            self._held = data  # messages sent along with the request wait for the answer
            if len(data) > MESSAGE_BYTES_MAX:
                self._end()
            return events
        at, size = 0, len(data)
        while at < size and self._state is _State.SOCKET:
            if self._fast and self._at_rest:
                at = self._fast_frames(data, at, events)
                if at >= size or not self.is_socket:
                    break
            length = _frame_length(data, at)
            if length is None or (at + length > size and length <= MESSAGE_BYTES_MAX + 14):
                self._held = data[at:]
                break
            self._slow_frame(data[at : at + length], events)
            at += length
        return events

    def _fast_frames(self, data: bytes, at: int, events: list[ChannelEvent]) -> int:
        """Read whole text frames of the common shape; returns where something else begins."""
        size = len(data)
        while size - at >= 8 and data[at : at + 2] == _FAST_HEAD:
            begin = at + 8
            end = begin + int.from_bytes(data[at + 2 : at + 4], "big")
            if end > size:
                break
            payload = apply_mask(data[begin:end], data[at + 4 : begin])
            at = end
            try:
                events.append(str(payload, "utf-8"))
            except UnicodeDecodeError:
                self._fail_socket(CloseCode.INVALID_DATA, "text is not UTF-8", events)
                break
        return at

    def _slow_frame(self, frame: bytes, events: list[ChannelEvent]) -> None:
        core = self._core
        assert core is not None
        if not frame.startswith(_FAST_HEAD) and not self.patience.has(frame[0]):
            self._fail_socket(CloseCode.POLICY_VIOLATION, "too many frames", events)
            return
        core.receive_data(frame)
        events += self._core_events()

    def _core_events(self) -> list[ChannelEvent]:
        core = self._core
        assert core is not None
        events: list[ChannelEvent] = []
        for event in core.events_received():
            if isinstance(event, Request):
                self._upgrade = event
                headers = {name.lower(): value for name, value in event.headers.raw_items()}
                events.append(Upgrade(event.path, headers))
            elif isinstance(event, Frame):
                self._frame(event, events)
        self._flush_core()
        if core.state not in (CONNECTING, OPEN):
            close = core.close_rcvd or core.close_sent
            self._say_closed(CloseCode.ABNORMAL_CLOSURE if close is None else close.code, events)
        return events

    def _frame(self, frame: Frame, events: list[ChannelEvent]) -> None:
        if self._closed_said or frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is not Opcode.CONT:
            self._kind, self._parts, self._fragments = frame.opcode, [], 0
            self._messages += 1
            self._decoder.reset()
        self._fragments += 1
        if self._fragments > FRAGMENTS_PER_MESSAGE_MAX:
            self._fail_socket(CloseCode.POLICY_VIOLATION, "too many fragments", events)
            return
        if self._kind is Opcode.BINARY:
            self._parts.append(bytes(frame.data))
            if frame.fin:
                events.append(Binary(b"".join(self._parts)))
            return
        self._text_part(frame, events)

    def _text_part(self, frame: Frame, events: list[ChannelEvent]) -> None:
        try:
            text = self._decoder.decode(bytes(frame.data), frame.fin)
        except UnicodeDecodeError:
            self._fail_socket(CloseCode.INVALID_DATA, "text is not UTF-8", events)
            return
        self._parts.append(text.encode())
        if frame.fin:
            events.append(b"".join(self._parts).decode())

    def _fail_socket(self, code: CloseCode, reason: str, events: list[ChannelEvent]) -> None:
        core = self._core
        assert core is not None
        core.fail(code, reason)
        self._flush_core()
        self._say_closed(int(code), events)

    def _say_closed(self, code: int, events: list[ChannelEvent]) -> None:
        if not self._closed_said:
            self._closed_said = True
            events.append(Closed(code))

    def _flush_core(self) -> None:
        core = self._core
        assert core is not None
        for data in core.data_to_send():
            if data:
                self._output.append(data)
            else:
                self._state = _State.OVER  # the core's sign for the end of the stream
        self.is_socket = core.state is OPEN
        self._at_rest = self.is_socket and core.current_size is None

    # Ends

    def _fail(self, status: int) -> None:
        reason = REASONS.get(status, "Error")
        head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        self._output.append(head.encode())
        self._end()

    def _end(self) -> None:
        self._state = _State.OVER
        self._held = b""


def _frame_head(size: int) -> bytes:
    if size < 126:
        return bytes((0x81, size))
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


#: Heads of the sizes that nearly all messages have, made once.
_FRAME_HEADS = tuple(map(_frame_head, range(1024)))


def text_frame(payload: bytes) -> bytes:
    """A text message as a server sends it: one frame, unmasked (RFC 6455 5.2)."""
    size = len(payload)
    return (_FRAME_HEADS[size] if size < 1024 else _frame_head(size)) + payload


def _frame_length(data: bytes, at: int) -> int | None:
    """Bytes of the frame that begins at ``at``, head included; None when its head is incomplete."""
    left = len(data) - at
    if left < 2:
        return None
    size = data[at + 1] & 0x7F
    head = 2 + (4 if data[at + 1] & 0x80 else 0)
    extra = {126: 2, 127: 8}.get(size, 0)
    if left < head + extra:
        return None
    if extra:
        size = int.from_bytes(data[at + 2 : at + 2 + extra], "big")
    return head + extra + size


def _header_list(response: HttpResponse) -> list[tuple[str, str]]:
    return [
        ("content-type", response.content_type),
        ("content-length", str(len(response.body))),
        *response.headers.items(),
    ]


def _reason(response: HttpResponse) -> bytes:
    return REASONS.get(response.status, "").encode()
