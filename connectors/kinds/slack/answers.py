"""What Slack answers.

Rules: a 2xx is not success, `ok` is. Only errors that are known to be about the message reject it; every other
one (there are some hundred, and new ones come) is a person's to put right, and blocks. What the verdict must know
of the event stands in the request's `about`. A message that was deleted is posted anew.
"""

from __future__ import annotations

from typing import Any

from bridge.model import Blocked, Delivered, Reject, Retry, Split, Verdict
from bridge.ports import Http, HttpResponse, Memory
from connectors.common import clip, json_object, one_line, retry_after_s

POST, UPDATE, TEST = "chat.postMessage", "chat.update", "auth.test"
GONE = 410
#: In `about`: that a reply in the thread follows the update.
REPLY = "reply"

#: The message we want to change is not there any more, or not ours.
LOST = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
PASSING = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
)
#: What is wrong with the message itself, in the Web API and at a webhook.
REJECTED = frozenset(
    {
        "invalid_arguments", "invalid_array_arg", "invalid_attachments", "invalid_blocks",
        "invalid_blocks_format", "invalid_charset", "invalid_form_data", "invalid_metadata_format",
        "invalid_metadata_schema", "invalid_payload", "markdown_text_conflict", "message_not_found",
        "missing_text_or_fallback_or_attachments", "no_text", "too_many_attachments",
    }
)  # fmt: skip
#: The same, and smaller it may pass.
TOO_LONG = frozenset({"metadata_too_large", "msg_blocks_too_long", "msg_too_long"})
#: There is no thread to reply in, or nobody may: the message itself was changed, and that is all there is.
NO_REPLIES = frozenset(
    {
        "thread_not_found", "cannot_reply_to_message", "restricted_action_non_threadable_channel",
        "restricted_action_thread_locked", *LOST,
    }
)  # fmt: skip


def method_of(request: Http) -> str:
    """Return the method of the Web API that a request calls."""
    return request.url.rpartition("/")[2]


def told(request: Http) -> Memory:
    """Return what counts as told once this request was taken."""
    return {key: value for key, value in request.about.items() if key != REPLY}


def judge_webhook(request: Http, response: HttpResponse, verdict: Verdict) -> Verdict:
    """Return what the words of an incoming webhook make of the verdict on the status."""
    words = response.body.decode("utf-8", "replace").strip()
    if isinstance(verdict, Delivered):
        if words == "ok":
            return Delivered(memory=told(request))
        return Blocked(reason="the answer is not Slack's `ok`; is a proxy in between?")
    if response.status == GONE:
        return Blocked(reason="HTTP 410: the channel of this webhook is archived")
    if isinstance(verdict, Reject) and words not in REJECTED:
        return Blocked(reason=verdict.reason)
    return verdict


def judge_api(request: Http, response: HttpResponse, verdict: Verdict) -> Verdict:
    """Return what the JSON of the Web API makes of the verdict on the status."""
    if isinstance(verdict, Delivered):
        return _judge_answer(request, response)
    if isinstance(verdict, Reject):  # the Web API says what it has against a message with a 200
        return Blocked(reason=f"{verdict.reason} (not Slack's answer; is a proxy in between?)")
    return verdict


def _judge_answer(request: Http, response: HttpResponse) -> Verdict:
    answer = json_object(response.body)
    if answer.get("ok") is True:
        return _accepted(request, answer)
    error = answer.get("error")
    if not isinstance(error, str):
        return Blocked(reason="the answer is not Slack's; is a proxy in between?")
    sent = json_object(request.body)
    if "thread_ts" in sent and error in NO_REPLIES:
        return Delivered(memory=_remembered(sent["channel"], sent["thread_ts"], request))
    if error in LOST and method_of(request) == UPDATE:
        return Delivered(memory={}, next_step="post")
    reason = f"Slack answered {clip(one_line(error), 100)}"
    if error in PASSING:
        return Retry(reason=reason, after_s=retry_after_s(response), whole_destination=True)
    if error in TOO_LONG:
        return Split(reason=reason)
    return Reject(reason=reason) if error in REJECTED else Blocked(reason=reason)


def _accepted(request: Http, answer: dict[str, Any]) -> Verdict:
    sent = json_object(request.body)
    if "thread_ts" in sent:
        return Delivered(memory=_remembered(sent["channel"], sent["thread_ts"], request))
    channel, ts = answer.get("channel"), answer.get("ts")
    if method_of(request) == TEST or not isinstance(channel, str) or not isinstance(ts, str):
        return Delivered()
    if REPLY in request.about:
        return Delivered(next_step="thread")  # what is told stays what it was until it is told aloud
    return Delivered(memory=_remembered(channel, ts, request))


def _remembered(channel: str, ts: str, request: Http) -> Memory:
    return {"channel": channel, "ts": ts, **told(request)}
