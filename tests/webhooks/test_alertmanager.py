from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from bodies import HOPELESS, NEVER, alert, body
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import PayloadError
from bridge.model import Alert
from bridge.webhooks.alertmanager import (
    CUT,
    MAX_ALERT_BYTES,
    MAX_ANNOTATIONS,
    MAX_FAULTS,
    check_usable,
    fingerprint_of,
    parse,
)

FNV_OF_NOTHING = "cbf29ce484222325"


def parsed(text: bytes):
    return parse(text, tenant="acme", source="prod")


def only_alert(**changes) -> Alert:
    notification = parsed(body(alert(**changes)))
    assert notification.faults == ()
    return notification.alerts[0]


def only_fault(**changes):
    notification = parsed(body(alert(**changes)))
    assert notification.alerts == ()
    return notification.faults[0]


def test_a_webhook_becomes_a_notification():
    notification = parsed(body(alert(), receiver=r"team\.db", truncatedAlerts=3))
    assert (notification.tenant, notification.source) == ("acme", "prod")
    assert notification.group_key == '{}:{alertname="DiskFull"}'
    assert notification.external_url == "http://alertmanager.example.net:9093"
    assert notification.alerts == (
        Alert(
            tenant="acme",
            source="prod",
            fingerprint="0123456789abcdef",
            labels={"alertname": "DiskFull", "instance": "db-1:9100", "severity": "critical"},
            annotations={"summary": "The disk of db-1 is full"},
            firing=True,
            starts_at=datetime(2026, 11, 23, 19, 6, 13, 436321, tzinfo=UTC),  # nanoseconds are cut
            ends_at=None,
            generator_url="http://prometheus.example.net/graph",
        ),
    )


TIMES = [
    ("2026-11-23T19:06:13Z", datetime(2026, 11, 23, 19, 6, 13, tzinfo=UTC)),
    ("2026-11-23T19:06:13.9999999Z", datetime(2026, 11, 23, 19, 6, 13, 999999, tzinfo=UTC)),
    ("2026-11-23T21:06:13.5+02:00", datetime(2026, 11, 23, 19, 6, 13, 500000, tzinfo=UTC)),
    ("2026-11-23T13:36:13-05:30", datetime(2026, 11, 23, 19, 6, 13, tzinfo=UTC)),
    ("2026-11-23T19:06:13+00:00", datetime(2026, 11, 23, 19, 6, 13, tzinfo=UTC)),
    ("1970-01-01T00:30:00+01:00", datetime(1969, 12, 31, 23, 30, tzinfo=UTC)),
]


@pytest.mark.parametrize(("sent", "meant"), TIMES)
def test_times_become_utc(sent, meant):
    assert only_alert(startsAt=sent).starts_at == meant
    ended = only_alert(status="resolved", endsAt=sent)
    assert ended.ends_at == meant
    assert ended.ends_at.tzinfo is UTC


#: What Go's zero time looks like in every zone; Python cannot convert some of these to UTC.
NO_TIME = [NEVER, "0001-01-01T00:00:00+05:00", "0001-01-01T00:00:00-12:00", "0001-01-01T02:30:17+02:30:17"]
NO_TIME += ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-11:00", "1969-12-31T23:59:59Z"]


@pytest.mark.parametrize("ends_at", [*NO_TIME, None, ...])
def test_a_resolve_may_lack_its_end(ends_at):
    resolved = only_alert(status="resolved", endsAt=ends_at)
    assert not resolved.firing
    assert resolved.ends_at is None


@pytest.mark.parametrize(
    "ends_at", [*NO_TIME, None, ..., "2020-01-01T00:00:00Z", "2040-01-01T00:00:00Z", "soon", 7]
)
def test_an_end_means_nothing_while_it_fires(ends_at):
    firing = only_alert(endsAt=ends_at)
    assert firing.firing
    assert firing.ends_at is None


def test_the_status_of_an_alert_counts_and_that_of_the_body_does_not():
    notification = parsed(
        body(alert(), alert(status="resolved", endsAt="2026-11-23T20:00:00Z"), status="resolved")
    )
    assert [it.firing for it in notification.alerts] == [True, False]


def test_an_alert_without_a_name_is_an_alert():
    assert only_alert(labels={"foo": "bar"}).labels == {"foo": "bar"}
    assert only_alert(labels={}).labels == {}


def test_missing_decoration_is_no_fault():
    bare = only_alert(annotations=..., generatorURL=..., fingerprint=...)
    assert bare.annotations == {}
    assert bare.generator_url == ""
    strange = only_alert(annotations=None, generatorURL=7, fingerprint=["x"])
    assert (strange.annotations, strange.generator_url) == ({}, "")


#: The first two are Alertmanager's own, from a run of version 0.33.1.
FINGERPRINTS = [
    ({"alertname": "HighCPU", "cluster": "eu-1", "instance": "web-0", "severity": "warning"}, "028da977636af861"),
    ({"alertname": "HighCPU", "cluster": "eu-1", "instance": "web-1", "severity": "warning"}, "60989e59678afdd6"),
    ({}, FNV_OF_NOTHING),
]  # fmt: skip


@pytest.mark.parametrize(("labels", "fingerprint"), FINGERPRINTS)
def test_computes_the_fingerprint_that_alertmanager_would_send(labels, fingerprint):
    assert fingerprint_of(labels) == fingerprint
    assert fingerprint_of(dict(reversed(labels.items()))) == fingerprint


@pytest.mark.parametrize(
    "sent",
    [..., None, "", 12, "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg"],
)
def test_a_fingerprint_is_computed_where_none_was_sent(sent):
    assert only_alert(labels={}, fingerprint=sent).fingerprint == FNV_OF_NOTHING


FAULTS = {
    "no labels": ({"labels": ...}, "labels"),
    "labels that are null": ({"labels": None}, "labels"),
    "labels that are a list": ({"labels": [{"key": "a", "value": "b"}]}, "labels"),
    "a label that is a number": ({"labels": {"alertname": "A", "port": 80}}, "str"),
    "a label that is null": ({"labels": {"alertname": None}}, "str"),
    "an annotation that is a list": ({"annotations": {"a": []}}, "str"),
    "no status": ({"status": ...}, "status"),
    "a status of their own": ({"status": "suppressed"}, "status"),
    "no startsAt": ({"startsAt": ...}, "startsAt"),
    "startsAt null": ({"startsAt": None}, "startsAt"),
    "startsAt as a number": ({"startsAt": 1732388773}, "startsAt"),
    "startsAt as prose": ({"startsAt": "yesterday"}, "RFC 3339"),
    "startsAt without an offset": ({"startsAt": "2026-11-23T19:06:13"}, "offset"),
    "startsAt in year 1": ({"startsAt": NEVER}, "years"),
    "startsAt in year 9999": ({"startsAt": "9999-12-31T23:59:59-11:00"}, "years"),
    "a 13th month": ({"startsAt": "2026-13-01T00:00:00Z"}, "RFC 3339"),
    "a resolve that ended as a number": ({"status": "resolved", "endsAt": 1}, "endsAt"),
    "a resolve that ended as prose": ({"status": "resolved", "endsAt": "just now"}, "RFC 3339"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_malformed_alert_is_a_fault_with_its_bytes_and_the_others_go_on(what):
    changes, reason = FAULTS[what]
    bad = alert(**changes)
    notification = parsed(body(alert(), bad, alert(fingerprint="f" * 16)))
    assert [it.fingerprint for it in notification.alerts] == ["0123456789abcdef", "f" * 16]
    (fault,) = notification.faults
    assert reason in fault.reason
    assert json.loads(fault.body) == bad


@pytest.mark.parametrize("sent", [1, None, "x", [], [{}], True, 1.5])
def test_an_alert_that_is_no_object_is_a_fault(sent):
    notification = parsed(body(sent, alert()))
    assert len(notification.alerts) == 1
    assert json.loads(notification.faults[0].body) == sent


def test_a_number_that_no_float_holds_spoils_only_its_own_alert():
    text = body(alert(fingerprint="NUMBER"), alert(), truncatedAlerts="NUMBER").replace(b'"NUMBER"', b"1e400")
    notification = parsed(text)
    assert (len(notification.alerts), len(notification.faults)) == (1, 1)
    unread = body(alert(value="NUMBER")).replace(b'"NUMBER"', b"1e400")
    assert len(parsed(unread).alerts) == 1


def test_the_last_of_two_keys_counts():
    text = body(alert(labels={"a": "FIRST"})).replace(b'"a":"FIRST"', b'"a":"1","a":"2"')
    assert parsed(text).alerts[0].labels == {"a": "2"}


def test_a_nul_inside_of_a_string_is_a_character():
    assert only_alert(annotations={"a": "x\0y"}).annotations == {"a": "x\0y"}


@pytest.mark.parametrize("odd", [7, None, [], {}, "NUMBER"])
def test_nothing_around_the_alerts_can_spoil_them(odd):
    fields = dict.fromkeys(
        ["receiver", "groupKey", "externalURL", "truncatedAlerts", "version", "status"], odd
    )
    notification = parsed(body(alert(), **fields).replace(b'"NUMBER"', b"-1e999"))
    assert len(notification.alerts) == 1


def test_a_long_text_around_the_alerts_becomes_a_digest_of_itself():
    """Each episode keeps its group: a long one would be written as often as there are alerts."""
    fits, first, second = "x" * 4096, "x" * 300_000 + "1", "x" * 300_000 + "2"
    assert parsed(body(alert(), groupKey=fits)).group_key == fits
    keys = [parsed(body(alert(), groupKey=key)).group_key for key in (first, second, first)]
    assert keys[0] == keys[2] != keys[1]
    assert keys[0].startswith("blake2b:")
    assert len(keys[0]) == 40
    assert len(parsed(body(alert(), externalURL=f"http://{first}")).external_url) == 40


def test_labels_of_a_megabyte_are_a_fault():
    fault = only_fault(labels={"alertname": "A", "dump": "x" * 1_000_000})
    assert "1000014 characters" in fault.reason
    assert len(fault.body) > 1_000_000


def test_a_large_label_below_the_bound_is_kept():
    assert only_alert(labels={"a": "č" * 60_000}).labels == {"a": "č" * 60_000}


def test_annotations_of_a_megabyte_are_cut_and_the_alert_is_heard():
    heard = only_alert(annotations={"summary": "short", "dump": "x" * 1_000_000, "more": "y"})
    assert heard.annotations["summary"] == "short"
    assert heard.annotations["dump"].endswith("xxx" + CUT)
    assert sum(len(name) + len(text) for name, text in heard.annotations.items()) <= MAX_ANNOTATIONS
    many = only_alert(annotations={f"name{number}": "text" for number in range(50_000)})
    assert sum(len(name) + len(text) for name, text in many.annotations.items()) <= MAX_ANNOTATIONS
    assert many.annotations["name0"] == "text"


def test_an_alert_of_ordinary_size_is_never_cut():
    text = "x" * (MAX_ALERT_BYTES - 600)
    assert only_alert(annotations={"a": text}).annotations == {"a": text}


def test_ten_thousand_alerts_are_ten_thousand_alerts():
    notification = parsed(body(*[alert(fingerprint=f"{number:016x}") for number in range(10_000)]))
    assert len({it.fingerprint for it in notification.alerts}) == 10_000


@pytest.mark.parametrize("sent", HOPELESS)
def test_refuses_what_the_envelope_refuses(sent):
    with pytest.raises(PayloadError):
        parsed(HOPELESS[sent][0])


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
labels = st.dictionaries(st.text(), st.text(), max_size=4)
times = (
    st.sampled_from([sent for sent, _ in TIMES] + NO_TIME)
    | st.datetimes().map(datetime.isoformat)
    | st.text()
)
almost_alerts = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["firing", "resolved"]) | anything,
        "labels": labels | anything,
        "annotations": labels | anything,
        "startsAt": times | anything,
        "endsAt": times | anything,
        "fingerprint": st.text("0123456789abcdef", min_size=16, max_size=16) | anything,
        "generatorURL": anything,
        "unknown": anything,
    },
)


@given(st.lists(almost_alerts | anything, max_size=5), st.dictionaries(st.text(), anything, max_size=3))
def test_every_alert_is_heard_or_kept_as_a_fault(alerts, around):
    notification = parsed(json.dumps(around | {"alerts": alerts}).encode())
    assert len(notification.alerts) + len(notification.faults) == len(alerts)
    for heard in notification.alerts:
        assert len(heard.fingerprint) == 16
        assert heard.starts_at.tzinfo is UTC
        assert heard.ends_at is None or not heard.firing
    for fault in notification.faults:
        assert json.loads(fault.body) in alerts


@given(st.binary(max_size=300))
def test_raises_nothing_but_a_payload_error(noise):
    for text in (noise, b'{"alerts": [' + noise + b"]}"):
        try:
            parsed(text)
        except PayloadError:
            continue


@given(labels)
def test_a_fingerprint_is_sixteen_digits_and_does_not_depend_on_order(some):
    assert fingerprint_of(some) == fingerprint_of(dict(reversed(some.items())))
    assert len(fingerprint_of(some)) == 16


@pytest.mark.parametrize(
    ("bad", "kept"), [(MAX_FAULTS, MAX_FAULTS), (MAX_FAULTS + 1, MAX_FAULTS), (5000, MAX_FAULTS)]
)
def test_of_many_unusable_alerts_some_are_kept_and_the_others_counted(bad: int, kept: int):
    found = parse(body(alert(), *[7] * bad, alert()), tenant="t", source="s")
    assert len(found.alerts) == 2
    assert [fault.body for fault in found.faults[:kept]] == [b"7"] * kept
    assert [(fault.reason, fault.body) for fault in found.faults[kept:]] == (
        [(f"and {bad - kept} more unusable alerts of the same webhook", b"")] if bad > kept else []
    )


@pytest.mark.parametrize("alerts", [[alert()], [7, alert(), {}]])
def test_what_holds_a_usable_alert_can_be_sent_again(alerts):
    check_usable(body(*alerts))


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (body(alert(startsAt="nope")), "unusable alert: `startsAt` is not an RFC 3339 time"),
        (body(7, 8), "unusable alert: Expected `object`, got `int`"),
        (body(), "it holds no alert"),
        (b"{", "not JSON"),
    ],
)
def test_what_is_still_unusable_says_why(sent, why):
    with pytest.raises(PayloadError, match=why):
        check_usable(sent)
