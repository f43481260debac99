from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.format import TTS_FRAME_BYTES
from gateway.conversation.echo_guard import SILENCE_DBFS
from gateway.conversation.onset import KEPT_BYTES, STEP_BYTES
from gateway.conversation.tape import PIECE_FRAMES, Piece, Tape
from gateway.limits import SILENT_START_MS_MAX

BYTES_PER_MS = TTS_FRAME_BYTES // 20
LOUD = b"\xff\x3f" * (TTS_FRAME_BYTES // 2)  # half of full scale


def recorded(*clauses: tuple[str, int], complete: bool = True) -> Tape:
    """A tape of one text; each clause has that many frames."""
    tape = Tape()
    say = tape.say(" ".join(text for text, _ in clauses))
    for text, frames in clauses:
        clause = tape.begin(text, say)
        clause.write(LOUD * frames)
        if complete:
            clause.end()
    return tape


def play(tape: Tape) -> list[Piece]:
    pieces = []
    while (piece := tape.read()) is not None:
        pieces.append(piece)
    return pieces


def test_what_was_written_is_read_in_small_pieces() -> None:
    pieces = play(recorded(("one", 12), ("two", 3)))
    assert [(p.frames, p.ends) for p in pieces] == [(5, False), (5, False), (2, True), (3, True)]
    assert b"".join(p.pcm for p in pieces) == LOUD * 15
    assert all(p.frames <= PIECE_FRAMES for p in pieces)


@given(st.lists(st.binary(max_size=3_000).map(lambda b: b[: len(b) // 2 * 2]), max_size=8))
def test_audio_of_any_cut_is_whole_frames_and_nothing_else(chunks: list[bytes]) -> None:
    tape = recorded(("first", 1))
    play(tape)
    clause = tape.begin("text", tape.say("text"))
    read = []
    for chunk in chunks:
        clause.write(chunk)
        read += play(tape)
    clause.end()
    read += play(tape)
    written = b"".join(chunks)
    got = b"".join(piece.pcm for piece in read)
    assert got == written + bytes(-len(written) % TTS_FRAME_BYTES)
    assert tape.all_read
    assert [piece.ends for piece in read].count(True) == 1


@given(st.integers(0, 900), st.lists(st.integers(1, 4_000), max_size=9))
def test_silence_before_the_first_sound_is_left_out_however_it_comes(
    silent_ms: int, cuts: list[int]
) -> None:
    audio = bytes(silent_ms * BYTES_PER_MS) + LOUD * 3
    tape = Tape()
    clause = tape.begin("text", tape.say("text"))
    read, at = [], 0
    for cut in [*cuts, len(audio)]:
        clause.write(audio[at : at + 2 * cut])
        at += 2 * cut
        read += play(tape)
    clause.end()
    got = b"".join(piece.pcm for piece in read + play(tape))
    kept = len(got.rstrip(b"\0")) - len(LOUD) * 3
    assert got[kept:].startswith(LOUD * 3)
    assert kept == min(silent_ms * BYTES_PER_MS, kept)
    assert kept <= KEPT_BYTES + STEP_BYTES


def test_only_a_reply_is_shortened_and_not_its_clauses() -> None:
    tape = Tape()
    for _ in range(2):
        clause = tape.begin("text", tape.say("text"))
        clause.write(bytes(TTS_FRAME_BYTES * 10) + LOUD)
        clause.end()
    assert [clause.frames for clause in tape._clauses] == [2, 11]


def test_a_reply_of_silence_stays_one_of_a_bounded_loss() -> None:
    tape = Tape()
    clause = tape.begin("text", tape.say("text"))
    for _ in range(SILENT_START_MS_MAX // 20 + 7):
        clause.write(bytes(TTS_FRAME_BYTES))
    clause.end()
    assert clause.frames == 7


@pytest.mark.parametrize(("heard", "again"), [(0, 0), (11, 0), (12, 12), (14, 12), (15, 12)])
def test_one_goes_on_from_the_beginning_of_the_clause(heard: int, again: int) -> None:
    tape = recorded(("one", 12), ("two", 3))
    play(tape)
    tape.drop(heard)
    assert tape.rewind(heard) == again
    assert sum(piece.frames for piece in play(tape)) == 15 - again


def test_what_was_heard_is_whole_words_of_each_clause() -> None:
    tape = recorded(("one two", 10), ("three four", 20))
    play(tape)
    assert tape.heard(0) == ""
    assert tape.heard(5) == "one"
    assert tape.heard(10) == "one two"
    assert tape.heard(24) == "one two three"
    assert tape.heard(30) == "one two three four"


def test_a_clause_that_is_not_complete_is_taken_to_be_longer_than_it_is() -> None:
    tape = recorded(("one two three four", 10), complete=False)
    play(tape)
    assert tape.heard(10) == "one"


def test_a_filler_is_no_part_of_what_was_said() -> None:
    tape = Tape()
    for text, say in (("One moment.", -1), ("Yes.", tape.say("Yes."))):
        clause = tape.begin(text, say)
        clause.write(LOUD * 4)
        clause.end()
    play(tape)
    assert tape.heard(8) == "Yes."
    assert tape.starts(0) == 4


def test_levels_stay_with_their_place() -> None:
    tape = recorded(("one", 3), ("two", 2))
    play(tape)
    assert [round(tape.level(at)) for at in range(5)] == [-6] * 5
    assert tape.level(9) == SILENCE_DBFS
    assert Tape().level(0) == SILENCE_DBFS
