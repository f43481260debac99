"""Whole calls in which somebody answers: every process, real sockets; only ears and mouth stand in.

The speech server stands in because it takes seconds to start and does not decide anything here;
``test_receptionist`` has the real one.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twilio.request_validator import RequestValidator

from gateway.conversation.lexicon import lexicon
from tests.gateway.providers.backend_server import BackendServer, backend_server, slow
from tests.gateway.providers.twilio_server import ACCOUNT, TOKEN, twilio_server
from tests.integration.caller import Caller, calling, voice
from tests.integration.conftest import ROOT, Gateway
from tests.integration.speech_stand_in import SpeechStandIn, speech_stand_in
from tests.integration.test_echo import wait_until
from tests.integration.test_worker_duties import dial

pytestmark = pytest.mark.timeout(120)

CLIP = voice(ROOT / "tests/fixtures/clips/en/cards-003.wav")
CALL = "CA00000000000000000000000000000001"
NUMBER = "+15551234567"
SENTENCES = lexicon("en").sentences
ONE_WORKER = ("--workers", "1", "--calls-per-worker", "8")

Launch = Callable[..., Gateway]

#: What the carrier calls us: its signature is of this name.
HOST = "gateway.example"


@pytest.fixture(scope="module")
def speech_server() -> Iterator[SpeechStandIn]:
    with speech_stand_in() as speech:
        yield speech


@pytest.fixture
def speech(speech_server: SpeechStandIn) -> SpeechStandIn:
    speech_server.said.clear()
    speech_server.hears, speech_server.delay_s = "", 0.0
    return speech_server


@pytest.fixture
def backend() -> Iterator[BackendServer]:
    with backend_server() as backend:
        backend.opening = "Where does it hurt?"
        yield backend


def launch_with(gateway: Launch, speech: SpeechStandIn, *flags: str, **how: str) -> Gateway:
    urls = {"STT_BASE_URL": speech.url, "TTS_BASE_URL": speech.url}
    return gateway(*ONE_WORKER, *flags, **(urls | {"LANGUAGE": "en"} | how))


def call(running: Gateway, scene: Callable[[Caller], Awaitable[None]], call_id: str = CALL) -> None:
    """One call; the scene ends it by returning, if nobody else has."""

    async def play() -> None:
        url = f"wss://{HOST}/twilio"
        signed = {"X-Twilio-Signature": RequestValidator(TOKEN).compute_signature(url, {})}
        socket = await dial(f"{running.url}twilio", additional_headers=signed)
        async with calling(socket, call_id, **{"from": NUMBER, "callerName": "Ann"}) as caller:
            await scene(caller)

    asyncio.run(play())


async def says(caller: Caller, speech: SpeechStandIn, text: str) -> None:
    """Wait until the assistant has spoken, then say what is understood as ``text``.

    What the stand-in was asked to say tells little: workers have fixed sentences spoken beforehand.
    """
    await caller.until(lambda: caller.answered)
    speech.hears = text
    caller.say(CLIP)


def only_call(running: Gateway) -> dict[str, Any]:
    """The one call that is on record."""
    (found,) = calls(running)
    return found


def stored(running: Gateway) -> dict[str, Any]:
    """The same, once it has ended."""
    wait_until(lambda: bool(only_call(running)["ended_at_ms"]))
    return only_call(running)


def texts(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(turn["role"], turn["responder"], turn["text"]) for turn in found["turns"]]


def test_a_backend_holds_a_call_and_has_it_ended_at_the_carrier(
    gateway: Launch, speech: SpeechStandIn, backend: BackendServer
) -> None:
    backend.actions["good bye"] = [{"type": "hangup"}]
    with twilio_server() as twilio:
        twilio.calls[CALL] = "in-progress"
        running = launch_with(
            gateway,
            speech,
            "--responder",
            "backend",
            BACKEND_API_BASE_URL=backend.url,
            TWILIO_ACCOUNT_SID=ACCOUNT,
            TWILIO_AUTH_TOKEN=TOKEN,
            PUBLIC_URL=f"https://{HOST}",
            TWILIO_API_BASE_URL=twilio.url,
        )

        async def scene(caller: Caller) -> None:
            await says(caller, speech, "I am ill")
            await caller.until(lambda: "Where does it hurt?" in speech.said)
            await says(caller, speech, "good bye")
            await caller.until(lambda: twilio.calls[CALL] == "completed")
            assert "You said good bye." in speech.said
            assert caller.silent, "the last words were heard before"
            await caller.until(caller.closed.is_set)

        call(running, scene)
        found = stored(running)
        assert twilio.asked == [(CALL, {"Status": "completed"})]
    assert (found["conversation_id"], found["summary"]) == ("conv-1", "about good bye")
    assert found["end_reason"] == "hang-up"
    assert texts(found)[-4:] == [
        ("caller", "", "I am ill"),
        ("assistant", "backend", "Where does it hurt?"),
        ("caller", "", "good bye"),
        ("assistant", "backend", "You said good bye."),
    ]
    assert backend.asked[0].body == {
        "callerName": "Ann",
        "phoneNumber": NUMBER,
        "languageHint": "en",
        "context": {"callId": CALL, "firstUtterance": "I am ill"},
    }
    log = running.log()
    for event in ("conversation started", "message sent", "reply received"):
        assert event in log
    for private in ("I am ill", "good bye", "hurt", NUMBER, "Ann", TOKEN):
        assert private not in log


@pytest.mark.slow
def test_a_call_is_handed_over_after_the_last_words(
    gateway: Launch, speech: SpeechStandIn, backend: BackendServer, tmp_path: Path
) -> None:
    profile = 'business_name = "Clinic"\n[transfer_targets]\nnurse = "+15550001111"\n'
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "default.toml").write_text(profile)
    backend.actions["a nurse"] = [{"type": "transfer", "target": "nurse"}]
    with twilio_server() as twilio:
        twilio.calls[CALL] = "in-progress"
        running = launch_with(
            gateway,
            speech,
            "--responder",
            "backend",
            PROFILE_DIR=str(tmp_path / "profiles"),
            BACKEND_API_BASE_URL=backend.url,
            BACKEND_START="call",
            TWILIO_ACCOUNT_SID=ACCOUNT,
            TWILIO_AUTH_TOKEN=TOKEN,
            PUBLIC_URL=f"https://{HOST}",
            TWILIO_API_BASE_URL=twilio.url,
        )

        async def scene(caller: Caller) -> None:
            await says(caller, speech, "a nurse")
            await caller.until(lambda: bool(twilio.asked))
            assert caller.silent, "the last words were heard before"
            await caller.until(caller.closed.is_set)

        call(running, scene)
        found = stored(running)
        twiml = "<Response><Dial>+15550001111</Dial></Response>"
        assert twilio.asked == [(CALL, {"Twiml": twiml})]
    assert found["end_reason"] == "transfer"
    assert [(t["to_number"], t["result"]) for t in found["transfers"]] == [("+15550001111", "done")]
    assert texts(found)[0] == ("assistant", "backend", "Where does it hurt?"), "it greets"
    assert "+15550001111" not in running.log()


@pytest.mark.slow
def test_a_backend_that_stops_in_a_call_is_followed_by_the_message_taker(
    gateway: Launch, speech: SpeechStandIn
) -> None:
    """And what the caller has said by then is a message, although they hang up half-way."""
    with backend_server() as backend:
        backend.opening = "Where does it hurt?"
        running = launch_with(
            gateway,
            speech,
            "--responder",
            "backend,message_taker",
            BACKEND_API_BASE_URL=backend.url,
            BACKEND_API_TIMEOUT_MS="1000",
        )

        async def scene(caller: Caller) -> None:
            await says(caller, speech, "I am ill")
            await caller.until(lambda: "Where does it hurt?" in speech.said)
            backend.next.extend([slow(60)] * 9)  # it hangs, which is worse than being gone
            await says(caller, speech, "in my head")
            await caller.until(lambda: took_over in texts(only_call(running)))

        took_over = ("assistant", "message_taker", SENTENCES["take_over"])
        call(running, scene)
    found = stored(running)
    assert texts(found).count(took_over) == 1
    (message,) = running.get("/api/messages")["messages"]
    assert message["fields"] == {"reason": "in my head", "status": "partial"}
    assert found["end_reason"] in ("disconnected", "stopped")


@pytest.mark.slow
def test_a_gateway_that_only_listens_says_nothing(gateway: Launch, speech: SpeechStandIn) -> None:
    running = launch_with(gateway, speech, AI_CONVERSATION_ENABLED="false")

    async def scene(caller: Caller) -> None:
        for text in ("hello?", "is anybody there?"):
            speech.hears, before = text, speech.heard
            caller.say(CLIP)
            await caller.until(lambda: speech.heard > before)  # noqa: B023 - awaited here
            await caller.until(lambda: turns_on_record(running) > 0)
        assert caller.frames_heard == 0

    call(running, scene)
    assert texts(stored(running)) == [
        ("caller", "", "hello?"),
        ("caller", "", "is anybody there?"),
    ]
    assert speech.said == []


def calls(running: Gateway) -> list[dict[str, Any]]:
    return list(running.get("/api/calls")["calls"])


def turns_on_record(running: Gateway) -> int:
    return sum(len(c["turns"]) for c in calls(running))


@pytest.mark.slow
def test_a_worker_killed_in_a_call_loses_the_sentence_in_flight_at_most(
    gateway: Launch, speech: SpeechStandIn
) -> None:
    running = launch_with(gateway, speech)
    said = ["my garden is on fire", "Thank you. You said: my garden is on fire."]

    async def scene(caller: Caller) -> None:
        await says(caller, speech, said[0])
        await caller.until(lambda: said[1] in [text for _, _, text in texts(only_call(running))])
        (worker,) = [w for w in running.children("worker") if w["state"] == "ready"]
        os.kill(worker["pid"], signal.SIGKILL)
        await caller.until(caller.closed.is_set)

    call(running, scene)
    # All but the question that was being asked, which may be there as well.
    wait_until(lambda: set(said) <= {text for _, _, text in texts(only_call(running))})
    assert only_call(running)["ended_at_ms"] is None, "nobody was left to tell of its end"
    wait_until(lambda: "ready" in [w["state"] for w in running.children("worker")])


@pytest.mark.slow
def test_who_hangs_up_before_they_were_understood_has_said_it(
    gateway: Launch, speech: SpeechStandIn
) -> None:
    running = launch_with(gateway, speech)

    async def scene(caller: Caller) -> None:
        await says(caller, speech, "my garden is on fire")
        speech.delay_s = 1.0
        asked = speech.asked
        await caller.until(lambda: speech.asked > asked)

    call(running, scene)
    wait_until(lambda: len(running.get("/api/messages")["messages"]) == 1)
    (message,) = running.get("/api/messages")["messages"]
    assert message["fields"] == {"reason": "my garden is on fire", "status": "partial"}
    assert ("caller", "", "my garden is on fire") in texts(stored(running))


@pytest.mark.slow
def test_a_changed_profile_counts_after_a_reload_and_a_bad_one_does_not(
    gateway: Launch, speech: SpeechStandIn, tmp_path: Path
) -> None:
    profile = tmp_path / "profiles" / "default.toml"
    profile.parent.mkdir()
    running = None

    def greeting(call_id: str) -> str:
        """From the record: workers have their fixed sentences spoken when nobody calls, too."""

        async def scene(caller: Caller) -> None:
            await caller.until(lambda: caller.frames_heard > 0 and caller.silent)

        def record() -> dict[str, Any] | None:
            assert running is not None
            found = (c for c in calls(running) if c["call_id"] == call_id and c["ended_at_ms"])
            return next(found, None)

        assert running is not None
        call(running, scene, call_id)
        wait_until(lambda: record() is not None)
        return texts(record() or {})[0][2]

    profile.write_text('business_name = "First"\n[greeting]\nen = "This is {business}."\n')
    running = launch_with(gateway, speech, PROFILE_DIR=str(profile.parent))
    assert greeting("CA00000000000000000000000000000001") == "This is First."
    profile.write_text('business_name = "Second"\n[greeting]\nen = "This is {business}."\n')
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: '"event":"drained"' in running.log())
    assert greeting("CA00000000000000000000000000000002") == "This is Second."
    profile.write_text("busines_name = 1")
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "did you mean business_name?" in running.log())
    assert greeting("CA00000000000000000000000000000003") == "This is Second."
