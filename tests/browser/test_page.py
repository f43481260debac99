"""The first minute and the daily view, as a person has them: a real browser, voice and gateway."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.browser.callers import Caller, callers
from tests.browser.conftest import PATIENCE_MS, SIZE, Browse, enough, screenshot
from tests.browser.history import MINUTES, an_hour
from tests.integration.conftest import ROOT, Gateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CALLS = 20
CLIPS = ROOT / "tests/fixtures/clips"
#: Said in turn by the many; one in ten speaks Russian.
SAID = {
    "en/goforward": "en", "en/cards-001": "en", "ru/ast-conf-invalid": "ru", "en/cards-005": "en",
    "en/librivox-0930": "en", "en/ast-check-number-dial-again": "en", "en/cards-003": "en",
    "en/ast-conf-getconfno": "en", "en/librivox-0890": "en", "en/ast-invalid": "en",
}  # fmt: skip
#: On a slow machine speech may come too late, which is said as an error; here that is no fault.
QUIET = {"LOG_LEVEL": "fatal", "IDLE_PROMPT_MS": "120000"}
SECONDS = re.compile(r"^(\d+ ms|\d+\.\d s)$")
TOKEN = "a-token-of-enough-length"
#: The table scrolls in itself beyond the window's height less 24rem: here all its rows fit.
TALL = ViewportSize(width=1360, height=1960)
WHOLE_TABLE = """() => {
    const box = document.getElementById("live-scroll");
    return box.scrollHeight <= box.clientHeight;
}"""
#: Calls were understood and answered; just now somebody speaks, and somebody was interrupted.
IN_FULL_SWING = """(enough) => {
    const all = (what) => [...document.querySelectorAll(`#live-calls ${what}`)];
    const loud = (party) => all(`.levels [title=${party}]`).some((meter) => meter.value > -50);
    const answered = all(".number").filter((cell) => / m?s$/.test(cell.textContent));
    const interrupted = all(".words s").length > 0;
    return answered.length >= enough && interrupted && loud("Caller") && loud("Assistant");
}"""

Launch = Callable[..., Gateway]


@pytest.fixture(autouse=True)
def _patience() -> None:
    expect.set_options(timeout=PATIENCE_MS)


def call(page: Page) -> None:
    """Press the button; again when a busy machine takes no call for the moment."""
    phone = page.locator("#phone")
    for _ in range(30):
        page.get_by_role("button", name="Call", exact=True).click()
        expect(phone).not_to_have_attribute("data-state", "dialling")
        if phone.get_attribute("data-state") == "live":
            return
        page.wait_for_timeout(1_000)
    raise AssertionError(page.locator("[data-part=status]").inner_text())


def at_least(name: str, least: int) -> str:
    """For the page: whether what the phone counts has come that far."""
    return f"() => Number(document.getElementById('phone').dataset.{name} ?? 0) >= {least}"


def test_a_first_call(gateway: Launch, browse: Browse, tmp_path: Path) -> None:
    found = gateway("--responder", "message_taker", "--calls-per-worker", "16", **QUIET)
    page = browse(found, speaks=True)
    expect(page.locator("#live-empty")).to_be_visible()
    call(page)
    captions = page.locator(".phone .captions")
    expect(captions).to_contain_text("thank you for calling", ignore_case=True)
    # What the human on the recording says, understood; and said over the assistant, who stops.
    expect(captions.locator(".caller").first).to_contain_text("forward", ignore_case=True)
    expect(page.locator("#phone")).to_have_attribute("data-heard", "true")
    for name, least in (("clears", 1), ("marks", 1), ("answers", 1), ("received", 100)):
        page.wait_for_function(at_least(name, least))
    expect(page.locator("[data-part=answer]")).to_contain_text(SECONDS)
    row = page.locator("#live-calls tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("Softphone")
    expect(row.locator(".words")).not_to_be_empty()
    expect(row.get_by_text(SECONDS)).to_have_count(1)  # what the gateway has measured
    expect(page.locator("#chart circle").first).to_be_visible()
    page.wait_for_function(
        "() => document.querySelector('[data-part=level-assistant]').value > -40"
    )
    screenshot(page, "softphone", tmp_path)
    page.get_by_role("button", name="Keypad").click()
    page.get_by_role("button", name="5", exact=True).click()
    page.get_by_role("button", name="Mute").click()
    expect(page.get_by_role("button", name="Mute")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Hang up").click()
    expect(page.locator("[data-part=status]")).to_have_text("You hung up.")
    expect(row).to_have_count(0)
    see_what_is_left(page, tmp_path)


def see_what_is_left(page: Page, folder: Path) -> None:
    """The call with its turns, and its message: exported, then done."""
    page.get_by_role("link", name="Calls", exact=True).click()
    page.locator("#past-calls summary").first.click()
    expect(page.locator("#past-calls .caller").first).to_contain_text("forward", ignore_case=True)
    screenshot(page, "calls", folder)
    page.get_by_role("link", name="Messages").click()
    message = page.locator("#messages li")
    expect(message).to_have_count(1)
    screenshot(page, "messages", folder)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export CSV").click()
    with download.value.path().open(encoding="utf-8-sig", newline="") as file:
        (exported,) = csv.DictReader(file)
    assert "forward" in exported["reason"].lower()
    page.get_by_role("button", name="Mark done").click()
    expect(message).to_have_count(0)
    expect(page.get_by_label("Show done")).to_be_focused()
    page.get_by_label("Show done").check()
    expect(message).to_have_count(1)


def test_a_day_with_many_calls(gateway: Launch, browse: Browse, tmp_path: Path) -> None:
    an_hour(tmp_path)
    found = gateway("--responder", "message_taker", "--calls-per-worker", "64", **QUIET)
    page = browse(found)
    page.set_viewport_size(TALL)
    expect(page.locator("#chart .dot.p50")).to_have_count(MINUTES)
    said = itertools.islice(itertools.cycle(SAID.items()), CALLS)
    people = [Caller(CLIPS / f"{name}.wav", language) for name, language in said]
    with callers(found.url, people):
        rows = page.locator("#live-calls tr")
        expect(rows).to_have_count(CALLS)
        expect(page.locator("#calls")).to_have_text(str(CALLS))
        expect(page.locator("#live-calls")).to_contain_text("+155501019")
        page.wait_for_function(IN_FULL_SWING, arg=enough(CALLS))
        assert page.evaluate(WHOLE_TABLE), "the picture would cut the last rows off"
        screenshot(page, "console-light", tmp_path)
        theme = page.get_by_role("button", name=re.compile("Theme"))
        theme.click()
        theme.click()
        expect(theme).to_have_text("Theme: dark")
        screenshot(page, "console-dark", tmp_path)
        page.set_viewport_size(SIZE)
        page.get_by_role("link", name="System").click()
        expect(page.locator("#children tr").first).to_contain_text(f"{CALLS} / 64")
        screenshot(page, "system-dark", tmp_path)
    page.get_by_role("link", name="Live").click()
    expect(rows).to_have_count(0)


def test_a_call_that_is_read_stays_open_when_another_ends(gateway: Launch, browse: Browse) -> None:
    found = gateway("--responder", "echo", "--calls-per-worker", "16")
    one_call = ("--calls", "1", "--seconds", "1", "--scenario", "echo")
    assert found.simulate(*one_call)[0] == 0
    page = browse(found)
    page.get_by_role("link", name="Calls", exact=True).click()
    page.locator("#past-calls summary").click()
    opened = page.locator("#past-calls details[open]")
    expect(opened).to_have_count(1)
    assert found.simulate(*one_call, "--seed", "2")[0] == 0  # another call's id
    expect(page.locator("#past-calls > li")).to_have_count(2)
    expect(opened).to_have_count(1)
    expect(opened.locator("summary")).to_be_focused()


def test_the_keyboard_and_a_narrow_screen_will_do(gateway: Launch, browse: Browse) -> None:
    page = browse(gateway("--responder", "echo"))
    page.set_viewport_size({"width": 390, "height": 800})
    expect(page.locator("#health")).not_to_have_attribute("data-state", "unknown")
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.evaluate(wide)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Messages", level=1)).to_be_visible()
    expect(page.get_by_role("link", name="Messages")).to_have_attribute("aria-current", "page")


def test_without_a_microphone_it_says_what_to_do(gateway: Launch, browse: Browse) -> None:
    page = browse(gateway("--responder", "echo"))
    status = page.locator("[data-part=status]")
    page.get_by_role("button", name="Call", exact=True).click()
    expect(status).to_contain_text(re.compile("microphone was refused|No microphone was found"))
    expect(page.locator("#phone")).to_have_attribute("data-state", "idle")


def test_a_token_is_asked_for(gateway: Launch, browse: Browse, tmp_path: Path) -> None:
    found = gateway("--responder", "echo", CONSOLE_TOKEN=TOKEN)
    page = browse(found)
    dialog = page.locator("#sign-in")
    expect(dialog).to_be_visible()
    for given in ("a-token-of-another-kind", TOKEN):
        page.get_by_label("Token").fill(given)
        screenshot(page, "sign-in", tmp_path)
        page.get_by_role("button", name="Sign in").click()
        if given != TOKEN:
            expect(page.locator("#sign-in-trouble")).to_have_text(
                "That token is not the right one."
            )
    expect(page.locator("#health")).not_to_have_attribute("data-state", "unknown")
    page.reload()  # kept as long as the tab
    expect(page.locator("#health")).not_to_have_attribute("data-state", "unknown")
    expect(dialog).to_be_hidden()
