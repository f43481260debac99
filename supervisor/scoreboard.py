"""The board all processes share: heartbeats, states, loads and counters as aligned int64 cells.

One anonymous shared mapping, made by the supervisor before the first fork and inherited. Every
child has a row. A cell has one writer at a time: the supervisor before the child runs and after
it is dead, the child while it lives; readers never lock. An aligned 8-byte store through a
memoryview is indivisible on x86-64 (``struct.pack_into`` is not: it zeroes first).

Counters are never reset when a child is replaced: its successor counts on, so that a restart
loses no count. A leaf: standard library only, anyone may import it.
"""

from __future__ import annotations

import mmap
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from supervisor.kinds import CONSOLE, DSP, SPEECH, WORKER

CELL_BYTES = 8


class Phase(IntEnum):
    """What a child says about itself; the last three the supervisor says of one that is not."""

    STARTING = 0
    READY = 1
    DRAINING = 2
    EXITED = 3
    PARKED = 4
    SPARE = 5


class Field(IntEnum):
    """Liveness cells of a row; set back when a new child takes the row.

    CONNECTIONS counts the sockets a worker has taken and not yet closed (its load), ADMITS says
    whether it would take one more, LISTENER which listening socket it serves.
    """

    PID = 0
    PHASE = 1
    HEARTBEAT_NS = 2
    LOOP_LAG_NS = 3
    STARTED_NS = 4
    CALLS = 5
    CAPACITY = 6
    CONNECTIONS = 7
    ADMITS = 8
    LISTENER = 9


#: Counters of a row, which outlive the child, and gauges: name -> help. The order is the layout.
#: ``a/b`` is the count of what is labelled ``b`` in the family ``a``; see FAMILIES.
COUNTERS: dict[str, str] = {
    "restarts": "Times this child was replaced after it had died.",
    "calls": "Calls accepted.",
    "calls_refused": "Calls refused for want of room.",
    "calls_overflowed": "Calls answered with the overflow document while nobody could be taken.",
    "peers_refused": "Upgrades and webhooks refused for want of credentials.",
    "peers_limited": "Upgrades and requests refused because their address had too many.",
    "peers_expelled": "Connections closed because they sent too much, or too much nonsense.",
    "stream_errors": "Errors of streams that Twilio told of.",
    "refusals/full": "Every worker has as many connections as it takes, or no slot was free.",
    "refusals/late": "The workers' event loops were late.",
    "refusals/dsp_late": "The DSP processes were late.",
    "refusals/descriptors": "File descriptors were running out.",
    "refusals/draining": "The worker was draining and no other took calls.",
    "refusals/already_live": "The call or stream was live already.",
    "handovers/sent": "Accepted here, handed to a worker with less to do.",
    "handovers/taken": "Accepted elsewhere, taken here.",
    "handovers/kept": "Kept because the other worker's socket was full.",
    "handovers/lost": "Lost because no descriptor was free to receive it.",
    "claims/asked": "Questions to other workers.",
    "claims/answered": "Answers that came in time.",
    "claims/timed_out": "Questions that were not answered in time, or could not be sent.",
    "claims/late": "Answers that came when nobody waited for them any more.",
    "claims/refused": "Claims that were not granted: somebody else holds the id.",
    "claims/not_understood": "Datagrams that were neither question nor answer.",
    "tokens/minted": "Tokens made.",
    "tokens/redeemed": "Tokens that let their caller in.",
    "tokens/refused": "Tokens that were used, lapsed, unknown, or whose home was silent.",
    "connections": "WebSockets opened on the public port.",
    "connections_taken": "Connections taken on the public port, whatever they asked for.",
    "connections_failed": "Connections that ended before they could be read, in TLS mostly.",
    "messages_invalid": "Messages from a peer that were malformed and dropped.",
    "messages_unknown": "Messages of an unknown kind, ignored.",
    "frames_in": "Caller frames received from carriers.",
    "frames_out": "Assistant frames sent to carriers.",
    "caller_frames_dropped": "Caller frames dropped because the caller ring was full.",
    "assistant_frames_dropped": "Assistant frames dropped because the assistant ring was full.",
    "frames_stale": "Frames of an older epoch or lease that were thrown away.",
    "rings_damaged": "Times damaged counters or headers in shared memory were found and reset.",
    "playout_gaps": "Times a carrier ran out of assistant audio within an utterance.",
    "media_gaps": "Holes in a carrier's media timestamps.",
    "media_late": "Caller audio that came twice, or too late to be put in order.",
    "carrier_errors": "Errors that a carrier reported.",
    "barge_ins": "Times a caller interrupted the assistant.",
    "utterances": "Caller utterances sent to speech-to-text.",
    "provider_errors": "Requests to a provider that failed.",
    "stt_requests": "Requests to a speech-to-text server, retries and fallbacks included.",
    "llm_requests": "Requests to a chat server, retries and fallbacks included.",
    "tts_requests": "Requests to a text-to-speech server, retries and fallbacks included.",
    "provider_timeouts": "Provider requests that were not answered in time, or stalled.",
    "provider_connections_failed": "Provider requests whose connection failed or broke.",
    "provider_server_errors": "Provider requests answered with a server's error (5xx).",
    "provider_rate_limits": "Provider requests refused because we asked too much (429).",
    "provider_keys_refused": "Provider requests whose key was refused (401, 403).",
    "provider_requests_refused": "Provider requests refused for what they asked (other 4xx).",
    "provider_garbage": "Provider answers that could not be understood or were too long.",
    "provider_not_asked": "Times a provider was not asked because its breaker was open.",
    "provider_retries": "Provider requests made once more at the same server.",
    "provider_fallbacks": "Provider requests that went on to the next server.",
    "provider_waits": "Provider requests that waited because too many were under way.",
    "provider_breakers_opened": "Times a provider's breaker opened.",
    "provider_breakers_open": "Gauge: servers of providers that are not asked, since they fail.",
    "tts_cache_hits": "Sentences that were spoken from the cache.",
    "tts_cache_misses": "Sentences that text-to-speech was asked for.",
    "tts_cache_bytes": "Gauge: speech in the cache.",
    "responders_followed": "Times a responder failed and another went on with the call.",
    "calls_transferred": "Calls handed over to another number.",
    "call_control_errors": "Calls that could not be ended or handed over at their carrier.",
    "records_spooled": "Records kept in a spool file because the console did not take them.",
    "records_dropped": "Records lost because socket and spool file both failed.",
    "dsp_passes": "Passes over the rings that found work.",
    "dsp_frames": "Frames processed, both directions.",
    "dsp_windows": "Voice-activity windows scored.",
    "dsp_windows_skipped": "Voice-activity windows skipped by the level gate.",
    "dsp_windows_spared": "Voice-activity windows judged by level: no time for the model.",
    "dsp_bad_cells": "Ring cells whose sequence or length was wrong.",
    "frames_aged": "Caller frames dropped because a DSP process could not catch up.",
    "codec_restarts": "G.722 streams that went on with a fresh codec, which is audible.",
    "dsp_busy_ns": "Time spent in passes, in nanoseconds.",
    "resumed": "Times the assistant went on after a caller's mere acknowledgement.",
    "caller_ring_frames_max": "Gauge: the most frames that waited in a caller ring so far.",
    "assistant_ring_frames_max": "Gauge: the most frames that waited in an assistant ring so far.",
    "live_packets_dropped": "Reports of live calls that the console did not take; never awaited.",
}

#: The kinds of children that count what is not the workers' alone.
_OTHERS_COUNTS: dict[str, tuple[str, ...]] = {
    "restarts": (WORKER, DSP, SPEECH, CONSOLE),
    "messages_invalid": (WORKER, CONSOLE),
    "records_dropped": (WORKER, CONSOLE),
    "frames_aged": (DSP,),
    "codec_restarts": (DSP,),
    "caller_ring_frames_max": (DSP,),
    "assistant_ring_frames_max": (DSP,),
    **{name: (DSP,) for name in COUNTERS if name.startswith("dsp_")},
}


def counts(kind: str, counter: str) -> bool:
    """Whether children of this kind can raise a counter."""
    return kind in _OTHERS_COUNTS.get(counter, (WORKER,))


@dataclass(frozen=True, slots=True)
class Histogram:
    """Upper bounds of the buckets, in the unit that the name ends with; who observes it."""

    help: str
    bounds: tuple[int, ...]
    kind: str = WORKER


_WAITS_MS = (50, 100, 200, 300, 400, 500, 600, 800, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000)
_DELAYS_MS = (1, 2, 5, 10, 15, 20, 30, 50, 100, 250, 500, 1_000)
_STAGE = "Time since the caller's last voiced frame, up to each stage of an answer."

#: What is counted in buckets; like COUNTERS they outlive the child. What stands behind a slash
#: is a stage of the same histogram.
HISTOGRAMS: dict[str, Histogram] = {
    "answer_ms/endpoint": Histogram(_STAGE, _WAITS_MS),
    "answer_ms/transcript": Histogram(_STAGE, _WAITS_MS),
    "answer_ms/first_words": Histogram(_STAGE, _WAITS_MS),
    "answer_ms/first_audio": Histogram(_STAGE, _WAITS_MS),
    "answer_ms/sent": Histogram(_STAGE, _WAITS_MS),
    "barge_in_ms": Histogram("Time from a caller's voice to the end of playout.", _WAITS_MS),
    "mark_round_trip_ms": Histogram("Time from sending a mark to its return.", _WAITS_MS),
    "loop_delay_ms": Histogram("How late heartbeats of the event loop were.", _DELAYS_MS),
    "dsp_pass_ms": Histogram("Duration of a pass that found work.", _DELAYS_MS, DSP),
    "dsp_queue_age_ms": Histogram(
        "Age of the oldest caller frame when a pass took it, by how many waited behind it.",
        (20, 40, 60, 80, 100, 160, 320, 580),
        DSP,
    ),
    "dsp_batch_frames": Histogram(
        "Frames processed in one pass.", (1, 2, 5, 10, 20, 50, 100, 200, 400, 800, 1_600), DSP
    ),
}

#: Counters with a label: family -> name of the label, help.
FAMILIES: dict[str, tuple[str, str]] = {
    "refusals": ("reason", "Calls refused, by reason."),
    "handovers": ("event", "Connections handed between workers, by what became of them."),
    "claims": ("event", "What workers asked of each other, by what became of it."),
    "tokens": ("event", "Single-use tokens, by what became of them."),
}
assert {name.partition("/")[0] for name in COUNTERS if "/" in name} == set(FAMILIES)

_COUNTER_AT = {name: len(Field) + i for i, name in enumerate(COUNTERS)}
#: What nobody would be shown cannot be counted either.
_COUNTER_OF = {
    kind: {name: at for name, at in _COUNTER_AT.items() if counts(kind, name)}
    for kind in (WORKER, DSP, SPEECH, CONSOLE)
}
#: What is true of a process, not of its predecessors: an open breaker dies with its worker.
_GAUGES = tuple(_COUNTER_AT[name] for name, text in COUNTERS.items() if text.startswith("Gauge:"))


def _place_histograms(at: int) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Where each begins: a cell a bucket, one for what is above all bounds, one for the sum."""
    places = {}
    for name, histogram in HISTOGRAMS.items():
        places[name] = (at, histogram.bounds)
        at += len(histogram.bounds) + 2
    return places


_HISTOGRAM_AT = _place_histograms(len(Field) + len(COUNTERS))
ROW_CELLS = len(Field) + len(COUNTERS) + sum(len(found.bounds) + 2 for found in HISTOGRAMS.values())


@dataclass(frozen=True, slots=True)
class RowName:
    """Which child a row belongs to: its kind and its index among its kind."""

    kind: str
    index: int


class Row:
    """One child's row. The child writes it, everybody may read it."""

    __slots__ = ("_at", "_cells", "_counter_at", "name")

    def __init__(self, cells: memoryview, at: int, name: RowName) -> None:
        self._cells = cells
        self._at = at
        self._counter_at = _COUNTER_OF[name.kind]
        self.name = name

    def get(self, field: Field) -> int:
        """Read a liveness cell."""
        return self._cells[self._at + field]

    def set(self, field: Field, value: int) -> None:
        """Write a liveness cell."""
        self._cells[self._at + field] = value

    def count(self, counter: str, by: int = 1) -> None:
        """Raise a counter; ``KeyError`` for one that this kind of child does not count."""
        self._cells[self._at + self._counter_at[counter]] += by

    def gauge(self, counter: str, value: int) -> None:
        """Set a gauge."""
        self._cells[self._at + self._counter_at[counter]] = value

    def raise_to(self, counter: str, value: int) -> None:
        """Set a gauge that remembers its highest value."""
        at = self._at + self._counter_at[counter]
        if value > self._cells[at]:
            self._cells[at] = value

    def observe(self, histogram: str, value: int) -> None:
        """Count a value in its bucket; ``KeyError`` for a name that is not in HISTOGRAMS."""
        at, bounds = _HISTOGRAM_AT[histogram]
        at += self._at
        self._cells[at + bisect_left(bounds, value)] += 1
        self._cells[at + len(bounds) + 1] += value

    def histogram(self, histogram: str) -> tuple[list[int], int]:
        """Counts by bucket, the last of what is above all bounds; and the sum of all values."""
        at, bounds = _HISTOGRAM_AT[histogram]
        at += self._at
        end = at + len(bounds) + 1
        return self._cells[at:end].tolist(), self._cells[end]

    def counter(self, counter: str) -> int:
        """Read a counter or gauge; 0 for one that this kind of child does not count."""
        return self._cells[self._at + _COUNTER_AT[counter]]

    def beat(self, now_ns: int, lag_ns: int = 0) -> None:
        """Write a heartbeat; only ever called by the loop it vouches for."""
        self._cells[self._at + Field.LOOP_LAG_NS] = lag_ns
        self._cells[self._at + Field.HEARTBEAT_NS] = now_ns

    def ready(self) -> None:
        """Say that this child serves from now on."""
        self.beat(time.monotonic_ns())
        self.set(Field.PHASE, Phase.READY)

    def take(self, pid: int, now_ns: int) -> None:
        """Give the row to a new child: liveness starts afresh, counters go on (supervisor only)."""
        for field in Field:
            self.set(field, 0)
        self._forget()
        self.set(Field.STARTED_NS, now_ns)
        self.set(Field.HEARTBEAT_NS, now_ns)
        self.set(Field.PID, pid)

    def leave(self) -> None:
        """Say that the child is dead: its calls are over, its counters stay (supervisor only)."""
        self.set(Field.PHASE, Phase.EXITED)
        for field in (Field.PID, Field.CALLS, Field.CAPACITY, Field.CONNECTIONS, Field.ADMITS):
            self.set(field, 0)
        self.set(Field.LOOP_LAG_NS, 0)
        self._forget()

    def _forget(self) -> None:
        for gauge in _GAUGES:
            self._cells[self._at + gauge] = 0


class Scoreboard:
    """The shared mapping: a row a child, which DSP process serves which arena, what was handed on.

    A place is a worker's: its row, its arena and its hand-over socket, all of one index. The
    connections in flight between places are counted by ``sent[sender][place]`` and ``got[place]``,
    one writer each: a sender raises its own before it sends, a place what it got when it takes it.
    The last sender is the supervisor (``sender == places``); its own may also go down, when it
    takes back what a hung worker has not taken.
    """

    def __init__(self, rows: Sequence[RowName], arenas: int) -> None:
        self.names = tuple(rows)
        self._arenas_at = len(self.names) * ROW_CELLS
        self.arenas = self.places = arenas
        self._sent_at = self._arenas_at + arenas
        self._got_at = self._sent_at + (self.places + 1) * self.places
        cells = self._got_at + self.places
        self._map = mmap.mmap(-1, cells * CELL_BYTES)
        self._cells = memoryview(self._map).cast("q")
        self._rows = {
            name: Row(self._cells, i * ROW_CELLS, name) for i, name in enumerate(self.names)
        }

    def row(self, kind: str, index: int) -> Row:
        """The row of a child; ``KeyError`` when the board has none."""
        return self._rows[RowName(kind, index)]

    def rows(self, kind: str | None = None) -> Iterator[Row]:
        """All rows, or those of one kind, in order of index."""
        return (row for row in self._rows.values() if kind is None or row.name.kind == kind)

    def dsp_of(self, arena: int) -> int:
        """Index of the DSP process that serves an arena's slots."""
        return self._cells[self._arenas_at + arena]

    def assign(self, arena: int, dsp: int) -> None:
        """Give an arena's slots to a DSP process (supervisor only; the old one must be dead)."""
        self._cells[self._arenas_at + arena] = dsp

    def count_sent(self, sender: int, place: int, by: int = 1) -> None:
        """Count a connection that ``sender`` is about to hand to ``place`` (-1: took it back)."""
        self._cells[self._sent_at + sender * self.places + place] += by

    def count_got(self, place: int, by: int = 1) -> None:
        """Count a connection that ``place`` has taken from its hand-over socket."""
        self._cells[self._got_at + place] += by

    def in_flight(self, place: int) -> int:
        """Connections handed to ``place`` that it has not taken."""
        sent = self._cells[self._sent_at + place : self._got_at : self.places]
        return sum(sent) - self._cells[self._got_at + place]
