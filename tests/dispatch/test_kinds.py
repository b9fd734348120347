"""The dispatcher with the real connectors: what an operator corrects heals what waited, whatever the kind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from builders import START
from destinations import build
from dispatching import World, answer
from fake_jira import FakeJira

from bridge.dispatch import DispatchSettings
from bridge.model import EventKind, IncidentState
from bridge.ports import (
    Append,
    Appended,
    Frames,
    FramesResponse,
    HttpResponse,
    Mail,
    MailResponse,
    Publish,
    Published,
    Response,
    Unpublished,
    Unreached,
)

OPENED = EventKind.OPENED
#: For stories of hours: looks around less often, so that there is less to go through.
HOURS = DispatchSettings(poll_s=20, look_every_s=20, measure_every_s=20)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world without destinations."""
    made = World(tmp_path, {})
    yield made
    made.store.close()


def told(number: int, /, **fields: Any) -> HttpResponse:
    """Return an answer in JSON."""
    return HttpResponse(status=number, headers={}, body=json.dumps(fields).encode())


def text(status: int, body: str) -> HttpResponse:
    """Return an answer in words."""
    return HttpResponse(status=status, headers={}, body=body.encode())


# ---- what each kind's destination says to wrong and right settings ---------------------------------------


def callback(body: dict[str, Any]) -> Response:
    return answer(200) if body["path"] == "right" else answer(404)


def splunk(body: dict[str, Any]) -> Response:
    if "health" in body["path"]:
        return told(200, text="HEC is healthy", code=17)
    if body["index"] == "right":
        return told(200, text="Success", code=0)
    return told(400, text="Incorrect index", code=7)


def loki(body: dict[str, Any]) -> Response:
    if any(stream["stream"]["job"] == "wrong" for stream in body["streams"]):
        return text(400, "missing required labels team for user fake for stream {}")
    return answer(204)


def slack(body: dict[str, Any]) -> Response:
    if body["path"].endswith("auth.test"):
        return told(200, ok=True)
    if body["channel"] == "#right":
        return told(200, ok=True, channel="C1", ts="1.0")
    return told(200, ok=False, error="channel_not_found")


def slack_webhook(body: dict[str, Any]) -> Response:
    return text(200, "ok") if body["path"] == "right" else text(404, "no_service")


def pagerduty(body: dict[str, Any]) -> Response:
    if body["routing_key"] == "r" * 32:
        return told(202, status="success", message="Event processed", dedup_key=body["dedup_key"])
    return told(400, status="invalid event", errors=["'routing_key' is invalid"])


def file(body: dict[str, Any]) -> Response:
    request = body["request"]
    assert isinstance(request, Append)
    if request.path.endswith("right"):
        return Appended()
    return Unreached(reason="Permission denied", maybe_sent=True, kind="local")


def kafka(body: dict[str, Any]) -> Response:
    request = body["request"]
    assert isinstance(request, Publish)
    if request.topic == "right":
        return Published(faults=(None,) * len(request.records))
    return Published(faults=(Unpublished(name="UNKNOWN_TOPIC_OR_PARTITION", may_pass=True),))


def syslog(body: dict[str, Any]) -> Response:
    request = body["request"]
    assert isinstance(request, Frames)
    if request.transport == "relp+tls":
        return FramesResponse(accepted=len(request.frames))
    return Unreached(reason="the handshake failed", maybe_sent=False, kind="tls")


def s3(body: dict[str, Any]) -> Response:
    if body["path"].startswith("right/"):
        return answer(200, etag='"d41d8cd98f00b204e9800998ecf8427e"')
    return text(404, "<Error><Code>NoSuchBucket</Code><Message>The bucket does not exist</Message></Error>")


def sqs(body: dict[str, Any]) -> Response:
    if not body["QueueUrl"].endswith("/right"):
        return told(400, __type="com.amazonaws.sqs#QueueDoesNotExist")
    if not body["Entries"]:
        return told(400, __type="com.amazonaws.sqs#EmptyBatchRequest")
    return told(200, Successful=[{"Id": each["Id"]} for each in body["Entries"]])


def eventbridge(body: dict[str, Any]) -> Response:
    good, bad = {"EventId": "1"}, {"ErrorCode": "AccessDeniedException", "ErrorMessage": "not this bus"}
    entries = [good if each["EventBusName"] == "right" else bad for each in body["Entries"]]
    return told(200, FailedEntryCount=entries.count(bad), Entries=entries)


def securityhub(body: dict[str, Any]) -> Response:
    if any(each["AwsAccountId"] != "1" * 12 for each in body["Findings"]):
        return told(403, __type="InvalidAccessException", Message="account is not subscribed")
    return told(200, FailedCount=0, SuccessCount=len(body["Findings"]), FailedFindings=[])


def email(body: dict[str, Any]) -> Response:
    request = body["request"]
    assert isinstance(request, Mail)
    if request.sender == "right@example.com":
        return MailResponse(code=250, text="taken", to="data")
    return MailResponse(code=553, text="sender address rejected", to="mail")


def opsgenie(body: dict[str, Any]) -> Response:
    if body["path"].startswith("right/"):
        return told(202, result="Request will be processed", requestId="1")
    return told(401, message="Could not authenticate", requestId="1")


@dataclass
class Case:
    """A destination named "d" that is configured wrongly at first."""

    kind: str
    answers: Callable[[dict[str, Any]], Response]
    wrong: dict[str, Any]
    right: dict[str, Any]


CASES = [
    Case("callback", callback, {"url": "http://d/wrong"}, {"url": "http://d/right"}),
    Case("splunk", splunk, {"url": "http://d", "index": "wrong"}, {"url": "http://d", "index": "right"}),
    Case("loki", loki, {"url": "http://d", "labels": {"job": "wrong"}}, {"url": "http://d", "labels": {"job": "right"}}),
    Case(
        "slack", slack,
        {"api_url": "http://d/api", "channel": "#wrong"},
        {"api_url": "http://d/api", "channel": "#right"},
    ),
    Case("slack_webhook", slack_webhook, {"url": "http://d/wrong"}, {"url": "http://d/right"}),
    Case(
        "pagerduty", pagerduty,
        {"url": "http://d/x", "routing_key": "w" * 32},
        {"url": "http://d/x", "routing_key": "r" * 32},
    ),
    Case("kafka", kafka, {"servers": "d:1", "topic": "wrong"}, {"servers": "d:1", "topic": "right"}),
    Case("email_relay", email, {"server": "d:1"}, {"server": "d:1", "sender": "right@example.com"}),
    Case("opsgenie", opsgenie, {"url": "http://d/wrong"}, {"url": "http://d/right"}),
    Case("file", file, {"path": "/d/wrong"}, {"path": "/d/right"}),
    Case("syslog", syslog, {"address": "d:1", "transport": "tls"}, {"address": "d:1", "transport": "relp+tls"}),
    Case("s3_minio", s3, {"endpoint": "http://d", "bucket": "wrong"}, {"endpoint": "http://d", "bucket": "right"}),
    Case("sqs", sqs, {"queue_url": "http://d/1/wrong"}, {"queue_url": "http://d/1/right"}),
    Case(
        "eventbridge", eventbridge,
        {"endpoint": "http://d", "bus": "wrong"},
        {"endpoint": "http://d", "bus": "right"},
    ),
    Case(
        "securityhub", securityhub,
        {"endpoint": "http://d", "account": "9" * 12},
        {"endpoint": "http://d", "account": "1" * 12},
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
async def test_a_configuration_that_was_corrected_while_it_was_refused_delivers_everything(
    world: World, case: Case
) -> None:
    world.answers["d"] = case.answers
    world.foreign["d"] = build(case.kind, **case.wrong)
    first = world.emit("i1", OPENED)
    async with world.running():
        await world.run(200)
        assert world.states("d") == {("i1", 1): "waiting"}
        assert [kind for _, _, kind, _ in world.troubles] == ["blocked"]
    world.foreign["d"] = build(case.kind, **case.right)
    second = world.emit("i2", OPENED)
    async with world.running():
        await world.until(world.is_done, within_s=70)
    assert set(world.states("d").values()) == {"delivered"}
    assert {each["event_id"] for each in world.shown("d")} == {first, second}


async def test_a_full_disk_is_one_trouble_not_one_a_minute(world: World) -> None:
    """An empty line still fits where no event does: the probe is well, and proves nothing."""
    world.settings = HOURS
    world.foreign["d"] = build("file", path="/d/right")
    full = Unreached(reason="No space left on device", maybe_sent=True, kind="local")
    world.answers["d"] = lambda body: full if body["request"].lines and world.seconds < 1800 else Appended()
    world.emit("i1", OPENED)
    async with world.running():
        await world.run(1790)
        assert [(kind, reason is None) for _, _, kind, reason in world.troubles] == [("blocked", False)]
        await world.until(world.is_done, within_s=120)
        await world.run(25)
    assert [(kind, reason is None) for _, _, kind, reason in world.troubles][1:] == [("blocked", True)]


async def test_a_message_that_relp_refuses_is_given_up_in_the_end_while_others_are_taken(
    world: World,
) -> None:
    world.settings = HOURS
    world.foreign["d"] = build("syslog_json", address="d:1")
    refused = FramesResponse(accepted=0, refused="RELP 500 it is too large", answered=True)

    def receiver(body: dict[str, Any]) -> Response:
        frames = body["request"].frames
        is_bad = any(b"monster" in frame for frame in frames)
        return refused if is_bad else FramesResponse(accepted=len(frames))

    world.answers["d"] = receiver
    world.emit("monster", OPENED)
    async with world.running():
        for number in range(20):
            await world.run(300)
            world.emit(f"i{number}", OPENED)
        await world.until(world.is_done)
    states = world.states("d")
    assert states.pop(("monster", 1)) == "dead"
    assert set(states.values()) == {"delivered"}
    assert world.shown("d")[0]["reason"] == "refused 8 times; last: RELP 500 it is too large"


async def test_a_relp_receiver_whose_disk_is_full_loses_nothing(world: World) -> None:
    """It says 500 to each message in turn, for hours; that is no fault of the messages."""
    world.settings = HOURS
    world.foreign["d"] = build("syslog_json", address="d:1")
    full = FramesResponse(accepted=0, refused="RELP 500 the disk is full", answered=True)
    world.answers["d"] = lambda body: (
        full if world.seconds < 3 * 3600 else FramesResponse(accepted=len(body["request"].frames))
    )
    for number in range(10):
        world.emit(f"i{number}", OPENED)
    async with world.running():
        await world.run(3 * 3600 - 10)
        assert set(world.states("d").values()) == {"waiting"}
        assert {(kind, reason) for _, _, kind, reason in world.troubles} == {
            ("unreachable", "RELP 500 the disk is full")
        }
        await world.until(world.is_done)
    assert set(world.states("d").values()) == {"delivered"}


async def test_a_full_mailbox_keeps_nothing_from_the_others_and_is_no_dead_server(world: World) -> None:
    world.settings = HOURS
    world.foreign["d"] = build("email", server="d:587")
    oncall, full = build("email").example["to"]
    got: list[str] = []

    def server(body: dict[str, Any]) -> Response:
        refused = {full: (452, "mailbox full")}
        if body["request"].recipients == (full,):
            return MailResponse(code=452, text="mailbox full", to="rcpt", refused=refused)
        assert body["request"].recipients == (oncall, full)
        got.append(body["request"].message.partition(b"Message-ID: <")[2].partition(b"@")[0].decode())
        return MailResponse(code=250, text="taken", to="data", refused=refused)

    world.answers["d"] = server
    world.emit("a", OPENED)
    async with world.running() as dispatcher:
        await world.run(1200)
        for incident, kind in (("b", OPENED), ("a", EventKind.REMINDER), ("a", EventKind.CLOSED)):
            world.emit(incident, kind)
        dispatcher.wake()
        await world.run(60)
        assert sorted(got) == ["a.1", "a.3", "b.1"]
        await world.until(world.is_done, within_s=3 * 3600)
    assert world.states("d") == {
        ("a", 1): "superseded", ("a", 2): "superseded", ("a", 3): "dead", ("b", 1): "dead",
    }  # fmt: skip
    assert world.shown("d")[-1]["reason"] == f"refused 8 times; last: refused for {full} (452: mailbox full)"
    assert not {"unreachable", "blocked"} & {kind for _, _, kind, _ in world.troubles}


async def test_a_message_that_somebody_answers_with_200_is_posted_once_a_day(world: World) -> None:
    world.settings = HOURS
    world.foreign["d"] = build("teams", url="https://d/workflows/x?sig=example-signature")
    world.answers["d"] = lambda _: 200
    world.emit("i1", OPENED)
    async with world.running():
        await world.run(3600)
    assert len(world.of("d")) == 1
    assert [kind for _, _, kind, _ in world.troubles] == ["blocked"]


async def test_what_was_frozen_under_other_settings_is_rendered_anew_at_the_start(world: World) -> None:
    """No refusal is needed: during an outage somebody moves the reports to another channel."""
    world.settings = DispatchSettings(marks={"d": "one"})
    world.foreign["d"] = build("slack", api_url="http://d/api", channel="#old")
    world.answers["d"] = lambda _: 503
    world.emit("i1", OPENED)
    async with world.running():
        await world.until(lambda: len(world.sent) > 1)
        frozen = {sent.raw for sent in world.sent}
    assert len(frozen) == 1  # the same bytes, as long as nothing changes
    async with world.running():
        await world.until(lambda: len(world.sent) > 3)
    assert {sent.raw for sent in world.sent} == frozen
    world.settings = DispatchSettings(marks={"d": "two"})
    world.foreign["d"] = build("slack", api_url="http://d/api", channel="#right")
    world.answers["d"] = slack
    async with world.running():
        await world.until(world.is_done)
    assert world.sent[-1].body["channel"] == "#right"
    assert world.states("d") == {("i1", 1): "delivered"}
    assert world.now > START


async def test_an_issue_takes_several_calls_an_event_and_survives_a_restart_between_them(
    world: World,
) -> None:
    jira = FakeJira()

    def told_to_jira(body: dict[str, Any]) -> Response:
        path = body.pop("path").partition("rest/")[2]
        return answer(503) if down and path.endswith(down) else jira.answer(path, body)

    down = "comment"
    world.answers["d"] = told_to_jira
    world.foreign["d"] = build("jira", url="http://d")
    world.emit("i1", OPENED)
    async with world.running():
        await world.until(world.is_done, within_s=120)
    world.emit("i1", EventKind.CLOSED, state=IncidentState.CLOSED)
    async with world.running(ends="kill"):
        await world.run(200)  # the issue is written anew, the comment is refused
    down = ""
    async with world.running():
        await world.until(world.is_done, within_s=400)

    (issue,) = jira.issues.values()
    assert issue["status"] == "Done"
    assert len(issue["comments"]) == 1
    assert set(world.states("d").values()) == {"delivered"}
