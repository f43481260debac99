"""What callers do, frame by frame, without a socket or a clock."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.behaviour import Behaviour
from loadtest.clips import Clip
from loadtest.ear import Ear
from loadtest.material import encode_frames, room_tone
from loadtest.options import DEFAULT_AUDIO
from loadtest.scenario import SCENARIOS, EchoScenario, TalkScenario, TurnsScenario
from loadtest.schedule import FRAME_NS, NS_PER_MS, make_schedule
from loadtest.talking import PAUSES_MS, Interrupter, Saying, Talker, Typist, torn, whole
from loadtest.wires import TWILIO

CLIP = encode_frames(np.full(10 * 160, 0.3, np.float32), TWILIO)
ROOM = room_tone(TWILIO, 1)
SPEECH_NS = 150 * NS_PER_MS
LOUD = np.full(160, 3000, np.int16)
START = 1_000_000_000


def talker(pause_ms: int = 0) -> Talker:
    saying = Saying(CLIP, 0, SPEECH_NS, pause_ms, 60 * NS_PER_MS)
    return Talker([saying], ROOM, Ear(160))


def play(caller: Behaviour, spoken: set[int], frames: int = 3000) -> list[str]:
    """Run a call in which the assistant speaks in the given frames; what each caller frame was."""
    did: list[str] = []
    for frame in range(frames):
        due = START + frame * FRAME_NS
        if frame in spoken:
            caller.hear(due, LOUD)
        payload = caller.payload(frame, due)
        if payload is None:
            return did
        did.append("room" if payload in ROOM.payloads else "clip")
    return did


def test_one_question_one_answer() -> None:
    caller = talker()
    greeting, reply = set(range(5, 50)), set(range(120, 170))
    did = play(caller, greeting | reply)
    first = did.index("clip")
    assert first == 50 + 35  # 700 ms after the greeting
    assert did[first : first + 11] == ["clip"] * 10 + ["room"]
    assert len(did) == 170 + 75  # 1.5 s after the reply
    speech_end = (first - 1) * FRAME_NS + SPEECH_NS
    assert caller.responses_ns() == [120 * FRAME_NS - speech_end]
    assert not caller.unanswered()


def test_no_greeting_no_answer() -> None:
    caller = talker()
    did = play(caller, set())
    assert did.index("clip") == 750  # 15 s
    assert len(did) == 749 + 8 + 1000  # 20 s after the end of the speech, in whole frames
    assert caller.responses_ns() == []
    assert caller.unanswered()


def test_an_answer_that_is_cleared_before_it_is_heard_is_none() -> None:
    caller = talker()
    greeting = set(range(5))
    play(caller, greeting, 60)
    caller.hear(START + 100 * FRAME_NS, LOUD)
    caller.cut(START + 61 * FRAME_NS)
    assert caller.unanswered()


def test_speech_that_began_before_the_callers_end_is_no_response() -> None:
    caller = talker()
    did = play(caller, set(range(10)) | set(range(46, 100)) | set(range(140, 150)))
    assert did.index("clip") == 45
    speech_end = 44 * FRAME_NS + SPEECH_NS
    assert caller.responses_ns() == [140 * FRAME_NS - speech_end]


def test_who_is_answered_in_a_pause_was_cut_off() -> None:
    # The greeting ends with frame 9: the clip is said from frame 45 on, its pause is at 47.
    for spoken, cut_in in (({49, 50}, True), ({53, 54}, False), ({46, 80, 81}, False)):
        caller = talker(pause_ms=400)
        play(caller, set(range(10)) | spoken)
        assert caller.cut_offs() == [(400, cut_in)], spoken
        assert caller.responses_ns() == []


def test_talkers_take_the_clips_in_turn_and_tear_every_other_one() -> None:
    scenario = TalkScenario(TWILIO, DEFAULT_AUDIO, 1)
    said = [scenario.behaviour(plan) for plan in make_schedule(1, 40, 1).calls]
    firsts = [caller._sayings[0] for caller in said if isinstance(caller, Talker)]
    assert firsts[0] is firsts[12]
    assert len({len(saying.frames) for saying in firsts}) > 6
    pauses = [s.pause_ms for caller in said if isinstance(caller, Talker) for s in caller._sayings]
    assert pauses[::5] == [0] * 40
    assert sorted(filter(None, pauses[:10])) == list(PAUSES_MS), "each length in two calls"
    assert [pauses.count(ms) for ms in PAUSES_MS] == [20] * 4


def test_a_clip_is_torn_where_it_is_soft() -> None:
    samples = np.full(8000, 0.3, np.float32)
    samples[4000:4400] = 0.001
    clip = Clip("made", 8000, samples)
    saying = torn(clip, 600, TWILIO, 1)
    assert 4000 * 125_000 <= saying.pause_at_ns <= 4400 * 125_000
    assert saying.end_ns == whole(clip, TWILIO).end_ns + 600 * NS_PER_MS


def interrupter() -> Interrupter:
    return Interrupter([Saying(CLIP, 50 * NS_PER_MS, SPEECH_NS)], ROOM, Ear(160), 10 * FRAME_NS)


def test_who_interrupts_waits_until_somebody_speaks_and_measures_the_clear() -> None:
    caller = interrupter()
    for frame in range(60):
        due = START + frame * FRAME_NS
        if 20 <= frame < 60:
            caller.hear(due, LOUD)
        payload = caller.payload(frame, due)
        assert (payload in CLIP.payloads) == (30 <= frame < 40)
        if frame == 45:
            caller.cut(due)
            break
    onset = 29 * FRAME_NS + 50 * NS_PER_MS
    assert caller.barge_ins_ns() == [45 * FRAME_NS - onset]
    assert not caller.unanswered()


def test_what_a_microphone_hears_of_the_room_is_no_onset() -> None:
    room = np.tile(np.array([0.01, -0.01], np.float32), 2_000)
    voice = np.tile(np.array([0.5, -0.5], np.float32), 800)
    saying = whole(Clip("clip", 8_000, np.concatenate([room, voice])), TWILIO)
    assert (saying.begin_ns, saying.end_ns) == (500 * NS_PER_MS, 700 * NS_PER_MS)


def test_who_takes_breath_between_words_can_be_interrupted() -> None:
    caller = interrupter()
    spoken = {frame for frame in range(20, 400) if frame % 20 < 8}  # less than the wait at a time
    assert "clip" in play(caller, spoken)


def test_an_interruption_that_nobody_notices_is_told() -> None:
    caller = interrupter()
    play(caller, set(range(20, 400)))
    assert caller.barge_ins_ns() == []
    assert caller.unanswered()


def test_who_interrupts_the_last_words_was_too_late_and_has_a_right_to_no_answer() -> None:
    caller = interrupter()
    did = play(caller, set(range(20, 45)))  # begins at 30, is heard from 32 on: 260 ms are left
    assert "clip" in did
    assert caller.too_late() == 1
    assert caller.unanswered(), "nothing was measured"
    assert not caller.content()


def test_one_interruption_measured_and_one_too_late_is_a_good_call() -> None:
    saying = Saying(CLIP, 50 * NS_PER_MS, SPEECH_NS)
    caller = Interrupter([saying, saying], ROOM, Ear(160), 10 * FRAME_NS)
    for frame in range(400):
        due = START + frame * FRAME_NS
        if 20 <= frame < 45 or 100 <= frame < 125:
            caller.hear(due, LOUD)
        if frame == 44:
            caller.cut(due)
        if caller.payload(frame, due) is None:
            break
    assert len(caller.barge_ins_ns()) == caller.too_late() == 1
    assert caller.content()
    assert not caller.unanswered()


def test_the_last_interruption_is_waited_for_as_well() -> None:
    saying = Saying(CLIP, 50 * NS_PER_MS, SPEECH_NS)
    caller = Interrupter([saying, saying], ROOM, Ear(160), 10 * FRAME_NS)
    for frame in range(1_000):
        due = START + frame * FRAME_NS
        if 20 <= frame < 45 or frame >= 100:
            caller.hear(due, LOUD)
        if frame == 44:
            caller.cut(due)
        if caller.payload(frame, due) is None:
            break
    assert len(caller.barge_ins_ns()) == 1
    assert caller.too_late() == 0
    assert caller.unanswered(), "the second one changed nothing"


def test_who_types_measures_the_answer_from_the_last_key() -> None:
    caller = Typist("42#", ROOM, Ear(160))
    pressed: list[tuple[int, str]] = []
    for frame in range(150):
        due = START + frame * FRAME_NS
        if frame < 55 or frame >= 100:
            caller.hear(due, LOUD)
        assert caller.payload(frame, due) is not None
        pressed += [(frame, key) for key in caller.pressed()]
        if pressed and pressed[-1][0] == frame == 50:
            caller.cut(due + NS_PER_MS)
    assert [key for _, key in pressed[:3]] == ["4", "2", "#"]
    assert [frame for frame, _ in pressed[:3]] == [50, 60, 70]
    assert caller.barge_ins_ns() == [NS_PER_MS]
    assert caller.responses_ns() == [30 * FRAME_NS]


def test_echo_callers_read_the_loop_from_their_own_places() -> None:
    scenario = EchoScenario(TWILIO, DEFAULT_AUDIO / "cards-001.wav", 1)
    plans = make_schedule(1, 20, 1).calls
    firsts = [scenario.behaviour(plan).payload(0, 0) for plan in plans]
    assert len(set(firsts)) == 20
    reader, offset = scenario.behaviour(plans[0]), scenario.offset(plans[0])
    assert scenario.reference is not None
    count = scenario.reference.frames
    assert reader.payload(count, 0) == reader.payload(0, 0)
    assert reader.payload(1, 0) == scenario.behaviour(plans[0]).payload(1 + count, 0)
    assert 0 <= offset < count


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_scenario_has_a_length(name: str) -> None:
    assert SCENARIOS[name].seconds > 0


def test_a_regular_caller_speaks_each_period_from_a_phase_of_their_own() -> None:
    scenario = TurnsScenario(TWILIO, DEFAULT_AUDIO, 1)
    period = TurnsScenario.PERIOD_FRAMES
    starts = set()
    for plan in make_schedule(7, 4, 30.0).calls:
        caller = scenario.behaviour(plan)
        room = set(scenario._room.payloads)
        spoken = [frame for frame in range(4 * period) if caller.payload(frame, 0) not in room]
        first = spoken[0]
        assert period <= first < 2 * period
        assert first + period in spoken
        assert first + period - 1 not in spoken, "a pause before each"
        starts.add(first)
    assert len(starts) > 1
