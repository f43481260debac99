"""A conversation as a chat model is shown it: what was said, and only what was heard of it. Pure.

An :class:`Exchange` is what the caller said and everything done about it, in order: text that was
spoken, and tool calls with their results. When the caller interrupts, the text is cut to what
they heard: a model that believes it said more goes on as if the caller knew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.limits import CHAT_EXCHANGES_MAX

Message = Mapping[str, object]


@dataclass(slots=True)
class Exchange:
    """``said`` holds spoken texts and, as tuples, messages about tools."""

    caller: str
    said: list[str | tuple[Message, ...]] = field(default_factory=list)
    is_answered: bool = False

    @property
    def text(self) -> str:
        """Everything spoken."""
        return " ".join(part for part in self.said if isinstance(part, str))

    def cut(self, heard: str) -> None:
        """Keep of the spoken text what was heard."""
        text = self.text
        found = text.find(heard)
        kept = text[: found + len(heard)] if heard and found >= 0 else heard
        first = next((at for at, part in enumerate(self.said) if isinstance(part, str)), None)
        if first is None:
            return
        rest = [part for part in self.said[first:] if not isinstance(part, str)]
        self.said[first:] = [*([kept] if kept else []), *rest]

    def messages(self) -> list[Message]:
        """It as chat messages; texts that follow each other are one."""
        found: list[Message] = [{"role": "user", "content": self.caller}] if self.caller else []
        spoken: list[str] = []
        for part in (*self.said, ()):
            if isinstance(part, str):
                spoken.append(part)
                continue
            if spoken:
                found.append({"role": "assistant", "content": " ".join(spoken)})
                spoken = []
            found += part
        return found


class ChatThread:
    """The exchanges of one call; the oldest are forgotten."""

    __slots__ = ("_exchanges",)

    def __init__(self, exchanges_max: int = CHAT_EXCHANGES_MAX) -> None:
        assert exchanges_max >= 1
        self._exchanges: deque[Exchange] = deque(maxlen=exchanges_max)

    def begin(self, caller: str) -> Exchange:
        """The caller said this; "" = the assistant speaks first.

        A caller who went on before hearing an answer is given to us with both parts: that is then
        one utterance, and what was begun about its first part is void.
        """
        if self._exchanges:
            last = self._exchanges[-1]
            if last.caller and not last.is_answered and caller.startswith(last.caller):
                self._exchanges.pop()
        exchange = Exchange(caller)
        self._exchanges.append(exchange)
        return exchange

    def heard(self, text: str) -> None:
        """The caller interrupted the last answer after hearing this much of it."""
        if self._exchanges:
            self._exchanges[-1].cut(text)
            self._exchanges[-1].is_answered |= bool(text)

    def messages(self, briefing: str) -> list[Message]:
        """All of it, after what the model is told first."""
        system: list[Message] = [{"role": "system", "content": briefing}]
        return system + [message for one in self._exchanges for message in one.messages()]


def tool_messages(calls: Sequence[tuple[str, str, str]], results: Sequence[str]) -> list[Message]:
    """Tool calls (id, name, arguments) and what came of each, as the model is to see them."""
    asked = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id_, name, arguments in calls
    ]
    found: list[Message] = [{"role": "assistant", "tool_calls": asked}]
    for (id_, _, _), result in zip(calls, results, strict=True):
        found.append({"role": "tool", "tool_call_id": id_, "content": result})
    return found
