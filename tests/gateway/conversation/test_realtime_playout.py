"""What was heard of which item: any queue, cut anywhere, against a model that counts frames."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.realtime_playout import ITEMS_MAX, Playout

WORDS = "one two three four"


@given(
    sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=6),
    heard_ms=st.integers(0, 20_000),
    ended=st.integers(0, 6),
)
def test_a_cut_is_shared_out_among_the_items(sizes: list[int], heard_ms: int, ended: int) -> None:
    playout = Playout(8)
    owners: list[tuple[str, int]] = []  # of each frame in the player: whose, and its ms there
    for n, size in enumerate(sizes):
        assert playout.received(f"i{n}", size // 2)
        assert playout.received(f"i{n}", size - size // 2)
        playout.write(f"i{n}", WORDS, whole=True)
        if n < ended:
            playout.ended(f"i{n}")
        owners += [(f"i{n}", at) for at in range(-(-size // 160))]
    heard = min(heard_ms, len(owners) * 20) // 20 * 20
    said = [item.item_id for item in playout.newly_heard(heard)]
    assert said == list(dict.fromkeys(owner for owner, _ in owners[: heard // 20]))
    cut = {t.item.item_id: t for t in playout.cut(heard)}
    for n, size in enumerate(sizes):
        frames = [at for owner, at in owners[: heard // 20] if owner == f"i{n}"]
        wholly = len(frames) == -(-size // 160)
        truncation = cut.get(f"i{n}")
        if truncation is None:
            assert n < ended
            assert wholly or len(frames) * 20 >= size // 8
            continue
        assert truncation.audio_end_ms == min(len(frames) * 20, size // 8), "clamped"
        assert WORDS.startswith(truncation.heard_text)
        assert frames or truncation.heard_text == ""
    assert len(playout) == 0
    assert playout.all_heard() == []


def test_items_are_bounded_and_come_in_order() -> None:
    playout = Playout(8)
    assert all(playout.received(f"i{n}", 160) for n in range(ITEMS_MAX))
    assert not playout.received("one too many", 160)
    assert not playout.received("i0", 160), "its audio is not the last any more"
    assert playout.queued_ms == ITEMS_MAX * 20
