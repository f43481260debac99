"""Settings that depend on each other or on the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.door_settings import parse_networks
from gateway.errors import ConfigurationError
from gateway.settings import CPUS_MAX, Settings, load_settings, parse_cpus


@pytest.fixture(autouse=True)
def _eight_cpus_and_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", []),
        ("3", [3]),
        ("0,2-3", [0, 2, 3]),
        (" 5 , 1-2 ,", [5, 1, 2]),
        ("1-3,2-4,1", [1, 2, 3, 4]),
        ("7-7", [7]),
    ],
)
def test_cpus_are_read_in_their_order_and_once(text: str, cpus: list[int]) -> None:
    assert parse_cpus(text) == cpus
    assert load_settings(None, pin_cpus=text).cpus == tuple(cpus)


@pytest.mark.parametrize("text", ["x", "1-", "-1", "1-2-3", "3-1", f"0-{CPUS_MAX}", "1.5", "0x1"])
def test_no_list_of_cpus_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^PIN_CPUS=.*$") as refused:
        load_settings(None, pin_cpus=text)
    assert "\n" not in str(refused.value)


@given(st.text(alphabet="0123456789-, x", max_size=20))
def test_any_text_is_cpus_or_a_fault(text: str) -> None:
    try:
        cpus = parse_cpus(text)
    except ValueError:
        return
    assert len(cpus) == len(set(cpus))


def test_cpu_that_the_machine_does_not_give_us_is_a_fault() -> None:
    with pytest.raises(ConfigurationError, match="gives us no CPU 8, 9"):
        load_settings(None, pin_cpus="7-9")


@pytest.mark.parametrize("one", ["tls_cert", "tls_key"])
def test_certificate_and_key_belong_together(tmp_path: Path, one: str) -> None:
    file = tmp_path / "a.pem"
    file.touch()
    with pytest.raises(ConfigurationError, match=r"^TLS_CERT and TLS_KEY belong together"):
        load_settings(None, **{one: file})
    both = load_settings(None, tls_cert=file, tls_key=file)
    assert (both.tls_cert, both.tls_key) == (file, file)


def test_certificate_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^TLS_CERT="):
        load_settings(None, tls_cert=tmp_path / "none", tls_key=tmp_path)


def test_ports_differ() -> None:
    with pytest.raises(ConfigurationError, match="are both 4001"):
        load_settings(None, gateway_port=4001)


@pytest.mark.parametrize(("workers", "dsps", "fits"), [(1, 2, True), (1, 3, False), (4, 5, True)])
def test_no_more_dsp_processes_than_places(workers: int, dsps: int, *, fits: bool) -> None:
    if fits:
        assert load_settings(None, workers=workers, dsp_processes=dsps).places == workers + 1
        return
    with pytest.raises(ConfigurationError, match=f"^DSP_PROCESSES={dsps} is too many"):
        load_settings(None, workers=workers, dsp_processes=dsps)


@pytest.mark.parametrize("workers", [1, 2, 3, 64])
def test_default_number_of_dsp_processes_fits(workers: int) -> None:
    assert 2 <= load_settings(None, workers=workers).dsp_count <= workers + 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("orphan_accept_ms", -1), ("worker_rss_mb_max", -1), ("workers", 0), ("drain_timeout_ms", -1)],
)
def test_values_out_of_range_are_named(name: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name.upper()}={value}: "):
        load_settings(None, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("public_url", "wss://gw.example", "must begin with http"),
        ("public_url", "https://", "name a host"),
        ("public_url", "https://gw.example/?a", "no query"),
        ("public_url", "https://me:pw@gw.example", "no user"),
        ("public_url", "https://Gw.example", "lower case"),
        ("after_call_url", "/after", "must begin with http"),
        ("plain_token", "short", "16 to 256"),
        ("telnyx_stream_token", "with a space in it.", "16 to 256"),
        ("trusted_proxies", "10.0.0.1/8", "host bits"),
        ("trusted_proxies", "proxy.example", "IPv4 or IPv6"),
        ("overflow_number", "030 12345", "such as"),
        ("overflow_twiml", "pyproject.toml", "no XML"),
    ],
)
def test_what_cannot_guard_the_door_is_one_sentence(name: str, value: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name.upper()}=.*{why}") as refused:
        load_settings(None, **{name: value})
    assert "\n" not in str(refused.value)
    assert value not in str(refused.value) or "token" not in name, "no secret is repeated"


def test_overflow_twiml_is_a_response(tmp_path: Path) -> None:
    file = tmp_path / "busy.xml"
    file.write_text("<Say>hello</Say>")
    with pytest.raises(ConfigurationError, match="must be a <Response>"):
        load_settings(None, overflow_twiml=file)


def test_twilios_secrets_need_the_address_that_is_signed() -> None:
    with pytest.raises(ConfigurationError, match=r"^TWILIO_AUTH_TOKEN needs PUBLIC_URL"):
        load_settings(None, twilio_auth_token="a, b")
    made = load_settings(None, twilio_auth_token="a, b,", public_url="https://gw.example/x/")
    assert made.twilio_secrets == ("a", "b")
    assert made.public_url == "https://gw.example/x"
    assert made.bare_wires == ("telnyx", "plain")


def test_trusted_proxies_may_be_none() -> None:
    assert parse_networks("none") == ()
    assert [str(n) for n in parse_networks("10.0.0.0/8, ::1")] == ["10.0.0.0/8", "::1/128"]
