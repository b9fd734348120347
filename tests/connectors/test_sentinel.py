"""Sentinel's Logs Ingestion API: the columns, and each answer that Azure documents or is known to give."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from azures import Answer, service
from builders import episode, event
from cases.sentinel import COLUMNS
from destinations import build
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, Retry, Split
from bridge.ports import HttpResponse, Rendered

PAGE = Path(__file__).parents[2] / "docs/connectors/sentinel.md"
SECRET = "abc8Q~example-client-secret"


def rendered(count: int = 1) -> Rendered:
    return build("sentinel").render([event(EventKind.UPDATED, seq) for seq in range(1, count + 1)], None, "")


def row_of(made: Rendered) -> dict:
    return json.loads(made.request.body)[0]


@pytest.fixture
async def sentinel(tmp_path, monkeypatch):
    async with service(Answer(204), tmp_path, monkeypatch) as fake:
        yield fake


def connector_of(fake):
    return build("sentinel", url=fake.url, ca_file=fake.ca_file)


def test_the_columns_of_the_page_are_those_that_are_sent():
    declared = json.loads(PAGE.read_text().partition("```json\n")[2].partition("```")[0])
    columns = declared["properties"]["streamDeclarations"]["Custom-Tocsin"]["columns"]
    sent = build("sentinel").render([event(EventKind.CLOSED, episodes=rich())], None, "")

    assert {column["name"]: column["type"] for column in columns} == COLUMNS
    assert set(row_of(sent)) == set(COLUMNS)


def rich():
    labels = {
        "alertname": "NodeDown",
        "node": "db-1",
        "service": "shop",
        "cluster": "eu-1",
        "namespace": "prod",
    }
    return (episode("NodeDown", labels=labels), episode("Slow", 1, labels=labels | {"alertname": "Slow"}))


def test_what_a_soc_searches_by_stands_in_microsofts_own_columns():
    row = row_of(build("sentinel").render([event(episodes=rich())], None, ""))

    assert (row["EventSeverity"], row["EventOriginalSeverity"], row["AlertStatus"]) == (
        "High",
        "critical",
        "Active",
    )
    assert (row["DvcHostname"], row["Hosts"]) == ("db-1", ["db-1"])
    assert (row["AlertNames"], row["Services"], row["Clusters"]) == (["NodeDown", "Slow"], ["shop"], ["eu-1"])
    assert row["Event"]["event_id"] == row["EventId"]


def test_what_is_over_is_closed_and_no_longer_severe():
    row = row_of(build("sentinel").render([event(EventKind.CLOSED, 3)], None, ""))

    assert (row["EventSeverity"], row["EventOriginalSeverity"]) == ("Informational", "critical")
    assert (row["AlertStatus"], row["EventEndTime"]) == ("Closed", "2026-11-23T22:00:03.000000Z")


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_called_as_azure_allows(name):
    reserved = {"_ResourceId", "id", "_SubscriptionId", "TenantId", "Type", "UniqueId", "Title"}

    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,44}", name)
    assert name not in reserved


@pytest.mark.parametrize(
    ("status", "body", "verdict", "words"),
    [
        (200, b"", Blocked, "expected 204"),
        (400, b'{"error":{"code":"InvalidStream"}}', Blocked, "InvalidStream"),
        (400, b'{"error":{"code":"InvalidTransformOutput"}}', Blocked, "not known to be about an event"),
        (401, b"", Blocked, "credentials"),
        (403, b'{"error":{"code":"OperationFailed"}}', Blocked, "Monitoring Metrics Publisher"),
        (404, b'{"error":{"code":"NotFound"}}', Blocked, "no such rule or stream"),
        (413, b'{"error":{"code":"ContentLengthLimit"}}', Split, "ContentLengthLimit"),
        (429, b"", Retry, "429"),
        (500, b"", Retry, "500"),
        (503, b"", Retry, "503"),
    ],
)
def test_every_documented_answer_leads_to_its_verdict(status, body, verdict, words):
    (judged,) = build("sentinel").judge(rendered(), HttpResponse(status=status, headers={}, body=body))

    assert type(judged) is verdict
    assert words in judged.reason


def test_a_large_request_that_is_not_found_goes_in_smaller_parts():
    connector = build("sentinel")
    texts = {"summary": "x" * 3000}
    large = connector.render(
        [event(seq=seq, episodes=tuple(episode(number=each, annotations=texts) for each in range(10))) for seq in range(1, 20)],
        None, "",
    )  # fmt: skip

    verdicts = connector.judge(large, HttpResponse(status=404, headers={}, body=b""))

    assert len(large.request.body) > 250_000
    assert {type(each) for each in verdicts} == {Split}


@pytest.mark.parametrize(
    ("url", "scope"),
    [
        ("https://a-1.westeurope-1.ingest.monitor.azure.com", "https://monitor.azure.com/.default"),
        ("https://a-1.usgovvirginia-1.ingest.monitor.azure.us/", "https://monitor.azure.us/.default"),
        ("https://a-1.chinanorth3-1.ingest.monitor.azure.cn:443", "https://monitor.azure.cn/.default"),
    ],
)
def test_a_token_is_for_the_cloud_of_the_endpoint(url, scope):
    connector = build("sentinel", url=url, authority="https://login.microsoftonline.us")
    sealed = connector.seal(rendered().request, (), None)

    assert sealed.auth.options["scope"] == scope
    assert sealed.auth.options["authority"] == "https://login.microsoftonline.us"


def test_an_emulator_gets_no_token():
    assert build("sentinel", url="http://127.0.0.1:8080").seal(rendered().request, (), None).auth is None


@pytest.mark.parametrize(
    "settings",
    [
        {"tenant_id": None},
        {"client_id": None},
        {"identity": "managed"},
        {"client_secret_file": "/dev/null"},
        {"authority": "http://login.example.com"},
        {"authority": "login.microsoftonline.us"},
        {"authority": "https://user@login.example.com"},
        {"rule": "/subscriptions/x"},
        {"stream": "Tocsin_CL"},
        {"url": "https://dce.example.com/dataCollectionRules"},
        {"max_bytes": 2**20 + 1},
    ],
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ValidationError):
        build("sentinel", **settings)


def test_without_a_client_secret_the_identity_is_the_machines():
    connector = build("sentinel", client_secret=None, tenant_id=None, identity="managed")
    options = connector.seal(rendered().request, (), None).auth.options

    assert options == {
        "scope": "https://monitor.azure.com/.default",
        "identity": "managed",
        "client_id": "22222222-0000-4000-8000-000000000000",
    }


# ---- a service --------------------------------------------------------------------------------------------


async def test_rows_are_posted_to_the_stream_with_a_token(sentinel):
    assert await sentinel.deliver(connector_of(sentinel), rendered(3)) == [Delivered()] * 3

    (request,) = sentinel.requests
    assert request.path_qs == (
        "/dataCollectionRules/dcr-000a00a000a00000a000000aa000a0aa/streams/Custom-Tocsin?api-version=2023-01-01"
    )
    assert request.headers["content-type"] == "application/json"
    assert [row["EventId"] for row in json.loads(sentinel.bodies[0])] == list(rendered(3).event_ids)
    assert sentinel.scopes == ["https://monitor.azure.com/.default"]


async def test_an_expired_token_is_renewed_within_the_attempt(sentinel):
    sentinel.token = "token-2"

    assert await sentinel.deliver(connector_of(sentinel), rendered()) == [Delivered()]
    assert len(sentinel.requests) == 2


async def test_a_token_that_stays_refused_blocks_after_two_requests(sentinel):
    sentinel.token = "another"

    (verdict,) = await sentinel.deliver(connector_of(sentinel), rendered())

    assert isinstance(verdict, Blocked)
    assert len(sentinel.requests) == 2
    assert SECRET not in verdict.reason
    assert "token-" not in verdict.reason


@pytest.mark.parametrize(
    ("headers", "after_s"),
    [
        ({"Retry-After": "17"}, 17.0),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Fri, 31 Dec 1999 23:57:59 GMT"}, 120.0),
        ({}, None),
    ],
)
async def test_a_busy_service_is_waited_for_as_long_as_it_says(sentinel, headers, after_s):
    sentinel.answers = [Answer(429, headers=headers)]

    (verdict,) = await sentinel.deliver(connector_of(sentinel), rendered())

    assert isinstance(verdict, Retry)
    assert (verdict.after_s, verdict.whole_destination) == (after_s, True)


async def test_a_connection_that_breaks_after_the_store_leaves_a_row_with_the_same_id(sentinel):
    sentinel.answers = [Answer(204, drops=True)]

    (first,) = await sentinel.deliver(connector_of(sentinel), rendered())
    (second,) = await sentinel.deliver(connector_of(sentinel), rendered())

    assert isinstance(first, Retry)
    assert first.maybe_sent
    assert second == Delivered()
    assert sentinel.bodies[0] == sentinel.bodies[1]


async def test_the_probe_sends_no_row(sentinel):
    connector = connector_of(sentinel)

    assert await sentinel.deliver(connector, Rendered(request=connector.probe(), event_ids=("x",))) == [
        Delivered()
    ]
    assert sentinel.bodies == [b"[]"]
