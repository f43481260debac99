"""The bare server shakes hands with a real client, and is gone afterwards."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import connect

from loadtest.fault_rows.bare import bare_server
from loadtest.fault_rows.gateway import knock


def test_it_completes_handshakes_and_goes() -> None:
    with bare_server(2) as server:
        asyncio.run(shake_hands(server.url, 20))
    assert knock(int(server.url.rsplit(":", 1)[1].strip("/"))) == "connection refused"


async def shake_hands(url: str, times: int) -> None:
    for _ in range(times):
        async with connect(url, close_timeout=0) as peer:
            await peer.send("anything")
