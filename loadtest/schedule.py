"""When every call and every frame of a run is due: fixed from the seed before the first is sent.

Open loop. A load generator that waits for the server it measures hides the server's stalls
(coordinated omission), so nothing here depends on what happens during the run: call ``i`` connects
at ``ramp * i / calls``, frame ``k`` of it is due exactly ``k * 20 ms`` after its first one, and a
late generator sends late frames late without moving the rest. Latency counts from these times.

Frames of different calls are spread evenly over the 20 ms, in an order drawn from the seed: real
carriers do not send all their calls' frames at once.

Times are nanoseconds since the start of the run. Pure: no clock, no I/O.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

FRAME_MS = 20
FRAMES_PER_SECOND = 1000 // FRAME_MS
NS_PER_MS = 1_000_000
NS_PER_SECOND = 1000 * NS_PER_MS
FRAME_NS = FRAME_MS * NS_PER_MS

#: From a call's connect to its first frame: what a handshake may take before frames are late.
SETUP_NS = 500 * NS_PER_MS

SID_CHARS = 34


@dataclass(frozen=True, slots=True)
class CallPlan:
    """One call: when it connects, when its frames are due, and who it says it is.

    ``material`` is a seeded number; the scenario takes it modulo whatever it chooses from.
    """

    index: int
    connect_ns: int
    first_frame_ns: int
    frames: int
    material: int
    stream_sid: str
    call_sid: str

    def due_ns(self, frame: int) -> int:
        """When frame number ``frame`` is meant to leave."""
        return self.first_frame_ns + frame * FRAME_NS


@dataclass(frozen=True, slots=True)
class Schedule:
    """All calls of a run and the steady window in which every one of them is up."""

    calls: tuple[CallPlan, ...]
    steady_from_ns: int
    steady_to_ns: int


def make_schedule(
    seed: int,
    calls: int,
    seconds: float,
    ramp_seconds: float = 0.0,
    hold_seconds: float | None = None,
) -> Schedule:
    """Plan ``calls`` calls that all send for ``seconds`` after a ramp of ``ramp_seconds``.

    With a holding time each call lasts that long and no longer; the steady window is then the
    time from the first call's first frame to the last call's last.
    """
    assert calls >= 1
    assert seconds > 0
    assert ramp_seconds >= 0
    draw = random.Random(f"schedule:{seed}:{calls}")
    order = list(range(calls))
    draw.shuffle(order)
    ramp_ns = round(ramp_seconds * NS_PER_SECOND)
    steady_from = ramp_ns + SETUP_NS + 2 * FRAME_NS
    if hold_seconds is not None:
        steady_from, seconds = SETUP_NS, ramp_seconds + hold_seconds
    steady_to = steady_from + round(seconds * NS_PER_SECOND)
    plans = []
    for index in range(calls):
        connect = ramp_ns * index // calls
        # Phases are relative to the run, not to the call's connect: they must not bunch.
        phase = (2 * order[index] + 1) * FRAME_NS // (2 * calls)
        first = -(-(connect + SETUP_NS) // FRAME_NS) * FRAME_NS + phase
        until = steady_to if hold_seconds is None else first + round(hold_seconds * NS_PER_SECOND)
        plans.append(
            CallPlan(
                index=index,
                connect_ns=connect,
                first_frame_ns=first,
                frames=max(1, -(-(until - first) // FRAME_NS)),
                material=draw.getrandbits(32),
                stream_sid=sid("MZ", seed, index),
                call_sid=sid("CA", seed, index),
            )
        )
    return Schedule(tuple(plans), steady_from, steady_to)


def sid(prefix: str, seed: int, index: int) -> str:
    """An identifier of Twilio's shape: two letters and 32 hexadecimal digits."""
    assert len(prefix) == 2
    text = f"{prefix}:{seed}:{index}".encode()
    return prefix + hashlib.blake2b(text, digest_size=(SID_CHARS - 2) // 2).hexdigest()
