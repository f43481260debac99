"""Settings: flags win over the environment, the environment over ``.env``, ``.env`` over defaults.

Every field is one line of ``.env.example`` (a test keeps the two equal). Names in the environment
are the field names in upper case.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.errors import ConfigurationError

#: A provider base URL with this value means the supervised local speech server.
LOCAL = "local"

#: No machine has more; a longer range is a slip of the pen.
CPUS_MAX = 4096

LogLevel = Literal["trace", "debug", "info", "warn", "error", "fatal"]
VadMode = Literal["silero", "level", "off"]
Language = Literal["en", "ar", "ru", "auto"]
ResponderName = Literal["message_taker", "echo", "recital"]
#: Responders for measuring: they need neither speech-to-text nor text-to-speech.
WITHOUT_PROVIDERS = frozenset({"echo", "recital"})


def _half_the_cores() -> int:
    return max(1, len(os.sched_getaffinity(0)) // 2)


class Settings(BaseSettings):
    """All settings, validated; secrets never print."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, frozen=True)

    gateway_host: str = Field("0.0.0.0", description="Address the public port listens on.")
    gateway_port: int = Field(
        4000, ge=1, le=65535, description="Public port: carriers' WebSockets, /healthz, /readyz."
    )
    tls_cert: FilePath | None = Field(
        None, description="Certificate chain (PEM): the public port then speaks TLS only."
    )
    tls_key: FilePath | None = Field(None, description="Private key (PEM) of TLS_CERT.")
    console_host: str = Field(
        "127.0.0.1", description="Address the console listens on; keep it on loopback."
    )
    console_port: int = Field(
        4001, ge=1, le=65535, description="Console port: /api/workers, /metrics, health."
    )
    workers: int = Field(
        default_factory=_half_the_cores,
        ge=1,
        le=64,
        description="Worker processes (calls live in them). Default: half the cores.",
    )
    dsp_processes: int = Field(
        0, ge=0, le=64, description="DSP processes; 0 = max(2, workers / 2), one of them a standby."
    )
    calls_per_worker: int = Field(
        512, ge=1, le=4096, description="Calls one worker takes; its share of shared memory."
    )
    worker_rss_mb_max: int = Field(
        0,
        ge=0,
        description="Resident megabytes at which a worker is drained and replaced; 0 = no limit.",
    )
    pin_cpus: str = Field(
        "",
        description="CPUs such as 0,2-3: one a worker in this order, DSP processes on the rest.",
    )
    dsp_tick_ms: int = Field(
        10, ge=2, le=20, description="Milliseconds between two passes over the same ring."
    )
    vad: VadMode = Field(
        "silero", description="Voice activity detection: silero (neural), level, off."
    )
    drain_timeout_ms: int = Field(
        30_000, ge=0, description="Milliseconds running calls may go on after SIGTERM."
    )
    orphan_accept_ms: int = Field(
        10_000,
        ge=0,
        description="Milliseconds workers go on taking calls after the supervisor was killed.",
    )
    log_level: LogLevel = Field("info", description="trace, debug, info, warn, error or fatal.")
    log_transcripts: bool = Field(
        False, description="true writes what was said into the log. Personal data!"
    )
    insecure_open: bool = Field(
        False, description="true lets unauthenticated peers from other hosts in."
    )
    twilio_expected_origin: str = Field(
        "", description="Origin header allowed besides the console's; an absent one always passes."
    )
    twilio_dialect: Literal["standard", "nested"] = Field(
        "standard",
        description="nested: messages to Twilio-like clients repeat the stream's id in the body.",
    )
    telnyx_codec: Literal["PCMU", "PCMA", "G722", "L16/8000", "L16/16000"] = Field(
        "PCMU", description="What Telnyx streams were asked to take: stream_bidirectional_codec."
    )
    telnyx_byte_order: Literal["big", "little"] = Field(
        "big", description="Order of bytes in L16 of Telnyx, both ways: big (RFC 2586) or little."
    )
    responder: ResponderName = Field(
        "message_taker", description="Who answers: message_taker, echo or recital."
    )
    caller_responders: str = Field(
        "", description="Responders a caller may pick by parameter `responder`, comma-separated."
    )
    language: Language = Field("auto", description="Language of calls that bring no hint.")
    barge_in_after_ms: int = Field(
        200, ge=40, le=2_000, description="Speech over the assistant that makes it pause."
    )
    filler_after_ms: int = Field(
        2_500, ge=200, description="An answer that takes longer is announced: one moment, please."
    )
    idle_prompt_ms: int = Field(
        15_000, ge=1_000, description="Silence until the caller is asked whether they are there."
    )
    max_call_ms: int = Field(
        3_600_000, ge=1_000, description="A conversation that lasts longer is ended politely."
    )
    profile_dir: Path = Field(
        Path("profiles"), description="One TOML file a called number; default.toml otherwise."
    )
    data_dir: Path = Field(Path("data"), description="Where calls and messages are stored.")
    openai_api_key: SecretStr = Field(
        SecretStr(""), description="Key for providers that want one; the local server does not."
    )
    stt_base_url: str = Field(
        LOCAL, description="Speech-to-text server with the OpenAI audio API; local = our own."
    )
    stt_model: str = Field("whisper-base", description="Model name sent to the STT server.")
    tts_base_url: str = Field(
        LOCAL, description="Text-to-speech server with the OpenAI audio API; local = our own."
    )
    tts_model: str = Field("local", description="Model name sent to the TTS server.")
    tts_voice: str = Field(
        "", description="Voice name; empty = the language's code, which the local server knows."
    )

    @field_validator("stt_base_url", "tts_base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value != LOCAL and not value.startswith(("http://", "https://")):
            raise ValueError(f"must be `{LOCAL}` or begin with http:// or https://")
        return value

    @field_validator("caller_responders")
    @classmethod
    def _are_responders(cls, value: str) -> str:
        known = set(ResponderName.__args__)  # type: ignore[attr-defined]
        unknown = [n for n in value.split(",") if n.strip() and n.strip() not in known]
        if unknown:
            raise ValueError(f"unknown responder {unknown[0].strip()!r}")
        return value

    @field_validator("pin_cpus")
    @classmethod
    def _are_our_cpus(cls, value: str) -> str:
        ours = os.sched_getaffinity(0)
        foreign = [str(cpu) for cpu in parse_cpus(value) if cpu not in ours]
        if foreign:
            raise ValueError(f"this machine gives us no CPU {', '.join(foreign)}")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.gateway_port == self.console_port:
            raise ValueError(f"the public port and the console port are both {self.gateway_port}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("TLS_CERT and TLS_KEY belong together: set both or neither")
        if self.dsp_count > self.places:
            raise ValueError(
                f"DSP_PROCESSES={self.dsp_processes} is too many: {self.workers} workers "
                f"have work for {self.places} at most"
            )
        return self

    @property
    def places(self) -> int:
        """Places for workers: one is spare, for the successor of another."""
        return self.workers + 1

    @property
    def cpus(self) -> tuple[int, ...]:
        """The CPUs of PIN_CPUS in their order; empty when nobody is to be pinned."""
        return tuple(parse_cpus(self.pin_cpus))

    @property
    def dsp_count(self) -> int:
        """DSP processes to run, the standby included."""
        return self.dsp_processes or max(2, self.workers // 2)

    @property
    def caller_responder_names(self) -> frozenset[str]:
        """Responders that a caller may pick."""
        return frozenset(n.strip() for n in self.caller_responders.split(",") if n.strip())

    @property
    def allowed_origins(self) -> frozenset[str]:
        """Origins whose pages may open a WebSocket: the console's and TWILIO_EXPECTED_ORIGIN."""
        hosts = {"127.0.0.1", "localhost", self.console_host}
        console = {f"http://{host}:{self.console_port}" for host in hosts}
        return frozenset(console | {self.twilio_expected_origin} - {""})

    @property
    def uses_providers(self) -> bool:
        """Whether any configured responder listens and speaks through providers."""
        return not {self.responder} | self.caller_responder_names <= WITHOUT_PROVIDERS

    @property
    def needs_speech_server(self) -> bool:
        """Whether a provider that is in use points to the local speech server."""
        return self.uses_providers and LOCAL in (self.stt_base_url, self.tts_base_url)


def parse_cpus(text: str) -> list[int]:
    """CPU numbers of a list such as ``0,2-3``, each once; ``ValueError`` when it is none."""
    cpus: list[int] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise ValueError(f"{part!r} is no CPU number and no range of them")
        span = range(int(first), int(last or first) + 1)
        if not 0 < len(span) <= CPUS_MAX:
            raise ValueError(f"{part!r} is an empty range or a very long one")
        cpus += [cpu for cpu in span if cpu not in cpus]
    return cpus


def load_settings(env_file: Path | None, **flags: object) -> Settings:
    """Read settings; ``ConfigurationError`` with one line a fault when they cannot work."""
    if env_file is not None:
        try:
            env_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read the env file {env_file}: {error}") from error
    try:
        return Settings(_env_file=env_file, **flags)  # type: ignore[call-arg, arg-type]
    except ValidationError as error:
        raise ConfigurationError("\n".join(map(_sentence, error.errors()))) from error


def _sentence(fault: object) -> str:
    assert isinstance(fault, dict)
    name = "_".join(str(part) for part in fault["loc"]).upper()
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not name:  # it is about several settings, and names them itself
        return message
    return f"{name}={fault.get('input')!r}: {message[:1].lower()}{message[1:]}"
