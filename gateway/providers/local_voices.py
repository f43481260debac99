"""Which languages the local speech server can speak: an endpoint of ours, not of the OpenAI API."""

from __future__ import annotations

import httpx2
import orjson

from gateway import clock
from gateway.errors import ProviderError

_ASK_AGAIN_MS = 500


async def spoken_languages(base_url: str, wait_ms: int) -> dict[str, str]:
    """Language -> "" when it has a voice, else what to install for one.

    Asks until the server answers, since it may still be loading. Raises ProviderError after
    ``wait_ms``.
    """
    gives_up_ns = clock.now_ns() + wait_ms * clock.NS_PER_MS
    async with httpx2.AsyncClient(trust_env=False, timeout=wait_ms / 1000) as client:
        while True:
            try:
                answer = await client.get(f"{base_url}/voices")
                answer.raise_for_status()
                listed = orjson.loads(answer.content)
                return {name: str(entry.get("install", "")) for name, entry in listed.items()}
            except (httpx2.HTTPError, orjson.JSONDecodeError, AttributeError) as error:
                if clock.now_ns() >= gives_up_ns:
                    raise ProviderError("the speech server does not list its voices") from error
            await clock.sleep_ms(_ASK_AGAIN_MS)
