"""A conversation backend over HTTP: two POSTs, read with care.

``/conversation/start`` {callerName?, phoneNumber?, languageHint?, context?} gives
{conversationId, initialAssistantMessage, meta?}; ``/conversation/message`` {conversationId, from,
text} gives {reply, actions?, updatedSummary?}. What is not known is left out, nothing else is ever
sent in a body: a backend that validates strictly refuses unknown keys and nulls. What may help to
follow a call (its id, a trace, how much of the last reply was heard) travels in headers.

Every request has an ``Idempotency-Key`` that follows from the call and the turn, so an attempt and
its repetition have the same, and two turns never do. Any 2xx with a body that can be read is a
success (NestJS answers 201). The log gets ids, lengths and times, never what was said.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

from gateway import clock
from gateway.errors import ProviderError
from gateway.ops.log import Log
from gateway.providers.http_service import Answer, GarbageError, HttpService, Question

WHAT = "backend"
CONVERSATION_ID_CHARS_MAX = 256
#: What may be asked of a caller's patience: some minutes of speech; the rest is cut.
REPLY_CHARS_MAX = 4_000
SUMMARY_CHARS_MAX = 8_000
ACTIONS_MAX = 16
#: Express reads bodies of up to 100 kB; the caller's words are all that can be long.
TEXT_CHARS_MAX = 8_000

_KEYS = uuid.UUID("6a1f3e0e-3c7b-5c58-9d3d-4f1f0c1b7a10")


@dataclass(frozen=True, slots=True)
class Started:
    """A conversation has begun on the backend's side too."""

    conversation_id: str
    message: str


@dataclass(frozen=True, slots=True)
class Action:
    """Something the backend wants done; ``fields`` is the whole object."""

    type: str
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Reply:
    """The backend's answer to a caller's words; "" says nothing."""

    text: str
    actions: tuple[Action, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class Opening:
    """What the backend is told when a conversation starts; "" is not known."""

    call_id: str
    first_utterance: str = ""
    caller_name: str = ""
    phone_number: str = ""
    language_hint: str = ""

    def body(self) -> bytes:
        """As JSON, with nothing that is not known."""
        context = {"callId": self.call_id, "firstUtterance": self.first_utterance[:TEXT_CHARS_MAX]}
        fields = {
            "callerName": self.caller_name,
            "phoneNumber": self.phone_number,
            "languageHint": self.language_hint,
            "context": {key: value for key, value in context.items() if value},
        }
        return orjson.dumps({key: value for key, value in fields.items() if value})


@dataclass(frozen=True, slots=True)
class Utterance:
    """What the caller said; ``heard_chars`` of the reply before was heard when it was cut short."""

    call_id: str
    conversation_id: str
    turn: int
    text: str
    heard_chars: int | None = None


class BackendApi:
    """The backend, for all calls of a worker."""

    def __init__(
        self,
        base_url: str,
        *,
        key: str = "",
        idempotent: bool = False,
        quotes_keys: bool = True,
    ) -> None:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._quotes_keys = quotes_keys
        self._service = HttpService(WHAT, base_url, idempotent=idempotent, headers=headers)

    async def start(self, opening: Opening, within_ms: int, log: Log) -> Started:
        """Start a conversation. Raises ProviderError."""
        headers = self._headers(opening.call_id, f"{opening.call_id}/start")
        question = Question("/conversation/start", opening.body(), headers)
        begun_ns = clock.now_ns()
        started = await self._service.post(question, within_ms, log, parse_started)
        log.info(
            "conversation started",
            conversation=started.conversation_id,
            duration_ms=_since_ms(begun_ns),
        )
        return started

    async def say(self, utterance: Utterance, within_ms: int, log: Log) -> Reply:
        """Pass on what the caller said. Raises ProviderError."""
        said = utterance.text[:TEXT_CHARS_MAX]
        body = {"conversationId": utterance.conversation_id, "from": "caller", "text": said}
        key = f"{utterance.conversation_id}/{utterance.turn}"
        headers = self._headers(utterance.call_id, key)
        if utterance.heard_chars is not None:
            headers["X-Heard-Chars"] = str(utterance.heard_chars)
        log.info("message sent", turn=utterance.turn, chars=len(said))
        begun_ns = clock.now_ns()
        question = Question("/conversation/message", orjson.dumps(body), headers)
        reply = await self._service.post(question, within_ms, log, parse_reply)
        log.info(
            "reply received",
            turn=utterance.turn,
            duration_ms=_since_ms(begun_ns),
            chars=len(reply.text),
            actions=len(reply.actions),
            summary_chars=len(reply.summary),
        )
        return reply

    async def aclose(self) -> None:
        """Close the connections."""
        await self._service.aclose()

    def _headers(self, call_id: str, name: str) -> dict[str, str]:
        key = uuid.uuid5(_KEYS, name)
        trace = uuid.uuid5(_KEYS, call_id)
        return {
            "Idempotency-Key": f'"{key}"' if self._quotes_keys else str(key),
            "X-Request-Id": str(key),
            "traceparent": f"00-{trace.hex}-{key.hex[:16]}-01",
        }


def parse_started(answer: Answer) -> Started:
    """The answer to a start; ProviderError for a refusal, GarbageError for what is none."""
    found = _object(answer)
    conversation_id = _text(found, "conversationId", CONVERSATION_ID_CHARS_MAX + 1)
    if not 0 < len(conversation_id) <= CONVERSATION_ID_CHARS_MAX:
        raise GarbageError(f"{WHAT}: conversationId is empty or very long")
    return Started(conversation_id, _text(found, "initialAssistantMessage", REPLY_CHARS_MAX))


def parse_reply(answer: Answer) -> Reply:
    """The answer to a message; ProviderError for a refusal, GarbageError for what is none."""
    found = _object(answer)
    summary = found.get("updatedSummary")
    return Reply(
        text=_text(found, "reply", REPLY_CHARS_MAX),
        actions=tuple(_actions(found.get("actions"))),
        summary=summary[:SUMMARY_CHARS_MAX] if isinstance(summary, str) else "",
    )


def _object(answer: Answer) -> Mapping[str, object]:
    if not answer.is_success:
        raise ProviderError(f"{WHAT}: answered {answer.status}")
    media_type = answer.content_type.partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise GarbageError(f"{WHAT}: the answer is not JSON but {media_type[:64] or 'untyped'}")
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise GarbageError(f"{WHAT}: the answer is not JSON") from error
    if not isinstance(found, dict):
        raise GarbageError(f"{WHAT}: the answer is not an object")
    return found


def _text(found: Mapping[str, object], key: str, chars_max: int) -> str:
    value = found.get(key)
    if not isinstance(value, str):
        raise GarbageError(f"{WHAT}: {key} is no text")
    return value.strip()[:chars_max]


def _actions(value: object) -> Iterator[Action]:
    """The objects with a type; what else a list holds is not for us."""
    for item in value[:ACTIONS_MAX] if isinstance(value, list) else ():
        if isinstance(item, dict) and isinstance(item.get("type"), str):
            yield Action(item["type"], item)


def _since_ms(begun_ns: int) -> int:
    return (clock.now_ns() - begun_ns) // clock.NS_PER_MS
