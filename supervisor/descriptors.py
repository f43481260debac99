"""The limit of open files: raised as far as it goes, refused when it is too low."""

from __future__ import annotations

import resource


class DescriptorError(Exception):
    """The limit is too low; the message is the sentence for the operator."""


def raise_limit(needed: int) -> None:
    """Raise the soft limit to the hard one; ``DescriptorError`` when that is below ``needed``."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise DescriptorError(
            f"the limit of open files is {hard}, and {needed} are needed: raise it "
            f"(ulimit -n, LimitNOFILE=) or lower CALLS_PER_WORKER"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
