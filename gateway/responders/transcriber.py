"""Says nothing: what the caller says is transcribed and recorded, that is all.

For a gateway that only listens (``AI_CONVERSATION_ENABLED=false``): the pipeline tells its
observer of every utterance whether or not it is answered.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gateway.conversation.endpointing import Question
from gateway.responders.base import Reply, TakeMessage


async def _nothing() -> AsyncGenerator[Reply, None]:
    nothing: tuple[Reply, ...] = ()
    for reply in nothing:
        yield reply


class Transcriber:
    """A Responder without words."""

    question = Question.OPEN

    def greet(self) -> AsyncGenerator[Reply, None]:
        """Nothing."""
        return _nothing()

    def answer(self, text: str, language: str) -> AsyncGenerator[Reply, None]:
        """Nothing: it is on record."""
        return _nothing()

    def digits(self, digits: str) -> AsyncGenerator[Reply, None]:
        """Nothing."""
        return _nothing()

    def part(self, language: str) -> AsyncGenerator[Reply, None]:
        """Nothing."""
        return _nothing()

    def heard(self, text: str) -> None:
        """Nothing was said."""

    def pending(self) -> TakeMessage | None:
        """Nothing was asked."""
        return None

    async def aclose(self) -> None:
        """Nothing is held."""
