"""Every name that the settings know is somebody who can answer."""

from __future__ import annotations

import asyncio

import pytest

from gateway.conversation.profile import Profile
from gateway.errors import ConfigurationError
from gateway.reception import CONVERSATIONS
from gateway.responders.base import CallInfo
from gateway.responders.chain import Chain
from gateway.responders.message_taker import MessageTaker
from gateway.responders.registry import OPENERS, REALTIME, MessageTakers, Staff
from gateway.settings import RESPONDERS, WITHOUT_PROVIDERS, load_settings
from supervisor.scoreboard import RowName, Scoreboard
from tests.gateway.responders.reports import Reports

CALL = CallInfo("CA1", "+15551234567", "+15550000000", "en")
ROW = Scoreboard([RowName("worker", 0)], 1).row("worker", 0)
PROFILE = Profile(business_name="Riverside Clinic")


def test_every_name_is_known_in_one_of_the_tables() -> None:
    assert sorted(RESPONDERS) == sorted([*OPENERS, *CONVERSATIONS, REALTIME])
    assert set(CONVERSATIONS) >= WITHOUT_PROVIDERS


def test_only_who_may_have_to_answer_is_opened() -> None:
    assert Staff.open(load_settings(None, responder="echo"), ROW)._opened == {}
    settings = load_settings(None, responder="echo", caller_responders="recital,message_taker")
    staff = Staff.open(settings, ROW)
    assert list(staff._opened) == ["message_taker"]
    responder = staff.responder(("message_taker",), PROFILE, CALL, Reports())
    assert isinstance(responder, MessageTaker), "no chain of one"
    asyncio.run(staff.aclose())


def test_the_message_taker_follows_everybody_listed_or_not() -> None:
    staff = Staff({"message_taker": MessageTakers(), "other": MessageTakers()})
    for names in (("other",), ("other", "message_taker")):
        responder = staff.responder(names, PROFILE, CALL, Reports())
        assert isinstance(responder, Chain)
        assert [stage.name for stage in responder._stages] == ["other", "message_taker"]


@pytest.mark.parametrize(
    ("responder", "sentence"),
    [
        ("nobody", "RESPONDER='nobody': unknown responder 'nobody'; known are "),
        ("message_taker,nobody", "unknown responder 'nobody'"),
        (" , ", "names nobody"),
        ("echo,message_taker", "echo never fails"),
    ],
)
def test_a_list_that_cannot_answer_is_one_sentence(responder: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as refused:
        load_settings(None, responder=responder)
    assert "\n" not in str(refused.value)


def test_a_list_is_read_in_order_and_each_once() -> None:
    settings = load_settings(None, responder="message_taker, message_taker,")
    assert settings.responder_names == ("message_taker",)
