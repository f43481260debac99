"""The table of live calls: against a model, and its states by example."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from gateway.console import live as module
from gateway.console.live import LEASE_NS, TEXT_CHARS_MAX, LiveCalls
from gateway.ops.live import CallSeen, CallsSeen
from gateway.ops.records import CallEnded, CallStarted, TurnAnswered, TurnInterrupted, TurnTaken

QUIET = (-90, -90)


def seen(call_id: str, *, caller: bool = False, assistant: bool = False) -> CallsSeen:
    return CallsSeen((CallSeen(call_id, *QUIET, caller, assistant),))


def turn(role: str, text: str = "words") -> TurnTaken:
    return TurnTaken("CA1", 2, role, text)  # type: ignore[arg-type]


class Model:
    """A table, what it should hold, and a watcher who is told of changes only."""

    def __init__(self) -> None:
        self.table = LiveCalls()
        self.live: dict[str, int] = {}
        self.watcher: set[str] = set()
        self.now_ns = 0

    def start(self, call_id: str) -> None:
        self.table.happened(0, CallStarted(call_id, 1, "MZ"), self.now_ns)
        self.live[call_id] = self.now_ns

    def turn(self, call_id: str) -> None:
        self.table.happened(0, TurnTaken(call_id, 1, "caller", "x"), self.now_ns)
        if call_id in self.live:  # else it is over: what comes late does not make it live again
            self.live[call_id] = self.now_ns

    def seen(self, call_id: str) -> None:
        self.table.reported(0, seen(call_id), self.now_ns)
        self.live[call_id] = self.now_ns

    def end(self, call_id: str) -> None:
        self.table.happened(0, CallEnded(call_id, 1, "stopped", 1), self.now_ns)
        self.live.pop(call_id, None)

    def wait(self, _: str) -> None:
        self.now_ns += LEASE_NS // 2 + 1
        self.table.expire(self.now_ns)
        self.live = {name: at for name, at in self.live.items() if self.now_ns - at <= LEASE_NS}

    def look(self, _: str = "") -> None:
        changes = self.table.changes()
        self.watcher.difference_update(changes.gone)
        self.watcher.update(call.call_id for call in changes.calls)
        assert self.watcher == set(self.live)


STEPS = (Model.start, Model.turn, Model.seen, Model.end, Model.wait, Model.look)


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from("ABC")), max_size=60))
def test_it_holds_who_is_live_and_a_watcher_can_follow(
    steps: list[tuple[Callable[[Model, str], None], str]],
) -> None:
    model = Model()
    for step, call_id in steps:
        step(model, call_id)
        assert {call.call_id for call in model.table} == set(model.live)
        assert len(model.table) == len(model.live)
    model.look()


def test_whose_turn_it_is() -> None:
    table = LiveCalls()
    table.happened(1, CallStarted("CA1", 1, "MZ", "plain", "echo", "+1", "+2", "en"), 0)
    (call,) = table
    assert (call.worker, call.wire, call.caller_number, call.language) == (1, "plain", "+1", "en")
    assert call.state == "listening"
    states = []
    for event, report in (
        (None, seen("CA1", assistant=True)),
        (None, seen("CA1", caller=True, assistant=True)),
        (turn("caller"), seen("CA1")),
        (turn("assistant"), seen("CA1", assistant=True)),
        (None, seen("CA1")),
    ):
        if event is not None:
            table.happened(1, event, 0)
        table.reported(1, report, 0)
        states.append(call.levels()[1])
    assert states == ["assistant", "caller", "thinking", "assistant", "listening"]
    assert call.turns == 2


def test_what_was_heard_of_an_interrupted_answer() -> None:
    table = LiveCalls()
    table.happened(0, CallStarted("CA1", 1, "MZ1"), 0)
    table.happened(0, turn("assistant", "one two three"), 0)
    table.happened(0, TurnInterrupted("CA1", 3, "one two"), 0)
    table.happened(0, turn("caller", "x" * 5_000), 0)
    (call,) = table
    told = call.row()
    assert (told["assistant_text"], told["heard_text"]) == ("one two three", "one two")
    assert told["caller_text"] == "x" * TEXT_CHARS_MAX
    table.happened(0, turn("assistant", "four"), 0)
    assert (call.row()["assistant_text"], call.row()["heard_text"]) == ("four", None)


def test_an_interruption_before_any_word_of_ours_is_none() -> None:
    table = LiveCalls()
    table.happened(0, CallStarted("CA1", 1, "MZ1"), 0)
    table.happened(0, TurnInterrupted("CA1", 3, "late"), 0)
    (call,) = table
    assert call.heard_text is None


def test_an_answer_is_timed_for_a_call_that_is_live() -> None:
    table = LiveCalls()
    answered = TurnAnswered("CA1", 2, 400, 500, 550, 630, 640)
    table.happened(0, answered, 0)
    assert len(table) == 0
    table.reported(0, seen("CA1"), 0)
    table.changes()
    table.happened(0, answered, 0)
    assert [call.row()["response_ms"] for call in table.changes().calls] == [640]


def test_there_is_a_limit() -> None:
    table = LiveCalls()
    for n in range(module.CALLS_MAX + 5):
        table.reported(0, seen(f"CA{n}"), 0)
    assert (len(table), table.not_shown) == (module.CALLS_MAX, 5)
