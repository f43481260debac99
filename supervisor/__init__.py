"""Knows processes: forks, watches, restarts and drains children. Standard library only."""
