"""Words of one's own and statuses read otherwise, over every kind; and what a template may hold."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from builders import episode, event, view
from destinations import CASES, NASTY, build, expected_of, nasty_event, wire
from expected import payload
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import connectors
from bridge.model import Blocked, Delivered, EventKind, Pending, Reject, Retry, Split, told_instead
from bridge.ports import Connector, HttpResponse, Rendered, Unreached
from connectors.templates import FIELDS, parts
from connectors.wording import filled, worded

ALL = " ".join(f"{{{field}}}" for field in [*FIELDS, "label:team", "label:instance"]) + NASTY.replace(
    "{", "{{"
).replace("}", "}}")
HUGE = nasty_event(size=10_000)


def made(case: str, **changes: Any) -> Connector:
    settings = CASES[case] | changes
    kind = connectors.load(settings["kind"])
    return connectors.make(settings["kind"], kind.Settings(**settings))


def judged(connector: Connector, status: int, body: bytes = b"", **headers: str):
    rendered = connector.render([event(EventKind.OPENED)], None, "")
    (verdict,) = connector.judge(rendered, HttpResponse(status=status, headers=headers, body=body))
    return verdict


# ---- templates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_every_kind_sends_hostile_words_in_its_own_format_and_within_its_limits(case):
    connector = made(case, title=ALL, text=ALL)

    rendered = connector.render([HUGE], None, "")

    assert len(payload(rendered.request)) <= connector.caps.max_bytes
    expected_of(case).parse(case, expected_of(case).readable(rendered.request))


@pytest.mark.parametrize("case", CASES)
def test_a_title_of_ones_own_is_told(case):
    connector, expected = made(case, title="zebra of {label:alertname}"), expected_of(case)
    # Some ask first whether there is a message; what they tell comes with a later step.
    requests = [
        connector.render([event()], memory, step).request for memory, step in ((None, ""), *expected.memories)
    ]

    told = [expected.readable(request) + wire(request) for request in requests]
    assert any(b"zebra of HighLatency" in each for each in told)


@pytest.mark.parametrize("case", CASES)
def test_where_nothing_is_set_nothing_stands_in_between(case):
    assert type(made(case)) is type(build(case))


def test_every_field_is_told_and_none_else():
    told = {field: filled(f"{{{field}}}", event(), 1000) for field in FIELDS}

    assert told["severity"] in {"critical", "warning", "info"}
    assert told["change"] == "opened"
    assert told["alert"] == "HighLatency"
    assert told["title"] == event().incident.title
    assert filled("{label:nothing}{label:alertname}", event(), 99) == "HighLatency"


def test_what_an_alert_says_is_no_template():
    hostile = view(title="{severity}{label:team}{{x}}{0.__class__}")

    assert filled("{title}!", event(incident=hostile), 1000) == hostile.title + "!"


def test_what_is_left_empty_stays_as_it_was():
    bare = event(incident=view(episodes=(episode(labels={}, annotations={}),), common_labels={}))

    assert worded(bare, "{runbook}{label:team} ", "{note}") == bare


@pytest.mark.parametrize(
    "template",
    [
        "{nothing}",
        "{title.__class__}",
        "{title!r}",
        "{title:>10}",
        "{0}",
        "{}",
        "{label:}",
        "{label:a-b}",
        "{[a]}",
    ],
)
def test_a_field_that_does_not_exist_is_refused_with_those_that_do(template):
    with pytest.raises(ValidationError) as caught:
        build("callback", title=template)

    assert "{severity}" in str(caught.value)
    assert "{label:NAME}" in str(caught.value)


@pytest.mark.parametrize("template", ["{", "}", "a{{{", "{{}", "{a{b}}", "", "  \n"])
def test_a_lone_brace_and_an_empty_template_are_refused(template):
    with pytest.raises(ValidationError, match=r"doubled|not empty|no field"):
        build("callback", text=template)


@given(st.text(max_size=60))
def test_any_text_is_a_template_once_its_braces_are_doubled(text):
    doubled = text.replace("{", "{{").replace("}", "}}")

    assert "".join(part.text for part in parts(doubled)) == text
    assert not any(part.is_field for part in parts(doubled))


@given(st.text(alphabet='{}ab:._!"é🔥\x00\n', max_size=30), st.integers(0, 50))
def test_any_template_is_refused_or_filled_within_its_limit(template, characters):
    try:
        parts(template)
    except ValueError:
        return
    assert len(filled(template, HUGE, characters)) <= characters


@given(st.text(max_size=80), st.sampled_from(sorted(CASES)))
def test_whatever_a_title_holds_the_receiver_can_read(title, case):
    told = event(incident=view(title=title or "x"))
    connector = made(case, title="[{severity}] {title}", text="{title}\n{summary}")
    request = connector.render([msgspec.structs.replace(told, seq=7)], None, "").request

    assert len(payload(request)) <= connector.caps.max_bytes
    if CASES[case]["kind"] in {"callback", "slack", "pagerduty"}:
        assert isinstance(json.loads(payload(request)), dict)


# ---- statuses --------------------------------------------------------------------------------------------

OVER_HTTP = pytest.mark.parametrize("case", [case for case in CASES if expected_of(case).url])


@OVER_HTTP
def test_the_named_statuses_are_read_as_the_settings_say(case):
    connector = made(case, accept_on=[200, 409], drop_on=[404], retry_on=[418, 400])

    assert isinstance(judged(connector, 200, b"<html>"), Delivered | Pending)
    assert isinstance(judged(connector, 409), Delivered)
    assert judged(connector, 404).wished
    assert isinstance(judged(connector, 418), Retry)
    assert judged(connector, 400, **{"retry-after": "7"}).after_s == 7.0


@OVER_HTTP
def test_all_other_statuses_stay_the_kinds_own(case):
    plain, connector = build(case), made(case, accept_on=[299], drop_on=[499], retry_on=[599])

    for status in (200, 202, 204, 302, 400, 401, 404, 409, 413, 422, 429, 500, 503):
        assert judged(connector, status) == judged(plain, status)


def test_what_the_kind_knows_of_its_success_is_kept():
    connector = made("slack", accept_on=[200])

    verdict = judged(connector, 200, b'{"ok":true,"channel":"C1","ts":"1.2"}')

    assert verdict.memory["ts"] == "1.2"


def test_no_answer_is_judged_by_the_kind():
    connector = made("callback", accept_on=[200])
    rendered = connector.render([event()], None, "")

    assert isinstance(connector.judge(rendered, Unreached(reason="x", maybe_sent=True))[0], Retry)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"accept_on": [99]}, "greater than or equal to 100"),
        ({"retry_on": [600]}, "less than or equal to 599"),
        ({"drop_on": ["404"]}, "valid integer"),
        ({"drop_on": [404], "retry_on": [500, 404]}, "404 stands in drop_on and in retry_on"),
        ({"accept_on": [409], "drop_on": [409]}, "409 stands in accept_on and in drop_on"),
    ],
)
def test_statuses_that_cannot_be_meant_are_faults(changes, what):
    with pytest.raises(ValidationError, match=what):
        build("callback", **changes)


def test_a_secret_that_is_echoed_stays_hidden():
    connector = made("callback", drop_on=[401])

    verdict = judged(connector, 401, CASES["callback"]["url"].encode())

    assert isinstance(verdict, Reject)
    assert "/hooks/tocsin" not in verdict.reason


def test_the_verdicts_that_name_each_event_are_as_many_as_before():
    connector = made("splunk", retry_on=[413])
    rendered = connector.render([event(EventKind.UPDATED, seq) for seq in (1, 2, 3)], None, "")
    plain = build("splunk").judge(rendered, HttpResponse(status=413, headers={}, body=b""))

    verdicts = connector.judge(rendered, HttpResponse(status=413, headers={}, body=b""))

    assert {type(each) for each in plain} == {Split}
    assert [type(each) for each in verdicts] == [Retry] * 3
    assert not isinstance(verdicts[0], Blocked)


@pytest.mark.parametrize("title", [None, "{severity}", "{title} ({severity})"])
def test_what_is_told_instead_of_another_says_so_whatever_the_template(title):
    told = msgspec.structs.replace(
        event(incident=view(title=told_instead("Disk full", "pager"))), instead_of="pager"
    )

    named = worded(told, title, None).incident.title

    assert named.count("[instead of pager]") == 1


STATUSES = {"accept_on": [503], "drop_on": [404], "retry_on": [200]}


def test_only_requests_that_carry_an_event_are_read_otherwise():
    acknowledged = {"indexer_acknowledgement": True}
    splunk, plain = made("splunk", **STATUSES, **acknowledged), made("splunk", **acknowledged)
    questions = [
        (splunk, plain, splunk.ask("00000000-0000-4000-8000-000000000000 3")),
        (splunk, plain, splunk.probe()),
        (made("slack", **STATUSES), build("slack"), made("slack", **STATUSES).probe()),
    ]

    for connector, kind, question in questions:
        for status in (200, 404, 503):
            rendered = Rendered(request=question, event_ids=("x",))
            answer = HttpResponse(status=status, headers={}, body=b'{"code":9}')
            assert connector.judge(rendered, answer) == kind.judge(rendered, answer)
        assert isinstance(judged(connector, 503), Delivered)
