"""The exact bytes that each destination gets. A change here is a change that somebody's parser sees."""

from __future__ import annotations

import pytest
from builders import event
from destinations import CASES, build, nasty_event, wire

from bridge.model import EventKind

EVENTS = {
    "opened": event(),
    "escalated": event(EventKind.ESCALATED, 2, escalations=1, degraded=True),
    "closed": event(EventKind.CLOSED, 3, anomaly=None),
    "nasty": nasty_event(size=100, count=4, labels=2),
}


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("case", CASES)
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
