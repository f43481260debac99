"""Runs the speech server's main in a forked child, as the supervisor does, and tells what it does.

Prints the port, then a line for each of ``beats``, ``ready``, ``exited N``. Commands on stdin:
``term``, ``int`` (signals), ``alive`` (closes the pipe that means: somebody needs you).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

from supervisor.scoreboard import Field, Phase, RowName, Scoreboard


def child(board: Scoreboard, listener: socket.socket, alive: tuple[int, int]) -> int:
    from gateway.speech_server.app import main

    os.close(alive[1])
    row = board.row("speech", 0)
    return main(row=row, listener=listener, alive_fd=alive[0], log_level="info")


def obey(pid: int, alive_write: int) -> None:
    for line in sys.stdin:
        if line.strip() == "alive":
            os.close(alive_write)
        else:
            os.kill(pid, signal.SIGTERM if line.strip() == "term" else signal.SIGINT)
        sys.stdout.write(f"did {line.strip()}\n")
        sys.stdout.flush()


def watch(board: Scoreboard, pid: int) -> int:
    row = board.row("speech", 0)
    said: set[str] = set()
    while True:
        first_beat = row.get(Field.HEARTBEAT_NS)
        states = {"beats": first_beat > 0, "ready": row.get(Field.PHASE) == Phase.READY}
        for name, is_true in states.items():
            if is_true and name not in said:
                said.add(name)
                sys.stdout.write(f"{name}\n")
                sys.stdout.flush()
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)


def drive() -> None:
    board = Scoreboard([RowName("speech", 0)], arenas=0)
    listener = socket.create_server(("127.0.0.1", 0))
    alive = os.pipe()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os._exit(child(board, listener, alive))
    os.close(alive[0])
    threading.Thread(target=obey, args=(pid, alive[1]), daemon=True).start()
    status = watch(board, pid)
    sys.stdout.write(f"exited {status}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    drive()
