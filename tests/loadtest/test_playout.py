"""The carrier's buffer equals a model that plays byte by byte."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from loadtest.playout import GAP_NS_MIN, MARKS_MAX, NS_PER_MS, PAUSE_NS, Playout

NS_PER_BYTE = NS_PER_MS  # a byte plays for a millisecond: the model's step


@dataclass
class Model:
    """Plays one queued byte each millisecond; every byte knows which payload it belongs to."""

    now_ms: int = 0
    queue: deque[int | str] = field(default_factory=deque)
    heard: list[int | None] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)

    def advance(self, to_ms: int) -> None:
        while self.now_ms < to_ms:
            self._marks()
            byte = self.queue.popleft() if self.queue else None
            assert not isinstance(byte, str)
            self.heard.append(byte)
            self.now_ms += 1
        self._marks()

    def clear(self) -> None:
        self.returned += [item for item in self.queue if isinstance(item, str)]
        self.queue.clear()

    def _marks(self) -> None:
        while self.queue and isinstance(self.queue[0], str):
            mark = self.queue.popleft()
            assert isinstance(mark, str)
            self.returned.append(mark)


steps = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.one_of(st.integers(1, 50), st.sampled_from(["mark", "clear", "look"])),
    ),
    max_size=60,
)


@given(steps)
def test_what_is_heard_and_when_marks_return(script: list[tuple[int, int | str]]) -> None:
    playout, model = Playout(NS_PER_BYTE), Model()
    returned: list[str] = []
    payloads = names = 0
    for wait_ms, action in script:
        model.advance(model.now_ms + wait_ms)
        now_ns = model.now_ms * NS_PER_MS
        returned += playout.take_reached(now_ns)
        if isinstance(action, int):
            playout.media(now_ns, action)
            model.queue += [payloads] * action
            payloads += 1
        elif action == "mark":
            playout.mark(now_ns, f"m{names}")
            model.queue.append(f"m{names}")
            names += 1
        elif action == "clear":
            returned += playout.clear(now_ns)
            model.clear()
        returned += playout.take_reached(now_ns)
        model.advance(model.now_ms)
        assert returned == model.returned
    model.advance(model.now_ms + 5000)
    assert heard(playout, len(model.heard)) == model.heard
    assert playout.take_reached(model.now_ms * NS_PER_MS) == model.returned[len(returned) :]
    assert playout.next_mark_ns() is None


def heard(playout: Playout, length_ms: int) -> list[int | None]:
    """The kept timeline, as the model writes it."""
    line: list[int | None] = [None] * length_ms
    for number, (start_ns, played) in enumerate(zip(playout.starts, playout.played, strict=True)):
        begin = start_ns // NS_PER_MS
        line[begin : begin + played] = [number] * played
    return line


def ms(value: float) -> int:
    return round(value * NS_PER_MS)


def test_a_gap_is_a_hole_within_an_utterance() -> None:
    playout = Playout(NS_PER_BYTE)
    playout.media(0, 20)
    playout.media(ms(10), 20)  # in time
    playout.media(ms(40) + GAP_NS_MIN - 1, 20)  # too short to be heard
    playout.media(playout.end_ns + ms(80), 20)
    playout.media(playout.end_ns + PAUSE_NS + 1, 20)  # another utterance
    assert list(playout.gaps_ns) == [ms(80)]
    assert list(playout.gap_ends) == [playout.starts[3]]


def test_what_follows_a_clear_is_no_gap() -> None:
    playout = Playout(NS_PER_BYTE)
    playout.media(0, 100)
    assert playout.clear(ms(30)) == []
    assert playout.cuts == 1
    playout.media(ms(80), 20)
    assert list(playout.played) == [30, 20]
    assert list(playout.gaps_ns) == []


def test_a_mark_behind_nothing_is_reached_at_once() -> None:
    playout = Playout(NS_PER_BYTE)
    playout.mark(ms(5), "now")
    assert playout.next_mark_ns() == ms(5)
    assert playout.take_reached(ms(5)) == ["now"]


def test_marks_that_wait_are_limited() -> None:
    playout = Playout(NS_PER_BYTE)
    playout.media(0, 1000)
    for i in range(MARKS_MAX + 3):
        playout.mark(0, str(i))
    assert playout.marks_dropped == 3
    assert len(playout.clear(0)) == MARKS_MAX
