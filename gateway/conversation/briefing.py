"""What a language model is told before a call: its task, and what its profile knows. Pure."""

from __future__ import annotations

from gateway.conversation.profile import Profile

_LANGUAGE_NAMES = {"en": "English", "ru": "Russian", "ar": "Arabic"}
_TASK = """\
You are the receptionist of {business} and talk to a caller on the telephone. What you write is
spoken to the caller word for word, so:
- Speak {language}. Use one to three short sentences, then let the caller speak.
- Write no lists, headings, markup, emoji or web addresses. Write numbers as they are said.
- What the caller says was written down by a machine and may hold mistakes. Ask when in doubt.
- Say only what you were told below. If you do not know something, say so and offer to take a
  message (name, number and reason; then call take_message).
- Say goodbye before you call hang_up."""


def briefing(profile: Profile, language: str) -> str:
    """The system message of a call that is now in ``language``."""
    task = _TASK.format(
        business=profile.business(language), language=_LANGUAGE_NAMES.get(language, "English")
    )
    parts = [task, profile.instructions]
    if profile.facts:
        parts.append("What you know:\n" + "\n".join(f"- {fact}" for fact in profile.facts))
    if profile.opening_hours:
        hours = (f"- {day}: {times}" for day, times in profile.opening_hours.items())
        parts.append("Opening hours:\n" + "\n".join(hours))
    if profile.transfer_targets:
        names = ", ".join(sorted(profile.transfer_targets))
        parts.append(f"You can put the caller through to: {names}. Say so first.")
    return "\n\n".join(part for part in parts if part)
