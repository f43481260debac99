"""Every error the gateway raises on purpose; the class says whose fault it was.

GatewayError
├── ConfigurationError       an operator's setting cannot work: one sentence, exit status 2
├── LocalWireError           we misused a wire codec: a bug of ours
├── RemoteWireError          the peer broke its protocol: counted, the call goes on if it can
├── CapacityError            politely refused: every slot is taken
└── ProviderError            a provider failed; ``retryable`` says whether once more may help
"""

from __future__ import annotations

from typing import Literal

#: What a peer can do wrong on the wire: a short, bounded set of names to count by.
WireFault = Literal[
    "binary",
    "not-json",
    "no-event",
    "unknown-event",
    "no-id",
    "bad-id",
    "wrong-stream",
    "media-before-start",
    "before-start",
    "second-start",
    "too-many-calls",
    "unsupported-format",
    "bad-language",
    "bad-parameters",
    "bad-base64",
    "payload-too-big",
    "odd-payload",
    "bad-digit",
    "bad-mark",
]


#: How a provider can fail: a short, bounded set of names to decide and count by.
ProviderFault = Literal[
    "timeout",  # no answer in time, or a stream that stalled
    "connection",  # refused, reset, no such host
    "server",  # it says it is broken (5xx)
    "limited",  # it says we ask too much (429)
    "key",  # it does not accept the key (401, 403)
    "refused",  # it does not accept the request (other 4xx)
    "garbage",  # an answer that cannot be understood, or is far too long
    "closed",  # it was not asked: it has failed too often just now
]


class GatewayError(Exception):
    """Base of all errors raised on purpose."""


class ConfigurationError(GatewayError):
    """An operator's setting cannot work; the message is the sentence to show."""


class LocalWireError(GatewayError):
    """We asked a wire codec for something its protocol forbids."""


class RemoteWireError(GatewayError):
    """A peer sent something its protocol does not allow.

    ``kind`` names the fault, ``stream_id`` the stream it concerns ("" when none is known). The
    message quotes nothing of the peer's audio or parameters: it may be logged and sent back.
    """

    def __init__(self, message: str, *, kind: WireFault, stream_id: str = "") -> None:
        super().__init__(message)
        self.kind: WireFault = kind
        self.stream_id = stream_id


class CapacityError(GatewayError):
    """No slot is free."""


class ProviderError(GatewayError):
    """A speech or language provider failed.

    ``retry_after_ms`` is how long it asked us to wait; None when it did not say.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        fault: ProviderFault = "garbage",
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.fault: ProviderFault = fault
        self.retry_after_ms = retry_after_ms
