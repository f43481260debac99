"""Speech-to-text, text-to-speech and chat back ends; one vendor file per capability."""
