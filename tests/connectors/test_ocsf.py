"""Findings of OCSF: valid for its own schema whatever happened, and what analysts search by stands where they look."""

from __future__ import annotations

import json
from functools import cache

import jsonschema
import ocsf_json_schema
import pytest
from builders import at, episode, event, view
from destinations import NASTY, build, nasty_event
from golden_events import EVENTS
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.model import EventKind, IncidentState
from connectors.formats import encoder_of

FORMS = {"ocsf-incident": ("incident_finding", ["incident"]), "ocsf-detection": ("detection_finding", [])}
EACH = pytest.mark.parametrize("form", FORMS)
OVER = (IncidentState.CLOSED, IncidentState.MERGED)


@cache
def schema() -> ocsf_json_schema.OcsfJsonSchemaEmbedded:
    return ocsf_json_schema.OcsfJsonSchemaEmbedded(ocsf_json_schema.get_ocsf_schema("1.8.0"))


@cache
def validator(form: str) -> jsonschema.Draft202012Validator:
    name, profiles = FORMS[form]
    return jsonschema.Draft202012Validator(schema().get_class_schema(name, profiles))


def written(form: str, told, size_bytes: int = 10**7) -> dict:
    """Return what an event is in OCSF, after the schema has agreed and the captions were found to fit their numbers."""
    encoded = encoder_of(form)(told, size_bytes)
    assert len(encoded) <= size_bytes
    finding = json.loads(encoded)
    validator(form).validate(finding)
    attributes = schema().schema.schema["classes"][FORMS[form][0]]["attributes"]
    for coded, caption in (
        ("activity_id", "activity_name"),
        ("status_id", "status"),
        ("severity_id", "severity"),
    ):
        assert attributes[coded]["enum"][str(finding[coded])]["caption"] == finding[caption]
    assert finding["type_uid"] == finding["class_uid"] * 100 + finding["activity_id"]
    return finding


@EACH
@pytest.mark.parametrize("name", EVENTS)
def test_every_golden_event_is_valid(form, name):
    told = EVENTS[name]

    finding = written(form, told)

    assert finding["metadata"]["uid"] == told.event_id
    assert finding["metadata"]["correlation_uid"] == told.incident.id


@EACH
@pytest.mark.parametrize("size", [100_000, 10_000, 2048, 1400])
def test_the_hardest_event_is_valid_at_every_size_and_keeps_ids_and_counts(form, size):
    told = nasty_event()

    finding = written(form, told, size)

    assert finding["metadata"]["uid"] == told.event_id
    assert finding["count"] == finding["unmapped"]["alerts_total"] == 100
    assert finding["metadata"]["is_truncated"]


@EACH
def test_what_is_left_out_is_counted(form):
    told = event(episodes=tuple(episode(number=number) for number in range(100)))

    finding = written(form, told, 20_000)

    listed = finding.get("finding_info_list") or finding["finding_info"]["related_events"]
    assert 10 < len(listed) < 100
    assert len(listed) + finding["unmapped"]["truncated"] == 100
    assert finding["metadata"]["is_truncated"]
    assert not written(form, told)["metadata"]["is_truncated"]


@EACH
@given(
    kind=st.sampled_from(EventKind), state=st.sampled_from(IncidentState), severity=st.sampled_from(["critical", "info"]),
    labels=st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4), text=st.text(max_size=40),
    seconds=st.integers(-10_000, 10_000),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_whatever_happened_is_valid(form, kind, state, severity, labels, text, seconds):
    closed = at(seconds) if state in OVER else None
    alert = episode(labels=labels, annotations=labels, ends_at=closed, generator_url=text, severity=severity)
    told = event(kind, incident=view(
        state=state, severity=severity, closed_at=closed, title=text, summary=text, episodes=(alert,), common_labels=labels,
    ))  # fmt: skip

    written(form, told)


@EACH
@pytest.mark.parametrize(
    ("kind", "state", "activity", "incident_status", "detection_status"),
    [
        (EventKind.OPENED, IncidentState.OPEN, "Create", "New", "New"),
        (EventKind.UPDATED, IncidentState.OPEN, "Update", "In Progress", "In Progress"),
        (EventKind.ACKNOWLEDGED, IncidentState.OPEN, "Update", "In Progress", "In Progress"),
        (EventKind.UPDATED, IncidentState.QUIET, "Update", "Resolved", "Resolved"),
        (EventKind.REOPENED, IncidentState.OPEN, "Update", "New", "New"),
        (EventKind.CLOSED, IncidentState.CLOSED, "Close", "Closed", "Resolved"),
        (EventKind.MERGED, IncidentState.MERGED, "Close", "Closed", "Resolved"),
    ],
)
def test_activity_and_status_follow_the_incident(
    form, kind, state, activity, incident_status, detection_status
):
    finding = written(form, event(kind, state=state))

    assert finding["activity_name"] == activity
    assert finding["status"] == {"ocsf-incident": incident_status, "ocsf-detection": detection_status}[form]


def test_an_alert_is_a_finding_with_its_labels_and_its_rule():
    finding = written("ocsf-incident", event(common_labels={"team": "payments"}))

    first = finding["finding_info_list"][0]
    assert first["uid"] == "0" * 16
    assert first["analytic"] == {"name": "HighLatency", "type_id": 1, "type": "Rule"}
    assert {"name": "service", "value": "checkout"} in first["tags"]
    assert first["src_url"].startswith("https://prometheus.example.com/")
    assert finding["assignee_group"] == {"name": "payments"}
    assert finding["priority"] == "Critical"


def test_machines_are_observables_and_resources():
    alerts = (
        episode(),
        episode(number=1, labels={"alertname": "Down", "instance": "db-1:5432", "namespace": "shop"}),
    )
    finding = written("ocsf-detection", event(episodes=alerts))

    assert [(each["type"], each["value"]) for each in finding["observables"]] == [
        ("IP Address", "10.0.0.0"),
        ("Hostname", "db-1"),
    ]
    assert finding["resources"][1] == {
        "name": "db-1",
        "type": "host",
        "hostname": "db-1",
        "namespace": "shop",
    }


def test_a_closed_incident_lasted():
    finding = written("ocsf-incident", event(EventKind.CLOSED, 600))

    assert finding["duration"] == finding["end_time"] - finding["start_time"] == 600_000


@EACH
def test_links_that_are_none_are_left_out(form):
    alert = episode(generator_url=NASTY, annotations={"runbook_url": "javascript:alert(1)"})
    finding = written(form, event(episodes=(alert,), url=""))

    assert "src_url" not in json.dumps(finding)
    assert "javascript" not in json.dumps(finding)


def test_a_file_of_findings_is_one_object_a_line():
    lines = build("file_ocsf").render([event(), nasty_event(size=100)], None, "").request.lines.splitlines()

    for line in lines:
        validator("ocsf-incident").validate(json.loads(line))
    assert len(lines) == 2


def test_splunk_gets_the_finding_as_its_event_and_indexes_the_same_fields():
    plain, ocsf = (
        json.loads(build(case).render([event()], None, "").request.body) for case in ("splunk", "splunk_ocsf")
    )

    validator("ocsf-detection").validate(ocsf["event"])
    assert ocsf["fields"] == plain["fields"]
    assert ocsf["sourcetype"] == "ocsf:finding"
