"""The instrument measures itself: an honest server passes, each broken one fails and is named.

All calls of this file share one event loop with the servers they call, so that the whole of it
takes as long as the longest call. A few runs of the real command follow, all at once.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import time
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from loadtest.generator import Generator
from loadtest.host import host_facts, library_versions
from loadtest.options import DEFAULT_AUDIO, parse_options
from loadtest.report import Measured, Report, make_report
from loadtest.table import render
from tests.loadtest.echo_server import Server, running_server

ROOT = Path(__file__).parent.parent.parent
CLIP = str(DEFAULT_AUDIO / "cards-001.wav")
START_NS = 200_000_000

ECHO = ("--calls", "2", "--seconds", "2.5", "--audio", CLIP)
TALK = ("--scenario", "talk", "--audio", CLIP, "--seconds", "12", "--parameter", "role=assistant")
PHONE = ("--scenario", "phone", "--audio", CLIP, "--seconds", "10", "--parameter", "role=reciter")
PLAIN = ("--seconds", "1.5", "--wire", "plain", "--parameter", "languageHint=ru")

#: Each server by the fault it has, and the promise that a run of it is held to.
ECHOES = {
    "": "frames_unidentified=0",
    "silence_first": "frames_unidentified=0",
    "fragment": "frames_unidentified=0",
    "drop": "frames_lost=1000",
    "reorder": "frames_lost=0",
    "duplicate": "frames_lost=0",
    "delay": "rtt_ms.max=400",
    "stall": "rtt_ms.max=400",
    "garble": "frames_lost=0",
    "malformed": "frames_lost=0",
    "binary": "frames_lost=0",
    "hang_up": "frames_lost=0",
}
#: Half of them begin when the others are over: all at once would keep a slow machine too busy.
LATER = range(len(ECHOES) // 2, len(ECHOES))
LATER_NS = 5_000_000_000
ASSISTANTS = {
    "": "response_ms.count=1",
    "clear": "response_ms.count=1",
    "early": "playout_lead_ms.max=1000",
    "gap": "playout_gap_ms.max=300",
    "ignore_clear": "response_ms.count=1",
    "mute": "frames_sent=1",  # the last: see make_runs
}
RECITERS = {
    "": "onset_lateness_ms.max=500",
    "gap": "assistant.share=0.01",
    "late": "onset_lateness_ms.max=500",
    "small": "assistant.ms_per_message=80",
    "silent": "frames_sent=1",
}
#: Half of what the slowest server makes of its frames.
LATE_MS_MAX = 250
ATTEMPTS = 3

pytestmark = pytest.mark.timeout(180)


@dataclass
class Runs:
    """What came of all runs: by fault, and by the name of a command."""

    echo: dict[str, Report] = field(default_factory=dict)
    talk: dict[str, Report] = field(default_factory=dict)
    phone: dict[str, Report] = field(default_factory=dict)
    plain: Report | None = None
    commands: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    server: Server = field(default_factory=Server)
    folder: Path = Path()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """What says of itself that it was held up says nothing of a server: then once more."""
    found = Runs()
    for _ in range(ATTEMPTS):
        found = Runs(folder=tmp_path_factory.mktemp("runs"))
        asyncio.run(make_runs(found))
        if lateness_ms(found) <= LATE_MS_MAX:
            break
    return found


def lateness_ms(found: Runs) -> float:
    """How late the generator itself was, at its worst."""
    reports = [*found.echo.values(), *found.talk.values(), *found.phone.values()]
    reports += [found.plain] if found.plain else []
    return max(
        cast("dict[str, float]", each.figures["send_lateness_ms"])["max"] for each in reports
    )


async def make_runs(found: Runs) -> None:
    async with running_server() as server:
        found.server = server
        wanted = [
            [*ECHO, "--parameter", f"fault={fault}", "--slo", slo] for fault, slo in ECHOES.items()
        ]
        wanted += [
            [*TALK, "--parameter", f"fault={fault}", "--slo", slo]
            for fault, slo in ASSISTANTS.items()
        ]
        wanted[-1] += ["--seconds", "6"]  # nobody will answer
        wanted[len(ECHOES)] += ["--save-heard", str(found.folder)]
        wanted += [
            [*PHONE, "--parameter", f"fault={fault}", "--slo", slo]
            for fault, slo in RECITERS.items()
        ]
        plain = [*PLAIN, "--save-heard", str(found.folder / "plain")]
        (found.folder / "plain").mkdir()
        reports = await run_all(server, [*wanted, plain])
        found.echo = dict(zip(ECHOES, reports, strict=False))
        found.talk = dict(zip(ASSISTANTS, reports[len(ECHOES) :], strict=False))
        others = len(ECHOES) + len(ASSISTANTS)
        found.phone = dict(zip(RECITERS, reports[others:], strict=False))
        found.plain = reports[-1]
        await run_commands(found, server)


async def run_all(server: Server, wanted: Sequence[Sequence[str]]) -> list[Report]:
    """The generator's runs, all in this loop; the material is made before the first begins."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        options = [parse_options(["--url", server.url, *arguments]) for arguments in wanted]
        generators = [Generator(each, 0, theirs) for each in options]
        start_ns = time.monotonic_ns() + START_NS
        starts = [start_ns + LATER_NS * (LATER.start <= n < LATER.stop) for n in range(len(wanted))]
        await asyncio.gather(*map(Generator.run, generators, starts))
    reports = []
    for each, generator, began_ns in zip(options, generators, starts, strict=True):
        share = generator.judge(began_ns)
        measured = Measured(
            each, share.results, share.cpu_percent, None, library_versions(), host_facts()
        )
        reports.append(make_report(measured))
    return reports


async def run_commands(found: Runs, server: Server) -> None:
    """The command as a user starts it, by path and as a module."""
    script, module = ["loadtest/twilio_sim.py"], ["-m", "loadtest.twilio_sim"]
    url = ["--url", server.url]
    folder = found.folder
    good = [*url, *ECHO, "--seconds", "1.5", "--json", str(folder / "good.json")]
    commands = {
        "good": [*script, *good, "--processes", "2", "--pid", str(os.getpid())],
        "drop": [*module, *url, *ECHO, "--parameter", "fault=drop"],
        "no server": [*module, "--url", "ws://127.0.0.1:1/", "--json", str(folder / "no.json")],
        "usage": [*script, "--url", "ws://127.0.0.1:1/", "--slo", "nonsense"],
        "pid": [*script, *url, "--pid", "2147483646"],
        "memory": [*script, *url, "--calls", "20000", "--seconds", "86400"],
        "json": [*script, *url, "--json", str(folder / "none" / "x.json")],
    }
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", *arguments, cwd=ROOT, stdout=pipe, stderr=pipe
        )
        for arguments in commands.values()
    ]
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    for name, process, (out, err) in zip(commands, processes, outputs, strict=True):
        assert process.returncode is not None
        found.commands[name] = process.returncode, out.decode(), err.decode()


def texts(report: Report, *, fails: bool) -> list[str]:
    return [fault.text for fault in report.faults if fault.fails is fails]


@pytest.mark.parametrize("fault", ["", "silence_first", "fragment"])
def test_an_honest_echo_passes_and_every_frame_is_told(runs: Runs, fault: str) -> None:
    report = runs.echo[fault]
    assert report.exit_status == 0
    assert texts(report, fails=True) == []
    figures = report.figures
    assert figures["frames_lost"] == figures["frames_out_of_order"] == 0
    assert figures["frames_duplicated"] == figures["frames_unidentified"] == 0
    # A call is over when as much has come as was sent: of what follows, some may not be awaited.
    extra = 2 * 3 if fault == "silence_first" else 0
    sent = int(str(figures["frames_sent"]))
    assert 0 <= int(str(figures["frames_received"])) - sent <= extra
    rtt = figures["rtt_ms"]
    assert isinstance(rtt, dict)
    assert 0 <= sent - rtt["count"] <= extra
    assert figures["group_delay_ms"] == pytest.approx(23 / 8, abs=0.02)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("drop", "lost 10 frames in 2 calls"),
        ("reorder", "reordered 2 frames in 2 calls"),
        ("duplicate", "duplicated 4 frames in 2 calls"),
        ("delay", "reordered 2 frames in 2 calls"),
        ("malformed", "sent 2 messages that a carrier refuses, e.g. media must be an object"),
        ("binary", "sent 2 messages that a carrier refuses, e.g. binary message"),
        ("hang_up", "disconnected 2 calls: closed with 1000"),
    ],
)
def test_a_broken_echo_fails_and_is_named(runs: Runs, fault: str, name: str) -> None:
    report = runs.echo[fault]
    assert report.exit_status == 1
    (found,) = texts(report, fails=True)
    assert found.startswith(name)
    assert all(verdict.met for verdict in report.verdicts) is (fault != "delay")


def test_a_garbled_echo_returns_what_nobody_sent(runs: Runs) -> None:
    report = runs.echo["garble"]
    assert report.exit_status == 1
    (found,) = texts(report, fails=True)
    assert found.startswith("returned 20 frames that nobody sent")
    assert report.figures["frames_lost"] == 0


@pytest.mark.parametrize(("fault", "name"), [("delay", "delayed 2 "), ("stall", "stalled 2 ")])
def test_a_slow_echo_misses_its_promise_and_is_named(runs: Runs, fault: str, name: str) -> None:
    report = runs.echo[fault]
    assert report.exit_status == 1
    assert [verdict.met for verdict in report.verdicts] == [False]
    assert any(found.startswith(name) for found in texts(report, fails=False))


@pytest.mark.parametrize("fault", ["", "clear"])
def test_an_honest_assistant_passes(runs: Runs, fault: str) -> None:
    report = runs.talk[fault]
    assert report.exit_status == 0
    assert texts(report, fails=True) == []


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("early", "sent early: audio up to "),
        ("gap", "stalled "),
        ("ignore_clear", "ignored clear: went on sending after 1 clear of its own in 1 call"),
        ("mute", "did not answer in 1 call"),
    ],
)
def test_a_broken_assistant_fails_and_is_named(runs: Runs, fault: str, name: str) -> None:
    report = runs.talk[fault]
    assert report.exit_status == 1
    named = texts(report, fails=True) + texts(report, fails=False)
    assert any(found.startswith(name) for found in named)
    missed = fault in ("early", "gap")
    assert [verdict.met for verdict in report.verdicts] == [not missed]


def test_an_honest_reciter_passes_and_is_measured(runs: Runs) -> None:
    report = runs.phone[""]
    assert report.exit_status == 0
    assert report.faults == []
    assistant, lateness = report.figures["assistant"], report.figures["onset_lateness_ms"]
    assert isinstance(assistant, dict)
    assert isinstance(lateness, dict)
    assert 0.2 < assistant["share"] < 0.4
    assert 95 < assistant["ms_per_message"] <= 100
    assert lateness["count"] == 3
    assert " ms a message" in render(report)


@pytest.mark.parametrize(
    ("fault", "name", "kept"),
    [
        ("gap", "broke off 1 time within its words, up to ", True),
        ("silent", "did not answer in 1 call", True),
        ("late", "", False),
        ("small", "", False),
    ],
)
def test_a_broken_reciter_fails_and_is_named(
    runs: Runs, fault: str, name: str, *, kept: bool
) -> None:
    report = runs.phone[fault]
    assert report.exit_status == 1
    assert [verdict.met for verdict in report.verdicts] == [kept]
    named = texts(report, fails=True)
    assert [found.startswith(name) for found in named] == ([True] if name else [])


def test_marks_came_back_and_calls_were_ended_well(runs: Runs) -> None:
    talks = len(ASSISTANTS)
    # All but `clear` mark the end of the greeting, all but `mute` that of the reply.
    assert runs.server.marks.count("greeting") == talks - 1
    assert runs.server.marks.count("reply") == talks - 1
    assert runs.server.marks.count("cleared") == 1
    echoes = 2 * (len(ECHOES) - 1 + len(["good", "drop"]))
    whole = echoes + talks + len(RECITERS) + len(["plain"])
    # Who answers a caller that has hung up, as after a silence first, does not read the goodbye.
    assert whole - 2 <= runs.server.stopped <= whole


def test_the_plain_wire_is_told_too(runs: Runs) -> None:
    assert runs.plain is not None
    assert runs.plain.exit_status == 0
    assert runs.plain.figures["frames_unidentified"] == 0
    assert runs.plain.figures["frames_received"] == runs.plain.figures["frames_sent"]


def test_the_command_reports_and_writes_json(runs: Runs) -> None:
    status, table, errors = runs.commands["good"]
    assert (status, errors) == (0, "")
    assert table.splitlines()[0].startswith("echo: 2 calls, 1.5 s, twilio wire, seed 1, ws://")
    assert table.splitlines()[-1].split() == ["result", "passed"]
    figures = json.loads((runs.folder / "good.json").read_bytes())
    assert figures["client"]["processes"] == 2
    assert figures["server"]["processes"] >= 1
    assert figures["server"]["cpu_ms_per_call_second"] > 0
    assert figures["rtt_ms"]["count"] == figures["frames_sent"] == figures["frames_received"]


def test_the_command_fails_with_the_server(runs: Runs) -> None:
    status, table, errors = runs.commands["drop"]
    assert (status, errors) == (1, "")
    assert "lost 10 frames in 2 calls" in table


def test_what_was_heard_is_saved(runs: Runs) -> None:
    with wave.open(str(runs.folder / "call-000.wav"), "rb") as reader:
        assert reader.getframerate() == 8000
        samples = np.frombuffer(reader.readframes(reader.getnframes()), "<i2")
    heard_seconds = np.count_nonzero(np.abs(samples) > 500) / 8000
    assert heard_seconds > 0.5  # greeting and reply, 1.1 s each, with pauses in them


def test_transcripts_of_the_plain_wire_are_saved(runs: Runs) -> None:
    said = json.loads((runs.folder / "plain" / "call-000.json").read_bytes())
    assert [(each["role"], each["text"]) for each in said] == [
        ("caller", "caller in ru"),
        ("assistant", "assistant in ru"),
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no server", "no call could be made to ws://127.0.0.1:1/: Connection refused"),
        ("usage", "is not NAME=VALUE with a number"),
        ("pid", "--pid 2147483646: there is no such process"),
        ("memory", "make fewer or shorter calls"),
        ("json", "its folder is missing or not writable"),
    ],
)
def test_what_cannot_work_is_one_sentence(runs: Runs, name: str, sentence: str) -> None:
    status, output, errors = runs.commands[name]
    assert (status, output) == (2, "")
    assert sentence in errors
    assert len(errors.splitlines()) == 1
    assert not (runs.folder / "no.json").exists()
