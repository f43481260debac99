"""Who hangs up in the midst of a sentence has said it all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from gateway import last_words
from gateway.conversation.profile import Profile
from gateway.errors import ProviderError
from gateway.last_words import take_down
from gateway.responders.base import CallInfo, Reply, TakeMessage
from gateway.responders.message_taker import MessageTaker


def taker() -> MessageTaker:
    return MessageTaker(Profile(business_name="Clinic"), CallInfo("CA1", "", "", "en"))


def tell(responder: MessageTaker, *said: str) -> TakeMessage | None:
    async def scene() -> TakeMessage | None:
        stored = None
        for text in said:
            stored = await take_down(responder, text, "en")
        return stored

    return asyncio.run(scene())


def test_the_answer_to_the_open_question_is_taken_down() -> None:
    responder = taker()
    assert tell(responder, "I am ill", "my name is John Smith and") is None
    pending = responder.pending()
    assert pending is not None
    assert pending.fields == {"reason": "I am ill", "name": "John Smith", "status": "partial"}


def test_what_would_be_stored_now_is_given_back() -> None:
    responder = taker()
    stored = tell(responder, "I am ill", "John Smith", "five five five one two three four", "yes")
    assert stored is not None
    assert stored.fields["status"] == "confirmed"
    assert responder.pending() is None, "and not a second time"


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "hangs"])
def test_a_responder_that_does_not_answer_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
    fails: bool,  # noqa: FBT001 - parametrised
) -> None:
    monkeypatch.setattr(last_words, "LAST_WORDS_MS_MAX", 10)
    responder = taker()

    async def answer(text: str, language: str) -> AsyncGenerator[Reply, None]:
        if fails:
            raise ProviderError(text)
        await asyncio.Event().wait()
        yield TakeMessage({language: text})

    monkeypatch.setattr(responder, "answer", answer)
    assert tell(responder, "I am ill") is None
