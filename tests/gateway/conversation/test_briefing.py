"""A model is told what its profile knows, and nothing that a caller must not hear."""

from __future__ import annotations

from gateway.conversation.briefing import briefing
from gateway.conversation.profile import Profile

PROFILE = Profile(
    business_name="Riverside Clinic",
    business_names={"ru": "Клиника"},
    instructions="Be kind.",
    facts=("Parking is behind the house.",),
    opening_hours={"mon": "09:00-17:00"},
    transfer_targets={"sales": "+15551234567"},
)


def test_everything_in_the_profile_is_told_but_the_numbers() -> None:
    told = briefing(PROFILE, "en")
    for text in ("Riverside Clinic", "English", "Be kind.", "behind the house", "09:00", "sales"):
        assert text in told
    assert "+1555" not in told
    assert "Клиника" in briefing(PROFILE, "ru")
    assert "Russian" in briefing(PROFILE, "ru")


def test_what_a_profile_does_not_have_leaves_no_trace() -> None:
    told = briefing(Profile(business_name="A"), "en")
    assert "What you know" not in told
    assert "put the caller through" not in told
    assert not told.endswith("\n")
