"""A language model that answers: any server with the OpenAI chat API, streamed clause by clause.

What it says is spoken as it comes. What it wants done (hang up, transfer, keep a message) is
checked against the profile first; a request that cannot be met is told to the model, which may
then say something else. It is asked a few times a turn at most, and a call has a budget of tokens.

A model that fails, or has nothing to say, raises ``ProviderError``: somebody else answers then
(``chain.py``). A caller who interrupts closes the generator, and with it the request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from gateway.conversation.briefing import briefing
from gateway.conversation.call_tools import Keep, Leave, Refused, read_request, tools
from gateway.conversation.chat_thread import ChatThread, Exchange, tool_messages
from gateway.conversation.clauses import ClauseSplitter
from gateway.conversation.endpointing import Question
from gateway.conversation.language import normalise
from gateway.conversation.lexicon import lexicon
from gateway.conversation.profile import Profile
from gateway.errors import ProviderError
from gateway.limits import CHAT_REPLY_TOKENS_MAX, CHAT_ROUNDS_MAX
from gateway.providers.base import Chat, ChatRequest, ToolCall
from gateway.providers.deadlines import CHAT_PATIENCE
from gateway.responders.base import CallInfo, HangUp, Reply, Reporter, Say, TakeMessage, Transfer
from gateway.responders.opening import first_language, opening, say

#: Languages differ; this is for a bound, not for a bill.
CHARS_PER_TOKEN = 4


class LanguageModels:
    """What the calls of a worker share: the chat and its connections."""

    def __init__(self, chat: Chat, tokens_max: int) -> None:
        """``tokens_max`` is what one call may cost; 0 = no limit."""
        self._chat = chat
        self._tokens_max = tokens_max

    @property
    def deadline_ms(self) -> int:
        """How long its first words may take at most."""
        return CHAT_PATIENCE.budget_ms

    def responder(self, profile: Profile, call: CallInfo, _reporter: Reporter) -> LanguageModel:
        """One call's responder."""
        return LanguageModel(profile, call, self._chat, self._tokens_max)

    async def aclose(self) -> None:
        """The worker ends: close connections."""
        await self._chat.aclose()


class LanguageModel:
    """The Responder that asks a language model."""

    def __init__(self, profile: Profile, call: CallInfo, chat: Chat, tokens_max: int) -> None:
        self._profile = profile
        self._language = first_language(profile, call)
        self._chat = chat
        self._tokens_max = tokens_max
        self._tokens = 0
        self._thread = ChatThread()
        self._tools = [_function(tool) for tool in tools(profile.transfer_targets)]

    @property
    def question(self) -> Question:
        """What kind of answer is expected now: nobody knows."""
        return Question.OPEN

    async def greet(self) -> AsyncGenerator[Reply, None]:
        """The profile's greeting and how to help; no model is asked for that."""
        language = self._language
        exchange = self._thread.begin("")
        for words in (
            *opening(self._profile, language),
            say(self._sentence("how_help"), self._profile, language),
        ):
            yield self._say(exchange, words.text)
        exchange.is_answered = True

    async def answer(self, text: str, language: str) -> AsyncGenerator[Reply, None]:
        """What the model says to an utterance."""
        self._language = normalise(language) or self._language
        exchange = self._thread.begin(text)
        if self._tokens_max and self._tokens >= self._tokens_max:
            yield self._say(exchange, self._sentence("parting"))
            yield HangUp()
            return
        for _ in range(CHAT_ROUNDS_MAX):
            calls: list[ToolCall] = []
            async with aclosing(self._converse(exchange, calls)) as replies:
                async for spoken in replies:
                    yield spoken
            for reply in self._do(exchange, calls):
                if isinstance(reply, HangUp | Transfer) and not exchange.text:
                    yield self._say(exchange, self._sentence("farewell"))
                yield reply
            if exchange.is_answered:
                return
        raise ProviderError("chat: the model has nothing to say")

    async def digits(self, digits: str) -> AsyncGenerator[Reply, None]:
        """Keypad input is told as such."""
        async with aclosing(self.answer(f"(typed on the keypad: {digits})", "")) as replies:
            async for reply in replies:
                yield reply

    async def part(self, language: str) -> AsyncGenerator[Reply, None]:
        """Ask the caller to call again."""
        self._language = normalise(language) or self._language
        yield Say(self._sentence("parting"), self._language)

    def heard(self, text: str) -> None:
        """The caller cut the last reply short after hearing this much of it."""
        self._thread.heard(text)

    def pending(self) -> TakeMessage | None:
        """A message is handed over as soon as the model has taken it down."""
        return None

    async def aclose(self) -> None:
        """A request that runs was closed with its generator."""

    async def _converse(
        self, exchange: Exchange, calls: list[ToolCall]
    ) -> AsyncGenerator[Say, None]:
        """One request: what it says; what it wants done is put into ``calls``."""
        messages = self._thread.messages(briefing(self._profile, self._language))
        request = ChatRequest(messages, self._tools, CHAT_REPLY_TOKENS_MAX)
        splitter = ClauseSplitter()
        told = chars = 0
        try:
            async with aclosing(self._chat.converse(request)) as stream:
                async for item in stream:
                    if isinstance(item, str):
                        chars += len(item)
                        for clause in splitter.feed(item):
                            yield self._say(exchange, clause)
                    elif isinstance(item, ToolCall):
                        calls.append(item)
                    else:
                        told = item
            for clause in splitter.flush():
                yield self._say(exchange, clause)
        finally:  # an answer that was cut short costs as well
            asked = sum(len(str(message)) for message in messages)
            self._tokens += told or (asked + chars) // CHARS_PER_TOKEN

    def _do(self, exchange: Exchange, calls: list[ToolCall]) -> list[Reply]:
        """What is to be done, and note in the exchange what came of each tool call."""
        replies: list[Reply] = []
        results: list[str] = []
        requests = [
            read_request(call.name, call.arguments, self._profile.transfer_targets)
            for call in calls
        ]
        for request in requests:
            results.append(request.reason if isinstance(request, Refused) else "done")
            if isinstance(request, Keep):
                replies.append(TakeMessage(dict(request.fields)))
        leaves = [request for request in requests if isinstance(request, Leave)]
        if leaves:
            number = leaves[-1].number
            replies.append(Transfer(number) if number else HangUp())
        said = bool(exchange.text)
        if calls:
            named = [(call.id, call.name, call.arguments) for call in calls]
            exchange.said.append(tuple(tool_messages(named, results)))
        refused = any(isinstance(request, Refused) for request in requests)
        exchange.is_answered = bool(leaves) or (said and not refused)
        return replies

    def _say(self, exchange: Exchange, text: str) -> Say:
        exchange.said.append(text)
        return Say(text, self._language)

    def _sentence(self, name: str) -> str:
        return lexicon(self._language).sentences[name]


def _function(tool: Mapping[str, object]) -> Mapping[str, object]:
    """A tool in the shape of the chat API."""
    return {
        "type": "function",
        "function": {key: value for key, value in tool.items() if key != "type"},
    }
