"""Alertmanager's event recorder: what silences and inhibition hid becomes words, the rest is counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import PayloadError
from bridge.model import Alert
from bridge.webhooks.alertmanager import MAX_FAULTS, fingerprint_of
from bridge.webhooks.recorder import KINDS, Held, Record, check_record, parse_record

LABELS = {"alertname": "E", "i": "1"}
FINGERPRINT = fingerprint_of(LABELS)


def pairs(labels: dict[str, str]) -> dict[str, Any]:
    return {"labels": [{"key": name, "value": value} for name, value in labels.items()]}


def details(**changes: Any) -> dict[str, Any]:
    """Return an alert as the recorder writes it: the fingerprint in decimal digits."""
    fields: dict[str, Any] = {
        "fingerprint": str(int(FINGERPRINT, 16)), "name": "E", "labels": pairs(LABELS), "annotations": {},
        "startsAt": "2026-11-23T19:26:18.346825Z", "endsAt": "2026-11-23T19:26:28.351850Z", "resolved": True,
    }  # fmt: skip
    return {name: value for name, value in (fields | changes).items() if value is not ...}


def event(kind: str, what: Any = None) -> dict[str, Any]:
    return {"@timestamp": "2026-11-23T19:26:29.354616335Z", "instance": "am-0", "data": {kind: what or {}}}


def silenced(**changes: Any) -> dict[str, Any]:
    muted = {"labels": pairs(LABELS), "fingerprint": str(int(FINGERPRINT, 16))} | changes
    return event("silenceMutedAlert", {"silence": {"id": "9c90"}, "mutedAlert": muted})


def inhibited() -> dict[str, Any]:
    return event("inhibitionMutedAlert", {"mutedAlert": details()})


def resolved(**changes: Any) -> dict[str, Any]:
    return event("alertResolved", {"alert": {"hash": "1", "details": details(**changes)}, "groupInfo": {}})


def read(*events: Any) -> Record:
    body = json.dumps(events[0] if len(events) == 1 else list(events)).encode()
    assert check_record(body) == len(events)
    return parse_record(body, tenant="acme", source="prod")


def test_one_event_and_a_batch_are_read_alike() -> None:
    one, two = read(silenced()), read(silenced(), inhibited())
    assert one.held == (Held(fingerprint=FINGERPRINT, labels=LABELS, by="silenced"),)
    assert [held.by for held in two.held] == ["silenced", "inhibited"]
    assert two.counts == {"silenceMutedAlert": 1, "inhibitionMutedAlert": 1}


def test_a_resolve_is_an_alert_that_ended() -> None:
    record = read(resolved(annotations=pairs({"summary": "s"})))
    assert record.peer == "am-0"
    assert record.resolved == (
        Alert(
            tenant="acme", source="prod", fingerprint=FINGERPRINT, labels=LABELS, annotations={"summary": "s"},
            firing=False, starts_at=datetime(2026, 11, 23, 19, 26, 18, 346825, tzinfo=UTC),
            ends_at=datetime(2026, 11, 23, 19, 26, 28, 351850, tzinfo=UTC),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    "kind", sorted(KINDS - {"alertResolved", "silenceMutedAlert", "inhibitionMutedAlert"})
)
def test_the_others_are_counted_whatever_they_hold(kind: str) -> None:
    assert read(event(kind, {"alert": 7})) == Record(counts={kind: 1})


def test_a_kind_of_a_later_release_is_counted_as_another() -> None:
    assert read(event("alertPondered"), event("alertMourned")).counts == {"other": 2}


def test_an_empty_value_is_left_out_by_protobuf() -> None:
    record = read(silenced(labels={"labels": [{"key": "alertname", "value": "E"}, {"key": "i"}]}))
    assert record.held[0].labels == {"alertname": "E", "i": ""}


@pytest.mark.parametrize("odd", ["", "-1", "abc", str(1 << 64), 7, None, "9" * 5000, "\u0661"])
def test_a_fingerprint_that_is_none_is_that_of_the_labels(odd: Any) -> None:
    assert read(silenced(fingerprint=odd)).held[0].fingerprint == FINGERPRINT


def test_the_largest_and_the_smallest_fingerprint_have_sixteen_digits() -> None:
    assert read(silenced(fingerprint=str((1 << 64) - 1))).held[0].fingerprint == "f" * 16
    assert read(silenced(fingerprint="0")).held[0].fingerprint == "0" * 16


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (silenced(labels=None), "labels"),
        (silenced(labels={"labels": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}), "twice"),
        (event("silenceMutedAlert", {"silence": {}}), "mutedAlert"),
        (resolved(startsAt=...), "startsAt"),
        (resolved(endsAt="0001-01-01T00:00:00Z"), "years"),
        (7, "object"),
        ({"data": []}, "object"),
    ],
)
def test_an_event_that_cannot_be_used_costs_itself_alone(bad: Any, reason: str) -> None:
    record = read(bad, silenced())
    (fault,) = record.faults
    assert reason in fault.reason
    assert json.loads(fault.body) == bad
    assert len(record.held) == 1


def test_of_many_faults_a_few_are_kept_and_the_rest_is_counted() -> None:
    record = read(*[7] * (MAX_FAULTS + 3))
    assert len(record.faults) == MAX_FAULTS + 1
    assert "and 3 more" in record.faults[-1].reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"7",
        b"null",
        b"{}",
        b'{"alerts": []}',
        b'{"data": 1}',
        b'{"data": {"\xff": 1}}',
        b"[" * 99_999,
    ],
)
def test_what_no_recorder_sends_is_refused(body: bytes) -> None:
    for parse in (check_record, lambda text: parse_record(text, tenant="", source="")):
        with pytest.raises(PayloadError):
            parse(body)


scalars = (
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=9,
)
odd_details = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.just(pairs(LABELS)) | anything,
        "fingerprint": st.integers().map(str) | anything,
        "annotations": anything,
        "startsAt": st.datetimes().map(lambda at: at.isoformat() + "Z") | anything,
        "endsAt": st.datetimes().map(lambda at: at.isoformat() + "Z") | anything,
    },
)
odd_events = st.one_of(
    anything,
    odd_details.map(lambda odd: event("silenceMutedAlert", {"mutedAlert": odd})),
    odd_details.map(lambda odd: event("alertResolved", {"alert": {"details": odd}})),
    st.dictionaries(st.sampled_from(sorted(KINDS)), anything).map(lambda data: {"data": data}),
)


@given(st.lists(odd_events, max_size=4) | odd_events)
def test_whatever_json_comes_is_a_record_with_faults_or_refused(sent: Any) -> None:
    body = json.dumps(sent).encode()
    try:
        number = check_record(body)
    except PayloadError:
        return
    record = parse_record(body, tenant="acme", source="prod")
    assert len(record.held) + len(record.resolved) + len(record.faults) <= number + sum(
        record.counts.values()
    )
    assert all(fault.reason for fault in record.faults)


@given(st.binary(max_size=200))
def test_whatever_bytes_come_are_refused_or_understood(body: bytes) -> None:
    try:
        check_record(body)
    except PayloadError as error:
        assert str(error)  # noqa: PT017 - that it says something is what is tested
    else:
        parse_record(body, tenant="", source="")
