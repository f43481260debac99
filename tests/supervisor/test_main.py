"""The command: what an operator types, what children are given."""

from __future__ import annotations

import ast
import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gateway.settings import Settings, load_settings
from supervisor.__main__ import _open, _specs, child_environment, main
from supervisor.sockets import claim_name
from supervisor.spec import ChildSpec
from tests.supervisor.conftest import Forest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _only_what_the_test_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no ``.env`` of whoever runs the tests may be read."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as an operator runs it."""
    return run_python("-m", "supervisor", *arguments)


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=30
    )


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


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
    monkeypatch.setenv("DSP_PROCESSES", "6")
    assert main(["--check", "--env-file", "my.env", "--dsp-processes", "8"]) == 0
    text = capsys.readouterr().out
    assert "5 workers, 8 DSP processes" in text
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


def test_too_few_descriptors_is_one_sentence() -> None:
    port, console = free_ports(2)
    ports = f"--port {port} --console-port {console}"
    flags = f"--workers 16 --calls-per-worker 1 --host 127.0.0.1 {ports}"
    result = subprocess.run(
        ["/bin/sh", "-c", f"ulimit -n 20; exec {sys.executable} -m supervisor {flags}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert_one_sentence(result, "Too many open files")


def test_supervisor_starts_no_thread_and_no_process_and_imports_nothing_heavy() -> None:
    port, console = free_ports(2)
    code = f"""
import os, sys
from contextlib import ExitStack
from pathlib import Path
from gateway.settings import load_settings
from supervisor.__main__ import _open, _specs
settings = load_settings(None, host="127.0.0.1", gateway_port={port}, console_port={console},
                         calls_per_worker=1)
with ExitStack() as held:
    specs = list(_specs(settings, _open(settings, held)))
    print(len(specs), len(os.listdir("/proc/self/task")))
    print(Path(f"/proc/self/task/{{os.getpid()}}/children").read_text().split())
    print({{"numpy", "onnxruntime", "openai", "uvloop", "ctranslate2", "soxr"}} & set(sys.modules))
"""
    result = run_python("-W", "error", "-c", code)
    assert result.stderr == ""
    assert result.stdout.splitlines() == ["5 1", "[]", "set()"]


def test_ctrl_c_during_the_start_is_heard_and_leaves_nothing_behind() -> None:
    port, console = free_ports(2)
    code = f"""
import os, signal, sys
import supervisor.__main__ as command
create = command.Arena.create
def interrupted(slots):
    os.kill(os.getpid(), signal.SIGINT)
    return create(slots)
command.Arena.create = interrupted
sys.exit(command.main(["--host", "127.0.0.1", "--calls-per-worker", "1", "--workers", "1",
                       "--port", "{port}", "--console-port", "{console}"]))
"""
    result = run_python("-c", code)
    assert result.returncode == 0
    assert "stopping signal=SIGINT" in result.stderr
    assert "started" not in result.stderr
    assert "Traceback" not in result.stderr


@contextmanager
def composed(workers: int = 2) -> Iterator[tuple[list[ChildSpec], ExitStack]]:
    """The specs of a whole gateway, with everything they need open."""
    port, console = free_ports(2)
    settings = load_settings(
        None,
        host="127.0.0.1",
        gateway_port=port,
        console_port=console,
        workers=workers,
        calls_per_worker=1,
    )
    with ExitStack() as held:
        yield list(_specs(settings, _open(settings, held))), held


def fds_in(spec: ChildSpec) -> set[int]:
    """Every descriptor that a main is told about."""
    fds: set[int] = set()
    for name, value in spec.kwargs.items():
        if isinstance(value, socket.socket):
            fds.add(value.fileno())
        elif name.endswith("_fd"):
            assert isinstance(value, int)
            fds.add(value)
        elif name.endswith("_fds"):
            assert isinstance(value, tuple)
            fds.update(value)
    return fds


def test_children_keep_just_the_descriptors_they_are_told_about() -> None:
    with composed() as (specs, _):
        assert [s.name for s in specs] == [
            "dsp-0", "dsp-1", "speech-0", "console-0", "worker-0", "worker-1",
        ]  # fmt: skip
        for spec in specs:
            assert fds_in(spec) == spec.keep_fds
        workers = [s for s in specs if s.kind == "worker"]
        others = [s for s in specs if s.kind != "worker"]
        assert all(s.dies_with_parent for s in workers)
        assert not any(s.dies_with_parent for s in others)
        # The end of file that tells the others to go must not wait for themselves.
        assert {s.kwargs["alive_fd"] for s in workers}.isdisjoint(
            s.kwargs["alive_fd"] for s in others
        )
        for mine, yours in (workers, reversed(workers)):
            assert mine.kwargs["listener"] is not yours.kwargs["listener"]


def test_mains_take_what_they_are_given() -> None:
    with composed(workers=1) as (specs, _):
        for spec in specs:
            module = ROOT / f"{spec.target.partition(':')[0].replace('.', '/')}.py"
            needed, possible = keyword_arguments_of_main(module)
            assert needed <= set(spec.kwargs) <= possible


def keyword_arguments_of_main(module: Path) -> tuple[set[str], set[str]]:
    """Those without a default, and all; read, not imported: this process stays light."""
    (found,) = [
        node
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    ]
    defaults = dict(zip(found.args.kwonlyargs, found.args.kw_defaults, strict=True))
    needed = {argument.arg for argument, default in defaults.items() if default is None}
    return needed, {argument.arg for argument in defaults}


def test_whole_gateway_of_toys_starts_and_stops(forest: Forest) -> None:
    with composed() as (specs, _):
        board = next(spec.kwargs["board"] for spec in specs if "board" in spec.kwargs)
        wakes = next(s.kwargs["dsp_wake_fds"] for s in specs if s.kind == "worker")
        toys = [
            dataclasses.replace(spec, target="tests.supervisor.toys:stands_in") for spec in specs
        ]
        tree = forest.grow(board, toys, wakes=wakes)  # type: ignore[arg-type]
        tree.wait_output("serving now")
        tree.signal(signal.SIGTERM)
        assert tree.end() == 0
        assert "Traceback" not in tree.output


@pytest.mark.parametrize(
    ("cpuinfo", "given", "kernels"),
    [
        ("flags : fpu avx512f avx512bw avx512dq avx512vl sse", {}, "SkylakeX"),
        ("flags : fpu avx512f avx512bw avx512dq sse", {}, None),
        ("Features : asimd", {}, None),
        ("", {}, None),
        ("flags : avx512f avx512bw avx512dq avx512vl", {"OPENBLAS_CORETYPE": "Zen"}, None),
    ],
)
def test_environment_of_children(cpuinfo: str, given: dict[str, str], kernels: str | None) -> None:
    environment = child_environment(f"processor : 0\n{cpuinfo}\n", given)
    assert environment.pop("OPENBLAS_CORETYPE", None) == kernels
    assert environment == {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
