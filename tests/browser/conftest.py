"""A real browser on a real gateway; skipped where there is no Chromium."""

from __future__ import annotations

import os
import shutil
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

from tests.integration.conftest import ROOT, Gateway
from tests.integration.conftest import gateway as gateway  # a fixture

NAMES = ("chromium", "chromium-browser", "chrome", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
CLIP = ROOT / "tests/fixtures/clips/en/goforward.wav"
SIZE = ViewportSize(width=1360, height=900)
FAKE_DEVICE = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)
#: No sandbox inside one, and no more than the 64 MB of /dev/shm that Docker gives.
AS_ROOT_IN_A_CONTAINER = ("--no-sandbox", "--disable-dev-shm-usage")
PATIENCE_MS = 90_000

Browse = Callable[..., Page]


def microphone(path: Path, silence_s: float) -> Path:
    """A recording that the browser takes for its microphone: silence, a human's words, silence."""
    with wave.open(str(CLIP)) as clip:
        parameters, words = clip.getparams(), clip.readframes(clip.getnframes())
    silence = bytes(int(silence_s * parameters.framerate) * parameters.sampwidth)
    with wave.open(str(path), "wb") as file:
        file.setparams(parameters)
        file.writeframes(silence + words + silence)
    return path


def screenshot(page: Page, name: str, folder: Path) -> None:
    """Keep a picture; in the folder SCREENSHOTS names, when it is set."""
    page.screenshot(
        path=Path(os.environ.get("SCREENSHOTS", folder)) / f"{name}.png", full_page=True
    )


def enough(count: int) -> int:
    """How many of as many will do: most for a picture, half of them on a machine that is slow."""
    return count * 9 // 10 if "SCREENSHOTS" in os.environ else count // 2


@pytest.fixture
def browse(tmp_path: Path) -> Iterator[Browse]:
    """Open the console in a browser of its own; errors of the page fail the test."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    troubles: list[str] = []
    browsers: list[Browser] = []
    with sync_playwright() as playwright:

        def browse(gateway: Gateway, *, speaks: bool = False, scheme: str = "light") -> Page:
            sound = microphone(tmp_path / "microphone.wav", silence_s=3)
            fake = [*FAKE_DEVICE, f"--use-file-for-fake-audio-capture={sound}"] if speaks else []
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=[*AS_ROOT_IN_A_CONTAINER, *fake]
            )
            browsers.append(browser)
            context = browser.new_context(viewport=SIZE, color_scheme=scheme)  # type: ignore[arg-type]
            page = open_page(context, gateway)
            page.on("pageerror", lambda error: troubles.append(str(error)))
            return page

        yield browse
        for browser in browsers:
            browser.close()
    assert troubles == []


def open_page(context: BrowserContext, gateway: Gateway) -> Page:
    """The console in one tab."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"http://127.0.0.1:{gateway.console_port}/")
    return page
