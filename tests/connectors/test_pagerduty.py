"""PagerDuty: who is woken, once per page, and every page resolved in the end."""

from __future__ import annotations

import json

import pytest
from builders import START, episode, event
from destinations import build, nasty_event
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, IncidentState, Reject, Retry
from bridge.ports import HttpResponse

ACCEPTED = HttpResponse(status=202, headers={}, body=b'{"status":"success","message":"Event processed"}')
K = EventKind


class Service:
    """A fake of the Events API: which keys are open, which were triggered how often."""

    def __init__(self, **settings) -> None:
        self.connector = build("pagerduty", **settings)
        self.memory = None
        self.open: set[str] = set()
        self.pages: list[str] = []
        self.acknowledged: set[str] = set()
        self.requests = 0

    def take(self, kind, seq=1, **changes) -> bool:
        """Deliver one event as the dispatcher does; return whether it was wanted."""
        each = event(kind, seq, **changes)
        if not self.connector.wants(each, self.memory):
            return False
        step = None
        while step != "":
            step = step or ""
            rendered = self.connector.render([each], self.memory, step)
            self._enqueue(self.connector.seal(rendered.request, rendered.event_ids, START).body)
            (verdict,) = self.connector.judge(rendered, ACCEPTED)
            assert isinstance(verdict, Delivered)
            self.memory = self.memory if verdict.memory is None else verdict.memory
            step = verdict.next_step
        return True

    def _enqueue(self, body: bytes) -> None:
        sent = json.loads(body)
        self.requests += 1
        assert sent["routing_key"] == "0123456789abcdef0123456789abcdef"
        key = sent["dedup_key"].rpartition("/")[2]
        match sent["event_action"]:
            case "trigger" if key not in self.open:
                self.open.add(key)
                self.pages.append(key)
            case "resolve":
                self.open.discard(key)
            case "acknowledge":
                self.acknowledged |= {key} & self.open


@pytest.mark.parametrize(
    ("url", "key", "good"),
    [
        ("https://events.pagerduty.com/v2/enqueue", "R0" + "A" * 30, True),
        ("https://events.pagerduty.com/v2/enqueue", "a" * 31, False),
        ("https://events.eu.pagerduty.com/v2/enqueue", "u+aBc" * 4, False),  # a REST key
        ("https://pages.example.com/v2/enqueue", "another-form", True),
        ("https://notpagerduty.com/v2/enqueue", "another-form", True),
    ],
)
def test_a_key_of_another_form_is_noticed_when_the_configuration_is_read(url, key, good):
    if good:
        build("pagerduty", url=url, routing_key=key)
    else:
        with pytest.raises(ValidationError, match="routing_key: must be the 32 letters") as caught:
            build("pagerduty", url=url, routing_key=key)
        assert key not in str(caught.value)


def test_an_incident_pages_once_until_it_escalates_and_all_is_resolved_on_close():
    service = Service()
    wanted = [
        service.take(K.OPENED, 1),
        service.take(K.UPDATED, 2),
        service.take(K.REMINDER, 3),
        service.take(K.ESCALATED, 4, escalations=1),
        service.take(K.UPDATED, 5, escalations=1),
        service.take(K.CLOSED, 6, escalations=1),
        service.take(K.UPDATED, 7, escalations=1, state=IncidentState.CLOSED),
    ]

    assert wanted == [True, False, False, True, False, True, False]
    assert (service.pages, service.open) == (["e0", "e1"], set())
    assert service.requests == 4


def test_an_update_pages_when_it_took_the_place_of_the_opening():
    service = Service()

    assert service.take(K.UPDATED, 5, escalations=2)
    assert service.pages == ["e2"]

    service.take(K.CLOSED, 6, escalations=2)

    assert service.open == set()


def test_a_page_that_is_not_remembered_is_resolved_with_the_others():
    """The answer to an escalation's trigger was lost: the event knows more than the memory."""
    service = Service()
    service.take(K.OPENED, 1)
    service.open.add("e1")

    service.take(K.ACKNOWLEDGED, 3, escalations=1)
    assert service.acknowledged == {"e0", "e1"}

    service.take(K.CLOSED, 4, escalations=1)
    assert service.open == set()


def test_what_reopens_pages_anew():
    service = Service()
    for seq, kind in enumerate([K.OPENED, K.CLOSED, K.REOPENED, K.CLOSED], 1):
        assert service.take(kind, seq)

    assert (service.pages, service.open) == (["e0", "e0"], set())


def test_an_incident_that_went_into_another_is_resolved_not_triggered():
    service = Service()
    service.take(K.OPENED, 1)

    assert service.take(K.MERGED, 2)
    assert (service.pages, service.open) == (["e0"], set())


def test_nobody_hears_of_what_opened_and_closed_unseen():
    assert not Service().take(K.CLOSED, 2)
    assert not Service().take(K.MERGED, 2)


def test_an_acknowledgement_reaches_every_open_page():
    service = Service()
    service.take(K.OPENED, 1)
    service.take(K.ESCALATED, 2, escalations=1)

    assert service.take(K.ACKNOWLEDGED, 3, escalations=1)
    assert service.acknowledged == {"e0", "e1"}
    assert not service.take(K.UPDATED, 4, escalations=1)  # and it stays remembered that they are open


@pytest.mark.parametrize("kind", [K.FORECAST, K.RECOMMENDATION])
def test_nobody_is_woken_for_what_has_not_begun(kind):
    service = Service()
    assert not service.take(kind)
    assert service.requests == 0


def test_an_acknowledgement_of_nothing_is_not_sent():
    assert not Service().take(K.ACKNOWLEDGED, 1)


@pytest.mark.parametrize("resolve", [False, True])
def test_a_resolve_that_never_came_leaves_the_page_unless_told_otherwise(resolve):
    service = Service(resolve_on_expiry=resolve)
    service.take(K.OPENED, 1)

    assert service.take(K.CLOSED, 2, expired=True) is resolve
    assert service.open == (set() if resolve else {"e0"})


@given(
    st.lists(
        st.tuples(
            st.sampled_from([K.OPENED, K.UPDATED, K.ESCALATED, K.ACKNOWLEDGED, K.REMINDER, K.REOPENED]),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_no_history_leaves_a_page_open_or_pages_twice_for_one_escalation(history):
    """Some events are swallowed (`lost`), as coalescing does."""
    service, escalations = Service(), 0
    for seq, (kind, lost) in enumerate(history, 1):
        escalations += kind is K.ESCALATED
        if not lost:
            service.take(kind, seq, escalations=escalations)

    assert len(service.pages) == len(set(service.pages)) <= escalations + 1

    service.take(K.CLOSED, 99, escalations=escalations)

    assert service.open == set()


def judge(response: HttpResponse):
    connector = build("pagerduty")
    (verdict,) = connector.judge(connector.render([event()], None, ""), response)
    return verdict


def test_without_a_word_on_how_long_a_rate_limit_is_waited_out_for_minutes():
    assert judge(HttpResponse(status=429, headers={}, body=b"")).after_s == 120.0
    assert judge(HttpResponse(status=429, headers={"retry-after": "7"}, body=b"")).after_s == 7.0


INVALID = b'{"status":"invalid event","message":"Event object is invalid","errors":[%b]}'


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (400, INVALID % b"\"Length of 'routing_key' is incorrect\"", Blocked),
        (400, INVALID % b'"Invalid routing key"', Blocked),
        (400, INVALID % b'"INVALID ROUTING KEY"', Blocked),
        (400, INVALID % b"\"'payload.summary' is missing or blank\"", Reject),
        (400, b"<html>400 Bad Request</html>", Blocked),  # a proxy's
        (402, b"", Blocked),
        (405, b"", Blocked),
        (200, ACCEPTED.body, Blocked),  # PagerDuty says 202
        (202, b'{"status":"invalid event"}', Blocked),
        (204, b"", Blocked),
        (500, b"", Retry),
    ],
)
def test_only_what_pagerduty_says_of_an_event_rejects_it(status, body, verdict):
    assert type(judge(HttpResponse(status=status, headers={}, body=body))) is verdict


def payload(each) -> dict:
    """Return what a page about this event holds."""
    return json.loads(build("pagerduty").render([each], None, "").request.body)


def test_a_page_says_what_where_since_when_and_what_to_do():
    labels = {
        "alertname": "NodeDown",
        "node": "db-1",
        "service": "orders",
        "cluster": "eu-1",
        "namespace": "prod",
    }
    annotations = {"summary": "db-1 is gone", "runbook_url": "https://runbooks.example.com/NodeDown"}
    first = episode("NodeDown", labels=labels, annotations=annotations)
    sent = payload(event(episodes=(first, episode(number=1)), common_labels={}))
    told = sent["payload"]

    assert (told["class"], told["component"], told["group"]) == ("NodeDown", "orders", "eu-1/prod")
    assert told["source"] == "db-1"
    assert told["timestamp"] == "2026-11-23T22:00:00.000000Z"
    assert sent["links"] == [
        {"href": "https://runbooks.example.com/NodeDown", "text": "Runbook"},
        {"href": "https://prometheus.example.com/graph?g0.expr=up", "text": "Source"},
    ]
    details = told["custom_details"]
    assert details["worst_alerts"][0] == "critical: NodeDown on db-1: db-1 is gone"
    assert details["first_suspect"] == "NodeDown on db-1 (80%): it came first"
    assert details["one_incident_because"] == "HighLatency on 10.0.0.1:9100: same service within 30 s"


@pytest.mark.parametrize(
    ("kind", "escalations", "head", "at_s"),
    [(K.OPENED, 0, "", 0), (K.ESCALATED, 1, "Escalated: ", 5), (K.UPDATED, 1, "Escalated: ", 5),
     (K.REOPENED, 2, "Reopened: ", 5)],
)  # fmt: skip
def test_a_later_page_says_so_and_when_it_came_up(kind, escalations, head, at_s):
    told = payload(event(kind, 5, escalations=escalations))["payload"]

    assert told["summary"] == head + "checkout: HighLatency on 2 instances"
    assert told["timestamp"] == f"2026-11-23T22:00:0{at_s}.000000Z"


def test_without_anything_better_the_incident_itself_is_linked():
    sent = payload(event(episodes=(episode(annotations={}, generator_url="javascript:alert(1)"),)))

    assert [each["text"] for each in sent["links"]] == ["Incident in Tocsin"]


@pytest.mark.parametrize(
    "each", [event(), nasty_event(), event(title="", summary="", url="", common_labels={})]
)
def test_a_trigger_keeps_the_documented_limits(each):
    connector = build("pagerduty")
    rendered = connector.render([each], None, "")
    sent = json.loads(connector.seal(rendered.request, rendered.event_ids, START).body)
    payload = sent["payload"]

    assert 1 <= len(payload["summary"]) <= 1024
    assert payload["source"]
    assert payload["severity"] in {"critical", "error", "warning", "info"}
    assert len(sent["dedup_key"]) <= 255
