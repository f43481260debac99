"""What a model may do in a call: its functions, and the check of its requests. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

ARGUMENT_CHARS_MAX = 1_000
#: What a message may hold; the model is asked for the first three.
MESSAGE_FIELDS = ("name", "number", "reason", "note")


@dataclass(frozen=True, slots=True)
class Leave:
    """End the call, or hand it over to ``number``, once the last words were heard."""

    number: str = ""


@dataclass(frozen=True, slots=True)
class Keep:
    """Store a message of the caller's."""

    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Refused:
    """The model asked for what cannot be; ``reason`` is for the model."""

    reason: str


Request = Leave | Keep | Refused


def tools(transfer_targets: Mapping[str, str]) -> list[dict[str, object]]:
    """The functions in the API's words; there is no transfer where nobody may be called."""
    found = [
        _tool("hang_up", "End the call. Say goodbye first.", {}, ()),
        _tool(
            "take_message",
            "Store a message for the business. Read it back to the caller before.",
            {
                "name": _text("Who calls."),
                "number": _text("The number to call back, digits with an optional +."),
                "reason": _text("What it is about, in the caller's words."),
                "note": _text("Anything else that helps."),
            },
            ("name", "reason"),
        ),
    ]
    if transfer_targets:
        target = {"type": "string", "enum": sorted(transfer_targets)}
        what = "Put the caller through. Say so first."
        found.append(_tool("transfer_call", what, {"target": target}, ("target",)))
    return found


def read_request(name: str, arguments: str, transfer_targets: Mapping[str, str]) -> Request:
    """Check what the model asks for; nothing that it invents gets past here."""
    try:
        fields: object = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return Refused("the arguments are not JSON")
    if not isinstance(fields, dict):
        return Refused("the arguments are not an object")
    if name == "hang_up":
        return Leave()
    if name == "take_message":
        return _message(fields)
    if name == "transfer_call":
        target = fields.get("target")
        number = transfer_targets.get(target) if isinstance(target, str) else None
        known = ", ".join(sorted(transfer_targets)) or "nobody"
        return Leave(number) if number else Refused(f"no such target; there is {known}")
    return Refused("there is no such function")


def _message(fields: Mapping[str, object]) -> Request:
    kept: dict[str, str] = {}
    for name in MESSAGE_FIELDS:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            kept[name] = value.strip()[:ARGUMENT_CHARS_MAX]
    missing = [name for name in ("name", "reason") if name not in kept]
    return Refused(f"ask the caller for: {', '.join(missing)}") if missing else Keep(kept)


def _text(description: str) -> dict[str, object]:
    return {"type": "string", "description": description, "maxLength": ARGUMENT_CHARS_MAX}


def _tool(
    name: str, description: str, properties: Mapping[str, object], required: tuple[str, ...]
) -> dict[str, object]:
    parameters = {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }
    return {
        "type": "function",
        "name": name,
        "description": description,
        "parameters": parameters,
    }
