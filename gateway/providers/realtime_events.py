"""The events of OpenAI's Realtime API as we write and read them. Pure.

Only what we need of each server event is read, field by field and with a check, never the whole
against the library's models: a server that adds a field or leaves one out ends no call. What
cannot be read raises ``GarbageError`` and is skipped and counted by whoever asked.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import orjson

JsonObject = dict[str, object]

#: Longest text of one event that we keep (a transcript, the arguments of a function).
TEXT_CHARS_MAX = 16_384
ID_CHARS_MAX = 256


class GarbageError(ValueError):
    """An event that is not what the API describes; the message quotes nothing of it."""


# --------------------------------------------------------------------------- reading


def read_event(message: str | bytes) -> JsonObject:
    """Parse one message: a JSON object with a ``type``. Raises ``GarbageError``."""
    try:
        event: object = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        raise GarbageError("not JSON") from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise GarbageError("no event")
    return event


def text_of(event: Mapping[str, object], name: str) -> str:
    """A text, cut to what we keep. Raises ``GarbageError`` when there is none."""
    value = event.get(name)
    if not isinstance(value, str):
        raise GarbageError(f"no {name}")
    return value[:TEXT_CHARS_MAX]


def id_of(event: Mapping[str, object], name: str) -> str:
    """An id, never empty. Raises ``GarbageError``."""
    value = text_of(event, name)
    if not 0 < len(value) <= ID_CHARS_MAX:
        raise GarbageError(f"no {name}")
    return value


def object_of(event: Mapping[str, object], name: str) -> JsonObject:
    """An object within the event; an empty one when it is absent or null."""
    value = event.get(name)
    return value if isinstance(value, dict) else {}


def audio_of(event: Mapping[str, object]) -> bytes:
    """The audio of a delta. Raises ``GarbageError``."""
    value = event.get("delta")
    if not isinstance(value, str):
        raise GarbageError("no delta")
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError as error:
        raise GarbageError("the delta is not base64") from error


def count_of(fields: Mapping[str, object], name: str) -> int:
    """A number of tokens; 0 when it is absent or none."""
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


# --------------------------------------------------------------------------- writing


def session_update(session: JsonObject) -> JsonObject:
    """Configure the session."""
    return {"type": "session.update", "session": session}


def append(audio: bytes) -> JsonObject:
    """More of the caller's audio."""
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(audio).decode()}


def commit() -> JsonObject:
    """What was appended is one utterance."""
    return {"type": "input_audio_buffer.commit"}


def clear() -> JsonObject:
    """Forget what was appended and not committed."""
    return {"type": "input_audio_buffer.clear"}


def response_create(instructions: str = "", *, tools: bool = True) -> JsonObject:
    """Have the model speak; ``instructions`` replace the session's for this response only."""
    response: JsonObject = {}
    if instructions:
        response["instructions"] = instructions
    if not tools:
        response["tool_choice"] = "none"
    return {"type": "response.create", "response": response}


def response_cancel() -> JsonObject:
    """Stop the response that is being made."""
    return {"type": "response.cancel"}


def truncate(item_id: str, audio_end_ms: int) -> JsonObject:
    """Of this item of the assistant's only so much was heard."""
    return {
        "type": "conversation.item.truncate",
        "item_id": item_id,
        "content_index": 0,
        "audio_end_ms": audio_end_ms,
    }


def message_item(role: str, text: str) -> JsonObject:
    """A text into the conversation, as said by ``user``, ``assistant`` or ``system``."""
    kind = "output_text" if role == "assistant" else "input_text"
    item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
    return {"type": "conversation.item.create", "item": item}


def function_output(call_id: str, output: str) -> JsonObject:
    """What a function gave, for the model."""
    item = {"type": "function_call_output", "call_id": call_id, "output": output}
    return {"type": "conversation.item.create", "item": item}
