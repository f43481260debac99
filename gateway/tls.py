"""The TLS context of the public port, made from an operator's two files."""

from __future__ import annotations

import ssl
from pathlib import Path

from gateway.errors import ConfigurationError


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and later, with a certificate chain and its key (PEM).

    Raises ConfigurationError when a file cannot be read, is no PEM, needs a pass phrase, or when
    the two do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without an answer of ours, OpenSSL would ask the terminal for a pass phrase.
        context.load_cert_chain(certificate, key, password=_no_pass_phrase)
    except ssl.SSLError as error:
        reason = (error.reason or "not a PEM file").replace("_", " ").lower()
        raise ConfigurationError(f"TLS_CERT={certificate}, TLS_KEY={key}: {reason}") from error
    except OSError as error:
        raise ConfigurationError(
            f"TLS_CERT={certificate}, TLS_KEY={key}: cannot read them: {error.strerror}"
        ) from error
    return context


def _no_pass_phrase() -> str:
    raise ConfigurationError("TLS_KEY needs a pass phrase; it must be a key without one")
