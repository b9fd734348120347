"""Slack: one message per incident through its whole life, and blocks that Slack's own models accept."""

from __future__ import annotations

import json

import pytest
from builders import START, event
from destinations import build, nasty_event
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from bridge.model import Blocked, Delivered, EventKind, IncidentState, Reject, Retry, Split
from bridge.ports import Http, HttpResponse, Rendered
from connectors.slack import escape

MEMORY = {"channel": "C01", "ts": "1795471201.000100"}


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


def test_one_incident_is_one_message_whose_changes_stand_in_the_thread():
    workspace, memory = Workspace(), None

    for seq, kind in enumerate(
        [EventKind.OPENED, EventKind.UPDATED, EventKind.ESCALATED, EventKind.CLOSED, EventKind.REOPENED], 1
    ):
        memory = deliver(workspace, event(kind, seq), memory)

    assert len(workspace.messages) == 1
    assert [text.split(": ")[0] for text in workspace.replies] == ["🔴 Escalated", "✅ Closed", "🔴 Reopened"]


def test_a_message_that_was_deleted_is_posted_anew_and_remembered():
    workspace = Workspace()

    memory = deliver(workspace, event(EventKind.UPDATED, 2), {"channel": "C01", "ts": "0.1"})

    assert list(workspace.messages) == ["1.000100"]
    assert memory == {"channel": "C01", "ts": "1.000100"}


def test_a_message_that_was_just_posted_needs_no_reply():
    """The newest state went instead of the opening: the message itself says all."""
    workspace = Workspace()

    deliver(workspace, event(EventKind.ESCALATED, 3), None)

    assert (len(workspace.messages), workspace.replies) == (1, [])


def test_a_thread_that_was_deleted_meanwhile_is_no_failure():
    rendered = build("slack").render([event(EventKind.CLOSED, 2)], MEMORY, "thread")

    assert judge(rendered, ok=False, error="thread_not_found") == Delivered()


def test_only_an_escalation_is_shown_to_the_channel_as_well():
    for kind, loud in [(EventKind.ESCALATED, True), (EventKind.CLOSED, False)]:
        body = json.loads(build("slack").render([event(kind, 2)], MEMORY, "thread").request.body)

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
    for field in ("blocks", "text"):
        body = json.loads(build("slack").render([nasty_event(size=100)], None, "").request.body)
        texts = json.dumps([each for each in body[field] if field == "text" or each["type"] != "header"])

        assert "<!channel" not in texts


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
    assert connector.judge(rendered, HttpResponse(status=200, headers={}, body=b"ok")) == (Delivered(),)
    assert (connector.caps.updates, build("slack").caps.updates) == (False, True)


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


def test_a_channel_without_threads_gets_the_message_and_no_reply():
    rendered = build("slack").render([event(EventKind.CLOSED, 2)], MEMORY, "thread")

    assert judge(rendered, ok=False, error="restricted_action_non_threadable_channel") == Delivered()


def test_a_merged_incident_is_shown_as_over():
    body = json.loads(build("slack").render([event(EventKind.MERGED, 2)], None, "").request.body)

    assert body["text"].startswith("✅ Merged")
    assert event(EventKind.MERGED).incident.state is IncidentState.MERGED
