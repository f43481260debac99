"""Health, metrics and the live page; a main of its own."""
