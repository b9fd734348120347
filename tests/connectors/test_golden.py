"""The exact bytes that each destination gets. A change here is a change that somebody's parser sees."""

from __future__ import annotations

import pytest
from builders import START, at, event
from destinations import CASES, build, nasty_event, wire

from bridge.analysis.announcing import announcement, recommendation
from bridge.model import Advice, EventKind, Forecast

FORECAST = Forecast(
    aim="service", name="shop & <cart>", at=START, until=at(14_400), probability=0.6, published=True, reference=0.2,
    expected=0.3, expected_low=0.0, expected_high=1.0, reasons=("3 incidents in the last hour: 2.4 times the odds",),
)  # fmt: skip
ADVICE = (
    Advice(
        about="done", text='Consider what helped before: "restarted the pool"', score=0.8, incidents=("inc-1",),
        evidence=("inc-1 of 2026-11-20, alike in Slow, shop: closed 5 min after it was noted", "forecast: 3 incidents"),
    ),
    Advice(
        about="runbook", text="Have the runbook at hand: https://runbooks.example/slow", score=0.5,
        link="https://runbooks.example/slow", evidence=("Slow fires now and links it", "forecast: 3 incidents"),
    ),
)  # fmt: skip
URL = "https://tocsin.example.com"

EVENTS = {
    "opened": event(),
    "escalated": event(EventKind.ESCALATED, 2, escalations=1, degraded=True),
    "closed": event(EventKind.CLOSED, 3, anomaly=None),
    "forecast": announcement(FORECAST, "default", degraded=False, external_url=URL),
    "recommendation": recommendation(FORECAST, ADVICE, "default", degraded=False, external_url=URL),
    "nasty": nasty_event(size=100, count=4, labels=2),
}


#: Nobody is paged for what has not begun.
UNSAID = {("pagerduty", "forecast"), ("pagerduty", "recommendation")}


@pytest.mark.parametrize(
    ("case", "name"), [(case, name) for case in CASES for name in EVENTS if (case, name) not in UNSAID]
)
def test_the_first_request_is_byte_for_byte_what_it_was(case, name, golden):
    rendered = build(case).render([EVENTS[name]], None, "")

    golden(f"{case}/{name}", wire(rendered.request))


@pytest.mark.parametrize("step", ["", "thread"])
def test_a_later_slack_request_is_byte_for_byte_what_it_was(step, golden):
    memory = {
        "channel": "C01", "ts": "1795471201.000100",
        "severity": "warning", "state": "open", "escalations": "0", "known": "00000000",
    }  # fmt: skip
    rendered = build("slack").render([EVENTS["escalated"]], memory, step)

    golden(f"slack/escalated_{step or 'update'}", wire(rendered.request))
