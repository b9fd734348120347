"""The exact bytes that each destination gets. A change here is a change that somebody's parser sees."""

from __future__ import annotations

import pytest
from destinations import CASES, build, wire
from golden_events import EVENTS

#: Nobody is called, and nothing is opened, for what has not begun.
UNSAID = {
    (case, name)
    for case in ("jira", "jira_data_center", "opsgenie", "pagerduty", "servicenow", "servicenow_key")
    for name in ("forecast", "recommendation")
}


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
