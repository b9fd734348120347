"""ServiceNow: one alert per incident, opened, changed and cleared by its message key."""

from __future__ import annotations

import base64
import json

import pytest
from builders import episode, event
from destinations import NASTY, build
from golden_events import EVENTS
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, Reject, Retry
from bridge.ports import HttpResponse


def record(told) -> dict[str, str]:
    (made,) = json.loads(build("servicenow").render([told], None, "").request.body)["records"]
    return made


def judged(number: int, headers: dict[str, str] | None = None, **answer):
    connector = build("servicenow")
    response = HttpResponse(status=number, headers=headers or {}, body=json.dumps(answer).encode())
    return connector.judge(connector.render([event()], None, ""), response)[0]


def test_an_incident_is_one_message_key_from_its_beginning_to_its_end():
    opened, escalated, closed = (record(EVENTS[name]) for name in ("opened", "escalated", "closed"))

    assert opened["message_key"] == escalated["message_key"] == closed["message_key"]
    assert [each["severity"] for each in (opened, escalated, closed)] == ["1", "1", "0"]
    assert [each["resolution_state"] for each in (opened, escalated, closed)] == ["New", "New", "Closing"]


def test_a_merged_incident_is_cleared_and_says_where_it_went():
    made = record(event(EventKind.MERGED))

    assert (made["severity"], made["resolution_state"]) == ("0", "Closing")
    assert json.loads(made["additional_info"])["merged_into"] == "77aa77aa77aa77aa"


@pytest.mark.parametrize(("severity", "number"), [("critical", "1"), ("warning", "4"), ("info", "5")])
def test_severities_are_those_of_service_now(severity, number):
    assert record(event(severity=severity))["severity"] == number


def test_the_machine_is_the_node_and_the_alert_the_metric():
    alert = episode(
        "DiskFull", labels={"alertname": "DiskFull", "instance": "db-1:9100", "mountpoint": "/data"}
    )
    made = record(event(episodes=(alert,), common_labels={}))

    assert (made["node"], made["resource"], made["metric_name"]) == ("db-1", "/data", "DiskFull")
    assert made["time_of_event"] == "2026-11-23 22:00:01"


def test_additional_info_is_json_in_a_text_and_flat():
    info = json.loads(record(event())["additional_info"])

    assert info["event_id"] == event().event_id
    assert info["label_service"] == "checkout"
    assert info["source_url"].startswith("https://prometheus.example.com/")


def test_hostile_text_stays_on_its_line():
    alert = episode(labels={"alertname": NASTY, "instance": NASTY}, annotations={"summary": NASTY})
    made = record(event(title=NASTY, summary=NASTY, episodes=(alert,)))

    assert made["description"].count("\n") == 3
    assert not any("\n" in made[key] for key in made if key != "description")


def test_what_has_not_begun_is_not_sent():
    assert not build("servicenow").wants(EVENTS["forecast"], None)
    assert build("servicenow").wants(EVENTS["closed"], None)


@pytest.mark.parametrize("case", ["servicenow", "servicenow_key"])
def test_credentials_are_in_what_is_sealed(case):
    connector = build(case)
    sealed = connector.seal(connector.render([event()], None, "").request, ("x",), event().at)

    if case == "servicenow_key":
        assert sealed.headers["x-sn-apikey"] == "now_api_key_of_tocsin"
    else:
        pair = base64.b64decode(sealed.headers["authorization"].removeprefix("Basic "))
        assert pair == b"tocsin.integration:servicenow-password-of-tocsin"


def test_the_collectors_words_are_success_and_its_refusals_what_they_are():
    assert judged(200, result={"Default Bulk Endpoint": "1 events were inserted"}) == Delivered()
    assert isinstance(judged(200, error={"message": "x"}, result={}), Blocked)
    assert isinstance(judged(400, error={"message": "bad record"}, status="failure"), Reject)
    assert isinstance(judged(400, message="of a proxy"), Blocked)
    assert isinstance(judged(401, error={"message": "User Not Authenticated"}), Blocked)
    assert judged(429, {"retry-after": "7"}).after_s == 7
    assert isinstance(judged(503), Retry)


@pytest.mark.parametrize(
    "wrong",
    [{"password": None}, {"username": None}, {"api_key": "both"}, {"url": "https://a/b"}, {"source": ""}],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValidationError):
        build("servicenow", **wrong)


def test_credentials_that_an_answer_repeats_are_hidden():
    connector = build("servicenow")
    rendered = connector.render([event()], None, "")
    sent = connector.seal(rendered.request, rendered.event_ids, event().at).headers["authorization"]

    (verdict,) = connector.judge(rendered, HttpResponse(status=401, headers={}, body=sent.encode()))

    assert sent.removeprefix("Basic ") not in verdict.reason
    assert "Basic ***" in verdict.reason
