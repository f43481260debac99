"""A fake of OpenAI's Realtime server: real sockets, events checked against the SDK's own types.

It serves both kinds of session. A conversation answers each turn of the caller (found by the level
of the audio, as ``server_vad`` does, or committed by the client) with the next ``Answer``: a tone
of the length asked for, much faster than real time, and its text. A transcription session answers
each commit with the next transcript. What the real server refuses, this one refuses too: to
truncate an item beyond its audio, to commit an empty buffer, a second response at a time.

Every event that a client sends is validated and kept in ``seen``, what fails is kept in
``invalid``; every event of ours is validated before it is sent (unless it is meant to be garbage).

``python -m tests.fakes.openai_realtime --port 4640`` runs it alone, for a gateway with
``REALTIME_BASE_URL=http://127.0.0.1:4640/v1``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from typing import Any

import numpy as np
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import TypeAdapter, ValidationError
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from audio.format import Encoding
from audio.g711 import decode, encode

CLIENT: TypeAdapter[Any] = TypeAdapter(RealtimeClientEvent)
SERVER: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
G711 = {"audio/pcmu": Encoding.MULAW, "audio/pcma": Encoding.ALAW}
DELTA_MS = 200
DELTA_EVERY_S = 0.005
LOUD = 700
COMMIT_MS_MIN = 100

Event = dict[str, Any]


@dataclass
class Answer:
    """What one response says and does."""

    text: str = "Certainly, how can I help you?"
    ms: int = 1_000
    function: tuple[str, str] | None = None
    #: Instead: fail | stall | close | garbage | oversized, after half of the audio.
    fault: str = ""


@dataclass
class Item:
    role: str
    ms: int = 0
    text: str = ""
    cut_ms: int | None = None


@dataclass
class FakeRealtime:
    """The server's behaviour, and what it saw. Change it at any time."""

    latency_ms: float = 20
    silence_ms: int = 300
    answers: list[Answer] = field(default_factory=list)
    transcripts: list[str] = field(default_factory=list)
    refuse: int = 0
    #: The next so many sessions are never configured.
    deaf_sessions: int = 0
    #: Two transcripts at a time, the later one first.
    out_of_order: bool = False
    #: No transcript ever comes.
    mute: bool = False
    key: str = "sk-test"
    port: int = 0
    seen: list[Event] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    ids: Iterator[int] = field(default_factory=count)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def of(self, kind: str) -> list[Event]:
        """What clients sent of one type."""
        return [event for event in self.seen if event["type"] == kind]

    def live(self) -> list[Session]:
        return [session for session in self.sessions if not session.over]

    async def start(self) -> Server:
        server = await serve(
            self._connected, "127.0.0.1", self.port, process_request=self._door, max_size=2**24
        )
        self.port = next(iter(server.sockets)).getsockname()[1]
        return server

    def _door(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.refuse:
            return connection.respond(HTTPStatus(self.refuse), "refused\n")
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return connection.respond(HTTPStatus.UNAUTHORIZED, "wrong key\n")
        return None

    async def _connected(self, connection: ServerConnection) -> None:
        session = Session(self, connection)
        self.sessions.append(session)
        try:
            await session.run()
        except ConnectionClosed:
            pass
        finally:
            session.end()


class Session:
    """One client's session."""

    def __init__(self, fake: FakeRealtime, connection: ServerConnection) -> None:
        self.fake = fake
        self.connection = connection
        self.transcribes = "intent=transcription" in (connection.request or _NOBODY).path
        self.over = False
        self.session: Event = {}
        self.items: dict[str, Item] = {}
        self.order: list[str] = []
        self.buffer_ms = 0.0
        self.quiet_ms = 0.0
        self.speaks = False
        self.response: asyncio.Task[None] | None = None
        self.response_id = ""
        self.held: list[Event] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def end(self) -> None:
        self.over = True
        for task in self.tasks:
            task.cancel()

    async def run(self) -> None:
        kind = "transcription" if self.transcribes else "realtime"
        described = {"id": self.new_id("sess"), "object": f"{kind}.session", "type": kind}
        if not self.transcribes:
            described["object"] = "realtime.session"
        await self.send("session.created", session=described)
        async for message in self.connection:
            event = json.loads(message)
            try:
                CLIENT.validate_python(event)
            except ValidationError as error:
                self.fake.invalid.append(f"{event.get('type')}: {error}")
            self.fake.seen.append(event)
            handler = getattr(self, "on_" + event["type"].replace(".", "_"))
            await handler(event)

    def new_id(self, kind: str) -> str:
        return f"{kind}_{next(self.fake.ids)}"

    async def send(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": self.new_id("event"), **fields}
        SERVER.validate_python(event)
        await self.connection.send(json.dumps(event))

    async def fail(self, code: str, message: str) -> None:
        self.fake.refused.append(code)
        error = {"type": "invalid_request_error", "code": code, "message": message}
        await self.send("error", error=error)

    # What clients send

    async def on_session_update(self, event: Event) -> None:
        if self.fake.deaf_sessions:
            self.fake.deaf_sessions -= 1
            return
        merge(self.session, event["session"])
        described = {"id": "sess", "object": "realtime.session", **self.session}
        await self.send("session.updated", session=described)

    async def on_input_audio_buffer_append(self, event: Event) -> None:
        samples, ms = self.samples(base64.b64decode(event["audio"]))
        self.buffer_ms += ms
        detection = self.session["audio"]["input"].get("turn_detection")
        if detection is None:
            return
        if len(samples) and int(np.abs(samples.astype(np.int32)).max()) > LOUD:
            self.quiet_ms = 0
            if not self.speaks:
                await self.began()
        elif self.speaks:
            self.quiet_ms += ms
            if self.quiet_ms >= self.fake.silence_ms:
                await self.stopped()

    async def began(self) -> None:
        self.speaks = True
        item = self.new_id("item")
        await self.send("input_audio_buffer.speech_started", audio_start_ms=0, item_id=item)
        if self.response is not None:
            await self.stop("turn_detected")

    async def stopped(self) -> None:
        self.speaks = False
        item = self.new_id("item")
        await self.send("input_audio_buffer.speech_stopped", audio_end_ms=0, item_id=item)
        await self.commit()
        await self.respond({})

    async def on_input_audio_buffer_commit(self, _event: Event) -> None:
        if self.buffer_ms < COMMIT_MS_MIN:
            await self.fail("input_audio_buffer_commit_empty", "the buffer is too small")
            return
        await self.commit()

    async def on_input_audio_buffer_clear(self, _event: Event) -> None:
        self.buffer_ms = 0
        await self.send("input_audio_buffer.cleared")

    async def commit(self) -> None:
        item = self.new_id("item")
        previous = self.order[-1] if self.order else None
        self.items[item] = Item("user", int(self.buffer_ms))
        self.order.append(item)
        self.buffer_ms = 0
        await self.send("input_audio_buffer.committed", item_id=item, previous_item_id=previous)
        _ = self.spawn(self.transcribe(item))

    async def on_conversation_item_create(self, event: Event) -> None:
        item = event["item"]
        name = item["id"] = self.new_id("item")
        text = "".join(part.get("text", "") for part in item.get("content", []))
        self.items[name] = Item(item.get("role", "tool"), text=text)
        self.order.append(name)
        await self.send("conversation.item.added", item=item)

    async def on_conversation_item_truncate(self, event: Event) -> None:
        item = self.items.get(event["item_id"])
        if item is None or item.role != "assistant":
            await self.fail("item_truncate_invalid_item_id", "no such item of the assistant's")
        elif event["audio_end_ms"] > item.ms:
            message = f"Audio content of {item.ms}ms is already shorter"
            await self.fail("invalid_value", message)
        else:
            item.cut_ms, item.text = event["audio_end_ms"], ""
            await self.send(
                "conversation.item.truncated",
                item_id=event["item_id"],
                content_index=0,
                audio_end_ms=event["audio_end_ms"],
            )

    async def on_response_create(self, event: Event) -> None:
        if self.response is not None:
            code = "conversation_already_has_active_response"
            await self.fail(code, "a response is in progress")
            return
        await self.respond(event.get("response", {}))

    async def on_response_cancel(self, _event: Event) -> None:
        if self.response is None:
            await self.fail("response_cancel_not_active", "no response is in progress")
        else:
            await self.stop("client_cancelled")

    # What we send

    async def respond(self, _wanted: Event) -> None:
        self.response_id = self.new_id("resp")
        answer = self.fake.answers.pop(0) if self.fake.answers else Answer()
        self.response = self.spawn(self.answer(answer, self.response_id))

    async def stop(self, reason: str) -> None:
        assert self.response is not None
        self.response.cancel()
        self.response = None
        await self.done(self.response_id, "cancelled", reason)

    async def done(self, response_id: str, status: str, reason: str | None = None) -> None:
        details = {"type": status, "reason": reason} if reason else None
        usage = {
            "input_tokens": 1_000,
            "output_tokens": 500,
            "total_tokens": 1_500,
            "input_token_details": {"audio_tokens": 800, "text_tokens": 200},
            "output_token_details": {"audio_tokens": 400, "text_tokens": 100},
        }
        response = {"id": response_id, "status": status, "status_details": details, "usage": usage}
        await self.send("response.done", response=response)

    async def answer(self, answer: Answer, response_id: str) -> None:
        await asyncio.sleep(self.fake.latency_ms / 1000)
        at: Event = {"response_id": response_id, "output_index": 0}
        response = {"id": response_id, "status": "in_progress"}
        await self.send("response.created", response=response)
        if answer.fault == "fail":
            self.response = None
            await self.done(response_id, "failed")
            return
        if answer.ms:
            await self.speak(answer, at)
        if answer.function:
            name, arguments = answer.function
            call = {"type": "function_call", "name": name, "arguments": arguments}
            item = {**call, "id": self.new_id("item"), "call_id": self.new_id("call")}
            await self.send("response.output_item.done", item=item, **at)
        self.response = None
        await self.done(response_id, "completed")

    async def speak(self, answer: Answer, at: Event) -> None:
        name = self.new_id("item")
        item = self.items[name] = Item("assistant", text=answer.text)
        self.order.append(name)
        message = {"id": name, "type": "message", "role": "assistant", "content": []}
        await self.send("response.output_item.added", item=message, **at)
        part = {"item_id": name, "content_index": 0, **at}
        words = answer.text.split(" ")
        deltas = max(1, answer.ms // DELTA_MS)
        for n in range(deltas):
            if n == deltas // 2 and answer.fault:
                await self.misbehave(answer.fault)
            text = " ".join(words[n * len(words) // deltas : (n + 1) * len(words) // deltas])
            if text:
                delta = text if n == 0 else f" {text}"
                await self.send("response.output_audio_transcript.delta", delta=delta, **part)
            ms = min(DELTA_MS, answer.ms - n * DELTA_MS)
            item.ms += ms
            await self.send("response.output_audio.delta", delta=self.tone(ms), **part)
            await asyncio.sleep(DELTA_EVERY_S)
        await self.send("response.output_audio.done", **part)
        await self.send("response.output_audio_transcript.done", transcript=answer.text, **part)

    async def misbehave(self, fault: str) -> None:
        if fault == "stall":
            await asyncio.sleep(3600)
        elif fault == "close":
            await self.connection.close(1011, "going down")
        elif fault == "expire":
            await self.fail("session_expired", "Your session hit the maximum duration")
            await self.connection.close(1001)
        elif fault == "garbage":
            for text in ("{", "[]", '{"type": 7}', '{"type": "response.output_audio.delta"}'):
                await self.connection.send(text)
            await self.connection.send(b"\xff\xfe")
        elif fault == "oversized":
            await self.connection.send(json.dumps({"type": "x", "x": "y" * 2_000_000}))

    async def transcribe(self, item: str) -> None:
        if self.fake.mute or not self.session["audio"]["input"].get("transcription"):
            return
        await asyncio.sleep(self.fake.latency_ms / 1000)
        scripted = self.fake.transcripts
        text = scripted.pop(0) if scripted else f"{self.items[item].ms} ms of speech"
        self.items[item].text = text
        part = {"item_id": item, "content_index": 0}
        kind = "conversation.item.input_audio_transcription"
        await self.send(f"{kind}.delta", delta=text, **part)
        done = {**part, "transcript": text, "usage": {"type": "duration", "seconds": 1.0}}
        if not self.fake.out_of_order:
            await self.send(f"{kind}.completed", **done)
            return
        self.held.append(done)
        if len(self.held) == 2:
            for late in reversed(self.held):
                await self.send(f"{kind}.completed", **late)
            self.held.clear()

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        async def until_closed() -> None:
            with suppress(ConnectionClosed):
                await work

        task = asyncio.create_task(until_closed())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def samples(self, audio: bytes) -> tuple[Any, float]:
        kind = self.session["audio"]["input"]["format"]["type"]
        if kind in G711:
            return decode(G711[kind], np.frombuffer(audio, np.uint8)), len(audio) / 8
        return np.frombuffer(audio, np.int16), len(audio) / 48

    def tone(self, ms: int) -> str:
        kind = self.session["audio"]["output"]["format"]["type"]
        rate = 8 if kind in G711 else 24
        wave = np.sin(2 * np.pi * 440 * np.arange(rate * ms) / (rate * 1000))
        pcm = (wave * 9_000).astype(np.int16)
        audio = encode(G711[kind], pcm).tobytes() if kind in G711 else pcm.tobytes()
        return base64.b64encode(audio).decode()


class _Nobody:
    path = ""


_NOBODY = _Nobody()


def merge(into: Event, update: Event) -> None:
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


@asynccontextmanager
async def realtime_server(fake: FakeRealtime) -> AsyncIterator[FakeRealtime]:
    """The fake on a free port, on this loop."""
    server = await fake.start()
    try:
        yield fake
    finally:
        server.close()
        await server.wait_closed()


@contextmanager
def realtime_thread(fake: FakeRealtime) -> Iterator[FakeRealtime]:
    """The fake on a free port, on a loop of its own: for gateways in other processes."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(fake.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def end() -> None:
        server.close()
        await server.wait_closed()

    try:
        yield fake
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=4640)
    parser.add_argument("--latency-ms", type=float, default=20)
    given = parser.parse_args()
    fake = FakeRealtime(port=given.port, latency_ms=given.latency_ms, key="")
    async with realtime_server(fake):
        sys.stdout.write(f"serving {fake.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
