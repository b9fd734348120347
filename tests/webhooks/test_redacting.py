"""A webhook is redacted before anybody reads it: nothing comes through, and it is still the same alerts."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.errors import PayloadError
from bridge.redaction import Redact, Redactor, Rule, key_of
from bridge.webhooks import alertmanager, grafana
from bridge.webhooks.recorder import parse_record, redacted_record
from bridge.webhooks.redacting import redacted, redacted_text

ALL = Redact(
    labels=(Rule(name="user", action="hash"), Rule(name="*_token", action="drop")),
    annotations=(Rule(name="query", action="mask"),),
    email="mask", ip="hash", card="mask", phone="mask",
)  # fmt: skip
KEY = key_of(b"k" * 32, "acme")
#: What is planted, and in which text; every one of them is of another kind.
PLANTS = {
    "hunter2secret": "postgres://app:hunter2secret@db/shop",
    "s3cr3t-value": "password=s3cr3t-value",
    "ghp_" + "a1B2" * 9: "ghp_" + "a1B2" * 9,
    "bob.smith@corp.example": "mail bob.smith@corp.example",
    "10.77.66.55": "on 10.77.66.55:9100",
    "2001:db8::77:66": "[2001:db8::77:66]:80",
    "4111 1111 1111 1111": "card 4111 1111 1111 1111",
    "+41 44 668 18 00": "call +41 44 668 18 00",
}
BY_NAME = {"user": "alice-the-user", "x_token": "token-of-x"}


def alert(**changes: Any) -> dict[str, Any]:
    usual = {
        "status": "firing", "labels": {"alertname": "LoginFailed", "severity": "critical", "pod": "api-7d9f8b6c5-x2x4z"},
        "annotations": {"summary": "it failed"}, "startsAt": "2026-01-05T03:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prometheus/graph?g0.expr=up",
    }  # fmt: skip
    return usual | changes


def body(*alerts: Any, **more: Any) -> bytes:
    return json.dumps(
        {"version": "4", "groupKey": "{}:{}", "externalURL": "http://am", "alerts": alerts} | more
    ).encode()


def parsed(content: bytes) -> Any:
    return alertmanager.parse(content, tenant="acme", source="default")


def redactor(redact: Redact = ALL) -> Redactor:
    return Redactor(redact, KEY)


def test_what_holds_nothing_stays_as_it_is_byte_for_byte():
    content = body(alert(), alert(status="resolved", endsAt="2026-01-05T03:10:00Z"), title="x")
    assert redacted(content, redactor(Redact())) == content


def test_alerts_without_a_find_stay_byte_for_byte_beside_one_with():
    content = body(
        alert(extra="kept"), alert(annotations={"summary": "password=hunter2", "b": "c"}, extra="gone")
    )
    left = json.loads(redacted(content, redactor(Redact())))
    assert left["alerts"][0] == alert(extra="kept")
    assert left["alerts"][1]["annotations"] == {"summary": "password=<secret>", "b": "c"}
    assert "extra" not in left["alerts"][1]


@pytest.mark.parametrize("given", ["0123456789abcdef", None, "not one", 5])
def test_an_alert_keeps_the_fingerprint_that_it_had(given):
    sent = alert(labels={"alertname": "A", "user": "alice"}) | (
        {} if given is None else {"fingerprint": given}
    )
    before, after = parsed(body(sent)).alerts, parsed(redacted(body(sent), redactor())).alerts
    assert before[0].fingerprint == after[0].fingerprint
    assert after[0].labels["user"] != "alice"


def test_times_states_and_numbers_stay():
    sent = [
        alert(labels={"user": "a-user"}),
        alert(labels={"user": "a-user"}, status="resolved", endsAt="2026-01-05T03:10:00+02:00"),
        alert(labels={"user": "a-user"}, status="resolved", endsAt=None),
    ]
    before, after = parsed(body(*sent)).alerts, parsed(redacted(body(*sent), redactor())).alerts
    for one, other in zip(before, after, strict=True):
        for field in ("firing", "starts_at", "ends_at", "fingerprint", "tenant", "source"):
            assert getattr(one, field) == getattr(other, field)


@pytest.mark.parametrize(
    "unusable",
    [
        {"status": "firing", "labels": {"user": "alice-the-user"}, "startsAt": "password=hunter2secret"},
        {
            "status": "password=hunter2secret",
            "labels": {"user": "alice-the-user"},
            "startsAt": "2026-01-05T03:00:00Z",
        },
        {"labels": {"user": "alice-the-user", "n": 5}, "text": "password=hunter2secret"},
        {"labels": [{"user": "alice-the-user"}, ["password=hunter2secret"]]},
        "password=hunter2secret",
        alert(status="resolved", endsAt=5, labels={"user": "alice-the-user"}),
    ],
)
def test_an_unusable_alert_stays_one_and_gives_nothing_away(unusable):
    content = body(unusable, alert())
    found = parsed(redacted(content, redactor()))
    assert [len(found.alerts), len(found.faults)] == [1, 1]
    kept = found.faults[0].body + found.faults[0].reason.encode()
    assert b"alice" not in kept
    assert b"hunter2" not in kept


def test_unusable_alerts_are_as_many_as_before():
    content = body(*[{"password": "hunter2secret"}] * 250)
    before, after = parsed(content).faults, parsed(redacted(content, redactor())).faults
    assert len(before) == len(after) == 101
    assert before[-1] == after[-1]


def test_a_card_that_is_a_number_is_still_json():
    found = parsed(redacted(body({"n": 4111111111111111}), redactor()))
    assert b"4111" not in found.faults[0].body


def test_a_body_that_is_no_webhook_is_refused():
    with pytest.raises(PayloadError):
        redacted(b'{"alerts": 5, "a": "password=hunter2"}', redactor())


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xfe password=hunter2secret \xff", b"password=hunter2secret \xc3", b"\x00password=hunter2secret"],
)
def test_bytes_that_are_no_text_are_looked_through(raw):
    left = redacted_text(raw, redactor())
    assert b"hunter2" not in left
    assert redacted_text(b"\xff\xfe\x00", redactor()) == b"\xff\xfe\x00"


def test_grafanas_own_fields_are_redacted_too():
    sent = alert(
        labels={"alertname": "A", "user": "alice-the-user"}, values={"A": 1.5, "password=hunter2secret": 2},
        silenceURL="http://g/silence?matcher=user%3Dalice-the-user", dashboardURL="http://u:hunter2secret@g/d",
        valueString="[ user=alice-the-user ]",
    )  # fmt: skip
    left = redacted(body(sent, title="alice-the-user", message="password=hunter2secret"), redactor())
    assert b"alice" not in left
    assert b"hunter2" not in left
    annotations = grafana.parse(left, tenant="t", source="s").alerts[0].annotations
    assert annotations["values"] == "A=1.5, password=<secret>=2"
    assert annotations["dashboard_url"] == "http://u:<secret>@g/d"


# ---- properties --------------------------------------------------------------------------------------------

PLACES = {
    "label value": lambda text: body(alert(labels={"alertname": "A", "note": text})),
    "label name": lambda text: body(alert(labels={"alertname": "A", text: "x"})),
    "annotation": lambda text: body(alert(annotations={"summary": f"it says {text} here"})),
    "long annotation": lambda text: body(alert(annotations={"summary": "x " * 400 + text + " y" * 400})),
    "lines": lambda text: body(alert(annotations={"summary": f"first\n{text}\nlast\ttab"})),
    "annotation name": lambda text: body(alert(annotations={text: "x"})),
    "link": lambda text: body(alert(generatorURL=f"http://p/graph?x={text}")),
    "status": lambda text: body(alert(status=text)),
    "start": lambda text: body(alert(startsAt=text)),
    "end": lambda text: body(alert(endsAt=text, status="resolved")),
    "fingerprint": lambda text: body(alert(fingerprint=text)),
    "group key": lambda text: body(alert(), groupKey=f'{{}}:{{note="{text}"}}'),
    "external URL": lambda text: body(alert(), externalURL=f"http://am/?x={text}"),
    "group labels": lambda text: body(alert(), groupLabels={"note": text}, commonLabels={text: "x"}),
    "common annotations": lambda text: body(alert(), commonAnnotations={"note": text}),
    "receiver": lambda text: body(alert(), receiver=text),
    "unknown field": lambda text: body(alert(deep=[{"in": {"here": [text]}}])),
    "unusable alert": lambda text: body({"labels": {"note": text}}),
    "no alert": lambda text: body(text, [text], {text: text}),
    "value": lambda text: body(alert(values={text: 1})),
}  # fmt: skip
ENCODINGS = {
    "plain": lambda content: content,
    "as Go writes": lambda content: content.replace(b"&", b"\\u0026").replace(b"<", b"\\u003c").replace(b">", b"\\u003e"),
    "as PHP writes": lambda content: content.replace(b"/", b"\\/"),
    "all escaped": lambda content: _escaped(content),  # noqa: PLW0108 - it stands below
}  # fmt: skip


def _escaped(content: bytes) -> bytes:
    """Return JSON with every letter of its texts that JSON itself does not need as an escape."""

    def text(value: str) -> str:
        return '"' + "".join(f"\\u{ord(letter):04x}" for letter in value) + '"'

    def written(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ",".join(f"{json.dumps(key)}:{written(each)}" for key, each in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(written, value)) + "]"
        return text(value) if isinstance(value, str) else json.dumps(value)

    return written(json.loads(content)).encode()


def texts_in(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}\n{texts_in(each)}" for key, each in value.items())
    if isinstance(value, list):
        return "\n".join(map(texts_in, value))
    return str(value)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("place", PLACES)
def test_a_planted_secret_of_any_kind_comes_through_nowhere(place, encoding):
    told = redactor()
    for secret, text in PLANTS.items():
        content = ENCODINGS[encoding](PLACES[place](text))
        left = redacted(content, told)
        assert secret not in texts_in(json.loads(left)), (secret, place)
        found = parsed(left)
        assert secret not in repr(found), (secret, place)
        assert redacted(left, told) == left


@pytest.mark.parametrize("name", BY_NAME)
def test_a_label_taken_by_its_name_comes_through_nowhere(name):
    value = BY_NAME[name]
    labels = {"alertname": "A", name: value}
    content = body(
        alert(labels=labels, annotations={"summary": f"{value} did it", "query": "select 1"}, generatorURL=f"http://p?u={value}"),
        groupKey=f'{{}}:{{alertname="A", {name}="{value}"}}', groupLabels=labels, commonLabels=labels,
    )  # fmt: skip
    left = redacted(content, redactor())
    assert value.encode() not in left
    assert b"select 1" not in left


VALUES = st.lists(
    st.sampled_from([*PLANTS.values(), *BY_NAME.values(), "\n", "\t", '"', "\\", "/", "\\n", "&", "é", " ", "token: ", "x1"]), max_size=4
).map("".join) | st.text(max_size=20)  # fmt: skip
NAMES = st.sampled_from(["alertname", "user", "x_token", "note", "password", "query", "secret"])
ALERTS = st.builds(
    lambda labels, annotations, url, firing: alert(
        labels=labels, annotations=annotations, generatorURL=url, status="firing" if firing else "resolved"
    ),
    st.dictionaries(NAMES, VALUES, max_size=4), st.dictionaries(NAMES, VALUES, max_size=3), VALUES, st.booleans(),
)  # fmt: skip
REDACTS = st.sampled_from(
    [
        ALL,
        Redact(),
        Redact(secrets="keep"),
        Redact(email="mask", ip="mask", card="mask", phone="mask"),
        Redact(secrets="keep", ip="hash"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(REDACTS, st.lists(ALERTS, max_size=3), VALUES, st.booleans())
@example(Redact(), [alert(labels={"note": "\\nAKIAIOSFODNN7EXAMPLE"})], "", False)
@example(Redact(), [alert(annotations={"note": "line\nAKIAIOSFODNN7EXAMPLE"})], "", False)
def test_once_is_enough_and_the_quick_look_misses_nothing(redact, alerts, group, is_ascii):
    content = json.dumps({"groupKey": group, "alerts": alerts}, ensure_ascii=is_ascii).encode()
    told = redactor(redact)
    left = redacted(content, told)
    assert redacted(left, told) == left == redacted(content, redactor(redact))
    thorough = redacted(content, _Thorough(redact, KEY))
    assert parsed(left) == parsed(thorough)
    assert [each.fingerprint for each in parsed(left).alerts] == [
        each.fingerprint for each in parsed(content).alerts
    ]


class _Thorough(Redactor):
    """Looks into every alert."""

    def may_change(self, raw: bytes) -> bool:  # noqa: ARG002
        return True


# ---- the event recorder ------------------------------------------------------------------------------------


def pairs(**labels: str) -> dict[str, Any]:
    return {"labels": [{"key": name, "value": value} for name, value in labels.items()]}


def test_what_the_recorder_sends_is_redacted_and_says_the_same():
    labels = pairs(alertname="A", user="alice-the-user")
    details = {"labels": labels, "annotations": pairs(summary="alice-the-user: password=hunter2secret"),
               "startsAt": "2026-01-05T03:00:00Z", "endsAt": "2026-01-05T03:10:00Z"}  # fmt: skip
    events = [
        {"data": {"silenceMutedAlert": {"mutedAlert": {"labels": labels}}}},
        {"data": {"alertResolved": {"alert": {"details": details}}}, "instance": "am-0"},
        {"data": {"alertCreated": {"alert": details}}},
        {"data": {"unheardOf": {"a": "password=hunter2secret"}}},
        {"data": {"silenceMutedAlert": {"mutedAlert": {"labels": {"labels": [{"key": "user", "value": "alice-the-user"}] * 2}}}}},
        "password=hunter2secret",
    ]  # fmt: skip
    content = json.dumps(events).encode()
    left = redacted_record(content, redactor())
    assert b"alice" not in left
    assert b"hunter2" not in left
    assert redacted_record(left, redactor()) == left
    before, after = (parse_record(each, tenant="t", source="s") for each in (content, left))
    assert after.counts == before.counts
    assert [each.fingerprint for each in after.held] == [each.fingerprint for each in before.held]
    assert [each.fingerprint for each in after.resolved] == [each.fingerprint for each in before.resolved]
    assert after.resolved[0].ends_at == before.resolved[0].ends_at
    assert after.peer == before.peer
    assert len(after.faults) == len(before.faults) == 2


def test_a_record_that_is_none_is_refused():
    with pytest.raises(PayloadError):
        redacted_record(b'"password=hunter2"', redactor())


def test_the_golden_form():
    sent = alert(
        labels={"alertname": "A", "user": "alice", "x_token": "t0k3n"},
        annotations={"summary": "alice, 10.0.0.1"},
    )
    left = msgspec.json.decode(redacted(body(sent, groupKey='{}:{user="alice"}'), redactor()))
    user, ip = "<hash:ac0ef58cec416b31>", "<ip:cd063a9410502379>"
    assert left == {
        "alerts": [{
            "status": "firing", "labels": {"alertname": "A", "user": user}, "startsAt": "2026-01-05T03:00:00.123456789Z",
            "annotations": {"summary": f"{user}, {ip}"}, "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus/graph?g0.expr=up", "fingerprint": "0a5da7cfbddae7b2",
        }],
        "groupKey": f'{{}}:{{user="{user}"}}', "externalURL": "http://am",
    }  # fmt: skip
