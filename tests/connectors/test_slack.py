"""Slack: one message per incident through its whole life, and blocks that Slack's own models accept."""

from __future__ import annotations

import json

import msgspec
import pytest
from builders import START, at, episode, event
from destinations import build, nasty_event
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from bridge.model import Blocked, Delivered, EventKind, IncidentState, Reject, Retry, Split
from bridge.ports import Http, HttpResponse, Rendered
from connectors.kinds.slack import escape
from connectors.kinds.slack.blocks import blocks

#: What is remembered of an incident with one firing warning.
MEMORY = {
    "channel": "C01", "ts": "1795471201.000100",
    "severity": "warning", "state": "open", "escalations": "0", "known": "00000000",
}  # fmt: skip


def answer(**fields) -> HttpResponse:
    return HttpResponse(status=200, headers={}, body=json.dumps(fields).encode())


def judge(rendered: Rendered, **fields):
    (verdict,) = build("slack").judge(rendered, answer(**fields))
    return verdict


def method(request: Http) -> str:
    return request.url.rpartition("/")[2]


class Workspace:
    """A fake of Slack's Web API: posts, updates and threads, in memory."""

    def __init__(self) -> None:
        self.messages: dict[str, dict] = {}
        self.replies: list[str] = []

    def call(self, request: Http) -> HttpResponse:
        body = json.loads(request.body)
        if method(request) == "chat.update":
            if body["ts"] not in self.messages:
                return answer(ok=False, error="message_not_found")
            self.messages[body["ts"]] = body
            return answer(ok=True, channel="C01", ts=body["ts"])
        if "thread_ts" in body:
            if body["thread_ts"] not in self.messages:
                return answer(ok=False, error="thread_not_found")
            self.replies.append(body["text"])
            return answer(ok=True, channel="C01", ts="9.9")
        ts = f"{len(self.messages) + 1}.000100"
        self.messages[ts] = body
        return answer(ok=True, channel="C01", ts=ts)


def deliver(workspace: Workspace, each, memory):
    """Deliver one event with all its steps; return the last verdict and what is remembered then."""
    connector, step = build("slack"), ""
    while True:
        rendered = connector.render([each], memory, step)
        (verdict,) = connector.judge(rendered, workspace.call(rendered.request))
        assert isinstance(verdict, Delivered)
        memory = memory if verdict.memory is None else verdict.memory
        step = verdict.next_step
        if not step:
            return memory


def heard(*events) -> list[str]:
    """Return what stands in the thread after these events."""
    workspace, memory = Workspace(), None
    for each in events:
        memory = deliver(workspace, each, memory)
    assert len(workspace.messages) == 1
    return workspace.replies


def test_one_incident_is_one_message_whose_changes_stand_in_the_thread():
    told = heard(
        event(EventKind.OPENED, 1, severity="warning"),
        event(EventKind.UPDATED, 2, severity="warning", alerts_total=3, alerts_firing=3),
        event(EventKind.ESCALATED, 3, severity="critical", escalations=1),
        event(EventKind.CLOSED, 4, severity="critical", escalations=1, closed_at=at(1510)),
        event(EventKind.REOPENED, 5, severity="critical", escalations=1),
    )

    assert told == [
        "🔴 Escalated: warning → critical; 2 of 2 firing",
        "✅ Closed after 25 min; 2 alerts in all",
        "🔴 Reopened; 2 of 2 firing",
    ]


def test_a_change_is_told_although_a_newer_event_took_the_place_of_the_one_that_made_it():
    """While Slack was down `escalated` gave way to `updated`, and `closed` and `reopened` to another."""
    told = heard(
        event(EventKind.OPENED, 1, severity="warning"),
        event(EventKind.UPDATED, 3, severity="critical", escalations=1),
        event(EventKind.UPDATED, 4, severity="critical", escalations=1),
        event(EventKind.CLOSED, 5, severity="critical", escalations=1, closed_at=at(60)),
        event(EventKind.UPDATED, 7, severity="critical", escalations=2),
    )

    assert [text.partition(";")[0] for text in told] == [
        "🔴 Escalated: warning → critical", "✅ Closed after 1 min", "🔴 Reopened",
    ]  # fmt: skip


def test_what_was_told_once_is_not_told_again():
    told = heard(
        event(EventKind.OPENED, 1, escalations=1),
        event(EventKind.ESCALATED, 2, escalations=1),  # the message itself told of it
        event(EventKind.UPDATED, 3, escalations=1),
    )

    assert told == []


def test_a_reply_that_was_never_taken_stays_owed():
    """The update of the message went through, its reply was given up; the next update brings it."""
    connector = build("slack")
    changed = event(EventKind.ESCALATED, 2, severity="critical", escalations=1)
    rendered = connector.render([changed], MEMORY, "")
    (verdict,) = connector.judge(rendered, answer(ok=True, channel="C01", ts=MEMORY["ts"]))
    assert verdict == Delivered(next_step="thread")

    later = event(EventKind.UPDATED, 3, severity="critical", escalations=1)
    rendered = connector.render([later], MEMORY, "")
    (verdict,) = connector.judge(rendered, answer(ok=True, channel="C01", ts=MEMORY["ts"]))

    assert verdict == Delivered(next_step="thread")


@pytest.mark.parametrize(
    ("each", "text"),
    [
        # Who joined, by name and place, three at most.
        (
            event(
                EventKind.ESCALATED, 2, escalations=1, alerts_total=40, alerts_firing=12,
                episodes=(episode(), episode("NodeDown", 1, labels={"alertname": "NodeDown", "node": "db-2"})),
            ),
            "🔴 Escalated: warning → critical; NodeDown on db-2 joined; 12 of 40 firing",
        ),
        (
            event(EventKind.ESCALATED, 2, escalations=1, episodes=6),
            (
                "🔴 Escalated: warning → critical; HighLatency on 10.0.0.1:9100, HighLatency on 10.0.0.2:9100, "
                "HighLatency on 10.0.0.3:9100 and 2 more joined; 6 of 6 firing"
            ),
        ),
        (event(EventKind.MERGED, 2), "✅ Merged into incident 77aa77aa77aa77aa"),
        (
            event(EventKind.CLOSED, 2, closed_at=at(40), expired=True),
            "✅ Closed after 40 s; 2 alerts in all; the resolve of some never came",
        ),
        (event(EventKind.REMINDER, 2, severity="warning", episodes=1), "🟠 Still open; 1 of 1 firing"),
        (
            event(EventKind.SPLIT, 2, severity="warning", episodes=1, split_from="ab12"),
            "🟠 Split from incident ab12; 1 of 1 firing",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_reply_says_what_changed(each, text):
    body = json.loads(build("slack").render([each], MEMORY, "thread").request.body)

    assert body["text"] == text


def test_a_message_that_was_deleted_is_posted_anew_and_remembered():
    workspace = Workspace()

    memory = deliver(workspace, event(EventKind.UPDATED, 2), {"channel": "C01", "ts": "0.1"})

    assert list(workspace.messages) == ["1.000100"]
    assert (memory["channel"], memory["ts"]) == ("C01", "1.000100")


def test_a_message_that_was_just_posted_needs_no_reply():
    """The newest state went instead of the opening: the message itself says all."""
    workspace = Workspace()

    deliver(workspace, event(EventKind.ESCALATED, 3), None)

    assert (len(workspace.messages), workspace.replies) == (1, [])


@pytest.mark.parametrize("error", ["thread_not_found", "restricted_action_non_threadable_channel"])
def test_where_nobody_can_reply_the_message_is_enough_and_the_reply_is_not_tried_again(error):
    rendered = build("slack").render([event(EventKind.CLOSED, 2)], MEMORY, "thread")

    verdict = judge(rendered, ok=False, error=error)

    assert isinstance(verdict, Delivered)
    assert (verdict.next_step, verdict.memory["state"], verdict.memory["ts"]) == ("", "closed", MEMORY["ts"])


def test_only_an_escalation_is_shown_to_the_channel_as_well():
    for changed, loud in [
        (event(EventKind.ESCALATED, 2, escalations=1), True),
        (event(EventKind.UPDATED, 2, escalations=1), True),
        (event(EventKind.CLOSED, 2), False),
    ]:
        body = json.loads(build("slack").render([changed], MEMORY, "thread").request.body)

        assert body["reply_broadcast"] is loud


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        ("ratelimited", Retry),
        ("internal_error", Retry),
        ("invalid_auth", Blocked),
        ("account_inactive", Blocked),
        ("not_in_channel", Blocked),
        ("channel_not_found", Blocked),
        ("restricted_action_read_only_channel", Blocked),
        ("accesslimited", Blocked),
        ("team_not_found", Blocked),
        ("is_inactive", Blocked),
        ("invalid_blocks", Reject),
        ("msg_too_long", Split),
        ("message_not_found", Reject),  # of a post: makes no sense, but must not loop
        ("something_new", Blocked),
    ],
)
def test_a_200_that_is_not_ok_is_judged_by_its_error(error, verdict):
    rendered = build("slack").render([event()], None, "")

    judged = judge(rendered, ok=False, error=error)

    assert type(judged) is verdict
    assert error in judged.reason


def test_a_rate_limit_is_obeyed():
    rendered = build("slack").render([event()], None, "")
    limited = HttpResponse(status=429, headers={"retry-after": "30"}, body=b"")

    (verdict,) = build("slack").judge(rendered, limited)

    assert (verdict.after_s, verdict.whole_destination) == (30.0, True)


def test_a_200_that_is_not_slacks_blocks():
    assert isinstance(judge(build("slack").render([event()], None, "")), Blocked)


@pytest.mark.parametrize("case", ["slack", "slack_webhook"])
@pytest.mark.parametrize(
    "each", [event(), event(EventKind.CLOSED, 2), nasty_event(), event(episodes=0, title="", summary="")]
)
def test_slacks_own_models_accept_the_blocks_and_their_lengths(case, each):
    body = json.loads(build(case).render([each], None, "").request.body)

    assert 1 <= len(body["blocks"]) <= 50
    for fields in body["blocks"]:
        block = Block.parse(fields)
        assert block is not None
        block.validate_json()
        if fields["type"] == "header":
            assert 1 <= len(fields["text"]["text"]) <= 150
        if fields["type"] == "section":
            assert 1 <= len(fields["text"]["text"]) <= 3000
    assert 0 < len(body["text"]) < 4000


def test_no_label_can_mention_anybody():
    body = json.loads(build("slack").render([nasty_event(size=100)], None, "").request.body)
    # A header is plain text, which mentions nobody.
    blocks = [each for each in body["blocks"] if each["type"] != "header"]

    assert "<!channel" not in json.dumps(blocks)
    assert "<!channel" not in body["text"]
    assert "!channel" in body["text"]  # it stands there, escaped


@given(st.text())
def test_escaping_can_be_read_back(text):
    escaped = escape(text)

    assert not set("<>") & set(escaped)
    assert escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text


def test_a_webhook_gets_one_message_per_event_at_an_address_that_is_never_stored():
    connector = build("slack_webhook")
    rendered = connector.render([event(EventKind.CLOSED, 2)], None, "")

    assert rendered.request.url == "https://hooks.slack.com/"
    assert connector.seal(rendered.request, rendered.event_ids, START).url.endswith("/veryverysecret")
    (verdict,) = connector.judge(rendered, HttpResponse(status=200, headers={}, body=b"ok"))
    assert isinstance(verdict, Delivered)
    assert (connector.caps.updates, build("slack").caps.updates) == (False, True)


def test_a_webhook_is_not_told_of_updates_and_says_what_changed():
    """25 incidents became 85 messages when every update was one."""
    connector = build("slack_webhook")
    kinds = [kind for kind in EventKind if connector.wants(event(kind, 2), None)]
    assert set(EventKind) - set(kinds) == {EventKind.UPDATED}

    opened = connector.render([event(severity="warning")], None, "")
    (verdict,) = connector.judge(opened, HttpResponse(status=200, headers={}, body=b"ok"))
    closed = connector.render([event(EventKind.CLOSED, 5, closed_at=at(3700))], verdict.memory, "")

    assert json.loads(closed.request.body)["text"] == (
        "✅ Closed after 1 h 1 min; 2 alerts in all: checkout: HighLatency on 2 instances"
    )


@pytest.mark.parametrize(
    ("status", "words", "verdict"),
    [
        (200, b"ok", Delivered),
        (200, b"<html>Please log in</html>", Blocked),
        (400, b"invalid_payload", Reject),
        (400, b"no_text", Reject),
        (400, b"no_active_hooks", Blocked),
        (400, b"user_not_found", Blocked),
        (403, b"action_prohibited", Blocked),
        (403, b"invalid_token", Blocked),
        (404, b"channel_not_found", Blocked),
        (404, b"no_service", Blocked),
        (410, b"channel_is_archived", Blocked),
        (500, b"rollup_error", Retry),
    ],
)
def test_a_webhook_is_judged_by_its_words(status, words, verdict):
    connector = build("slack_webhook")
    rendered = connector.render([event()], None, "")

    (judged,) = connector.judge(rendered, HttpResponse(status=status, headers={}, body=words))

    assert type(judged) is verdict


def texts(each) -> str:
    """Return all that a person reads in the message."""
    body = json.loads(build("slack").render([each], None, "").request.body)
    return "\n".join(
        part["text"] for block in body["blocks"] for part in [*block.get("elements", []), block.get("text")]
        if part and isinstance(part, dict)
    )  # fmt: skip


def test_the_message_says_what_who_why_and_where_to_go():
    first = episode("NodeDown", 0, labels={"alertname": "NodeDown", "node": "db-1"})
    second = episode(
        number=1, severity="warning", ends_at=at(9), annotations={"summary": "slow", "runbook_url": "x"}
    )
    runbook = {"summary": "db-1 is gone", "runbook_url": "https://runbooks.example.com/NodeDown"}
    read = texts(event(episodes=(msgspec.structs.replace(first, annotations=runbook), second)))

    assert "🔴 NodeDown on db-1: db-1 is gone" in read
    assert "◦ HighLatency on 10.0.0.1:9100: slow" in read
    assert "*First suspect:* NodeDown on db-1 (80%): it came first" in read
    assert "*One incident because:* HighLatency on 10.0.0.1:9100: same service within 30 s" in read
    assert "<https://runbooks.example.com/NodeDown|Runbook>" in read
    assert "<https://prometheus.example.com/graph?g0.expr=up|Source>" in read
    assert "tocsin.example.com" not in read  # JSON for machines, and there is something better
    assert "0000000000000000" not in read  # nobody can look a fingerprint up


def test_without_anything_better_the_incident_itself_is_linked():
    bare = episode(annotations={}, generator_url="")

    assert "|Incident in Tocsin>" in texts(event(episodes=(bare,)))


def test_a_merged_incident_is_shown_as_over():
    body = json.loads(build("slack").render([event(EventKind.MERGED, 2)], None, "").request.body)

    assert body["text"].startswith("✅ Merged")
    assert event(EventKind.MERGED).incident.state is IncidentState.MERGED


@pytest.mark.parametrize("kind", [EventKind.FORECAST, EventKind.RECOMMENDATION])
def test_what_has_not_begun_does_not_count_alerts_that_there_are_none_of(kind):
    told = event(kind, episodes=(), severity="info", title="An incident is likely", summary="Why.\nSo.")
    shown = blocks(told, 10)
    assert [each["type"] for each in shown] == ["header", "section", "context"]
    facts = shown[-1]["elements"][0]["text"]
    assert facts.startswith(f"*info* · {kind.value} of <!date")
    assert "alerts firing" not in facts
