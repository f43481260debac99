"""The assistant's side of a conversation: from what the responder says to what the caller hears.

For a reply three kinds of task run. One takes texts from the responder and cuts them into clauses.
One a clause has it synthesised; the next clause is asked for while the one before is being given
to the player, so that they join without a gap. One feeds the player from the tape on which the
clauses' audio is written. Every one of them waits when it is too far ahead.

To pause is to stop the feeding and to clear the carrier's buffer; whatever produces goes on until
it is too far ahead. To resume is to feed again, from the beginning of the clause that was heard.
So there is one voice at any time: the one feeding task.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing

from audio.format import FRAME_MS, WIRE_FORMATS
from gateway import clock
from gateway.conversation.clauses import ClauseSplitter
from gateway.conversation.echo_guard import SILENCE_DBFS
from gateway.conversation.history import Role
from gateway.conversation.tape import Clause, Piece, Tape
from gateway.conversation.turn import Event
from gateway.errors import ProviderError
from gateway.limits import SPEECH_AHEAD_MS_MAX
from gateway.observer import Observer
from gateway.player import Player
from gateway.providers.base import Speech
from gateway.responders.base import HangUp, Reply, Say, TakeMessage, Transfer

_FILLER = -1


class Voice:
    """One call's assistant voice. ``on`` is told of events for the turn table."""

    def __init__(
        self, speech: Speech, player: Player, observer: Observer, on: Callable[[Event], None]
    ) -> None:
        self._tts = speech.tts
        self._apology = speech.apology
        self._player = player
        self._observer = observer
        self._on = on
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._feeding: asyncio.Task[None] | None = None
        self._rate = WIRE_FORMATS[player.encodings[1]].rate
        self._languages: list[str] = []
        self._start_over()
        #: Where the call goes when the last words were heard.
        self.transfer_to = ""

    def _start_over(self) -> None:
        self._tape = Tape(self._rate)
        self._languages = []  # of the texts on the tape
        self._said = 0  # how many of them the observer was told
        self._base = 0  # the place (frames) at which the player's count begins
        self._fed = 0
        self._produced = self._audible = self._fed_all = self._goodbye = self._held = False
        self._apologised = False
        #: When the reply's first text and its first audio were there, in ns.
        self.first_words_ns = self.first_audio_ns = 0

    def speak(
        self, replies: AsyncGenerator[Reply, None], filler: Say, filler_after_ms: int
    ) -> None:
        """Say a reply; ``filler`` first when it is long in coming."""
        assert self._feeding is None or self._feeding.done(), "two voices in one call"
        self._start_over()
        self._tasks.add(self._start(self._produce(replies, filler, filler_after_ms)))
        self._feeding = self._start(self._feed())
        self._tasks.add(self._feeding)

    def pause(self) -> None:
        """Stop at once, keep the place."""
        if self._feeding is not None:
            self._feeding.cancel()
            self._feeding = None
        self._base += self._player.cut(clock.now_ns()) // FRAME_MS
        self._fed = self._base

    def resume(self) -> None:
        """Go on from the beginning of the clause that was being heard."""
        self._base = self._fed = self._tape.rewind(self._base)
        self._fed_all = False
        self._feeding = self._start(self._feed())
        self._tasks.add(self._feeding)

    def stop(self) -> str | None:
        """End the reply; what was heard of it, None if no word of it was on its way."""
        for task in self._tasks:
            task.cancel()
        self.pause()
        if not (self._audible and self._said):
            return None
        self._audible = False
        self._announce(self._base)
        return self._tape.heard(self._base)

    @property
    def heard_last(self) -> str:
        """What was heard, at the last ``stop``, of the last text that the observer was told."""
        return self._tape.heard(self._base, self._said - 1) if self._said else ""

    def hold(self, *, held: bool) -> None:
        """Do not begin while the caller goes on speaking."""
        if self._held != held:
            self._held = held
            self._changed.set()

    def heard_all(self) -> None:
        """The caller has heard everything that the player was given."""
        self._base = self._fed
        if self._fed_all:
            self._audible = False
            self._announce(self._base)
            self._on(Event.REPLY_HEARD)

    def look(self, now_ns: int) -> None:
        """Tell the observer of a further text when the caller begins to hear it."""
        if 0 < self._said < len(self._languages):
            self._announce(self._base + self._player.heard_ms(now_ns) // FRAME_MS)

    def level(self, now_ns: int) -> float:
        """How loud what the carrier plays at this moment is, in dBFS."""
        playing_ms = self._player.playing_ms(now_ns)
        if playing_ms is None:
            return SILENCE_DBFS
        return self._tape.level(self._base + playing_ms // FRAME_MS)

    def asks_now(self, now_ns: int) -> bool:
        """Whether the caller hears the reply's last clause, which is where a question stands."""
        heard = self._base + self._player.heard_ms(now_ns) // FRAME_MS
        return self._produced and self._tape.is_last(heard)

    async def aclose(self) -> None:
        """The call is over."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # The tasks

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a bug of ours: it ends this call, loudly, and no other
            self._observer.crashed(error)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def _produce(
        self, replies: AsyncGenerator[Reply, None], filler: Say, filler_after_ms: int
    ) -> None:
        """Take what the responder says and have it synthesised, clause by clause."""
        try:
            filled = self._filled(replies, filler, filler_after_ms)
            async with aclosing(replies), aclosing(filled):
                async for reply in filled:
                    if isinstance(reply, Say):
                        await self._say(reply)
                    else:
                        self._pass_on(reply)
        except ProviderError as error:
            self._observer.failed("responder", error)
        self._produced = True
        self._changed.set()

    async def _filled(
        self, replies: AsyncGenerator[Reply, None], filler: Say, filler_after_ms: int
    ) -> AsyncGenerator[Reply, None]:
        """The replies; if the first one is late, the filler is spoken while it is awaited."""
        first = asyncio.ensure_future(anext(replies, None))
        try:
            await asyncio.wait({first}, timeout=filler_after_ms / 1000)
            if not first.done():
                await self._clause(filler.text, filler.language, _FILLER)
            reply = await first
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        while reply is not None:
            if not self.first_words_ns:
                self.first_words_ns = clock.now_ns()
            yield reply
            reply = await anext(replies, None)

    def _pass_on(self, reply: TakeMessage | HangUp | Transfer) -> None:
        if isinstance(reply, TakeMessage):
            self._observer.message(reply)
            return
        self._goodbye = True
        if isinstance(reply, Transfer):
            self.transfer_to = reply.number

    async def _say(self, say: Say) -> None:
        number = self._tape.say(say.text)
        self._languages.append(say.language)
        splitter = ClauseSplitter()
        for text in splitter.feed(say.text) + splitter.flush():
            await self._clause(text, say.language, number)

    async def _clause(self, text: str, language: str, number: int) -> None:
        """Begin a clause as soon as the one before it is being fed."""
        await self._until(lambda: self._tape.written <= self._tape.reading + 1)
        clause = self._tape.begin(text, number)
        self._tasks.add(self._start(self._synthesise(clause, language)))

    async def _synthesise(self, clause: Clause, language: str) -> None:
        try:
            async with aclosing(self._tts.speak(clause.text, language)) as stream:
                async for pcm in stream:
                    clause.write(pcm)
                    self._changed.set()
                    await self._until(lambda: self._tape.unread_ms(clause) <= SPEECH_AHEAD_MS_MAX)
        except ProviderError as error:
            self._observer.failed("tts", error)
            if not (clause.frames or self._apologised):  # once a reply, and never silence
                self._apologised = True
                clause.write(self._apology(language, ""))
        clause.end()
        self._changed.set()

    async def _feed(self) -> None:
        """Give the player what is on the tape, until the reply is complete."""
        tape, player = self._tape, self._player
        while True:
            piece = tape.read()
            if piece is not None:
                await self._play(piece)
            elif self._produced and tape.all_read:
                break
            else:
                if self._audible and tape.all_read:  # the responder is slow, not the carrier
                    player.end_utterance()  # for the moment: what follows later is no gap
                await self._until(lambda: tape.readable or (self._produced and tape.all_read))
        self._fed_all = True
        if self._goodbye:
            self._on(Event.GOODBYE)
        if self._audible:
            player.end_utterance()
        else:
            self._on(Event.REPLY_SILENT)

    async def _play(self, piece: Piece) -> None:
        if piece.frames and not self._audible:
            await self._until(lambda: not self._held)
        self._fed += piece.frames
        if piece.frames:
            if not self._audible:
                self._audible = True
                self.first_audio_ns = clock.now_ns()
                self._on(Event.REPLY_AUDIBLE)
            if piece.say >= 0 and not self._said:
                self._tell()
            await self._player.feed(piece.pcm)
        if piece.ends:
            await self._player.end_clause()
            self._tape.drop(self._base + self._player.heard_ms(clock.now_ns()) // FRAME_MS)
        self._changed.set()

    def _announce(self, heard: int) -> None:
        """Tell the observer of every text that begins before this place, in their order."""
        while 0 < self._said < len(self._languages):
            start = self._tape.starts(self._said)
            if start is None or start >= heard:
                break
            self._tell()

    def _tell(self) -> None:
        number, self._said = self._said, self._said + 1
        self._observer.said(Role.ASSISTANT, self._tape.text(number), self._languages[number])
