"""The bench measures what it says: every message is read as audio, every row is in the table."""

from __future__ import annotations

from gateway.wire.bench import Row, measure, measurements, rendered
from gateway.wire.events import CallerAudio


def test_every_message_read_is_audio_and_every_message_written_is_one() -> None:
    for row in measurements():
        for made in (row.ours(), row.usual()):
            if isinstance(made, list):
                assert [type(event) for event in made] == [CallerAudio]
            else:
                assert isinstance(made, bytes | str)
                assert made


def test_the_table_shows_what_was_promised_and_missed() -> None:
    rows = measure(measurements(), rounds=1, messages=2)
    assert len(rendered(rows).splitlines()) == len(rows) + 1
    assert {row.most for row in rows} == {2.5, 1.5, None}
    assert not Row("a", ours=2.0, usual=9.0, most=2.0).is_missed
    assert rendered([Row("a", ours=2.1, usual=9.0, most=2.0)]).endswith("MISSED")
