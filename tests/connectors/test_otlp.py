"""OTLP: a record as OpenTelemetry's own classes read it, and the rules on what may be tried again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from timeit import repeat
from typing import Any

import pytest
import tenacity
from aiohttp import web
from aiohttp.test_utils import TestServer
from builders import START, episode, event
from cases.otlp import record_of
from destinations import NASTY, build, nasty_event
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, Reject, Retry, Split
from bridge.ports import HttpResponse, Rendered
from connectors.transport.http import HttpSender


def partial(rejected: int, message: str = "") -> bytes:
    told = logs_service_pb2.ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=message)
    return logs_service_pb2.ExportLogsServiceResponse(partial_success=told).SerializeToString()


def rendered(seq: int = 1, **settings: Any) -> Rendered:
    return build("otlp", **settings).render([event(EventKind.UPDATED, seq)], None, "")


def judged(status: int, body: bytes = b"", **headers: str) -> Any:
    (verdict,) = build("otlp").judge(rendered(), HttpResponse(status=status, headers=headers, body=body))
    return verdict


STATUSES = (
    b"\x12\x0abad record",  # google.rpc.Status in protobuf: the message alone,
    b"\x08\x03\x12\x0abad record",  # with its code,
    b"\x08\x03\x12\x0abad record\x1a\x04\x0a\x02ab",  # and with details
    b'{"code":3,"message":"bad record"}',
    b'{"code":3,"message":"bad record","details":[]}',
)


@pytest.mark.parametrize("body", STATUSES)
@pytest.mark.parametrize("status", range(400, 600))
def test_of_what_a_receiver_says_only_what_the_specification_allows_is_tried_again(status, body):
    """Source: OTLP, "Retryable Response Codes"."""
    assert isinstance(judged(status, body), Retry) == (status in {429, 502, 503, 504})


@pytest.mark.parametrize("body", STATUSES)
@pytest.mark.parametrize("status", [400, 408, 422, 425, 500, 501, 507])
def test_a_receiver_rejects_in_words_of_its_own(status, body):
    verdict = judged(status, body)

    assert isinstance(verdict, Reject)
    assert verdict.reason == f"HTTP {status}: bad record"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>origin down", b"upstream connect error", b'{"message":"Internal server error"}', b"\x12\xff",
        b'{"code":"x","message":"y"}', b'{"code":500,"message":"y","requestId":"1"}', b"{}",
    ],
)  # fmt: skip
def test_a_status_that_may_be_a_proxys_rejects_nothing(body):
    for status in (408, 425, 500, 501, 505, 507, *range(520, 531)):
        assert isinstance(judged(status, body), Retry), status
    for status in (400, 409, 422):
        assert isinstance(judged(status, body), Blocked), status


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_is_given_the_time_that_it_asks_for(status):
    verdict = judged(status, **{"retry-after": "17"})

    assert (verdict.after_s, verdict.whole_destination) == (17.0, True)


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (b"", Delivered),
        (partial(0), Delivered),
        (partial(0, "deprecated attribute"), Delivered),
        (partial(1, "record too large"), Reject),
        (b"{}", Delivered),
        (b'{"partialSuccess":{}}', Delivered),
        (b'{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"record too large"}}', Reject),
        (b'{"partialSuccess":{"rejectedLogRecords":1,"errorMessage":"record too large"}}', Reject),
        (b'{"partialSuccess":[]}', Blocked),
        (b'{"error":"no"}', Blocked),
        (b"{broken", Blocked),
        (b"<html>Please log in</html>", Blocked),
        (b"OK", Blocked),
    ],
)
def test_a_good_status_is_read_to_its_end(body, verdict):
    found = judged(200, body)

    assert type(found) is verdict
    if verdict is Reject:
        assert found.final
        assert "record too large" in found.reason


def test_words_are_no_success_even_where_they_could_be_protobuf():
    assert isinstance(judged(200, b"123456789", **{"content-type": "text/plain"}), Blocked)


def test_a_request_holds_one_event_so_that_a_partial_success_is_exact():
    assert build("otlp").caps.max_events == 1


def test_what_an_engineer_searches_by_are_attributes_with_their_conventions():
    nodes = tuple(
        episode(
            "NodeDown", number,
            labels={"alertname": "NodeDown", "node": f"db-{number}", "cluster": "eu-1", "namespace": "shop"},
        )
        for number in range(60)
    )  # fmt: skip
    told = event(EventKind.ESCALATED, 4, episodes=nodes, truncated=3, alerts_total=63)
    sent = build("otlp").render([told], None, "").request
    attributes, record = record_of(sent.body)

    assert sent.headers == {"content-type": "application/x-protobuf"}
    assert record.event_name == "tocsin.incident.escalated"
    assert record.severity_number == logs_pb2.SEVERITY_NUMBER_ERROR2
    assert record.time_unix_nano == 1_795_471_204 * 10**9
    assert attributes["tocsin.event.id"] == told.event_id
    assert (attributes["k8s.cluster.name"], attributes["k8s.namespace.name"]) == ("eu-1", "shop")
    assert attributes["host.name"] == "db-0"
    assert attributes["tocsin.alert.names"] == ["NodeDown"]
    assert attributes["tocsin.alert.hosts"] == [f"db-{number}" for number in range(20)]
    assert attributes["tocsin.incident.alerts_total"] == 63
    lines = record.body.string_value.split("\n")
    assert "60 of 63 alerts fire" in lines
    assert "- and 13 more" in lines
    logs = logs_service_pb2.ExportLogsServiceRequest.FromString(sent.body).resource_logs[0]
    assert {each.key: each.value.string_value for each in logs.resource.attributes} == {
        "service.name": "tocsin", "deployment.environment.name": "production",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "severity", "number"),
    [
        (EventKind.OPENED, "critical", logs_pb2.SEVERITY_NUMBER_ERROR2),
        (EventKind.OPENED, "warning", logs_pb2.SEVERITY_NUMBER_WARN),
        (EventKind.OPENED, "info", logs_pb2.SEVERITY_NUMBER_INFO),
        (EventKind.CLOSED, "critical", logs_pb2.SEVERITY_NUMBER_INFO2),
    ],
)
def test_severities_are_those_of_the_data_model(kind, severity, number):
    _, record = record_of(build("otlp").render([event(kind, severity=severity)], None, "").request.body)

    assert (record.severity_number, record.severity_text) == (number, severity)


def test_hostile_text_stays_within_its_line_and_the_record_is_json_too():
    body = build("otlp").render([nasty_event(size=1000, count=5)], None, "").request.body
    _, record = record_of(body)

    assert json.loads(json_format.MessageToJson(record))
    assert not set(record.body.string_value) & set("\r\x00\x1b\x85\u2028")
    assert not any(line.startswith("CEF:0") for line in record.body.string_value.split("\n"))
    assert NASTY not in record.body.string_value


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"resource": {"a": "b"}}, "service.name is needed"),
        ({"token_header": "Content-Type"}, "cannot hold a token"),
        ({"token_header": "a b"}, "token_header"),
        ({"username": "u", "password": "p"}, "either token or"),
        ({"token": None, "username": "u"}, "go together"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        build("otlp", **changes)


def test_the_classes_are_imported_with_the_first_event_and_not_before():
    code = (
        "import sys, connectors; kind = connectors.load('otlp'); kind(kind.Settings(**kind.example));"
        "sys.exit(any(name.startswith(('opentelemetry.proto.', 'google.protobuf')) for name in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_an_ordinary_event_is_rendered_in_less_than_200_us():
    connector, ordinary = build("otlp"), event(episodes=3)

    seconds = min(
        repeat(lambda: connector.render([ordinary], None, ""), timer=time.thread_time, number=1, repeat=300)
    )

    assert seconds < 200e-6 * 2  # a machine that tests run on is not idle


# ---- a receiver -----------------------------------------------------------------------------------------------


class Receiver:
    """A receiver that reads what it is sent with OpenTelemetry's own classes; faults are queued in `faults`."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.faults: list[str] = []
        self.headers: list[dict[str, str]] = []

    async def logs(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        assert request.content_type == "application/x-protobuf"
        sent = logs_service_pb2.ExportLogsServiceRequest.FromString(await request.read())
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "busy":
            return web.Response(status=503, headers={"Retry-After": "2"})
        if fault == "partial":
            return web.Response(body=partial(1, "no"), content_type="application/x-protobuf")
        if sent.resource_logs:
            attributes, _ = record_of(sent.SerializeToString())
            self.ids.append(attributes["tocsin.event.id"])
        if fault == "reset after accept":
            assert request.transport is not None
            request.transport.abort()
        return web.Response(body=b"", content_type="application/x-protobuf")


@pytest.fixture
async def receiver():
    fake = Receiver()
    app = web.Application()
    app.router.add_post("/otlp/v1/logs", fake.logs)
    async with TestServer(app) as server:
        fake.url = str(server.make_url("/otlp"))
        yield fake


@pytest.fixture
async def sender():
    sender = HttpSender(wait=tenacity.wait_none())
    yield sender
    await sender.close()


async def deliver(receiver: Receiver, sender: HttpSender, batch: Rendered, case: str = "otlp"):
    connector = build(case, url=receiver.url)
    response = await sender.send(connector.seal(batch.request, batch.event_ids, START), timeout_s=10)
    return connector.judge(batch, response)[0]


async def test_a_record_arrives_and_a_repeat_carries_the_same_id(receiver, sender):
    receiver.faults = ["reset after accept", "busy"]

    verdicts = [await deliver(receiver, sender, rendered()) for _ in range(3)]

    assert [type(each) for each in verdicts] == [Retry, Retry, Delivered]
    assert verdicts[0].maybe_sent
    assert verdicts[1].after_s == 2.0
    assert receiver.ids == list(rendered().event_ids) * 2


async def test_a_partial_success_is_the_last_word(receiver, sender):
    receiver.faults = ["partial"]

    assert await deliver(receiver, sender, rendered()) == Reject(reason="partial success: no")


@pytest.mark.parametrize(
    ("case", "header", "value"),
    [
        ("otlp", "authorization", "Bearer bearer-of-the-collector"),
        ("otlp_vendor", "x-api-key", "key-of-the-vendor"),
        ("otlp_basic", "authorization", "Basic MTIzNDU2OmdsYy1vZi10aGUtc3RhY2s="),
    ],
)
async def test_credentials_stand_in_the_header_that_the_receiver_wants(receiver, sender, case, header, value):
    await deliver(receiver, sender, rendered(), case)

    assert receiver.headers[0][header] == value


async def test_the_probe_sends_no_record(receiver, sender):
    connector = build("otlp", url=receiver.url)
    probe = Rendered(request=connector.probe(), event_ids=("x",))

    response = await sender.send(connector.seal(probe.request, (), START), timeout_s=10)

    assert connector.judge(probe, response) == (Delivered(),)
    assert receiver.ids == []


def test_too_large_is_made_smaller():
    assert isinstance(judged(413), Split)
