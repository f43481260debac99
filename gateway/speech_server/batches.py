"""Utterances that wait for the recognizer: those that fit together are transcribed together.

Nobody waits for others to come: an utterance that finds the recognizer free is done alone. While
it is busy others queue, and the next turn takes the oldest together with up to three more *of the
same window* (Whisper pads speech to a window and pays for the window). Measured with Whisper base
on one thread: four of one window cost 0.66 to 0.81 of four alone, with the same texts; of
different windows 1.3 times as much, since all are padded to the longest.

An utterance whose client is gone is not begun. One that is being done when its client goes is
done to its end: the engine cannot be stopped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from gateway.speech_server.engines import Heard, InferenceThread, Recognizer, Segment, Utterance
from gateway.speech_server.meters import Meters

if TYPE_CHECKING:
    from gateway.speech_server.engines import Samples

BATCH_MAX = 4


@dataclass(slots=True, eq=False)
class _Job:
    utterance: Utterance
    done: asyncio.Future[Heard] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Batches:
    """The recognizer's queue. Its length is bounded by the places of ``thread``."""

    def __init__(self, recognizer: Recognizer, thread: InferenceThread, meters: Meters) -> None:
        self._recognizer = recognizer
        self._thread = thread
        self._meters = meters
        self._waiting: deque[_Job] = deque()
        self._working: asyncio.Task[None] | None = None

    async def transcribe(self, utterance: Utterance) -> Heard:
        """What is said; cancelled before its turn comes, it is never begun."""
        job = _Job(utterance)
        self._waiting.append(job)
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return await job.done

    async def segments(self, wav: bytes, language: str) -> list[Segment]:
        """What is said in a WAV, piece by piece; ``language`` "" = decide once, for all pieces.

        Raises ``AudioError``.
        """
        found: list[Segment] = []
        start_s = 0.0
        for samples, window in await asyncio.to_thread(self._pieces, wav):
            heard = await self.transcribe(Utterance(samples, language, window))
            end_s = start_s + len(samples) / self._recognizer.rate
            found.append(Segment(start_s, end_s, heard))
            start_s = end_s
            if heard.text:
                language = heard.language
        return found

    def _pieces(self, wav: bytes) -> list[tuple[Samples, int]]:
        recognizer = self._recognizer
        return [(piece, recognizer.window(piece)) for piece in recognizer.read(wav)]

    def _next(self) -> list[_Job]:
        """The oldest that somebody still waits for, and others of its window."""
        alive = [job for job in self._waiting if not job.done.done()]
        self._meters.abandoned.inc(len(self._waiting) - len(alive))
        fitting = [job for job in alive if job.utterance.window == alive[0].utterance.window]
        batch = fitting[:BATCH_MAX]
        self._waiting = deque(job for job in alive if job not in batch)
        return batch

    async def _work(self) -> None:
        try:
            while batch := self._next():
                await self._do(batch)
        finally:
            self._working = None
            for job in self._waiting:
                job.done.cancel()

    async def _do(self, batch: list[_Job]) -> None:
        utterances = [job.utterance for job in batch]
        self._meters.batch_size.observe(len(batch))
        try:
            with self._meters.transcribing.time():
                heard = await self._thread.run(partial(self._recognizer.transcribe_all, utterances))
        except Exception as error:  # noqa: BLE001 - each who waits is told
            for job in batch:
                if not job.done.done():
                    job.done.set_exception(error)
            return
        for job, text in zip(batch, heard, strict=True):
            if not job.done.done():
                job.done.set_result(text)
