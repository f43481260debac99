"""Settings: flags win over the environment, the environment over ``.env``, ``.env`` over defaults.

Every field is one line of ``.env.example`` (a test keeps the two equal). Names in the environment
are the field names in upper case.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.door_settings import Networks, PageUrl, PhoneNumber, PublicUrl, Token, TwimlPath
from gateway.errors import ConfigurationError
from gateway.server_settings import (
    LOCAL,
    OPENAI,
    SpeechUrls,
    TwilioAccount,
    Url,
    Urls,
    WebAddress,
    in_order,
    is_openai,
)

#: No machine has more; a longer range is a slip of the pen.
CPUS_MAX = 4096

LogLevel = Literal["trace", "debug", "info", "warn", "error", "fatal"]
VadMode = Literal["silero", "level", "off"]
Language = Literal["en", "ar", "ru", "auto"]
#: Who can answer; ``gateway.responders.registry`` and ``gateway.reception`` know how.
RESPONDERS = ("message_taker", "backend", "llm", "realtime", "transcriber", "echo", "recital")
#: Who takes every call while AI_CONVERSATION_ENABLED is false.
TRANSCRIBER = "transcriber"
#: Responders for measuring: they need neither speech-to-text nor text-to-speech, and stand alone.
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
    console_port: int = Field(4001, ge=1, le=65535, description="Console port: page, metrics.")
    console_token: Token = Field(
        SecretStr(""), description="Bearer token of the console; without one: this machine only."
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
    public_url: PublicUrl = Field(
        "", description="Address by which carriers reach us, such as https://voice.example.com."
    )
    telnyx_stream_token: Token = Field(
        SecretStr(""), description="Token that Telnyx streams bring; then they must."
    )
    plain_token: Token = Field(
        SecretStr(""), description="Bearer token of plain clients; then they must bring it."
    )
    trusted_proxies: Networks = Field(
        "127.0.0.0/8,::1", description="Whose X-Forwarded-For is believed, and no rate limit; none."
    )
    overflow_twiml: TwimlPath | None = Field(
        None, description="TwiML file that a caller gets while no call can be taken."
    )
    overflow_number: PhoneNumber = Field(
        "", description="Number such a caller is connected to, if there is no such file."
    )
    after_call_url: PageUrl = Field(
        "", description="TwiML address Twilio goes on with after a call; empty = hang up."
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
    responder: str = Field(
        "message_taker",
        description=f"Who answers, comma-separated: who fails is followed by the next. "
        f"Known: {', '.join(RESPONDERS)}.",
    )
    caller_responders: str = Field(
        "", description="Responders a caller may pick by parameter `responder`, comma-separated."
    )
    language: Language = Field("auto", description="Language of calls that bring no hint.")
    turn_model: FilePath | None = Field(
        None,
        description="Smart Turn v3 model (ONNX) that is asked in doubt whether a caller goes on.",
    )
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
    stt_base_url: SpeechUrls = Field(
        LOCAL,
        description="Speech-to-text server with the OpenAI audio API; local = our own. Several, "
        "comma-separated: the next is asked when one fails.",
    )
    stt_model: str = Field(
        "",
        description="Model names in the order of STT_BASE_URL; empty = gpt-transcribe at OpenAI, "
        "whisper-base elsewhere.",
    )
    tts_base_url: SpeechUrls = Field(
        LOCAL,
        description="Text-to-speech server with the OpenAI audio API; local = our own. Several, "
        "comma-separated: the next is asked when one fails.",
    )
    tts_model: str = Field(
        "",
        description="Model names in the order of TTS_BASE_URL; empty = gpt-4o-mini-tts at OpenAI, "
        "local elsewhere.",
    )
    tts_voice: str = Field(
        "",
        description="Voice names in the order of TTS_BASE_URL; empty = alloy at OpenAI, elsewhere "
        "the language's code, which the local server knows.",
    )
    tts_speed: float = Field(
        1.0, ge=0.25, le=4.0, description="How fast to speak; 1.0 is the voice's own speed."
    )
    llm_base_url: Urls = Field(
        OPENAI,
        description="Server with the OpenAI chat API for RESPONDER=llm. Several, comma-separated: "
        "the next is asked when one fails.",
    )
    llm_model: str = Field(
        "", description="Model names in the order of LLM_BASE_URL; empty = gpt-6-luna at OpenAI."
    )
    max_tokens_per_call: int = Field(
        50_000,
        ge=0,
        description="Tokens one call may cost with RESPONDER=llm, then it ends; 0 = no limit.",
    )
    ai_conversation_enabled: bool = Field(
        True, description="false: say nothing, only write down what callers say."
    )
    backend_api_base_url: WebAddress = Field(
        "", description="Address of the backend for RESPONDER=backend, before /conversation/..."
    )
    backend_api_timeout_ms: int = Field(
        5_000,
        ge=100,
        le=60_000,
        description="Milliseconds that one turn may wait for the backend, retries included.",
    )
    backend_api_key: SecretStr = Field(
        SecretStr(""), description="Bearer token that the backend wants; empty = none."
    )
    backend_start: Literal["utterance", "call"] = Field(
        "utterance",
        description="When its conversation starts: utterance (we greet), call (it greets).",
    )
    backend_idempotent: bool = Field(
        False, description="true: it knows Idempotency-Key, so what got no answer is sent again."
    )
    backend_idempotency_key: Literal["quoted", "bare"] = Field(
        "quoted", description="How that header is written: quoted (the draft standard) or bare."
    )
    twilio_auth_token: SecretStr = Field(
        SecretStr(""), description="Secrets by which Twilio signs; then only Twilio gets in."
    )
    twilio_account_sid: TwilioAccount = Field(
        "", description="Account whose calls are hung up and transferred by Twilio's REST API."
    )
    twilio_api_base_url: WebAddress = Field(
        "https://api.twilio.com", description="Address of Twilio's REST API."
    )
    records_days: int = Field(
        0, ge=0, description="Days after which calls and messages are deleted; 0 = never."
    )
    stt_mode: Literal["utterance", "live"] = Field(
        "utterance",
        description="utterance sends what was said at a pause; live streams it to STT_BASE_URL's "
        "Realtime API meanwhile.",
    )
    stt_live_model: str = Field(
        "gpt-live-transcribe", description="Model of STT_MODE=live; STT_MODEL stands in for it."
    )
    realtime_base_url: Url = Field(
        "https://api.openai.com/v1",
        description="Server with the OpenAI Realtime API, for RESPONDER=realtime.",
    )
    realtime_model: str = Field(
        "gpt-realtime-2.1-mini", description="Speech-to-speech model of RESPONDER=realtime."
    )
    realtime_voice: str = Field("marin", description="Its voice.")
    realtime_turn_detection: Literal["server", "semantic", "ours"] = Field(
        "server",
        description="Who ends the caller's turn: OpenAI's server or semantic VAD, or ours.",
    )
    max_cost_usd_per_call: float = Field(
        0,
        ge=0,
        description="US dollars one realtime call may cost, then the message taker goes on; "
        "0 = no limit.",
    )

    @field_validator("responder", "caller_responders")
    @classmethod
    def _are_responders(cls, value: str) -> str:
        unknown = [name for name in parse_names(value) if name not in RESPONDERS]
        if unknown:
            raise ValueError(f"unknown responder {unknown[0]!r}; known are {', '.join(RESPONDERS)}")
        return value

    @field_validator("responder")
    @classmethod
    def _can_follow_each_other(cls, value: str) -> str:
        names = parse_names(value)
        if not names:
            raise ValueError("names nobody")
        alone = [name for name in names if name in WITHOUT_PROVIDERS]
        if alone and len(names) > 1:
            raise ValueError(f"{alone[0]} never fails and follows nobody: it stands alone")
        if "realtime" in names[1:]:
            raise ValueError("realtime takes whole calls and follows nobody: name it first")
        return value

    @field_validator("pin_cpus")
    @classmethod
    def _are_our_cpus(cls, value: str) -> str:
        foreign = [str(cpu) for cpu in parse_cpus(value) if cpu not in os.sched_getaffinity(0)]
        if foreign:
            raise ValueError(f"this machine gives us no CPU {', '.join(foreign)}")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.gateway_port == self.console_port:
            raise ValueError(f"the public port and the console port are both {self.gateway_port}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("TLS_CERT and TLS_KEY belong together: set both or neither")
        if self.twilio_auth_token.get_secret_value() and not self.public_url:
            raise ValueError("TWILIO_AUTH_TOKEN needs PUBLIC_URL: Twilio signs the address it asks")
        if "backend" in self.responders_in_use and not self.backend_api_base_url:
            raise ValueError("RESPONDER=backend needs BACKEND_API_BASE_URL")
        if self.dsp_count > self.places:
            raise ValueError(
                f"DSP_PROCESSES={self.dsp_processes} is too many: {self.workers} workers "
                f"have work for {self.places} at most"
            )
        return self

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        """What a server that is in use cannot do without."""
        used = [self.stt_base_url, self.tts_base_url] if self.uses_providers else []
        used += [self.llm_base_url] if self.uses_llm else []
        used += [self.realtime_base_url] if "realtime" in self.responders_in_use else []
        if not self.openai_api_key.get_secret_value() and any(map(is_openai, used)):
            raise ValueError("OPENAI_API_KEY is missing, and a server of OpenAI's is in use")
        if self.stt_mode == "live" and not self.stt_live_base_url:
            raise ValueError("STT_MODE=live needs a server in STT_BASE_URL: the local one cannot")
        models = in_order(self.llm_model)
        for at, url in enumerate(in_order(self.llm_base_url) if self.uses_llm else []):
            if not is_openai(url) and not "".join(models[at : at + 1]):
                raise ValueError(f"LLM_MODEL is missing for the server {url}")
        return self

    @property
    def stt_live_base_url(self) -> str:
        """Whose Realtime API STT_MODE=live uses: the first of STT_BASE_URL that is not our own."""
        return next((url for url in in_order(self.stt_base_url) if url != LOCAL), "")

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
    def responder_names(self) -> tuple[str, ...]:
        """Who answers, in order: who fails is followed by the next."""
        names = parse_names(self.responder)
        if self.ai_conversation_enabled or names[0] in WITHOUT_PROVIDERS:
            return names
        return (TRANSCRIBER,)

    @property
    def caller_responder_names(self) -> frozenset[str]:
        """Responders that a caller may pick."""
        names = frozenset(parse_names(self.caller_responders))
        return names if self.ai_conversation_enabled else names & WITHOUT_PROVIDERS

    @property
    def responders_in_use(self) -> frozenset[str]:
        """Everybody who may have to answer."""
        return self.caller_responder_names.union(self.responder_names)

    @property
    def allowed_origins(self) -> frozenset[str]:
        """Origins whose pages may open a WebSocket: the console's and TWILIO_EXPECTED_ORIGIN."""
        hosts = {"127.0.0.1", "localhost", self.console_host}
        console = {f"http://{host}:{self.console_port}" for host in hosts}
        return frozenset(console | {self.twilio_expected_origin} - {""})

    @property
    def twilio_secrets(self) -> tuple[str, ...]:
        """Each secret of TWILIO_AUTH_TOKEN; several while they are rotated."""
        return parse_names(self.twilio_auth_token.get_secret_value())

    @property
    def bare_wires(self) -> tuple[str, ...]:
        """Wires without a credential."""
        held = (self.twilio_auth_token, self.telnyx_stream_token, self.plain_token)
        wires = zip(("twilio", "telnyx", "plain"), held, strict=True)
        return tuple(wire for wire, secret in wires if not secret.get_secret_value())

    @property
    def uses_providers(self) -> bool:
        """Whether any configured responder listens and speaks through providers."""
        return not self.responders_in_use <= WITHOUT_PROVIDERS

    @property
    def needs_speech_server(self) -> bool:
        """Whether a provider that is in use points to the local speech server."""
        speech = (*in_order(self.stt_base_url), *in_order(self.tts_base_url))
        return self.uses_providers and LOCAL in speech

    @property
    def uses_llm(self) -> bool:
        """Whether a language model may have to answer."""
        return "llm" in self.responders_in_use


def parse_names(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list, each once, in order."""
    names = (name.strip() for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


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
    field = Settings.model_fields.get(name.lower())
    secret = field is not None and field.annotation is SecretStr
    given = "..." if secret else repr(fault.get("input"))
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not name:  # it is about several settings, and names them itself
        return message
    return f"{name}={given}: {message[:1].lower()}{message[1:]}"
