"""A real gateway to do harm to: the real command in a session of its own, on private ports.

What is known of it is known as a stranger knows it: from its console, from the system's lists of
processes and connections, from its log. A session of its own tells its processes from all others
even when the supervisor is dead and nobody is their parent any more.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtest.errors import LoadTestError
from loadtest.fault_rows.checks import Check

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED_MEMORY = Path("/dev/shm")

#: Counters of frames that were thrown away, each for a reason of its own.
DROPS = (
    "caller_frames_dropped",
    "assistant_frames_dropped",
    "frames_aged",
    "frames_stale",
    "rings_damaged",
)

START_SECONDS = 60.0
STOP_SECONDS = 30.0
LEFT_SECONDS = 5.0
HTTP_SECONDS = 5.0
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Child:
    """One line of ``/api/workers``."""

    kind: str
    slot: int
    pid: int
    state: str
    calls: int


class Gateway:
    """A running gateway. Methods that wait raise LoadTestError when it takes too long."""

    def __init__(
        self, process: subprocess.Popen[bytes], ports: tuple[int, int], folder: Path
    ) -> None:
        self.process = process
        self.port, self.console_port = ports
        self.url = f"ws://127.0.0.1:{self.port}/"
        self._folder = folder
        self._segments = segments()
        self._dropped = ""
        #: Whether it said that frames were dropped because DSP processes were late: for their age,
        #: or because their ring was full.
        self.aged = False

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self.process.pid

    def log(self) -> list[str]:
        """What it has said and logged so far."""
        return (self._folder / "log").read_text(errors="replace").splitlines()

    def serves(self) -> bool:
        """Whether it has said so."""
        return any(line.startswith("Ready.") for line in self.log())

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the console; 0 when nobody answers."""
        url = f"http://127.0.0.1:{self.console_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=HTTP_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        except OSError:
            return 0, ""

    def children(self, kind: str) -> list[Child]:
        """The supervisor's children of one kind, in order; none when the console is silent."""
        status, body = self.ask("/api/workers")
        if status != 200:
            return []
        names = Child.__dataclass_fields__
        listed = json.loads(body)["children"]
        return [Child(**{name: c[name] for name in names}) for c in listed if c["kind"] == kind]

    def running(self, kind: str) -> list[Child]:
        """Those of them that have a process."""
        return [child for child in self.children(kind) if child.pid]

    def counter(self, name: str, kind: str) -> dict[int, float]:
        """A metric of every child of one kind, by its index."""
        found = {}
        prefix = f"voice_gateway_{name}{{"
        for line in self.ask("/metrics")[1].splitlines():
            if line.startswith(prefix) and f'kind="{kind}"' in line:
                index = line.partition('index="')[2].partition('"')[0]
                found[int(index)] = float(line.rsplit(" ", 1)[1])
        return found

    def told_apart(self, name: str, label: str) -> list[str]:
        """The values of a metric's label under which anything was counted."""
        lines = self.ask("/metrics")[1].splitlines()
        counted = [each for each in lines if each.startswith(f"voice_gateway_{name}{{")]
        found = {
            each.partition(f'{label}="')[2].partition('"')[0]
            for each in counted
            if float(each.rsplit(" ", 1)[1])
        }
        return sorted(found)

    def refusals(self) -> list[str]:
        """The reasons for which it has refused calls."""
        return self.told_apart("refusals_total", "reason")

    def connections(self) -> dict[int, int]:
        """Who holds each connection to the public port: the caller's port -> pid of a worker."""
        return {
            port: child.pid for child in self.running("worker") for port in self.held_by(child.pid)
        }

    def held_by(self, pid: int) -> list[int]:
        """The callers' ports of the connections that one process holds; none when it is gone."""
        try:
            listed = psutil.Process(pid).net_connections("tcp")
        except psutil.Error:
            return []
        ours = [each for each in listed if each.laddr.port == self.port]
        return [each.raddr.port for each in ours if each.status == psutil.CONN_ESTABLISHED]

    def members(self) -> set[int]:
        """Every process that belongs to this gateway and is alive, the supervisor's too."""
        return {pid for pid in psutil.pids() if _session(pid) == self.pid and not _is_zombie(pid)}

    def segments_left(self) -> set[str]:
        """Names in shared memory that were not there before."""
        return segments() - self._segments

    def configure(self, **settings: str) -> None:
        """Write the settings of the next start or reload."""
        write_settings(self._folder, settings)

    def stop(self) -> Check:
        """SIGTERM; it must end with status 0 and leave nothing behind."""
        self.note_drops()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status: int | str = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            status = "none"
        return self.gone(f"ended with status {status}", ended=status == 0)

    def note_drops(self) -> None:
        """Read from its metrics where it dropped frames, if it did: that is told at the end."""
        kinds = ("worker", "dsp")
        counts = {
            name: sum(sum(self.counter(f"{name}_total", kind).values()) for kind in kinds)
            for name in DROPS
        }
        self.aged |= counts["frames_aged"] + counts["assistant_frames_dropped"] > 0
        told = [f"{name} {count:.0f}" for name, count in counts.items() if count]
        self._dropped = f" ({', '.join(told)})" if told else ""

    def gone(self, how: str, *, ended: bool) -> Check:
        """Nothing of it is left, or soon will not be; and none of it ended in a traceback."""
        leaked = self.segments_left()  # others come and go: theirs are not ours to count

        def is_gone() -> bool:
            leaked.intersection_update(self.segments_left())
            return not self.members() and not leaked

        until(is_gone, LEFT_SECONDS)
        orphans = len(self.members())
        tracebacks = sum(line.startswith("Traceback") for line in self.log())
        text = f"{how}, {orphans} orphans, {len(leaked)} segments left"
        text += self._dropped
        text += f", {tracebacks} tracebacks" if tracebacks else ""
        return Check(text, ended and not orphans + len(leaked) + tracebacks)

    def destroy(self) -> None:
        """Whatever is still there."""
        for pid in self.members():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


@contextmanager
def running_gateway(
    folder: Path, flags: tuple[str, ...], settings: Mapping[str, str]
) -> Iterator[Gateway]:
    """Start a gateway and wait until it serves; raises LoadTestError. It is gone afterwards."""
    folder.mkdir(parents=True)
    write_settings(folder, {"DATA_DIR": str(folder), **settings})
    ports = free_port(), free_port()
    command = [sys.executable, "-W", "error", "-m", "supervisor", "--host", "127.0.0.1"]
    command += ["--port", str(ports[0]), "--console-port", str(ports[1])]
    command += ["--env-file", str(folder / "env"), *flags]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    gateway = Gateway(process, ports, folder)
    try:
        until(lambda: gateway.serves() or process.poll() is not None, START_SECONDS)
        if not gateway.serves():
            raise LoadTestError("the gateway did not start: " + " / ".join(gateway.log()[-3:]))
        yield gateway
    finally:
        gateway.destroy()


def write_settings(folder: Path, settings: Mapping[str, str]) -> None:
    """Add to the env file; a later line wins over an earlier one."""
    path = folder / "env"
    before = path.read_text() if path.exists() else ""
    path.write_text(before + "".join(f"{name}={value}\n" for name, value in settings.items()))


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so; whether it became so in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def segments() -> set[str]:
    """Names of the shared memory of this machine."""
    return set(os.listdir(SHARED_MEMORY))


def knock(url_port: int) -> str:
    """Ask for a WebSocket and hang up: the status of the answer, or what came instead of one.

    Who is turned away is told when to try again: a 503 without that is no "503".
    """
    head = (
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    try:
        with socket.create_connection(("127.0.0.1", url_port), timeout=HTTP_SECONDS) as peer:
            peer.sendall(head.encode())
            answer = peer.recv(4096)
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return str(error.strerror).lower()
    words = answer.split()
    status = words[1].decode() if len(words) > 1 else "hung up"
    return "503, not when" if status == "503" and b"\r\nRetry-After: " not in answer else status


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
