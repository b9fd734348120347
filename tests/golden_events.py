"""The events whose exact bytes are kept for every destination: an ordinary life, what has not begun, hostile text."""

from __future__ import annotations

from builders import START, at, event
from destinations import nasty_event

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
