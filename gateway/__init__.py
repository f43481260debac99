"""Knows calls: wires, sessions, turn-taking, providers."""
