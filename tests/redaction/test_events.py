"""An event for a destination that may know less: nothing that is taken is in what any kind of destination sends."""

from __future__ import annotations

import pytest
from builders import at, episode, event, view
from destinations import EXPECTED

import connectors
from bridge.model import Advice, EventKind, Forecast, RootSuspect
from bridge.ports import encode_request
from bridge.redaction import Redact, Redactor, Rule, key_of, redacted_event

LESS = Redact(
    labels=(Rule(name="user", action="mask"), Rule(name="tenant_*", action="drop")),
    annotations=(Rule(name="query", action="drop"),),
    email="mask", ip="mask", card="mask", phone="hash",
)  # fmt: skip
PLANTS = {
    "hunter2secret": "postgres://app:hunter2secret@db/shop",
    "bob.smith@corp.example": "bob.smith@corp.example",
    "10.77.66.55": "10.77.66.55:9100",
    "4111111111111111": "card 4111111111111111",
    "+41446681800": "+41446681800",
    "alice-the-user": "alice-the-user",
    "tenant-of-alice": "tenant-of-alice",
    "select-of-users": "",
}
SAID = " and ".join(PLANTS.values())


def planted(kind: EventKind = EventKind.OPENED):
    labels = {
        "alertname": "Login", "user": "alice-the-user", "tenant_name": "tenant-of-alice", "severity": "critical",
        "service": "checkout", "instance": "10.77.66.55:9100",
    }  # fmt: skip
    one = episode(
        labels=labels,
        annotations={"summary": SAID, "query": "select-of-users"},
        generator_url=f"http://p/?q={SAID}",
        why=SAID,
    )
    other = episode(number=1)
    incident = view(
        episodes=(one, other), title=f"Login of {SAID}", summary=SAID, anomaly_reason=SAID, common_labels=labels,
        root=(RootSuspect(fingerprint=one.fingerprint, starts_at=one.starts_at, confidence=0.9, why=SAID),),
    )  # fmt: skip
    forecast = Forecast(
        aim="service", name=SAID, at=at(0), until=at(3600), probability=0.5, published=True, reference=0.1, expected=1.0,
        expected_low=0.0, expected_high=2.0, reasons=(SAID,),
    )  # fmt: skip
    advice = Advice(about="done", text=SAID, score=1.0, evidence=(SAID,), link=f"http://x/{SAID}")
    return event(
        kind=kind, incident=incident, note=SAID, author=SAID, forecast=forecast, recommendations=(advice,)
    )


def redactor() -> Redactor:
    return Redactor(LESS, key_of(b"k" * 32, "default"))


@pytest.mark.parametrize("kind", connectors.names())
@pytest.mark.parametrize("what", list(EventKind))
def test_what_is_taken_is_in_no_request(kind, what):
    made = connectors.load(kind)
    connector = made(made.Settings.model_validate(made.example))
    before, after = planted(what), redacted_event(planted(what), redactor())
    if not connector.wants(before, None):
        return
    step = EXPECTED[kind].tells if kind in EXPECTED else ""
    sent = encode_request(connector.render([after], None, step).request)
    for plant in PLANTS:
        assert plant.encode() not in sent, plant
    assert any(
        plant.encode() in encode_request(connector.render([before], None, step).request) for plant in PLANTS
    )


def test_what_identifies_an_event_stays():
    before, after = planted(), redacted_event(planted(), redactor())
    for field in ("event_id", "kind", "seq", "at", "tenant"):
        assert getattr(before, field) == getattr(after, field)
    for field in ("id", "state", "severity", "alerts_total", "opened_at", "url"):
        assert getattr(before.incident, field) == getattr(after.incident, field)
    for one, other in zip(before.incident.episodes, after.incident.episodes, strict=True):
        assert (one.fingerprint, one.starts_at, one.source) == (
            other.fingerprint,
            other.starts_at,
            other.source,
        )


def test_once_is_enough():
    once = redacted_event(planted(), redactor())
    assert redacted_event(once, redactor()) == once


def test_an_event_that_holds_nothing_is_the_same():
    usual = event()
    assert redacted_event(usual, Redactor(Redact(email="mask"))) == usual
