"""The command: what an operator types, what children are given."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.__main__ import main
from supervisor.sockets import claim_name
from tests.fakes.onnx_model import mean_model
from tests.supervisor.conftest import free_ports

pytestmark = pytest.mark.usefixtures("only_what_the_test_sets")

PROFILES = Path(__file__).parents[2] / "profiles"


@pytest.fixture(autouse=True)
def _the_shipped_profiles(only_what_the_test_sets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROFILE_DIR", str(PROFILES))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as an operator runs it."""
    return run_python("-m", "supervisor", *arguments)


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=30
    )


def assert_one_sentence(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    for part in ("voice gateway: ", *parts):
        assert part in result.stderr


def test_check_says_what_would_run() -> None:
    result = run("--check", "--workers", "3", "--calls-per-worker", "10", "--responder", "echo")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("ok: 3 workers, 2 DSP processes (one a standby), console;")
    assert "30 calls" in result.stdout


def test_check_says_one_sentence_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--workers", "0", "--port", "many", "--responder", "nobody"]) == 2
    faults = capsys.readouterr().err.splitlines()
    assert len(faults) == 3
    assert {fault.split("=")[0] for fault in faults} == {
        "voice gateway: WORKERS",
        "voice gateway: GATEWAY_PORT",
        "voice gateway: RESPONDER",
    }


def test_check_says_one_sentence_a_fault_of_the_profiles(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROFILE_DIR", ".")
    Path("default.toml").write_text('busines_name = "a"\n[opening_hours]\nmon = "9"\nx = ""\n')
    Path("+1555.toml").write_text("business_name = 5")
    assert main(["--check"]) == 2
    faults = capsys.readouterr().err.splitlines()
    assert [fault.split(": ")[:3] for fault in faults] == [
        ["voice gateway", "+1555.toml", "business_name"],
        ["voice gateway", "default.toml", "busines_name"],
        ["voice gateway", "default.toml", "opening_hours.mon"],
        ["voice gateway", "default.toml", "opening_hours.x"],
        ["voice gateway", "default.toml", "business_name"],
    ]


def test_check_tries_the_turn_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("good.onnx", mean_model()), ("bad.onnx", mean_model(("N", 80, 3000)))):
        Path(name).write_bytes(content)
    monkeypatch.setenv("TURN_MODEL", "good.onnx")
    assert main(["--check"]) == 0
    assert "turn model: good.onnx" in capsys.readouterr().out
    for name, fault in (("missing.onnx", "does not point to a file"), ("bad.onnx", "80, 3000]")):
        monkeypatch.setenv("TURN_MODEL", name)
        assert main(["--check"]) == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert sentence.startswith("voice gateway: TURN_MODEL=")
        assert fault in sentence


def test_one_port_cannot_be_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--port", "4001", "--console-port", "4001"]) == 2
    assert "are both 4001" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [(["--wrokers", "2"], "--wrokers"), (["--workers"], "--workers"), (["here"], "here")],
)
def test_wrong_usage_is_one_sentence(arguments: list[str], part: str) -> None:
    assert_one_sentence(run(*arguments), part, "--help")


def test_help_names_every_flag_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for flag in ("--workers", "--dsp-processes", "--host", "--port", "--console-port"):
        assert flag in text
    for flag in ("--responder", "--env-file", "--check", "--log-level", "--calls-per-worker"):
        assert flag in text
    for default in ("4000", "4001", "512", "message_taker", "0.0.0.0"):
        assert default in text


def test_flags_win_over_environment_over_env_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("my.env").write_text("WORKERS=3\nCALLS_PER_WORKER=7\nDSP_PROCESSES=4\n")
    monkeypatch.setenv("WORKERS", "5")
    monkeypatch.setenv("DSP_PROCESSES", "5")
    assert main(["--check", "--env-file", "my.env", "--dsp-processes", "6"]) == 0
    text = capsys.readouterr().out
    assert "5 workers, 6 DSP processes" in text
    assert "35 calls" in text


def test_env_file_of_the_current_directory_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text("WORKERS=3\n")
    assert main(["--check"]) == 0
    assert "3 workers" in capsys.readouterr().out
    Path("other.env").write_text("WORKERS=2\n")
    assert main(["--check", "--env-file", "other.env"]) == 0
    assert "2 workers" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["missing", "directory", "binary"])
def test_unreadable_env_file_is_one_sentence(kind: str) -> None:
    path = Path("bad.env")
    if kind == "directory":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(b"WORKERS=\xff\xfe\x00")
    assert_one_sentence(run("--env-file", "bad.env"), "cannot read the env file", "bad.env")


def test_port_of_a_stranger_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = str(stranger.getsockname()[1])
        (other,) = free_ports(1)
        taken = run("--host", "127.0.0.1", "--port", port, "--console-port", str(other))
        assert_one_sentence(taken, port, "another program already listens")
        taken = run("--host", "127.0.0.1", "--port", str(other), "--console-port", port)
        assert_one_sentence(taken, port, "another program already listens")


def test_second_supervisor_is_refused_in_one_sentence() -> None:
    port, console = free_ports(2)
    with claim_name(port):
        second = run("--host", "127.0.0.1", "--port", str(port), "--console-port", str(console))
        assert_one_sentence(second, f"another voice gateway (pid {os.getpid()})", str(port))


def test_python_without_assertions_is_refused_in_one_sentence() -> None:
    assert_one_sentence(run_python("-O", "-m", "supervisor"), "without -O")


def test_foreign_address_is_one_sentence() -> None:
    (port,) = free_ports(1)
    assert_one_sentence(run("--host", "203.0.113.7", "--port", str(port)), "203.0.113.7")


@pytest.mark.parametrize("limit", [20, 600])
def test_too_few_descriptors_is_one_sentence(limit: int) -> None:
    port, console = free_ports(2)
    flags = f"--workers 2 --host 127.0.0.1 --port {port} --console-port {console}"
    result = subprocess.run(
        ["/bin/sh", "-c", f"ulimit -n {limit}; exec {sys.executable} -m supervisor {flags}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert_one_sentence(result, f"the limit of open files is {limit}", "CALLS_PER_WORKER")


def test_ctrl_c_during_the_start_is_heard_and_leaves_nothing_behind() -> None:
    port, console = free_ports(2)
    code = f"""
import os, signal, sys
import supervisor.__main__ as command
from audio.arena import Arena
create = Arena.create
def interrupted(*given, **named):
    os.kill(os.getpid(), signal.SIGINT)
    return create(*given, **named)
Arena.create = interrupted
sys.exit(command.main(["--host", "127.0.0.1", "--calls-per-worker", "1", "--workers", "1",
                       "--port", "{port}", "--console-port", "{console}"]))
"""
    result = run_python("-c", code)
    assert result.returncode == 0
    assert "stopping signal=SIGINT" in result.stderr
    assert "started" not in result.stderr
    assert "Traceback" not in result.stderr
