"""Alertmanager's API: what it lists becomes words, whatever else it answers is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import PayloadError
from bridge.model import Listed
from bridge.webhooks.alertmanager import MAX_FAULTS, fingerprint_of
from bridge.webhooks.listing import parse_listing, parse_receivers, parse_start

LABELS = {"alertname": "DiskFull", "instance": "db-1:9100"}


def listed(**changes: Any) -> dict[str, Any]:
    """Return one alert as Alertmanager 0.33 lists it; a change to `...` leaves the field out."""
    fields: dict[str, Any] = {
        "annotations": {"summary": "full"},
        "endsAt": "2026-11-23T20:07:14.106Z",
        "fingerprint": "01ed3da1cda1a463",
        "receivers": [{"name": "tocsin"}, {"name": "pager"}],
        "startsAt": "2026-11-23T19:07:14.106Z",
        "status": {"inhibitedBy": [], "mutedBy": [], "silencedBy": [], "state": "active"},
        "updatedAt": "2026-11-23T19:07:16.229Z",
        "generatorURL": "http://prometheus.example.net/graph",
        "labels": LABELS,
    }
    return {name: value for name, value in (fields | changes).items() if value is not ...}


def only(**changes: Any) -> Listed:
    listing = parse_listing(json.dumps([listed(**changes)]).encode())
    assert listing.faults == ()
    return listing.alerts[0]


def status(state: str, **by: list[str]) -> dict[str, Any]:
    return {"state": state, "silencedBy": [], "inhibitedBy": [], **by}


def test_an_alert_becomes_words() -> None:
    assert only() == Listed(
        fingerprint="01ed3da1cda1a463", labels=LABELS, annotations={"summary": "full"},
        generator_url="http://prometheus.example.net/graph",
        starts_at=datetime(2026, 11, 23, 19, 7, 14, 106_000, tzinfo=UTC), suppressed="", unprocessed=False,
        receivers=("tocsin", "pager"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (status("active"), ""),
        (status("suppressed", silencedBy=["9c90"]), "silenced"),
        (status("suppressed", inhibitedBy=["01ed"]), "inhibited"),
        (status("suppressed", silencedBy=["9c90"], inhibitedBy=["01ed"]), "silenced"),
        (status("suppressed", mutedBy=["nights"]), "muted"),
        (status("suppressed"), "muted"),
        ({"state": "active"}, ""),
        (..., ""),
    ],
)
def test_who_holds_it_back(told: Any, meant: str) -> None:
    assert only(status=told).suppressed == meant


def test_one_that_was_not_looked_at_yet_says_so() -> None:
    assert only(status=status("unprocessed")).unprocessed


def test_a_fingerprint_that_is_none_is_computed() -> None:
    for given_one in ("", "xyz", 7, None, ...):
        assert only(fingerprint=given_one).fingerprint == fingerprint_of(LABELS)


def test_nobody_may_be_told_of_it() -> None:
    assert only(receivers=...).receivers == ()
    assert only(receivers=[]).receivers == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": ...}, "labels"),
        ({"labels": {"a": 1}}, "str"),
        ({"startsAt": ...}, "startsAt"),
        ({"startsAt": "yesterday"}, "RFC 3339"),
        ({"startsAt": "2026-11-23T19:07:14"}, "offset"),
        ({"startsAt": "0001-01-01T00:00:00Z"}, "years"),
        ({"receivers": "tocsin"}, "array"),
    ],
)
def test_an_alert_that_cannot_be_used_costs_itself_alone(changes: dict[str, Any], reason: str) -> None:
    good = listed(fingerprint="00c0ffee00c0ffee")
    listing = parse_listing(json.dumps([listed(**changes), good]).encode())
    assert [alert.fingerprint for alert in listing.alerts] == ["00c0ffee00c0ffee"]
    (fault,) = listing.faults
    assert reason in fault.reason
    assert json.loads(fault.body) == listed(**changes)


def test_of_many_faults_a_few_are_kept_and_the_rest_is_counted() -> None:
    listing = parse_listing(json.dumps([7] * (MAX_FAULTS + 3)).encode())
    assert len(listing.faults) == MAX_FAULTS + 1
    assert "and 3 more" in listing.faults[-1].reason


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b"null", b'[{"labels": {"a": "\xff"}}]', b'["\\ud800"]', b"[" * 100_000]
)
def test_what_is_no_list_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError):
        parse_listing(body)


def test_since_when_it_runs_and_whom_it_tells() -> None:
    status_body = b'{"cluster":{"status":"ready"},"uptime":"2026-11-23T19:06:37.331Z","versionInfo":{}}'
    assert parse_start(status_body) == datetime(2026, 11, 23, 19, 6, 37, 331_000, tzinfo=UTC)
    assert parse_receivers(b'[{"name":"tocsin"},{"name":"pager"}]') == ("tocsin", "pager")
    for bad in (b"{}", b"[]", b'{"uptime":"0001-01-01T00:00:00Z"}', b'{"uptime":"long"}'):
        with pytest.raises(PayloadError):
            parse_start(bad)


scalars = (
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=9,
)
almost = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.dictionaries(st.text(), st.text(), max_size=3) | anything,
        "startsAt": st.datetimes().map(lambda at: at.isoformat() + "Z") | anything,
        "annotations": st.dictionaries(st.text(), st.text(), max_size=3) | anything,
        "fingerprint": anything,
        "generatorURL": anything,
        "receivers": st.lists(st.fixed_dictionaries({"name": st.text()}), max_size=2) | anything,
        "status": st.fixed_dictionaries({"state": st.text(), "silencedBy": st.lists(scalars)}) | anything,
    },
)


@given(st.lists(almost | anything, max_size=5) | anything)
def test_whatever_json_comes_is_a_list_with_faults_or_refused(sent: Any) -> None:
    body = json.dumps(sent).encode()
    try:
        listing = parse_listing(body)
    except PayloadError:
        return
    assert len(listing.alerts) + len(listing.faults) <= len(sent)
    assert all(fault.reason for fault in listing.faults)


@given(st.binary(max_size=200))
def test_whatever_bytes_come_are_refused_or_understood(body: bytes) -> None:
    for parse in (parse_listing, parse_start, parse_receivers):
        try:
            parse(body)
        except PayloadError as error:
            assert str(error)  # noqa: PT017 - that it says something is what is tested
