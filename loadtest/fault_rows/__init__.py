"""Faults, one function each: a real gateway under calls, one thing done to it, what came of it."""
