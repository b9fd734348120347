"""Discord: one message per incident through its whole life, and a channel that answers as Discord does."""

from __future__ import annotations

import json
import re

import pytest
import tenacity
from aiohttp import web
from aiohttp.test_utils import TestServer
from builders import START, at, event
from destinations import NASTY, build, nasty_event

from bridge.model import Blocked, Delivered, EventKind, Reject, Retry, Split
from bridge.ports import HttpResponse, Rendered
from connectors.transport.http import HttpSender

MEMORY = {"id": "77", "severity": "warning", "state": "open", "escalations": "0", "known": "00000000"}


def answer(status: int, headers: dict[str, str] | None = None, **fields) -> HttpResponse:
    return HttpResponse(status=status, headers=headers or {}, body=json.dumps(fields).encode())


def rendered(memory=None, step: str = "", **changes) -> Rendered:
    return build("discord").render([event(EventKind.UPDATED, 2, **changes)], memory, step)


#: Source: docs.discord.com, "Opcodes and Status Codes"; status, code, message, what it leads to here.
CODES = [
    (400, 50035, "Invalid Form Body", Reject),
    (400, 50006, "Cannot send an empty message", Reject),
    (400, 50109, "The request body contains invalid JSON", Reject),
    (400, 40005, "Request entity too large. Try sending something smaller in size", Split),
    (413, 40005, "Request entity too large. Try sending something smaller in size", Split),
    (400, 220001, "Webhooks posted to forum channels must have a thread_name or thread_id", Blocked),
    (400, 0, "something new", Blocked),
    (401, 50027, "Invalid Webhook Token", Blocked),
    (403, 50013, "You lack permissions to perform that action", Blocked),
    (404, 10015, "Unknown Webhook", Blocked),
    (404, 10003, "Unknown Channel", Blocked),
    (400, 30046, "Maximum number of edits to messages older than 1 hour reached", Retry),
    (500, 0, "500: Internal Server Error", Retry),
    (503, 0, "upstream connect error", Retry),
]


@pytest.mark.parametrize(("status", "code", "message", "verdict"), CODES)
def test_every_documented_code_leads_to_its_verdict(status, code, message, verdict):
    (judged,) = build("discord").judge(rendered(), answer(status, code=code, message=message))

    assert type(judged) is verdict
    assert message in judged.reason


@pytest.mark.parametrize("code", [[1], {"a": 1}, "50035", None])
@pytest.mark.parametrize("status", [400, 403])
def test_a_code_that_is_none_blocks(status, code):
    (judged,) = build("discord").judge(rendered(), answer(status, code=code))

    assert isinstance(judged, Blocked)


@pytest.mark.parametrize(
    ("headers", "fields", "after_s"),
    [
        ({}, {"message": "You are being rate limited.", "retry_after": 64.57, "global": False}, 64.57),
        ({"x-ratelimit-global": "true", "retry-after": "65"}, {"retry_after": 64.57, "global": True}, 65.0),
        ({"x-ratelimit-reset-after": "1.25", "x-ratelimit-remaining": "0"}, {}, 1.25),
        ({"x-ratelimit-reset-after": "soon"}, {}, None),
    ],
)
def test_a_limit_is_waited_out_by_the_whole_webhook(headers, fields, after_s):
    (verdict,) = build("discord").judge(rendered(), answer(429, headers, **fields))

    assert (type(verdict), verdict.after_s, verdict.whole_destination) == (Retry, after_s, True)


def test_a_page_of_the_network_in_between_is_no_success_and_no_rejection():
    for status in (200, 400):
        page = HttpResponse(status=status, headers={}, body=b"<html>error code: 1015</html>")

        assert [type(each) for each in build("discord").judge(rendered(), page)] == [Blocked]


def test_the_secret_is_in_the_address_alone_and_a_thread_stays():
    connector = build("discord", url="https://discord.com/api/webhooks/1/secret-token?thread_id=9")
    posted, changed = rendered().request, rendered(MEMORY).request

    assert connector.seal(posted, (), START).url == (
        "https://discord.com/api/webhooks/1/secret-token?thread_id=9&wait=true"
    )
    assert connector.seal(changed, (), START).url == (
        "https://discord.com/api/webhooks/1/secret-token/messages/77?thread_id=9"
    )
    assert (posted.url, changed.method) == ("https://discord.com/", "PATCH")


def test_nobody_is_mentioned_and_nothing_is_markup():
    (body, aloud) = (
        json.loads(build("discord").render([nasty_event(size=100, count=4)], memory, step).request.body)
        for memory, step in ((None, ""), (MEMORY, "aloud"))
    )

    assert "<!channel>" in NASTY
    for text in (
        body["embeds"][0]["title"],
        body["embeds"][0]["description"],
        aloud["content"].replace("**", ""),
    ):
        assert not re.search(r"(?<!\\)[*_~`|<>\[\]@]", text)
        assert text.isprintable() or text == body["embeds"][0]["description"]
    assert body["allowed_mentions"] == aloud["allowed_mentions"] == {"parse": []}


def test_a_link_cannot_be_left_by_a_parenthesis():
    found = nasty_event(size=10, count=1).incident.episodes[0]
    odd = type(found)(
        **{name: getattr(found, name) for name in found.__struct_fields__}
        | {"generator_url": "https://p/a)b"}
    )
    body = json.loads(build("discord").render([event(episodes=(odd,))], None, "").request.body)

    assert body["embeds"][0]["fields"][-1]["value"] == "[Source](https://p/a%29b)"


# ---- a channel --------------------------------------------------------------------------------------------


class Channel:
    """A fake of a webhook: posts and changes of messages, in memory; the next faults are queued in `faults`."""

    def __init__(self) -> None:
        self.messages: dict[str, dict] = {}
        self.faults: list[str] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/webhooks/1/token", self.describe)
        app.router.add_post("/api/webhooks/1/token", self.post)
        app.router.add_patch("/api/webhooks/1/token/messages/{id}", self.change)
        return app

    async def describe(self, _request: web.Request) -> web.Response:
        return web.json_response({"id": "1", "type": 1, "channel_id": "11", "token": "token"})

    async def post(self, request: web.Request) -> web.Response:
        assert request.query["wait"] == "true"
        message = str(len(self.messages) + 100)
        self.messages[message] = await request.json()
        if self.faults and self.faults.pop() == "reset after accept":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"id": message, "channel_id": "11"})

    async def change(self, request: web.Request) -> web.Response:
        message = request.match_info["id"]
        if message not in self.messages:
            return web.json_response({"message": "Unknown Message", "code": 10008}, status=404)
        self.messages[message] = await request.json()
        return web.json_response({"id": message, "channel_id": "11"})

    def said(self) -> list[str]:
        return [each["content"] for each in self.messages.values() if "content" in each]


@pytest.fixture
async def channel():
    fake = Channel()
    async with TestServer(fake.app()) as server:
        fake.url = str(server.make_url("/api/webhooks/1/token"))
        yield fake


async def send(channel: Channel, batch: Rendered):
    connector, sender = build("discord", url=channel.url), HttpSender(wait=tenacity.wait_none())
    response = await sender.send(connector.seal(batch.request, batch.event_ids, START), timeout_s=10)
    await sender.close()
    (verdict,) = connector.judge(batch, response)
    return verdict


async def deliver(channel: Channel, each, memory):
    """Deliver one event with all its steps; return what is remembered then."""
    step = ""
    while True:
        verdict = await send(channel, build("discord").render([each], memory, step))
        assert isinstance(verdict, Delivered), verdict
        memory = memory if verdict.memory is None else verdict.memory
        step = verdict.next_step
        if not step:
            return memory


async def test_one_incident_is_one_message_and_what_changed_is_said_aloud(channel):
    memory = None
    for each in (
        event(EventKind.OPENED, 1, severity="warning"),
        event(EventKind.UPDATED, 2, severity="warning", alerts_total=3, alerts_firing=3),
        event(EventKind.ESCALATED, 3, severity="critical", escalations=1),
        event(EventKind.CLOSED, 4, severity="critical", escalations=1, closed_at=at(1510)),
    ):
        memory = await deliver(channel, each, memory)

    assert channel.said() == [
        "🔴 **Escalated: warning → critical; 2 of 2 firing**: checkout: HighLatency on 2 instances",
        "✅ **Closed after 25 min; 2 alerts in all**: checkout: HighLatency on 2 instances",
    ]
    assert len(channel.messages) == 3
    assert channel.messages["100"]["embeds"][0]["title"].startswith("✅")


async def test_a_message_that_somebody_deleted_is_posted_anew(channel):
    memory = await deliver(channel, event(EventKind.OPENED, 1), None)
    channel.messages.clear()

    memory = await deliver(channel, event(EventKind.UPDATED, 2), memory)

    assert [memory["id"]] == list(channel.messages)


async def test_a_connection_that_breaks_after_the_post_leaves_two_messages_with_one_id(channel):
    channel.faults = ["reset after accept"]

    verdict = await send(channel, rendered())
    await deliver(channel, event(EventKind.UPDATED, 2), None)

    assert (type(verdict), verdict.maybe_sent) == (Retry, True)
    footers = {each["embeds"][0]["footer"]["text"] for each in channel.messages.values()}
    assert (len(channel.messages), len(footers)) == (2, 1)


async def test_the_probe_asks_for_the_webhook_and_says_nothing(channel):
    probe = Rendered(request=build("discord").probe(), event_ids=("x",))

    assert await send(channel, probe) == Delivered()
    assert channel.messages == {}
