"""What the supervisor does for its children's hosts: processors of their own, bounded memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import psutil
import pytest

from tests.integration.conftest import Gateway
from tests.integration.test_bad_input import media, start_message
from tests.integration.test_echo import wait_until
from tests.integration.test_worker_duties import dial, frames_until

#: Less than any worker has, so that each is replaced when it has been healthy for a minute.
RSS_MB = "20"
HEALTHY_S = 60


def cpus_of(running: Gateway, kind: str) -> list[set[int]]:
    return [os.sched_getaffinity(c["pid"]) for c in running.children(kind) if c["pid"]]


def test_children_run_on_the_processors_they_were_given(gateway: Callable[..., Gateway]) -> None:
    ours = sorted(os.sched_getaffinity(0))
    first, last = ours[0], ours[-1]
    pinned = ",".join(map(str, dict.fromkeys((last, first))))
    running = gateway("--workers", "2", "--responder", "echo", PIN_CPUS=pinned)
    assert cpus_of(running, "worker") == [{last}, {first}]
    assert cpus_of(running, "dsp") == [{first, last}] * 2
    assert cpus_of(running, "console") == [set(ours)]


@pytest.mark.slow
@pytest.mark.timeout(HEALTHY_S + 120)
def test_a_worker_that_holds_too_much_memory_is_replaced_while_its_call_goes_on(
    gateway: Callable[..., Gateway],
) -> None:
    running = gateway("--workers", "1", "--responder", "echo", WORKER_RSS_MB_MAX=RSS_MB)
    (old,) = (child["pid"] for child in running.children("worker") if child["pid"])

    async def talk() -> None:
        client = await dial(running.url)
        await client.send(start_message("MZ1"))
        for _ in range(HEALTHY_S + 60):
            await client.send(media("MZ1"))
            assert await frames_until(client, 1) == 1
            if any(child["state"] == "draining" for child in running.children("worker")):
                break
            await asyncio.sleep(1)
        assert "it holds too much memory" in running.log()
        assert psutil.pid_exists(old)
        for _ in range(20):
            await client.send(media("MZ1"))
            assert await frames_until(client, 1) == 1
        newcomer = await dial(running.url)
        await newcomer.close()
        await client.close()

    asyncio.run(talk())
    wait_until(lambda: not psutil.pid_exists(old))
