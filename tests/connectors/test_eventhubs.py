"""Event Hubs over HTTPS: what shares a request, and each documented answer."""

from __future__ import annotations

import json

import pytest
from azures import Answer, service
from builders import START, event, view
from cases.eventhubs import SIGNATURE
from destinations import build
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, Retry, Split
from bridge.ports import HttpResponse, Rendered


def rendered(count: int = 1, case: str = "eventhubs") -> Rendered:
    return build(case).render([event(EventKind.UPDATED, seq) for seq in range(1, count + 1)], None, "")


@pytest.fixture
async def hub(tmp_path, monkeypatch):
    async with service(Answer(201), tmp_path, monkeypatch) as fake:
        yield fake


def connector_of(fake):
    return build("eventhubs", url=fake.url, ca_file=fake.ca_file)


def test_a_message_is_the_event_with_its_incident_as_partition_key():
    (first, second) = json.loads(rendered(2).request.body)

    assert first["BrokerProperties"] == {"PartitionKey": "3f1c9a7d52e84b06"}
    assert json.loads(first["Body"])["seq"] == 1
    assert second["UserProperties"] == {
        "event_id": rendered(2).event_ids[1],
        "incident": "3f1c9a7d52e84b06",
        "kind": "updated",
        "origin": "alerts",
        "schema": "tocsin.event/1",
        "seq": "2",
        "severity": "critical",
        "state": "open",
        "tenant": "default",
    }


def test_a_request_ends_where_another_incident_begins():
    a, b = view(id="aaaa"), view(id="bbbb")
    events = [event(seq=seq, incident=each) for seq, each in ((1, a), (2, a), (1, b), (3, a))]

    assert build("eventhubs").render(events, None, "").event_ids == tuple(
        each.event_id for each in events[:2]
    )
    assert build("eventhubs").render(events[2:], None, "").event_ids == (events[2].event_id,)


def test_a_signature_goes_as_it_is_and_no_token_beside_it():
    sealed = build("eventhubs_sas").seal(rendered().request, (), START)

    assert (sealed.headers["authorization"], sealed.auth) == (SIGNATURE, None)


def test_a_token_is_for_event_hubs():
    sealed = build("eventhubs").seal(rendered().request, (), START)

    assert sealed.auth.options == {"scope": "https://eventhubs.azure.net/.default", "identity": "workload"}
    assert "authorization" not in sealed.headers


@pytest.mark.parametrize(
    ("status", "body", "verdict", "words"),
    [
        (200, b"", Blocked, "expected 201"),
        (400, b"<Error><Code>400</Code></Error>", Blocked, "not known to be about an event"),
        (400, b"<Error><Detail>amqp:link:message-size-exceeded</Detail></Error>", Split, "exceeded"),
        (401, b"<Error><Code>401</Code><Detail>ExpiredToken</Detail></Error>", Blocked, "ExpiredToken"),
        (403, b"<Error><Code>403</Code></Error>", Blocked, "Azure Event Hubs Data Sender"),
        (
            403,
            b"<Error><Code>403</Code><Detail>The message is too large</Detail></Error>",
            Split,
            "too large",
        ),
        (404, b"<Error><Code>404</Code></Error>", Blocked, "does not exist"),
        (410, b"", Blocked, "gone"),
        (413, b"", Split, "413"),
        (500, b"", Retry, "500"),
        (503, b"<Error><Detail>50002: ServerBusy</Detail></Error>", Retry, "50002"),
    ],
)
def test_every_documented_answer_leads_to_its_verdict(status, body, verdict, words):
    judged = build("eventhubs").judge(rendered(2), HttpResponse(status=status, headers={}, body=body))

    assert {type(each) for each in judged} == {verdict}
    assert words in judged[0].reason


def test_an_echo_of_a_signature_is_hidden_in_every_form():
    answer = HttpResponse(status=401, headers={}, body=b"sig was sEnD+signature= or sEnD%2Bsignature%3D")

    reason = build("eventhubs_sas").judge(rendered(), answer)[0].reason

    assert "signature" not in reason.partition(" (")[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "https://example.servicebus.windows.net/incidents"},
        {"hub": "a/b"},
        {"hub": ""},
        {"sas_token": "sv=1&sig=x"},
        {
            "sas_token": "Endpoint=sb://example.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=k"
        },
        {"max_bytes": 2**20 + 1},
    ],
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ValidationError):
        build("eventhubs", **settings)


# ---- a service --------------------------------------------------------------------------------------------


async def test_a_batch_is_posted_with_a_token(hub):
    assert await hub.deliver(connector_of(hub), rendered(3)) == [Delivered()] * 3

    (request,) = hub.requests
    assert (request.method, request.path_qs) == ("POST", "/incidents/messages?api-version=2014-01")
    assert request.headers["content-type"] == "application/vnd.microsoft.servicebus.json"
    assert hub.scopes == ["https://eventhubs.azure.net/.default"]


async def test_an_expired_token_is_renewed_within_the_attempt(hub):
    hub.token = "token-2"

    assert await hub.deliver(connector_of(hub), rendered()) == [Delivered()]
    assert len(hub.requests) == 2


async def test_a_busy_hub_is_waited_for_as_long_as_it_says(hub):
    hub.answers = [Answer(503, b"<Error/>", {"Retry-After": "4"})]

    (verdict,) = await hub.deliver(connector_of(hub), rendered())

    assert isinstance(verdict, Retry)
    assert (verdict.after_s, verdict.whole_destination) == (4.0, True)


async def test_a_connection_that_breaks_after_the_store_leaves_a_duplicate_with_one_id(hub):
    hub.answers = [Answer(201, drops=True)]

    (first,) = await hub.deliver(connector_of(hub), rendered())
    (second,) = await hub.deliver(connector_of(hub), rendered())

    assert isinstance(first, Retry)
    assert first.maybe_sent
    assert second == Delivered()
    assert hub.bodies[0] == hub.bodies[1]
