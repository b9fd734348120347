"""Jira Service Management Operations and Opsgenie: one alert per page, closed in the end, within the limits."""

from __future__ import annotations

import json
from urllib.parse import unquote, urlsplit

import pytest
from builders import START, event
from destinations import build, nasty_event
from hypothesis import given
from hypothesis import strategies as st

from bridge.model import Blocked, Delivered, EventKind, IncidentState, Reject, Retry
from bridge.ports import HttpResponse

TAKEN = HttpResponse(
    status=202,
    headers={},
    body=b'{"result":"Request will be processed","took":0.302,"requestId":"43a29c5c-3dbf-4fa4-9c26-f4f71023e120"}',
)
K = EventKind


class Service:
    """A fake of the alert API: which aliases are open, which were opened how often."""

    def __init__(self, **settings) -> None:
        self.connector = build("opsgenie", **settings)
        self.memory = None
        self.open: set[str] = set()
        self.alerts: list[str] = []
        self.acknowledged: set[str] = set()

    def take(self, kind, seq=1, **changes) -> bool:
        """Deliver one event as the dispatcher does; return whether it was wanted."""
        each = event(kind, seq, **changes)
        if not self.connector.wants(each, self.memory):
            return False
        step = None
        while step != "":
            rendered = self.connector.render([each], self.memory, step or "")
            self._called(self.connector.seal(rendered.request, rendered.event_ids, START))
            (verdict,) = self.connector.judge(rendered, TAKEN)
            assert isinstance(verdict, Delivered)
            self.memory = self.memory if verdict.memory is None else verdict.memory
            step = verdict.next_step
        return True

    def _called(self, request) -> None:
        assert request.headers["authorization"] == "GenieKey 00000000-aaaa-4bbb-8ccc-0123456789ab"
        parts, sent = urlsplit(request.url), json.loads(request.body)
        assert parts.path.startswith("/jsm/ops/integration/v2/alerts")
        alias, _, verb = parts.path.removeprefix("/jsm/ops/integration/v2/alerts").strip("/").rpartition("/")
        match verb:
            case "":
                if sent["alias"] not in self.open:
                    self.open.add(sent["alias"])
                    self.alerts.append(sent["alias"].rpartition("/")[2])
            case "close":
                assert parts.query == "identifierType=alias"
                self.open.discard(unquote(alias))
            case "acknowledge":
                self.acknowledged |= {unquote(alias)} & self.open
            case _:
                pytest.fail(request.url)


def test_an_incident_opens_one_alert_is_acknowledged_and_closed():
    service = Service()
    assert service.take(K.OPENED)
    assert not service.take(K.UPDATED, 2)
    assert not service.take(K.REMINDER, 3)
    assert service.take(K.ACKNOWLEDGED, 4)
    assert service.acknowledged == service.open == {"3f1c9a7d52e84b06/e0"}
    assert service.take(K.CLOSED, 5)
    assert (service.alerts, service.open, service.memory) == (["e0"], set(), {})


def test_an_escalation_opens_another_and_all_are_closed():
    service = Service()
    service.take(K.OPENED)
    service.take(K.ESCALATED, 2, escalations=1)
    service.take(K.ESCALATED, 3, escalations=2)
    assert len(service.open) == 3
    service.take(K.CLOSED, 4, escalations=2)
    assert (service.alerts, service.open) == (["e0", "e1", "e2"], set())


@pytest.mark.parametrize("resolves", [False, True])
def test_an_alert_is_not_closed_because_a_resolve_never_came_unless_told_so(resolves):
    service = Service(resolve_on_expiry=resolves)
    service.take(K.OPENED)
    assert service.take(K.CLOSED, 2, expired=True) is resolves
    assert bool(service.open) is not resolves


def test_nobody_is_woken_for_what_opened_and_closed_unseen_or_has_not_begun():
    service = Service()
    assert not service.take(K.CLOSED)
    assert not service.take(K.FORECAST)
    assert service.alerts == []


@given(
    st.lists(
        st.sampled_from([K.OPENED, K.UPDATED, K.ESCALATED, K.ACKNOWLEDGED, K.REOPENED, K.CLOSED]), max_size=12
    )
)
def test_whatever_happens_nothing_stays_open_after_the_end(kinds):
    service, escalations = Service(), 0
    for seq, kind in enumerate([*kinds, K.CLOSED], 1):
        escalations += kind is K.ESCALATED
        service.take(kind, seq, escalations=escalations)
    assert service.open == set()


def test_a_repeat_after_a_lost_answer_opens_nothing_new():
    service = Service()
    service.take(K.OPENED)
    service.memory = None
    service.take(K.OPENED)
    assert service.alerts == ["e0"]


def test_the_fields_are_those_by_which_one_searches_and_within_their_limits():
    (sent,) = (json.loads(build("opsgenie").render([each], None, "").request.body) for each in [event()])
    assert sent["message"] == "checkout: HighLatency on 2 instances"
    assert (sent["priority"], sent["entity"], sent["source"]) == ("P1", "checkout", "Tocsin")
    assert sent["tags"] == ["tocsin", "critical", "alerts", "checkout"]
    assert sent["details"]["alerts"] == "2 of 2 firing"
    assert sent["details"]["source"].startswith("https://prometheus.example.com/")
    huge = json.loads(build("opsgenie").render([nasty_event()], None, "").request.body)
    assert len(huge["message"]) <= 130
    assert len(huge["alias"]) <= 512
    assert len(huge["entity"]) <= 512
    assert len(huge["description"]) <= 15_000
    assert sum(len(key) + len(value) for key, value in huge["details"].items()) <= 8000
    assert len(huge["tags"]) <= 20
    assert max(map(len, huge["tags"])) <= 50
    assert set(map(type, huge["details"].values())) == {str}


def test_a_hostile_id_stays_one_segment_of_the_address():
    each = event(K.CLOSED, id="../../x?y#z&identifierType=id")
    request = build("opsgenie").render([each], {"open": "0"}, "").request
    parts = urlsplit(request.url)
    assert parts.path.count("/") == "/jsm/ops/integration/v2/alerts/ALIAS/close".count("/")
    assert (parts.query, parts.fragment) == ("identifierType=alias", "")


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (202, b'{"result":"ok"}', Blocked),
        (202, b"<html>", Blocked),
        (200, TAKEN.body, Blocked),
        (
            422,
            b'{"message":"Request body is not processable","errors":{"message":"x"},"requestId":"1"}',
            Reject,
        ),
        (422, b"<html>", Blocked),
        (400, b'{"message":"x","requestId":"1"}', Blocked),
        (401, b'{"message":"Could not authenticate","requestId":"1"}', Blocked),
        (403, b'{"message":"no"}', Blocked),
        (429, b'{"message":"You are making too many requests!"}', Retry),
        (503, b"", Retry),
    ],
)
def test_each_answer_has_its_meaning(status, body, verdict):
    connector = build("opsgenie")
    rendered = connector.render([event()], None, "")
    (told,) = connector.judge(rendered, HttpResponse(status=status, headers={}, body=body))
    assert isinstance(told, verdict)
    assert status != 429 or (told.after_s == 60.0 and told.whole_destination)


def test_a_wait_that_is_told_is_kept():
    connector = build("opsgenie")
    answer = HttpResponse(status=429, headers={"retry-after": "7"}, body=b"")
    assert connector.judge(connector.render([event()], None, ""), answer)[0].after_s == 7


def test_a_merged_incident_closes_its_alerts():
    service = Service()
    service.take(K.OPENED)
    service.take(K.MERGED, 2)
    assert event(K.MERGED).incident.state is IncidentState.MERGED
    assert service.open == set()
