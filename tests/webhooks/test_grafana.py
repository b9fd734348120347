"""Grafana Alerting's webhooks, in bodies that we wrote after its documentation."""

from __future__ import annotations

from typing import Any

import pytest
from bodies import GOOD_WITH_FAULTS, HOPELESS, NEVER, alert, body
from hypothesis import given
from hypothesis import strategies as st
from thinking import Thinking, ends, fires

from bridge.errors import PayloadError
from bridge.model import Alert, Notification, RowKind
from bridge.webhooks import alertmanager
from bridge.webhooks.grafana import MAX_CHARS, parse

URL = "https://grafana.example.com"
EXTRA = {
    "silenceURL": f"{URL}/alerting/silence/new?alertmanager=grafana",
    "dashboardURL": f"{URL}/d/disks",
    "panelURL": f"{URL}/d/disks?viewPanel=7",
    "imageURL": f"{URL}/public/disk.png",
    "values": {"B": 98.76543210987, "A": 1, "C": 1.0},
    "valueString": "[ var='A' labels={instance=db-1} value=1 ]",
    "ruleUID": "abc",
    "orgId": 1,
}
AROUND = {
    "version": "1", "orgId": 1, "title": "[FIRING:1] DiskFull", "state": "alerting", "message": "**Firing**",
    "appVersion": "12.3.0", "truncatedAlerts": 0,
}  # fmt: skip


def parsed(text: bytes) -> Notification:
    return parse(text, tenant="acme", source="grafana")


def only_alert(**changes: Any) -> Alert:
    notification = parsed(body(alert(**changes), **AROUND))
    assert notification.faults == ()
    return notification.alerts[0]


def test_it_is_what_alertmanager_would_have_sent_and_links_and_values_are_annotations():
    [plain] = alertmanager.parse(body(alert()), tenant="acme", source="grafana").alerts
    found = only_alert(**EXTRA)
    assert found.annotations == {
        "summary": "The disk of db-1 is full",
        "dashboard_url": f"{URL}/d/disks",
        "panel_url": f"{URL}/d/disks?viewPanel=7",
        "silence_url": f"{URL}/alerting/silence/new?alertmanager=grafana",
        "image_url": f"{URL}/public/disk.png",
        "values": "A=1, B=98.7654, C=1",
    }
    assert only_alert() == plain
    assert [
        getattr(found, name) for name in ("fingerprint", "labels", "starts_at", "firing", "generator_url")
    ] == [getattr(plain, name) for name in ("fingerprint", "labels", "starts_at", "firing", "generator_url")]


def test_the_end_of_an_alert_is_its_own():
    resolved = parsed(
        body(
            alert(status="resolved", endsAt="2026-11-23T19:10:00Z", values=None), alert(), status="resolved",
            **(AROUND | {"state": "ok"}),
        )
    ).alerts  # fmt: skip
    assert [each.firing for each in resolved] == [False, True]
    assert resolved[0].ends_at is not None
    assert only_alert(endsAt=NEVER).ends_at is None


def test_annotations_of_the_rule_win():
    found = only_alert(annotations={"dashboard_url": "mine", "values": "mine too"}, **EXTRA)
    assert (found.annotations["dashboard_url"], found.annotations["values"]) == ("mine", "mine too")


@pytest.mark.parametrize(
    "decoration",
    [
        {"values": None}, {"values": []}, {"values": "x"}, {"values": {}}, {"values": {"A": "1", "B": None, "C": True}},
        {"values": {"A": 10**400}}, {"values": {str(number): number for number in range(33)}},
        {"values": {"x" * MAX_CHARS: 1}}, {"dashboardURL": ""}, {"dashboardURL": 7}, {"panelURL": ["x"]},
        {"silenceURL": "x" * (MAX_CHARS + 1)},
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_decoration_of_another_form_is_passed_over(decoration):
    assert only_alert(**decoration).annotations == {"summary": "The disk of db-1 is full"}


def test_a_number_that_no_float_holds_costs_the_decoration_and_not_the_alert():
    text = body(alert(**EXTRA)).replace(b"98.76543210987", b"1e400")
    [found] = parsed(text).alerts
    assert found.annotations["summary"] == "The disk of db-1 is full"


def test_no_decoration_makes_an_alert_larger_than_it_may_be():
    long = {"summary": "x" * 60_000, "more": "y" * 5_000}
    found = only_alert(annotations=long, **(EXTRA | {"silenceURL": "z" * MAX_CHARS}))
    assert found.annotations == long


@pytest.mark.parametrize("name", HOPELESS)
def test_what_can_never_be_a_webhook_is_refused(name):
    with pytest.raises(PayloadError):
        parsed(HOPELESS[name][0])


@pytest.mark.parametrize("name", GOOD_WITH_FAULTS)
def test_what_is_wrong_inside_of_an_alert_is_found_as_for_alertmanager(name):
    theirs = alertmanager.parse(GOOD_WITH_FAULTS[name], tenant="acme", source="grafana")
    assert parsed(GOOD_WITH_FAULTS[name]) == theirs


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(EXTRA)), JSON))
def test_no_decoration_makes_an_alert_unheard(decoration):
    try:
        text = body(alert(**decoration), **AROUND)
    except UnicodeEncodeError:
        return  # a lone surrogate cannot be sent
    [found] = parsed(text).alerts
    assert found.annotations["summary"] == "The disk of db-1 is full"
    assert all(type(each) is str for each in found.annotations.values())


def test_its_alerts_become_incidents_and_end_as_all_others_do():
    thinking = Thinking()
    thinking.row("0s", RowKind.GRAFANA, body(fires("DiskFull") | EXTRA, **AROUND), source="grafana")
    thinking.row("1m", RowKind.GRAFANA, body(ends("DiskFull", "1m") | EXTRA, **AROUND), source="grafana")
    thinking.clock("30m")
    assert thinking.told() == ["0s #1 opened warning", "60s #1 updated warning", "360s #1 closed warning"]
