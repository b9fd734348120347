"""Google Chat: one card per incident through its whole life, and a space that answers as the service does."""

from __future__ import annotations

import json
import sys
from urllib.parse import parse_qs, urlsplit

import pytest
import tenacity
from aiohttp import web
from aiohttp.test_utils import TestServer
from builders import START, at, event
from destinations import CASES, build, nasty_event
from googles import ERRORS, refused
from pydantic import ValidationError

import connectors
from bridge.model import Blocked, Delivered, EventKind, Retry
from bridge.ports import HttpResponse, Rendered
from connectors.transport.http import HttpSender

MEMORY = {"severity": "warning", "state": "open", "escalations": "0", "known": "00000000"}


def rendered(memory=None, step: str = "", case: str = "google_chat", **changes) -> Rendered:
    return build(case).render([event(EventKind.ESCALATED, 2, **changes)], memory, step)


def query(batch: Rendered) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(batch.request.url).query).items()}


@pytest.mark.parametrize("case", ["google_chat", "google_chat_webhook"])
@pytest.mark.parametrize(("answer", "verdict"), ERRORS)
def test_every_documented_error_leads_to_its_verdict(case, answer, verdict):
    assert [type(each) for each in build(case).judge(rendered(case=case), answer)] == [verdict]


def test_ids_are_what_google_takes_and_stay_the_same():
    posted, changed, reply = rendered(), rendered(MEMORY), rendered(MEMORY, "thread")
    name = query(posted)["messageId"]

    assert name.startswith("client-")
    assert len(name) <= 63
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert changed.request.url.partition("?")[0].endswith(f"/v1/spaces/AAAAexample/messages/{name}")
    assert query(changed) == {"updateMask": "cardsV2", "allowMissing": "true"}
    assert query(reply)["messageId"] not in {name, ""}
    assert len({query(each)["requestId"] for each in (posted, reply)}) == 2


def test_a_reply_that_is_there_already_was_delivered():
    (verdict,) = build("google_chat").judge(rendered(MEMORY, "thread"), refused(409, "ALREADY_EXISTS", "x"))

    assert isinstance(verdict, Delivered)
    assert verdict.memory is not None
    assert not verdict.next_step


def test_nothing_in_a_reply_mentions_anybody():
    batch = build("google_chat").render([nasty_event(size=100, count=4)], MEMORY | {"known": ""}, "thread")
    text = json.loads(batch.request.body)["text"]

    assert "!channel" in text
    assert "<" not in text


def test_a_webhook_has_no_updates_and_the_incidents_thread():
    connector = build("google_chat_webhook")
    batch = rendered(MEMORY, case="google_chat_webhook")
    url = connector.seal(batch.request, batch.event_ids, START).url

    assert not connector.caps.updates
    assert connector.caps.delivery_class == "at least once, deduplicate on event_id"
    assert [connector.wants(event(kind), None) for kind in (EventKind.UPDATED, EventKind.CLOSED)] == [
        False,
        True,
    ]
    assert connector.probe() is None
    assert batch.request.url == "https://chat.googleapis.com/"
    assert url.startswith(
        "https://chat.googleapis.com/v1/spaces/AAAA/messages?key=a-key-of-the-test&token=a-token-of-the-test&requestId="
    )
    assert url.endswith("&messageReplyOption=REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD")
    first = json.loads(batch.request.body)["cardsV2"][0]["card"]["sections"][0]["widgets"][0]
    assert first["textParagraph"]["text"].startswith("<b>Escalated: warning → critical")


@pytest.mark.parametrize(
    "changes",
    [
        {"space": None},
        {"url": "https://chat.googleapis.com/v1/spaces/A/messages?key=k"},
        {"space": "AAAA"},
        {"max_bytes": 32_001},
    ],
)
def test_settings_that_cannot_be_are_told_of_when_the_configuration_is_read(changes):
    with pytest.raises(ValidationError):
        build("google_chat", **changes)


def test_a_chat_app_without_its_extra_is_told_of_when_the_configuration_is_read(monkeypatch, tmp_path):
    kind = connectors.load("google_chat")
    app, webhook = (kind.Settings(**CASES[case]) for case in ("google_chat", "google_chat_webhook"))
    assert app.faults(tmp_path) == {}

    monkeypatch.setitem(sys.modules, "google.auth", None)

    assert 'pip install "tocsin[google]"' in app.faults(tmp_path)["space"]
    assert webhook.faults(tmp_path) == {}


# ---- a space ----------------------------------------------------------------------------------------------


class Space:
    """A fake of a space: messages with ids of the client's, threads by key; the next faults are queued."""

    def __init__(self) -> None:
        self.messages: dict[str, dict] = {}
        self.asked: dict[str, str] = {}  # by the id of a request, the message that it made
        self.faults: list[str] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/spaces/AAAAexample", self.describe)
        app.router.add_post("/v1/spaces/AAAAexample/messages", self.create)
        app.router.add_patch("/v1/spaces/AAAAexample/messages/{id}", self.patch)
        return app

    async def describe(self, _request: web.Request) -> web.Response:
        return web.json_response({"name": "spaces/AAAAexample"})

    async def create(self, request: web.Request) -> web.Response:
        name, asked = request.query["messageId"], request.query["requestId"]
        if asked in self.asked:
            return self.answer(self.asked[asked])
        if name in self.messages:
            there = refused(409, "ALREADY_EXISTS", "A message with this id is there.")
            return web.Response(status=there.status, body=there.body)
        self.messages[name] = await request.json()
        self.asked[asked] = name
        if self.faults and self.faults.pop() == "reset after accept":
            assert request.transport is not None
            request.transport.abort()
        return self.answer(name)

    async def patch(self, request: web.Request) -> web.Response:
        assert (request.query["updateMask"], request.query["allowMissing"]) == ("cardsV2", "true")
        name = request.match_info["id"]
        self.messages[name] = self.messages.get(name, {}) | await request.json()
        return self.answer(name)

    def answer(self, name: str) -> web.Response:
        return web.json_response({"name": f"spaces/AAAAexample/messages/{name}"})

    def said(self) -> list[str]:
        return [each["text"] for each in self.messages.values() if "text" in each]

    def cards(self) -> list[dict]:
        return [each["cardsV2"][0]["card"] for each in self.messages.values() if "cardsV2" in each]


@pytest.fixture
async def space():
    fake = Space()
    async with TestServer(fake.app()) as server:
        fake.url = str(server.make_url("/"))
        yield fake


async def send(space: Space, batch: Rendered):
    connector, sender = build("google_chat", api_url=space.url), HttpSender(wait=tenacity.wait_none())
    response = await sender.send(connector.seal(batch.request, batch.event_ids, START), timeout_s=10)
    await sender.close()
    (verdict,) = connector.judge(batch, response)
    return verdict


async def deliver(space: Space, each, memory):
    """Deliver one event with all its steps; return what is remembered then."""
    step = ""
    while True:
        verdict = await send(space, build("google_chat").render([each], memory, step))
        assert isinstance(verdict, Delivered), verdict
        memory = memory if verdict.memory is None else verdict.memory
        step = verdict.next_step
        if not step:
            return memory


LIFE = (
    event(EventKind.OPENED, 1, severity="warning"),
    event(EventKind.UPDATED, 2, severity="warning", alerts_total=3, alerts_firing=3),
    event(EventKind.ESCALATED, 3, severity="critical", escalations=1),
    event(EventKind.CLOSED, 4, severity="critical", escalations=1, closed_at=at(1510)),
)


async def test_one_incident_is_one_card_and_what_changed_stands_in_its_thread(space):
    memory = None
    for each in LIFE:
        memory = await deliver(space, each, memory)

    assert space.said() == [
        "🔴 Escalated: warning → critical; 2 of 2 firing",
        "✅ Closed after 25 min; 2 alerts in all",
    ]
    (card,) = space.cards()
    assert card["header"] == {
        "title": "✅ checkout: HighLatency on 2 instances", "subtitle": "critical · closed · 0 of 2 alerts firing",
    }  # fmt: skip
    assert {each["thread"]["threadKey"] for each in space.messages.values()} == {"3f1c9a7d52e84b06"}


async def test_every_step_twice_makes_nothing_twice(space):
    memory = None
    for each in LIFE:
        before = memory
        memory = await deliver(space, each, before)
        assert await deliver(space, each, before) == memory

    assert (len(space.cards()), len(space.said())) == (1, 2)


async def test_a_connection_that_breaks_after_the_card_leaves_one(space):
    space.faults = ["reset after accept"]

    verdict = await send(space, build("google_chat").render([LIFE[0]], None, ""))
    await deliver(space, LIFE[2], None)

    assert (type(verdict), verdict.maybe_sent) == (Retry, True)
    (card,) = space.cards()
    assert card["header"]["subtitle"].startswith("critical")


async def test_a_card_that_somebody_deleted_is_made_anew(space):
    memory = await deliver(space, LIFE[0], None)
    space.messages.clear()

    await deliver(space, LIFE[1], memory)

    assert len(space.cards()) == 1


async def test_the_probe_asks_for_the_space_and_says_nothing(space):
    probe = Rendered(request=build("google_chat").probe(), event_ids=("x",))

    assert await send(space, probe) == Delivered()
    assert space.messages == {}


def test_a_login_page_in_between_is_no_success():
    page = HttpResponse(status=200, headers={}, body=b'{"name":"login"}')

    assert [type(each) for each in build("google_chat").judge(rendered(), page)] == [Blocked]
