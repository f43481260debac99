"""What each address answers, and that the page needs nothing but its own files."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import orjson
import pytest
from typing_extensions import override

from gateway import clock
from gateway.console.database import Database
from gateway.console.guard import PAGE_PATHS
from gateway.console.routes import LIMIT_MAX, Pages, PagesParts
from gateway.console.view import View
from gateway.ops.metrics import Exposition
from gateway.ops.records import CallStarted, MessageTaken, Record, TurnTaken
from gateway.settings import load_settings
from supervisor.scoreboard import Field, Phase, RowName, Scoreboard
from tests.gateway.console.asgi import Answer, ask

NAMES = [RowName("worker", 0), RowName("dsp", 0), RowName("speech", 0), RowName("console", 0)]
RECORDS = [
    Record(1, CallStarted("CA1", 1_000, "MZ1", caller_number="+4915112345642")),
    Record(2, TurnTaken("CA1", 2_000, "caller", "hello")),
    Record(3, MessageTaken("CA1", 3_000, {"name": "Ann"})),
    Record(4, MessageTaken("CA1", 4_000, {"name": "Bo"})),
]

Ask = Callable[..., Answer]


@pytest.fixture
def board() -> Scoreboard:
    """Everybody ready, and not silent for as long as a slow machine may need."""
    board = Scoreboard(NAMES, 1)
    for row in board.rows():
        row.take(pid=1, now_ns=clock.now_ns())
        row.set(Field.CAPACITY, 512)
        row.set(Field.ADMITS, 1)
        row.ready()
        row.beat(clock.now_ns() + 60_000 * clock.NS_PER_MS)
    return board


@pytest.fixture
def answer_to(board: Scoreboard, tmp_path: Path) -> Ask:
    """Ask one question of a console whose database holds RECORDS."""

    def answer_to(
        target: str, method: str = "GET", body: bytes = b"", **settings: object
    ) -> Answer:
        async def run() -> Answer:
            database = Database(tmp_path / "records.db")
            await database.use(lambda store: store.write(RECORDS))
            values = load_settings(None, **settings)
            pages = Pages(
                PagesParts(
                    board=board,
                    settings=values,
                    database=database,
                    exposition=Exposition(board),
                    view=View(),
                )
            )
            if target == "/api/live":  # else it would go on for ever
                asyncio.get_running_loop().call_later(0.2, pages.feed.close)
            try:
                return await ask(pages.app(), target, method=method, body=body)
            finally:
                await database.close()

        return asyncio.run(run())

    return answer_to


def test_healthz(answer_to: Ask) -> None:
    answer = answer_to("/healthz")
    assert (answer.status, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["content-type"] == "application/json"


def test_readyz_says_why_not(answer_to: Ask, board: Scoreboard) -> None:
    assert answer_to("/readyz").status == 200
    assert answer_to("/readyz").json() == {
        "ready": True,
        "degraded": False,
        "reasons": [],
        "warnings": ["without credentials only this machine may call (twilio, telnyx and plain)"],
    }
    board.row("worker", 0).set(Field.PHASE, Phase.DRAINING)
    answer = answer_to("/readyz", insecure_open=True)
    assert answer.status == 503
    assert answer.json()["reasons"] == ["no worker is ready"]
    assert answer.json()["warnings"][0].startswith("INSECURE_OPEN")


def test_metrics(answer_to: Ask) -> None:
    answer = answer_to("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert b'voice_gateway_up{index="0",kind="worker"} 1.0' in answer.body


def test_workers(answer_to: Ask) -> None:
    children = answer_to("/api/workers").json()["children"]
    assert [child["kind"] for child in children] == ["worker", "dsp", "speech", "console"]
    assert set(children[0]) == {
        *("kind", "slot", "pid", "state", "calls", "capacity", "loop_lag_ms"),
        *("heartbeat_age_ms", "restarts", "rss_mb", "cpu_percent", "tick_ms", "batch_frames"),
    }


def test_calls_come_with_their_turns(answer_to: Ask) -> None:
    (call,) = answer_to("/api/calls").json()["calls"]
    assert (call["call_id"], call["caller_number"]) == ("CA1", "+4915112345642")
    assert [turn["text"] for turn in call["turns"]] == ["hello"]


def test_messages_come_newest_first(answer_to: Ask) -> None:
    names = [m["fields"]["name"] for m in answer_to("/api/messages").json()["messages"]]
    assert names == ["Bo", "Ann"]
    assert len(answer_to("/api/messages?limit=1").json()["messages"]) == 1
    assert len(answer_to(f"/api/messages?limit={LIMIT_MAX}").json()["messages"]) == 2


@pytest.mark.parametrize("limit", ["0", "-1", "201", "x", "", "1e1", "٣", "9" * 5_000])
def test_a_bad_limit_is_refused_in_a_sentence(answer_to: Ask, limit: str) -> None:
    for path in ("/api/calls", "/api/messages"):
        answer = answer_to(f"{path}?limit={limit}")
        assert answer.status == 400
        assert answer.body == b"limit must be 1 to 200\n"


def test_what_is_not_there_is_404(answer_to: Ask) -> None:
    for path in ("/nowhere", "/api", "/static/index.html", "/../app.py", "/app.js/"):
        assert answer_to(path).status in {404, 307}


class _References(HTMLParser):
    """What a page refers to, and whether it holds code or style of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.inline: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.found |= {value for name in ("src", "href") if (value := values.get(name))}
        if tag == "style" or (tag == "script" and "src" not in values):
            self.inline.append(tag)
        self.inline += [name for name in values if name == "style" or name.startswith("on")]


def test_the_page_refers_only_to_what_is_served(answer_to: Ask) -> None:
    page = answer_to("/")
    assert page.headers["content-type"].startswith("text/html")
    references = _References()
    references.feed(page.body.decode())
    assert references.inline == []
    assert references.found >= {"/app.js", "/style.css", "/icon.svg"}
    for path in references.found:
        assert path.startswith(("/", "#"))
        if path.startswith("/"):
            assert answer_to(path).status == 200, path


def test_the_scripts_ask_and_write_only_where_something_is(answer_to: Ask) -> None:
    page = answer_to("/").body.decode()
    scripts = {path for path in PAGE_PATHS if path.endswith(".js")}
    for path in scripts:
        script = answer_to(path).body.decode()
        for asked in re.findall(r'ask\(["`](/[^"`?$]+)["`?]', script):
            assert answer_to(asked).status in {200, 405}, asked
        for name in re.findall(r'byId\("([^"]+)"\)', script):
            assert f'id="{name}"' in page, name
        for name in re.findall(r'part\("([^"]+)"\)', script):
            assert f'data-part="{name}"' in page, name
        for loaded in re.findall(r'(?:from |addModule\()"([^"]+)"', script):
            assert loaded in scripts
        for banned in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert banned not in script
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg|127\.0\.0\.1)", script)


def test_the_softphone_is_told_where_to_call(answer_to: Ask) -> None:
    found = answer_to("/api/softphone", gateway_port=4321, plain_token="for-plain-clients").json()
    assert (found["scheme"], found["port"]) == ("ws", 4321)
    assert found["token"] == "for-plain-clients"


def test_a_listener_is_told_everything_first(answer_to: Ask) -> None:
    answer = answer_to("/api/live")
    assert answer.headers["content-type"].startswith("text/event-stream")
    hello, whole = answer.body.split(b"\n\n")[:2]
    assert hello == b": hello"
    name, data = whole.split(b"\n")
    assert name == b"event: whole"
    told = orjson.loads(data.removeprefix(b"data: "))
    assert told["readiness"]["ready"]
    assert told["children"][0]["kind"] == "worker"
    assert told["calls"] == told["gone"] == told["levels"] == told["latency"] == []
    assert told["version"] == 0


def test_a_message_is_marked_done_and_open_again(answer_to: Ask) -> None:
    message = answer_to("/api/messages").json()["messages"][0]
    assert message["done_at_ms"] is None
    for done in (True, True, False):
        name = {"call_id": message["call_id"], "sequence": message["sequence"]}
        asked = orjson.dumps({**name, "done": done})
        assert answer_to("/api/messages/done", "POST", asked).status == 200
        after = answer_to("/api/messages").json()["messages"]
        assert [m["done_at_ms"] is not None for m in after] == [done, False]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"call_id":"CA1","sequence":"9","done":true}', 404),
        (b'{"call_id":"CA1","sequence":"3"}', 400),
        (b'{"call_id":"CA1","sequence":3,"done":true}', 400),
        (b'{"call_id":"CA1","sequence":"-3","done":true}', 400),
        (b'{"call_id":"CA1","sequence":"99999999999999999999","done":true}', 400),
        (b"[]", 400),
        (b"{", 400),
        (b" " * 5_000, 400),
    ],
)
def test_what_is_no_message_is_not_marked(answer_to: Ask, body: bytes, status: int) -> None:
    assert answer_to("/api/messages/done", "POST", body).status == status


def test_messages_are_exported(answer_to: Ask) -> None:
    answer = answer_to("/api/messages.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    assert answer.body.decode().splitlines() == [
        "\ufeffat,caller_number,done_at,name",
        "1970-01-01 00:00:04+00:00,+4915112345642,,Bo",
        "1970-01-01 00:00:03+00:00,+4915112345642,,Ann",
    ]
