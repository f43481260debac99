"""The softphone against a gateway whose every message is known."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.browser.conftest import PATIENCE_MS, Browse
from tests.integration.conftest import Gateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FRAME_MS = 20
FRAME = base64.b64encode(b"\x00\x30\x00\xd0" * 160).decode()  # loud
#: Nearly all that the page holds; to hear it to its end would take as long.
SPEECH_MS = 28_000


class Far:
    """The gateway's end: what it was sent, and what it sends."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.got: list[dict[str, Any]] = []
        self.route: WebSocketRoute | None = None

    def opened(self, route: WebSocketRoute) -> None:
        self.route = route
        route.on_message(lambda text: self.got.append(json.loads(text)))

    def send(self, **message: str) -> None:
        assert self.route is not None
        self.route.send(json.dumps(message))

    def find(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.got if message["type"] == kind]

    def until(self, kind: str) -> dict[str, Any]:
        """The first message of a kind, which comes, or the test runs out of time."""
        while not self.find(kind):
            self.page.wait_for_timeout(FRAME_MS)  # lets messages through
        return self.find(kind)[0]


@pytest.fixture(autouse=True)
def _patience() -> None:
    expect.set_options(timeout=PATIENCE_MS)


def test_language_keypad_interruption_and_captions(
    gateway: Callable[..., Gateway], browse: Browse
) -> None:
    page = browse(gateway("--responder", "echo"), speaks=True)
    far = Far(page)
    page.route_web_socket(re.compile("/plain$"), far.opened)
    page.get_by_label("Language").select_option("ru")
    page.get_by_role("button", name="Call", exact=True).click()
    init = far.until("init")
    assert init["languageHint"] == "ru"
    far.send(type="ready", callId=init["callId"])
    expect(page.locator("[data-part=status]")).to_have_text("Connected")
    assert len(base64.b64decode(far.until("audio")["payload"])) == FRAME_MS * 16 * 2
    page.get_by_role("button", name="Keypad").click()
    page.get_by_role("button", name="Pound").click()
    assert far.until("dtmf")["digit"] == "#"
    interrupt(page, far)
    say_and_end(page, far)


def interrupt(page: Page, far: Far) -> None:
    """What is not heard any more is silent, and told, at once."""
    began = time.monotonic()
    for _ in range(SPEECH_MS // FRAME_MS):
        far.send(type="audio_out", payload=FRAME)
    far.send(type="mark", name="end")
    level = "document.querySelector('[data-part=level-assistant]').value"
    page.wait_for_function(f"() => {level} > -30")
    assert not far.find("mark")
    far.send(type="clear")
    assert far.until("mark")["name"] == "end"
    assert time.monotonic() - began < SPEECH_MS / 1000  # it was not played to its end
    page.wait_for_function(f"() => {level} <= -60")


def say_and_end(page: Page, far: Far) -> None:
    """Words are text, whatever they are; the end has a reason."""
    far.send(type="transcript", role="assistant", text="<b>Hello</b>")
    far.send(type="error", message="a sentence")
    expect(page.locator(".captions .assistant")).to_contain_text("<b>Hello</b>")
    expect(page.locator("[data-part=status]")).to_have_text("a sentence")
    assert far.route is not None
    far.route.close(code=1001, reason="going away")
    expect(page.locator("[data-part=status]")).to_have_text("The call was cut: going away.")
    expect(page.locator("#phone")).to_have_attribute("data-state", "idle")
