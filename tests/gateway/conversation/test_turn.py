"""The turn table is total, unambiguous and ends."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.turn import IGNORED, TABLE, Action, Event, State, Turn


def test_every_state_has_one_answer_to_every_event() -> None:
    for state, event in itertools.product(State, Event):
        if event is Event.STOPPED:
            continue
        listed = ((state, event) in TABLE) + (event in IGNORED[state])
        assert listed == 1, f"{state.name} has {listed} rules for {event.name}"


def test_stop_ends_every_state() -> None:
    for state in State:
        turn = Turn()
        turn.state = state
        assert turn.on(Event.STOPPED) == ()
        assert turn.state is State.ENDED


@given(st.lists(st.sampled_from(list(Event))))
def test_any_history_is_survived_and_hang_up_is_final(events: list[Event]) -> None:
    turn, hung_up = Turn(), 0
    for event in events:
        actions = turn.on(event)
        assert not (hung_up and actions), "nothing is done after the call has ended"
        hung_up += Action.HANG_UP in actions
    assert hung_up <= 1


@given(st.lists(st.sampled_from([e for e in Event if e is not Event.STOPPED])))
def test_a_goodbye_is_never_cut(events: list[Event]) -> None:
    turn = Turn()
    turn.state = State.CLOSING
    for event in events:
        assert Action.CUT not in turn.on(event)


def test_a_whole_exchange() -> None:
    turn = Turn()
    steps: list[tuple[Event, tuple[Action, ...], State]] = [
        (Event.REPLY_AUDIBLE, (), State.ASSISTANT),
        (Event.SPEECH_STARTED, (), State.ASSISTANT),  # an onset alone does not take the turn
        (Event.SPEECH_HELD, (Action.PAUSE,), State.PAUSED),
        (Event.ACKNOWLEDGED, (Action.RESUME,), State.ASSISTANT),  # "mhm"
        (Event.SPEECH_HELD, (Action.PAUSE,), State.PAUSED),
        (Event.INTERRUPTED, (Action.CUT,), State.CALLER),  # "stop"
        (Event.SPEECH_ENDED, (Action.UNDERSTAND,), State.TRANSCRIBING),
        (Event.SPEECH_STARTED, (Action.LISTEN_ON,), State.CALLER),
        (Event.SPEECH_ENDED, (Action.UNDERSTAND,), State.TRANSCRIBING),
        (Event.TRANSCRIPT, (Action.RESPOND,), State.RESPONDING),
        (Event.REPLY_AUDIBLE, (), State.ASSISTANT),
        (Event.GOODBYE, (), State.CLOSING),
        (Event.SPEECH_HELD, (), State.CLOSING),
        (Event.REPLY_HEARD, (Action.HANG_UP,), State.ENDED),
    ]
    for event, actions, state in steps:
        assert (turn.on(event), turn.state) == (actions, state)
