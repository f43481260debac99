"""What ends a run before it has a result; the message is the one sentence the operator reads."""

from __future__ import annotations


class LoadTestError(Exception):
    """Base: the command prints the message on stderr and exits with status 2."""


class UsageError(LoadTestError):
    """An option, a file or a folder that cannot work."""


class NoServerError(LoadTestError):
    """Not one call could be connected."""


class WireError(Exception):
    """The server sent a message that its protocol does not allow; counted, the call goes on."""
