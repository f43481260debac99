"""What to say: each responder turns a caller utterance into the assistant text."""
