"""The core of a Realtime call: deadlines, losses, and any order of events whatever."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.format import NS_PER_MS, Encoding
from gateway.conversation.call_tools import Keep, Leave
from gateway.conversation.history import Role
from gateway.conversation.realtime_actions import (
    Action,
    Do,
    Failed,
    GiveUp,
    Interrupted,
    Phase,
    Play,
    Said,
    Send,
)
from gateway.conversation.realtime_cost import PRICES_FILE, Meter, parse_prices
from gateway.conversation.realtime_plan import Plan, TurnDetection
from gateway.conversation.realtime_talk import (
    ANSWER_MS,
    CONNECT_MS,
    LEAVE_MS,
    LOSSES_MAX,
    QUEUED_MS_MAX,
    SESSION_MS,
    SESSION_MS_MAX,
    Talk,
)

Event = dict[str, Any]


class Call:
    """A talk, its clock, and a shell that hears nothing or what a test says."""

    def __init__(self, detection: TurnDetection = TurnDetection.SERVER, usd: float = 0) -> None:
        plan = Plan(
            voice="marin",
            encoding=Encoding.MULAW,
            turn_detection=detection,
            instructions="be nice",
            greeting="greet",
            language="",
            transfer_targets={"sales": "+15550001"},
        )
        price = parse_prices(PRICES_FILE.read_text()).models["gpt-realtime"]
        self.now_ms = 10**6
        self.heard_ms = 0
        self.talk = Talk(plan, Meter(price, usd), self.now_ns)
        self.done: list[Action] = []

    @property
    def now_ns(self) -> int:
        return self.now_ms * NS_PER_MS

    def do(self, actions: list[Action]) -> list[Action]:
        """What a shell does: a cut is answered before what follows it."""
        done: list[Action] = []
        for action in actions:
            done.append(action)
            if action is Do.CUT:
                done += self.talk.cut(self.heard_ms)
        self.done += done
        return done

    def open(self) -> list[Action]:
        self.do(self.talk.opened(self.now_ns))
        return self.receive("session.updated")

    def receive(self, kind: str, **fields: Any) -> list[Action]:
        return self.do(self.talk.received({"type": kind, **fields}, self.now_ns))

    def tick(self, ms: int) -> list[Action]:
        self.now_ms += ms
        return self.do(self.talk.tick(self.now_ns))

    def answer(self, name: str, ms: int, text: str = "") -> None:
        """The beginning of a response, its audio and text; not its end."""
        at = {"response_id": f"r-{name}", "item_id": name}
        self.receive("response.created", response={"id": f"r-{name}"})
        self.receive(
            "response.output_item.added",
            response_id=f"r-{name}",
            item={"type": "message", "id": name},
        )
        audio = base64.b64encode(b"\xff" * 8 * ms).decode()
        self.receive("response.output_audio.delta", delta=audio, **at)
        if text:
            self.receive("response.output_audio_transcript.done", transcript=text, **at)

    def finish(self, name: str, **response: Any) -> list[Action]:
        """The end of a response."""
        at = {"response_id": f"r-{name}", "item_id": name}
        self.receive("response.output_audio.done", **at)
        return self.receive("response.done", response={"id": f"r-{name}", **response})

    def function(self, response: str, name: str, arguments: str = "{}") -> list[Action]:
        item = {"type": "function_call", "name": name, "arguments": arguments, "call_id": "c1"}
        return self.receive("response.output_item.done", response_id=response, item=item)


def sent(actions: list[Action]) -> list[str]:
    return [str(action.event["type"]) for action in actions if isinstance(action, Send)]


def truncated(actions: list[Action]) -> dict[object, object]:
    return {
        action.event["item_id"]: action.event["audio_end_ms"]
        for action in actions
        if isinstance(action, Send) and action.event["type"] == "conversation.item.truncate"
    }


def test_several_queued_items_are_truncated_each_where_it_was_heard_to() -> None:
    call = Call()
    call.open()
    for name, ms, text in (("a", 1_000, "one two"), ("b", 500, "three four"), ("c", 300, "five")):
        call.answer(name, ms, text)
        call.finish(name)
    call.heard_ms = 1_260
    actions = call.receive("input_audio_buffer.speech_started", item_id="u")
    assert truncated(actions) == {"b": 260, "c": 0}
    assert [a for a in actions if isinstance(a, Said | Interrupted)] == [
        Said(Role.ASSISTANT, "one two"),
        Said(Role.ASSISTANT, "three four"),
        Interrupted("three"),
    ]


def test_late_audio_of_a_response_that_was_cut_is_dropped() -> None:
    call = Call(TurnDetection.OURS)
    call.open()
    call.answer("a", 1_000, "one two three")
    call.heard_ms = 400
    actions = call.do(call.talk.caller_began())
    assert sent(actions) == ["response.cancel", "conversation.item.truncate"]
    before = len(call.done)
    audio = base64.b64encode(b"\xff" * 160).decode()
    call.receive("response.output_audio.delta", delta=audio, response_id="r-a", item_id="a")
    call.receive("response.output_audio_transcript.done", transcript="x", response_id="r-a")
    assert call.done[before:] == []
    assert sent(call.do(call.talk.caller_ended(call.now_ns))) == ["input_audio_buffer.commit"]
    assert sent(call.finish("a", status="cancelled")) == ["response.create"], "when it is over"


def test_a_response_that_nobody_wants_any_more_is_stopped_when_it_begins() -> None:
    call = Call(TurnDetection.OURS)
    call.open()
    call.finish("greeting")
    call.do(call.talk.caller_ended(call.now_ns))
    assert sent(call.do(call.talk.caller_ended(call.now_ns))) == ["input_audio_buffer.commit"]
    assert sent(call.receive("response.created", response={"id": "r1"})) == ["response.cancel"]
    assert sent(call.receive("response.done", response={"id": "r1"})) == ["response.create"]


def test_an_answer_that_does_not_come_is_asked_for_in_a_new_session_then_given_up() -> None:
    call = Call()
    call.open()
    call.answer("a", 100, "Hello")
    call.finish("a")
    call.do(call.talk.all_heard(call.now_ns))
    call.receive("input_audio_buffer.committed", item_id="u")
    assert call.tick(ANSWER_MS) == []
    for _ in range(LOSSES_MAX):
        assert [type(a) for a in call.tick(1)] == [Failed, Do]
        opened = call.open()
        assert sent(opened) == ["conversation.item.create", "response.create"]
        assert call.tick(ANSWER_MS) == []
    (given_up,) = call.tick(1)
    assert isinstance(given_up, GiveUp)
    assert call.talk.phase is Phase.OVER


def test_an_answer_that_stops_half_way_is_gone_on_with() -> None:
    call = Call()
    call.open()
    call.answer("a", 300, "Hello there")
    assert call.tick(ANSWER_MS) == []
    actions = call.tick(1)
    assert actions[1:] == [Do.END_ITEM, Do.END_UTTERANCE, Do.REOPEN]
    assert sent(call.open()) == ["conversation.item.create", "response.create"]
    call.heard_ms = 100
    cut = call.receive("input_audio_buffer.speech_started", item_id="u")
    assert truncated(cut) == {}, "the new session does not know the item"


def test_no_session_in_time_is_given_up() -> None:
    call = Call()
    call.do(call.talk.opened(call.now_ns))
    assert call.tick(CONNECT_MS) == []
    assert [type(a) for a in call.tick(1)] == [GiveUp]
    assert call.tick(10**6) == []


def test_an_old_session_is_renewed_at_a_quiet_moment() -> None:
    call = Call()
    call.open()
    call.answer("a", 100, "Hello")
    call.finish("a")
    assert call.tick(SESSION_MS + 1) == [], "the caller is listening"
    assert call.do(call.talk.all_heard(call.now_ns))[-1] is Do.REOPEN
    assert sent(call.open()) == ["conversation.item.create"], "nobody owes an answer"
    call.receive("input_audio_buffer.speech_started", item_id="u")
    assert call.tick(SESSION_MS + 1) == [], "the caller speaks"
    assert call.tick(SESSION_MS_MAX - SESSION_MS) == [Do.REOPEN]


def test_last_words_are_asked_for_and_not_waited_for_in_vain() -> None:
    call = Call()
    call.open()
    call.receive("response.created", response={"id": "r1"})
    assert sent(call.function("r1", "hang_up")) == ["session.update"]
    assert sent(call.receive("response.done", response={"id": "r1"})) == ["response.create"]
    assert call.receive("input_audio_buffer.speech_started", item_id="u") == []
    assert call.tick(LEAVE_MS) == []
    assert call.tick(1) == [Leave()]


@pytest.mark.parametrize("lost", [False, True])
def test_a_transfer_follows_the_words_before_it(*, lost: bool) -> None:
    call = Call()
    call.open()
    call.answer("a", 500, "I put you through.")
    call.function("r-a", "transfer_call", '{"target": "sales"}')
    if lost:
        assert call.do(call.talk.lost("gone", call.now_ns)) == [Do.END_UTTERANCE]
    else:
        assert call.finish("a") == [Do.END_UTTERANCE]
    assert call.do(call.talk.all_heard(call.now_ns))[-1] == Leave("+15550001")


def test_a_failing_model_is_asked_once_more() -> None:
    call = Call()
    call.open()
    call.receive("response.created", response={"id": "r1"})
    again = call.receive("response.done", response={"id": "r1", "status": "failed"})
    assert sent(again) == ["response.create"]
    call.receive("response.created", response={"id": "r2"})
    actions = call.receive("response.done", response={"id": "r2", "status": "failed"})
    assert [type(a) for a in actions] == [GiveUp]


def test_audio_is_bounded() -> None:
    call = Call()
    call.open()
    for _ in range(3):
        call.answer("a", QUEUED_MS_MAX // 2, "on and on")
    assert len([a for a in call.done if isinstance(a, Play)]) == 2
    assert call.talk.garbage == 1


names = st.sampled_from(["a", "b", "c"])
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "item_id": st.one_of(names, st.integers(), st.just("")),
        "response_id": st.one_of(names, st.none()),
        "delta": st.sampled_from(["//8=", base64.b64encode(b"\xff" * 4000).decode(), "words ", 7]),
        "transcript": st.text(max_size=5),
        "response": st.one_of(
            st.none(),
            st.fixed_dictionaries(
                {"id": names}, optional={"status": st.sampled_from(["failed", "completed", 3])}
            ),
        ),
        "item": st.one_of(
            st.integers(),
            st.fixed_dictionaries(
                {"type": st.sampled_from(["message", "function_call"]), "id": names},
                optional={
                    "name": st.sampled_from(["hang_up", "take_message", "rm"]),
                    "arguments": st.sampled_from(["{}", '{"name":"A","reason":"b"}', "{", "[]"]),
                    "call_id": names,
                },
            ),
        ),
        "error": st.one_of(
            st.none(), st.fixed_dictionaries({"code": st.sampled_from(["session_expired", "x", 1])})
        ),
    },
)
KINDS = sorted(Call().talk._handlers)


@given(
    st.sampled_from(list(TurnDetection)),
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(KINDS), FIELDS),
            st.sampled_from(["began", "ended", "heard", "tick", "keys", "part", "lost", "open"]),
        ),
        max_size=40,
    ),
)
def test_any_events_in_any_order(
    detection: TurnDetection, story: list[str | tuple[str, Event]]
) -> None:
    """Nothing raises; no item is truncated beyond its audio; after the end nothing is done."""
    call = Call(detection, usd=0.01)
    talk = call.talk
    call.open()
    received: dict[object, int] = {}
    acts: dict[str, Callable[[], list[Action]]] = {
        "began": talk.caller_began,
        "ended": lambda: talk.caller_ended(call.now_ns),
        "heard": lambda: talk.all_heard(call.now_ns),
        "tick": lambda: talk.tick(call.now_ns),
        "keys": lambda: talk.keys("1", call.now_ns),
        "part": lambda: talk.part(call.now_ns),
        "lost": lambda: talk.lost("gone", call.now_ns),
        "open": lambda: talk.opened(call.now_ns) if _may_open(talk) else [],
    }
    for step in story:
        over = talk.phase is Phase.OVER
        call.now_ms += 700
        call.heard_ms = min(talk._playout.queued_ms, call.now_ms % 1_000)
        fields: Event = {}
        if isinstance(step, tuple):
            kind, fields = step
            actions = call.receive(kind, **fields)
        else:
            actions = call.do(acts[step]())
        for action in actions:
            if isinstance(action, Play):
                item = fields["item_id"]
                received[item] = received.get(item, 0) + len(action.audio)
        for item, end_ms in truncated(actions).items():
            assert isinstance(end_ms, int)
            assert 0 <= end_ms <= received[item] // 8
        if over:
            assert not [a for a in actions if isinstance(a, Keep | Leave | GiveUp)]


def _may_open(talk: Talk) -> bool:
    return talk.phase is Phase.OPENING
