"""What a caller said last before they hung up: taken down, although nobody hears the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from gateway.errors import ProviderError
from gateway.limits import LAST_WORDS_MS_MAX
from gateway.responders.base import Responder, TakeMessage


async def take_down(responder: Responder, text: str, language: str) -> TakeMessage | None:
    """Let the responder hear it: it has when it begins to answer. What it stores is returned."""
    within_s = LAST_WORDS_MS_MAX / 1000
    try:
        async with asyncio.timeout(within_s), aclosing(responder.answer(text, language)) as replies:
            first = await anext(replies, None)
    except (ProviderError, TimeoutError):
        return None
    return first if isinstance(first, TakeMessage) else None


async def hand_over(
    responder: Responder, text: str, language: str, store: Callable[[TakeMessage], None]
) -> None:
    """The responder's end: have stored what it took down, the last words (if any) included."""
    stored = await take_down(responder, text, language) if text else None
    for message in filter(None, (stored, responder.pending())):
        store(message)
    await responder.aclose()
