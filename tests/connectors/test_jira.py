"""Jira: one issue per incident through its whole life, against a Jira that answers as the real ones are documented to."""

from __future__ import annotations

import base64
import re

import pytest
from builders import START, episode, event
from cases.jira import KEY
from destinations import NASTY, build, wire
from fake_jira import LOST, FakeJira, answer
from golden_events import EVENTS
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, Reject, Retry, Split
from bridge.ports import HttpResponse
from connectors.kinds.jira import issues


def deliver(jira: FakeJira, told, memory=None, case: str = "jira", **settings):
    """Return what is remembered after all steps of one event."""
    connector, step = build(case, **settings), ""
    for _ in range(8):
        rendered = connector.render([told], memory, step)
        sealed = connector.seal(rendered.request, rendered.event_ids, START)
        (verdict,) = connector.judge(rendered, jira(sealed))
        assert isinstance(verdict, Delivered), verdict
        memory = memory if verdict.memory is None else verdict.memory
        step = verdict.next_step
        if not step:
            return memory
    raise AssertionError("the steps do not end")


def test_an_incident_is_one_issue_from_its_beginning_to_its_end():
    jira = FakeJira()
    memory = deliver(jira, EVENTS["opened"])
    memory = deliver(jira, EVENTS["escalated"], memory)
    memory = deliver(jira, EVENTS["closed"], memory)

    (issue,) = jira.issues.values()
    assert issue["summary"] == "checkout: HighLatency on 2 instances"
    assert issue["status"] == "Done"
    assert [each.partition(" (event")[0] for each in issue["comments"]] == [
        "Escalated: critical",
        "Closed after 3 s",
    ]
    assert memory["status"] == "done"
    assert jira.calls == [
        "POST api/3/search/jql", "POST api/2/issue",
        "PUT api/2/issue/OPS-1", "POST api/2/issue/OPS-1/comment",
        "PUT api/2/issue/OPS-1", "POST api/2/issue/OPS-1/comment",
        "GET api/2/issue/OPS-1/transitions", "POST api/2/issue/OPS-1/transitions",
    ]  # fmt: skip


def test_a_reopened_incident_moves_its_issue_back():
    jira = FakeJira()
    memory = deliver(jira, EVENTS["opened"])
    memory = deliver(jira, EVENTS["closed"], memory)
    memory = deliver(jira, event(EventKind.REOPENED, 4), memory, reopen_transition="to do")

    (issue,) = jira.issues.values()
    assert issue["status"] == "To Do"
    assert issue["comments"][-1].startswith("Reopened")
    assert memory["status"] == "open"


def test_an_update_without_a_change_worth_a_notice_makes_no_comment():
    jira = FakeJira()
    memory = deliver(jira, EVENTS["opened"])

    deliver(jira, event(EventKind.UPDATED, 2, title="other"), memory)

    (issue,) = jira.issues.values()
    assert issue["summary"] == "other"
    assert issue["comments"] == []


def test_a_memory_that_was_lost_finds_the_issue_by_its_label():
    jira = FakeJira()
    deliver(jira, EVENTS["opened"])

    memory = deliver(jira, event(EventKind.UPDATED, 2), None)

    assert memory["key"] == "OPS-1"
    assert len(jira.issues) == 1


def test_tenants_and_incidents_have_labels_of_their_own():
    labels = {issues.label_of(each) for each in (event(), event(tenant="other"), event(id="another"))}

    assert len(labels) == 3
    assert all(re.fullmatch(r"tocsin-[0-9a-f]{32}", label) for label in labels)


def test_what_is_over_opens_nothing():
    jira = FakeJira()

    deliver(jira, EVENTS["closed"])

    assert jira.issues == {}


def test_an_issue_that_was_deleted_is_opened_anew_unless_its_incident_is_over():
    jira = FakeJira()

    assert deliver(jira, EVENTS["escalated"], KEY)["key"] == "OPS-1"
    assert deliver(FakeJira(), EVENTS["closed"], KEY) == {}


def test_a_move_that_the_workflow_does_not_offer_is_as_good_as_done():
    jira = FakeJira()
    memory = deliver(jira, EVENTS["opened"])

    memory = deliver(jira, EVENTS["closed"], memory, resolve_transition="Nowhere")

    assert memory["status"] == "done"
    assert jira.issues["OPS-1"]["status"] == "To Do"


def test_data_center_searches_where_it_can_and_sets_priorities():
    jira = FakeJira()

    deliver(jira, EVENTS["opened"], case="jira_data_center")

    assert jira.calls[0] == "POST api/2/search"
    assert jira.issues["OPS-1"]["priority"] == {"name": "Highest"}


def test_a_note_becomes_a_comment_with_its_author():
    jira = FakeJira()
    memory = deliver(jira, EVENTS["opened"])
    told = event(EventKind.ACKNOWLEDGED, 2)
    told = type(told)(
        **{name: getattr(told, name) for name in told.__struct_fields__}
        | {"note": "on *it*", "author": "ann"}
    )

    deliver(jira, told, memory)

    assert jira.issues["OPS-1"]["comments"] == [rf"Acknowledged; ann: on \*it\* (event {told.event_id})"]


# ---- texts -----------------------------------------------------------------------------------------------


def test_markup_in_texts_is_only_text():
    alert = episode(labels={"alertname": "{noformat}[~admin] !x! |"}, annotations={"summary": NASTY})
    text = issues.description(event(summary="*bold* h1. {code}", episodes=(alert,)))

    assert not re.search(r"(?<!\\)[{}|!]", re.sub(r"\[(Source|Runbook)\|[^]]*\]", "", text))
    assert r"\*bold\*" in text
    assert "\x1b" not in text


def test_a_link_cannot_leave_its_brackets():
    alert = episode(generator_url="https://a.example/x]{code}[~b")
    text = issues.description(event(episodes=(alert,)))

    assert "[Source|https://a.example/x%5D%7Bcode%7D%5B~b]" in text


def test_long_texts_stay_within_jiras_limits():
    alerts = tuple(episode(number=each, annotations={"summary": "{" * 5000}) for each in range(100))
    told = event(title="t" * 400, summary="\\" * 40_000, episodes=alerts)

    assert len(issues.summary(told)) == 255
    assert len(issues.description(told)) <= 32_767


# ---- answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "response", "verdict"),
    [
        (
            "create",
            answer(400, {"errors": {"description": "The entered text is too long. It exceeds ..."}}),
            Split,
        ),
        ("create", answer(400, {"errors": {"summary": "You must specify a summary of the issue."}}), Reject),
        (
            "create",
            answer(400, {"errors": {"summary": "Field 'summary' cannot be set. It is not on ..."}}),
            Blocked,
        ),
        ("create", answer(400, {"errors": {"project": "valid project is required"}}), Blocked),
        ("create", answer(400, {"errors": {"project": "x", "summary": "y"}}), Blocked),
        ("create", answer(400, {"errorMessages": ["x"]}), Blocked),
        ("create", answer(404, LOST), Blocked),
        ("create", answer(201, {"key": "../../admin"}), Blocked),
        ("create", answer(200, {"key": "OPS-1"}), Blocked),
        ("", answer(200, {"issues": [{"key": "../x"}]}), Blocked),
        ("", answer(401), Blocked),
        ("", answer(403, {"errorMessages": ["no"]}), Blocked),
        ("", answer(410, {"errorMessages": ["removed"]}), Blocked),
        ("", answer(503), Retry),
    ],
)
def test_each_answer_leads_to_what_it_means(step, response, verdict):
    connector = build("jira")

    (judged,) = connector.judge(connector.render([event()], None, step), response)

    assert type(judged) is verdict


def test_a_limit_is_waited_for_as_long_as_jira_says():
    connector = build("jira")
    response = HttpResponse(status=429, headers={"retry-after": "12"}, body=b"")

    (judged,) = connector.judge(connector.render([event()], None, ""), response)

    assert judged.after_s == 12


@pytest.mark.parametrize(
    ("case", "credentials"),
    [
        ("jira", "Basic " + base64.b64encode(b"tocsin@example.com:jira-token-of-tocsin").decode()),
        ("jira_data_center", "Bearer personal-token-of-tocsin"),
    ],
)
def test_credentials_are_those_of_the_deployment_and_a_path_of_the_address_is_kept(case, credentials):
    connector = build(case)

    sealed = connector.seal(connector.probe(), (), START)

    assert sealed.headers["authorization"] == credentials
    assert sealed.url == connector._settings.url + "/rest/api/2/myself"


@pytest.mark.parametrize(
    "wrong",
    [
        {"token": None},
        {"project": 'OPS" OR project = "HR'},
        {"project": "ops"},
        {"deployment": "server"},
        {"priorities": {"fatal": "Highest"}},
        {"resolve_transition": ""},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValidationError):
        build("jira", **wrong)


@pytest.mark.parametrize("step", ["create", "update", "comment", "transitions", "transition/31"])
def test_a_later_request_is_byte_for_byte_what_it_was(step, golden):
    memory = None if step == "create" else KEY
    told = EVENTS["closed" if step.startswith("transition") else "escalated"]
    rendered = build("jira").render([told], memory, step)

    golden(f"jira/step_{step.replace('/', '_')}", wire(rendered.request))


def test_credentials_that_an_answer_repeats_are_hidden():
    connector = build("jira")
    rendered = connector.render([event()], None, "")
    sent = connector.seal(rendered.request, rendered.event_ids, START).headers["authorization"]

    (verdict,) = connector.judge(rendered, HttpResponse(status=400, headers={}, body=sent.encode()))

    assert sent.removeprefix("Basic ") not in verdict.reason
    assert "Basic ***" in verdict.reason
