"""The egress side of a call: when the next assistant frame is due, how much was heard. Pure."""
