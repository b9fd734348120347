"""Loki: streams, structured metadata, and a Loki that answers in every documented way."""

from __future__ import annotations

import json
import time
from timeit import repeat
from typing import Any

import pytest
import tenacity
from aiohttp import web
from aiohttp.test_utils import TestServer
from builders import START, episode, event
from cases.loki import entries
from destinations import NASTY, build
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, Reject, Retry, Split
from bridge.ports import HttpResponse, Rendered
from connectors.transport.http import HttpSender

STREAM = "'{job=\"tocsin\"}'"
#: Source: grafana/loki, pkg/validation/validate.go and docs, "Troubleshoot log ingestion".
ANSWERS = [
    (204, "", Delivered),
    (200, "", Blocked),
    (260, "ingestion blocked for user fake until '2026-12-01' with status code '260'", Blocked),
    (
        400,
        f"entry for stream {STREAM} has timestamp too old: 2026-01-01, oldest acceptable timestamp is: x",
        Reject,
    ),
    (400, f"entry for stream {STREAM} has timestamp too new: 2027-01-01", Reject),
    (
        400,
        "entry with timestamp x ignored, reason: 'entry too far behind, entry timestamp is: x',\ntotal ignored: 1 out of 3",
        Reject,
    ),
    (
        400,
        f"Max entry size '262144' bytes exceeded for stream {STREAM} while adding an entry with length '9'",
        Split,
    ),
    (400, f"stream {STREAM} has structured metadata too large: '70000' bytes, limit: '65536' bytes.", Split),
    (413, "request body too large: 9 bytes, limit: 8 bytes", Split),
    (
        500,
        "rpc error: code = ResourceExhausted desc = grpc: received message larger than max (9 vs. 8)",
        Split,
    ),
    (400, f"stream {STREAM} includes structured metadata, but this feature is disallowed.", Blocked),
    (400, f"entry for stream {STREAM} has 16 label names; limit 15", Blocked),
    (400, "error at least one label pair is required per stream", Blocked),
    (422, "missing required labels team for user fake", Blocked),
    (401, "no org id", Blocked),
    (404, "404 page not found", Blocked),
    (429, "Ingestion rate limit exceeded for user fake (limit: 4194304 bytes/sec)", Retry),
    (500, "at least 2 live replicas required, could only find 1", Retry),
    (503, "service unavailable", Retry),
]


def rendered(count: int = 1, **settings: Any) -> Rendered:
    events = [event(EventKind.UPDATED, seq) for seq in range(1, count + 1)]
    return build("loki", **settings).render(events, None, "")


@pytest.mark.parametrize(("status", "words", "verdict"), ANSWERS)
def test_every_documented_answer_leads_to_its_verdict(status, words, verdict):
    judged = build("loki").judge(rendered(2), HttpResponse(status=status, headers={}, body=words.encode()))

    assert {type(each) for each in judged} == {verdict}
    if verdict is not Delivered:
        assert words.split(",")[0][:60] in judged[0].reason


def test_a_rate_limit_is_that_of_the_whole_destination():
    (judged,) = build("loki").judge(
        rendered(), HttpResponse(status=429, headers={"retry-after": "7"}, body=b"")
    )

    assert isinstance(judged, Retry)
    assert (judged.whole_destination, judged.after_s) == (True, 7.0)


def test_severities_are_streams_and_everything_else_is_metadata():
    nodes = tuple(
        episode(
            "NodeDown", number, labels={"alertname": "NodeDown", "node": f"db-{number}", "cluster": "eu-1"}
        )
        for number in range(30)
    )
    events = [
        event(EventKind.OPENED, 1, episodes=nodes),
        event(EventKind.UPDATED, 2, severity="info"),
        event(EventKind.CLOSED, 3),
    ]
    sent = entries(build("loki").render(events, None, "").request.body)

    assert [labels["level"] for labels, *_ in sent] == ["critical", "critical", "info"]
    assert {tuple(labels) for labels, *_ in sent} == {("env", "job", "level")}
    assert sent[0][1] == str(1_795_471_201 * 10**9)
    metadata = sent[0][3]
    assert (metadata["alertname"], metadata["cluster"]) == ("NodeDown", "eu-1")
    assert metadata["host"].split(",") == [f"db-{number}" for number in range(20)]
    assert "namespace" not in metadata
    assert all(isinstance(value, str) for value in metadata.values())
    assert {json.loads(line)["event_id"] for _, _, line, _ in sent} == {each.event_id for each in events}


def test_without_structured_metadata_an_entry_is_time_and_line():
    body = json.loads(rendered(structured_metadata=False).request.body)

    assert [len(value) for value in body["streams"][0]["values"]] == [2]


def test_a_line_is_one_line_and_no_longer_than_loki_takes():
    hostile = event(
        episodes=tuple(episode(NASTY, number, annotations={"a": NASTY * 99}) for number in range(50))
    )
    body = build("loki", max_line_bytes=4096).render([hostile], None, "").request.body
    ((_, _, line, _),) = entries(body)

    assert len(line.encode()) <= 4096
    assert "\n" not in line
    assert json.loads(line)["incident"]["alerts_total"] == 50


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": {}}, "1 to 10 labels"),
        ({"labels": {"level": "x"}}, "cannot be a label"),
        ({"labels": {"a-b": "x"}}, "cannot be a label"),
        ({"labels": {"a": ""}}, "is empty"),
        ({"token": "x"}, "either token or"),
        ({"org_id": "a b"}, "org_id"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        build("loki", **changes)


def test_an_ordinary_event_is_rendered_in_less_than_200_us():
    connector, ordinary = build("loki"), event(episodes=3)

    seconds = min(
        repeat(lambda: connector.render([ordinary], None, ""), timer=time.thread_time, number=1, repeat=300)
    )

    assert seconds < 200e-6 * 2  # a machine that tests run on is not idle


# ---- a Loki ---------------------------------------------------------------------------------------------------


class Fake:
    """A Loki that keeps one of two equal entries; the next faults are queued in `faults`."""

    def __init__(self) -> None:
        self.kept: set[tuple[str, str, str]] = set()
        self.faults: list[str] = []
        self.headers: dict[str, str] = {}

    async def push(self, request: web.Request) -> web.Response:
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        if "authorization" not in self.headers:
            return web.Response(status=401, text="no credentials provided")
        found = entries(await request.read())
        if not found:
            return web.Response(
                status=422, text="error at least one valid stream is required for ingestion\n"
            )
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "blocked":
            return web.Response(status=260, text="ingestion blocked")
        if fault == "one too old":
            found = found[1:]
        self.kept |= {(json.dumps(labels), at, line) for labels, at, line, _ in found}
        if fault == "reset after accept":
            assert request.transport is not None
            request.transport.abort()
        if fault == "one too old":
            return web.Response(status=400, text="entry for stream '{}' has timestamp too old: x")
        return web.Response(status=204)


@pytest.fixture
async def loki():
    fake = Fake()
    app = web.Application()
    app.router.add_post("/behind/loki/api/v1/push", fake.push)
    async with TestServer(app) as server:
        fake.url = str(server.make_url("/behind/"))
        yield fake


@pytest.fixture
async def sender():
    sender = HttpSender(wait=tenacity.wait_none())
    yield sender
    await sender.close()


async def deliver(loki: Fake, sender: HttpSender, batch: Rendered, case: str = "loki", **settings: Any):
    connector = build(case, url=loki.url, **settings)
    response = await sender.send(connector.seal(batch.request, batch.event_ids, START), timeout_s=10)
    return connector.judge(batch, response)


async def test_a_repeat_after_a_broken_connection_is_the_same_entry(loki, sender):
    loki.faults = ["reset after accept"]

    lost = await deliver(loki, sender, rendered(3))
    again = await deliver(loki, sender, rendered(3))

    assert all(isinstance(each, Retry) and each.maybe_sent for each in lost)
    assert again == (Delivered(),) * 3
    assert len(loki.kept) == 3


async def test_a_loki_that_blocks_writing_loses_nothing(loki, sender):
    loki.faults = ["blocked"]

    assert {type(each) for each in await deliver(loki, sender, rendered(2))} == {Blocked}
    assert await deliver(loki, sender, rendered(2)) == (Delivered(),) * 2


async def test_tenant_and_credentials_go_with_each_attempt(loki, sender):
    await deliver(loki, sender, rendered(), "loki_plain")

    assert (loki.headers["x-scope-orgid"], loki.headers["authorization"]) == (
        "ops",
        "Bearer bearer-of-the-gateway",
    )


@pytest.mark.parametrize(
    ("settings", "verdict"), [({}, Delivered), ({"username": "", "password": None}, Blocked)]
)
async def test_the_probe_sends_nothing_and_shows_whether_it_is_let_in(loki, sender, settings, verdict):
    connector = build("loki", url=loki.url, **settings)
    probe = Rendered(request=connector.probe(), event_ids=("x",))

    response = await sender.send(connector.seal(probe.request, (), START), timeout_s=10)

    assert isinstance(connector.judge(probe, response)[0], verdict)
    assert loki.kept == set()
