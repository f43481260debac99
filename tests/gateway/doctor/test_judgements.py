"""What answers mean: a table for each kind, and none that an answer can break."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.doctor import judgements as judge
from gateway.doctor.finding import Finding
from gateway.doctor.judgements import Answer, Heard
from gateway.wire.twiml import Connect, connect, overflow

PUBLIC = "https://gw.example"


def twiml(url: str) -> bytes:
    return connect(Connect(stream_url=url, status_url=f"{PUBLIC}/twilio/status")).encode()


READY = Answer(200, {}, b'{"ready":true,"reasons":[],"warnings":[]}')
FULL = Answer(503, {}, b'{"ready":false,"reasons":["the gateway is full"],"warnings":[]}')
OURS = {"server": "voice-gateway"}

#: A finding, its mark, and a word that it must say.
TABLE = [
    (judge.judge_public_url(""), "FAIL", "set it"),
    (judge.judge_public_url("http://gw.example"), "FAIL", "31922"),
    (judge.judge_public_url(PUBLIC), "ok", "wss://gw.example"),
    (judge.judge_certificate("gw", 0, "", 60), "ok", "60 days"),
    (judge.judge_certificate("gw", 0, "", 6), "FAIL", "renew"),
    (judge.judge_certificate("gw", 10, "expired", 0), "FAIL", "renew"),
    (judge.judge_certificate("gw", 18, "self-signed", 0), "FAIL", "31910"),
    (judge.judge_certificate("gw", 20, "no issuer", 0), "FAIL", "fullchain.pem"),
    (judge.judge_certificate("gw", 62, "mismatch", 0), "FAIL", "another host"),
    (judge.judge_certificate("gw", 999, "strange words", 0), "FAIL", "strange words"),
    (judge.judge_health(PUBLIC, Answer(200, OURS, b"ok\n")), "ok", PUBLIC),
    (judge.judge_health(PUBLIC, Answer(200, {"server": "nginx"}, b"ok\n")), "ok", "nginx"),
    (judge.judge_health(PUBLIC, Answer(200, {}, b"<html>")), "FAIL", "GATEWAY_PORT"),
    (judge.judge_health(PUBLIC, Answer(502, {"server": "nginx"})), "FAIL", "nginx"),
    (judge.judge_health(PUBLIC, Answer(301)), "FAIL", "redirects"),
    (judge.judge_health(PUBLIC, Answer(fault="refused")), "FAIL", "is it running"),
    (judge.judge_ready(READY), "ok", ""),
    (judge.judge_ready(FULL), "FAIL", "the gateway is full"),
    (judge.judge_ready(Answer(404, {}, b"nothing")), "FAIL", "404"),
    (judge.judge_webhook(Answer(200)), "ok", ""),
    (judge.judge_webhook(Answer(403)), "FAIL", "TWILIO_AUTH_TOKEN"),
    (judge.judge_webhook(Answer(503)), "FAIL", "PUBLIC_URL"),
    (judge.judge_webhook(Answer(418)), "FAIL", "418"),
    (judge.judge_webhook(Answer(fault="timed out")), "FAIL", "timed out"),
    (judge.judge_forgery(Answer(403)), "ok", ""),
    (judge.judge_forgery(Answer(200)), "FAIL", "TWILIO_AUTH_TOKEN"),
    (judge.judge_twiml(twiml("wss://gw.example/twilio/t"), PUBLIC)[0], "ok", "wss://gw.example"),
    (judge.judge_twiml(twiml("ws://gw.example/twilio/t"), PUBLIC)[0], "FAIL", "wss"),
    (judge.judge_twiml(twiml("wss://other/twilio/t"), PUBLIC)[0], "FAIL", "other"),
    (judge.judge_twiml(overflow().encode(), PUBLIC)[0], "FAIL", "ready"),
    (judge.judge_twiml(b"<html", PUBLIC)[0], "FAIL", "proxy"),
    (judge.judge_stream(Heard(audio_ms=5, sound_ms=40), speaks=True), "ok", "40 ms"),
    (judge.judge_stream(Heard(audio_ms=5), speaks=True), "FAIL", "silence only"),
    (judge.judge_stream(Heard(), speaks=True), "FAIL", "no audio"),
    (judge.judge_stream(Heard(), speaks=False), "ok", "says nothing"),
    (judge.judge_stream(Heard(closed="1008 token"), speaks=True), "FAIL", "1008 token"),
    (judge.judge_stream(Heard(status=403), speaks=True), "FAIL", "signature"),
    (judge.judge_stream(Heard(status=503), speaks=True), "FAIL", "full"),
    (judge.judge_stream(Heard(status=426), speaks=True), "FAIL", "WebSockets"),
    (judge.judge_stream(Heard(fault="no upgrade"), speaks=True), "FAIL", "no upgrade"),
    (judge.judge_second_use(Heard(closed="1008 token")), "ok", "once"),
    (judge.judge_second_use(Heard(status=403)), "ok", "once"),
    (judge.judge_second_use(Heard(status=503)), "FAIL", "full"),
    (judge.judge_second_use(Heard(audio_ms=5, sound_ms=5)), "FAIL", "second caller"),
    (judge.judge_token("plain", 101, 403), "ok", ""),
    (judge.judge_token("plain", 403, 403), "FAIL", "403"),
    (judge.judge_token("plain", 101, 101), "FAIL", "without its token"),
    (judge.judge_memory(2**26, 2**26), "ok", "64 MiB"),
    (judge.judge_memory(2**26, 2**27), "FAIL", "--shm-size"),
    (judge.judge_descriptors(float("inf"), 1_000), "ok", "1000"),
    (judge.judge_descriptors(999, 1_000), "FAIL", "LimitNOFILE"),
]


@pytest.mark.parametrize(("found", "mark", "word"), TABLE, ids=lambda value: str(value)[:60])
def test_each_answer_has_its_verdict(found: Finding, mark: str, word: str) -> None:
    assert found.mark == mark
    assert word in found.text


def test_a_missing_voice_fails_only_where_all_calls_need_it() -> None:
    warnings = [f"no voice for {name}, callers hear English: install it" for name in ("ru", "ar")]
    answer = Answer(200, {}, orjson.dumps({"ready": True, "warnings": warnings}))
    assert [one.mark for one in judge.judge_voices(answer, "auto")] == ["skip", "skip"]
    assert [one.mark for one in judge.judge_voices(answer, "ar")] == ["skip", "FAIL"]
    assert [one.mark for one in judge.judge_voices(READY, "ar")] == ["ok"]


@given(st.integers(100, 599), st.binary(max_size=200))
def test_whatever_answers_there_is_a_verdict(status: int, body: bytes) -> None:
    answer = Answer(status, {}, body)
    verdicts = [
        judge.judge_health(PUBLIC, answer),
        judge.judge_ready(answer),
        judge.judge_webhook(answer),
        judge.judge_forgery(answer),
        judge.judge_twiml(body, PUBLIC)[0],
        *judge.judge_voices(answer, "ru"),
    ]
    assert all(one.line.isprintable() for one in verdicts)
