"""What is opened, and who is given which of it."""

from __future__ import annotations

import ast
import dataclasses
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.settings import Settings, load_settings
from supervisor.__main__ import _read_command_line
from supervisor.composition import (
    KILL_AFTER_DRAIN_MS,
    NEEDS_RESTART,
    Reloader,
    Resources,
    child_environment,
    crew_of,
    descriptors_needed,
    open_resources,
    other_specs,
)
from supervisor.sockets import ListenError, open_listener
from supervisor.spec import ChildSpec, Crew, ReloadError
from tests.supervisor.conftest import ROOT, Forest, free_ports
from tests.supervisor.test_sockets import answering

pytestmark = pytest.mark.usefixtures("only_what_the_test_sets")


def settings_with(**given: object) -> Settings:
    port, console = free_ports(2)
    fixed = {"gateway_host": "127.0.0.1", "gateway_port": port, "console_port": console}
    return load_settings(None, **{"calls_per_worker": 1, "workers": 2, **fixed, **given})


@contextmanager
def opened(**given: object) -> Iterator[tuple[Settings, Resources]]:
    """Everything a whole gateway needs, open."""
    with ExitStack() as held:
        settings = settings_with(**given)
        yield settings, open_resources(settings, held)


def workers_of(crew: Crew) -> list[ChildSpec]:
    """The workers of the start, and one that has moved to the spare place."""
    listeners = [*range(crew.workers), 0]
    return [crew.spec(place, listener) for place, listener in enumerate(listeners)]


def specs_of(settings: Settings, resources: Resources) -> list[ChildSpec]:
    workers = workers_of(crew_of(settings, resources))
    return [*other_specs(settings, resources), *workers]


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
        elif name == "handover_tx":
            assert isinstance(value, tuple)
            fds.update(end.fileno() for end in value)
    return fds


def test_children_keep_just_the_descriptors_they_are_told_about() -> None:
    with opened() as (settings, resources):
        specs = specs_of(settings, resources)
        assert [s.name for s in specs] == [
            "dsp-0", "dsp-1", "speech-0", "console-0", "worker-0", "worker-1", "worker-2",
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


def test_each_place_has_its_own_and_a_successor_takes_over_the_listener() -> None:
    with opened() as (settings, resources):
        one, two, successor = workers_of(crew_of(settings, resources))
        for name in ("row", "arena", "arena_index", "woken_fd", "records_fd", "handover_rx"):
            assert len({id(s.kwargs[name]) for s in (one, two, successor)}) == 3
        assert successor.kwargs["listener"] is one.kwargs["listener"]
        assert one.kwargs["listener"] is not two.kwargs["listener"]
        assert (one.listener, two.listener, successor.listener) == (0, 1, 0)
        assert one.kwargs["handover_tx"] == tuple(end for _, end in resources.handovers)
        assert len(resources.handovers) == len(resources.arenas) == resources.board.places == 3


def test_each_worker_is_pinned_to_a_cpu_of_its_own_and_dsp_processes_to_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    cases: list[tuple[str, list[set[int]], set[int]]] = [
        ("", [set(), set(), set()], set()),
        ("6,1,4-5", [{6}, {1}, {6}], {4, 5}),
        ("3,2", [{3}, {2}, {3}], {2, 3}),
        ("7", [{7}, {7}, {7}], {7}),
    ]
    for cpus, workers, dsp in cases:
        with opened(pin_cpus=cpus) as (settings, resources):
            assert [s.cpus for s in workers_of(crew_of(settings, resources))] == workers
            others = list(other_specs(settings, resources))
            assert [s.cpus for s in others if s.kind == "dsp"] == [dsp, dsp]
            assert {s.cpus for s in others if s.kind != "dsp"} == {frozenset()}


def test_worker_is_given_its_drain_and_its_memory_limit() -> None:
    given = {"drain_timeout_ms": 7_000, "max_call_ms": 90_000, "worker_rss_mb_max": 300}
    with opened(**given) as (settings, resources):
        spec = crew_of(settings, resources).spec(0, 0)
        assert spec.stop_timeout_ms == 7_000 + KILL_AFTER_DRAIN_MS
        assert spec.retire_timeout_ms == 90_000 + KILL_AFTER_DRAIN_MS
        assert spec.rss_bytes_max == 300_000_000


def test_mains_take_what_they_are_given() -> None:
    with opened(workers=1) as (settings, resources):
        for spec in specs_of(settings, resources):
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


def test_whole_gateway_of_toys_starts_rolls_and_stops(forest: Forest) -> None:
    with opened() as (settings, resources):
        crew = crew_of(settings, resources)

        def worker(place: int, listener: int) -> ChildSpec:
            return as_toy(crew.spec(place, listener))

        toys = Crew(crew.workers, worker)
        tree = forest.grow(
            resources.board,
            [as_toy(spec) for spec in other_specs(settings, resources)],
            crew=toys,
            listeners=resources.listeners,
            handovers=resources.handovers,
            dsp_wake_fds=resources.dsp_wakes,
            reload=lambda: dataclasses.replace(toys),
        )
        tree.wait_output("serving now")
        tree.signal(signal.SIGHUP)
        tree.wait_output("rolled took_ms")
        tree.signal(signal.SIGTERM)
        assert tree.end() == 0
        assert "Traceback" not in tree.output


def as_toy(spec: ChildSpec) -> ChildSpec:
    return dataclasses.replace(spec, target="tests.supervisor.toys:stands_in")


def reloader(settings: Settings, resources: Resources, **changes: object) -> Callable[[], Crew]:
    return Reloader(settings, resources, lambda: settings.model_copy(update=changes))


def test_reload_gives_workers_the_new_settings() -> None:
    with opened() as (settings, resources):
        crew = reloader(settings, resources, log_level="debug", drain_timeout_ms=0)()
        spec = crew.spec(2, 1)
        given = spec.kwargs["settings"]
        assert isinstance(given, Settings)
        assert (given.log_level, spec.stop_timeout_ms) == ("debug", KILL_AFTER_DRAIN_MS)
        assert (spec.name, spec.listener) == ("worker-2", 1)


def test_what_needs_a_restart_stays_and_is_named_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with opened() as (settings, resources), caplog.at_level(logging.INFO, "supervisor"):
        logging.getLogger("supervisor").propagate = True
        crew = reloader(settings, resources, workers=7, vad="off", log_level="debug")()
        given = crew.spec(0, 0).kwargs["settings"]
        assert isinstance(given, Settings)
        assert (given.workers, given.vad, given.log_level) == (2, "silero", "debug")
        assert crew.workers == 2
    assert [r.getMessage() for r in caplog.records] == ["needs_a_restart settings=WORKERS,VAD"]


def test_settings_that_need_a_restart_exist() -> None:
    assert set(NEEDS_RESTART) <= set(Settings.model_fields)


def test_broken_settings_are_refused_in_one_sentence() -> None:
    def read() -> Settings:
        return load_settings(None, workers=0, responder="nobody")

    with opened() as (settings, resources), pytest.raises(ReloadError) as refused:
        Reloader(settings, resources, read)()
    assert str(refused.value).count("\n") == 0
    assert "WORKERS" in str(refused.value)
    assert "RESPONDER" in str(refused.value)


def test_speech_server_that_does_not_run_cannot_be_reloaded() -> None:
    with opened(responder="echo") as (settings, resources):
        change = reloader(settings, resources, responder="message_taker")
        with pytest.raises(ReloadError, match="local speech server"):
            change()


def test_a_bad_profile_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "default.toml").write_text("business_name = 5")
    read, _ = _read_command_line(["--env-file", str(tmp_path / "my.env")])
    (tmp_path / "my.env").write_text(f"PROFILE_DIR={tmp_path}\n")
    with opened() as (settings, resources):
        with pytest.raises(ReloadError, match=r"default\.toml: business_name: must be text"):
            Reloader(settings, resources, read)()
        (tmp_path / "default.toml").write_text('business_name = "Example"')
        Reloader(settings, resources, read)()


def test_env_file_that_vanished_is_refused(tmp_path: Path) -> None:
    with opened() as (settings, resources):
        read = Reloader(settings, resources, lambda: load_settings(tmp_path / "gone.env"))
        with pytest.raises(ReloadError, match="cannot read the env file"):
            read()


def test_orphans_on_the_public_port_have_the_console_port_as_well() -> None:
    with answering("voice-gateway") as port, open_listener("127.0.0.1", 0) as console:
        ports = {"gateway_port": port, "console_port": console.getsockname()[1]}
        with opened(**ports) as (_, resources):
            assert [s.getsockname()[1] for s in resources.listeners] == [port, port]
            assert resources.console_listener.getsockname() == console.getsockname()


def test_stranger_on_the_console_port_is_refused_although_he_would_share_it() -> None:
    with answering("nginx") as taken, pytest.raises(ListenError, match="already listens there"):
        opened(console_port=taken).__enter__()


def test_more_calls_need_more_descriptors() -> None:
    small = descriptors_needed(settings_with(calls_per_worker=10, responder="echo"))
    large = descriptors_needed(settings_with(calls_per_worker=1_000, responder="echo"))
    talking = descriptors_needed(settings_with(calls_per_worker=1_000))
    assert small < 200
    assert large >= 1_000 / 0.9
    assert talking - large >= 1_000
    assert descriptors_needed(settings_with(calls_per_worker=1, workers=64)) > 64 * 8


def test_out_of_descriptors_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "eventfd", refuse)
    with pytest.raises(ConfigurationError, match="cannot start: Too many open files"), opened():
        pass


def test_supervisor_starts_no_thread_and_no_process_and_imports_nothing_heavy() -> None:
    port, console = free_ports(2)
    code = f"""
import os, sys
from contextlib import ExitStack
from pathlib import Path
import supervisor.__main__
from gateway.settings import load_settings
from supervisor.composition import crew_of, open_resources, other_specs
settings = load_settings(None, gateway_host="127.0.0.1", gateway_port={port},
                         console_port={console}, calls_per_worker=1)
with ExitStack() as held:
    resources = open_resources(settings, held)
    specs = [*other_specs(settings, resources), crew_of(settings, resources).spec(0, 0)]
    print(len(specs), len(os.listdir("/proc/self/task")))
    print(Path(f"/proc/self/task/{{os.getpid()}}/children").read_text().split())
    print({{"numpy", "onnxruntime", "openai", "uvloop", "ctranslate2", "soxr"}} & set(sys.modules))
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == ["5 1", "[]", "set()"]


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
