"""The rude peer's own bytes and ears."""

from __future__ import annotations

import asyncio

import pytest

from loadtest.rude import closing_all, dial, frame, upgrade


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x80"),
        (125, b"\x81\xfd"),
        (126, b"\x81\xfe\x00\x7e"),
        (65535, b"\x81\xfe\xff\xff"),
        (65536, b"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_frames(size: int, head: bytes) -> None:
    assert frame("x" * size) == head + bytes(4) + b"x" * size
    assert frame("x" * size, masked=False)[1] < 0x80


def test_the_end_of_a_connection_is_heard() -> None:
    answers = {
        "1008 no start": frame("b" * 128, masked=False) + b"\x88\x0a\x03\xf0no start",
        "1000": b"\x88\x02\x03\xe8",
        "cut": b"\x81\x01a",
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.write(answers[asked.split()[1].replace("_", " ")])
        writer.close()

    async def scene() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with closing_all():
            for expected in answers:
                raw = await dial(server.sockets[0].getsockname()[1])
                assert await raw.send(upgrade(expected.replace(" ", "_")))
                assert await raw.ending() == expected
        server.close()

    asyncio.run(scene())
