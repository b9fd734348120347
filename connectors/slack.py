"""Kind `slack`: one message per incident, kept up to date; changes are told in its thread.

With a bot token: `chat.postMessage` once, then `chat.update` of the same message (remembered as `channel`
and `ts`); what a person should notice (escalated, closed, ...) goes into the thread as well, since an update
makes no sound. With the URL of an incoming webhook there is nothing to update: one message per event.

Rules: a 2xx is not success, `ok` is. Only errors that are known to be about the message reject it; every other
one (there are some hundred, and new ones come) is a person's to put right, and blocks. The kind of the event
stands in the message's `metadata`, so that `judge` knows whether a reply follows. A message that was deleted is
posted anew.
Sources: docs.slack.dev, methods chat.postMessage and chat.update; "Formatting message text"; Block Kit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import (
    Blocked,
    Delivered,
    Event,
    EventKind,
    IncidentState,
    Reject,
    Retry,
    Severity,
    Split,
    Verdict,
)
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.common import (
    alert_line,
    clip,
    clip_escaped,
    encode,
    json_object,
    judge_http,
    one_line,
    retry_after_s,
)
from connectors.credentials import (
    CA_FILE,
    KIND,
    DestinationSettings,
    FromFile,
    HttpUrl,
    Secret,
    SecretUrl,
    SecretUrlFromFile,
    origin,
)

POST, UPDATE, TEST = "chat.postMessage", "chat.update", "auth.test"
HEADER_CHARACTERS, FALLBACK_CHARACTERS = 150, 300
#: Both below the 3000 characters of a section, escapes included.
SUMMARY_CHARACTERS, LINE_CHARACTERS, LISTED = 2900, 200, 10
GONE = 410

#: Kinds that only change the message; all others are also told in the thread.
QUIET_KINDS = frozenset({EventKind.OPENED, EventKind.UPDATED})
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
#: A channel in which nobody can reply in a thread: the message itself was changed, and that is all there is.
NO_REPLIES = frozenset(
    {"cannot_reply_to_message", "restricted_action_non_threadable_channel", "restricted_action_thread_locked"}
)
MARKS: dict[Severity, str] = {"critical": "🔴", "warning": "🟠", "info": "🔵"}


class SlackSettings(DestinationSettings):
    """A bot token and a channel, or the URL of an incoming webhook."""

    kind: Literal["slack"] = pydantic.Field(default="slack", description=KIND)
    token: Secret | None = pydantic.Field(default=None, description="Bot token with chat:write.")
    token_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the token, instead of `token`."
    )
    channel: Annotated[str, pydantic.Field(min_length=1)] | None = pydantic.Field(
        default=None, description="Channel by name or id; the bot must be in it."
    )
    url: SecretUrl | None = pydantic.Field(
        default=None, description="Incoming webhook, instead of token and channel; a secret."
    )
    url_file: SecretUrlFromFile | None = pydantic.Field(
        default=None, description="File that holds the webhook's address, instead of `url`."
    )
    api_url: HttpUrl = pydantic.Field(
        default="https://slack.com/api", description="Address of Slack's API; change it for a proxy."
    )
    ca_file: str = pydantic.Field(default="", description=CA_FILE)

    @override
    def required(self) -> frozenset[str]:
        return frozenset()

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> SlackSettings:
        has_token, has_url = self.credential("token") is not None, self.credential("url") is not None
        if has_token == has_url or has_token != (self.channel is not None):
            raise ValueError("give either token and channel (a bot), or url (an incoming webhook)")
        return self


class Slack(Connector):
    """Keeps one message per incident."""

    Settings: ClassVar[type[SlackSettings]] = SlackSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "chat",
        "kind": "slack",
        "token": "xoxb-0000-example",
        "channel": "#incidents",
    }
    caps = Caps(
        mode="newest",
        max_events=1,
        max_bytes=64 * 1024,
        idempotency="none",
        delivery_class="at least once, deduplicate on event_id",
        updates=True,
        wait_s=30.0,
    )

    def __init__(self, settings: SlackSettings) -> None:
        self._settings = settings
        self._token, self._url = settings.credential("token"), settings.credential("url")
        if self._url is not None:
            self.caps = msgspec.structs.replace(self.caps, updates=False)

    @override
    def render(self, events: Sequence[Event], memory: Memory | None, step: str) -> Rendered:
        event = events[0]
        body: dict[str, Any] = {"text": _fallback(event), "unfurl_links": False, "unfurl_media": False}
        if self._url is not None:
            request = _post(origin(self._url), body | {"blocks": _blocks(event)})
        else:
            body["metadata"] = _metadata(event)
            request = _post(*self._call(event, body, memory if step != "post" else None, step))
        return Rendered(request=request, event_ids=(event.event_id,), step=step)

    def _call(
        self, event: Event, body: dict[str, Any], memory: Memory | None, step: str
    ) -> tuple[str, dict[str, Any]]:
        if memory is None or "ts" not in memory:
            return self._method(POST), body | {"channel": self._settings.channel, "blocks": _blocks(event)}
        body = body | {"channel": memory["channel"]}
        if step == "thread":
            loud = event.kind is EventKind.ESCALATED
            return self._method(POST), body | {"thread_ts": memory["ts"], "reply_broadcast": loud}
        return self._method(UPDATE), body | {"ts": memory["ts"], "blocks": _blocks(event)}

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_http(response, (self._token, self._url))
        if isinstance(response, HttpResponse) and isinstance(rendered.request, Http):
            if self._url is not None:
                verdict = _judge_webhook(response, verdict)
            elif isinstance(verdict, Delivered):
                verdict = _judge_answer(rendered.request, response)
            elif isinstance(verdict, Reject):  # the Web API says what it has against a message with a 200
                verdict = Blocked(reason=f"{verdict.reason} (not Slack's answer; is a proxy in between?)")
        return (verdict,) * len(rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        url, headers = request.url, request.headers
        if self._url is not None:
            url = self._url.reveal()
        elif self._token is not None:
            url = self._method(_method_of(request))
            headers = headers | {"authorization": f"Bearer {self._token.reveal()}"}
        return msgspec.structs.replace(request, url=url, headers=headers, ca_file=self._settings.ca_file)

    @override
    def probe(self) -> Request | None:
        # An incoming webhook can only be tried by writing into the channel.
        return _post(self._method(TEST), {}) if self._url is None else None

    def _method(self, method: str) -> str:
        return f"{self._settings.api_url.rstrip('/')}/{method}"


def _post(url: str, body: dict[str, Any]) -> Http:
    headers = {"content-type": "application/json; charset=utf-8"}
    return Http(method="POST", url=url, headers=headers, body=encode(body))


def _method_of(request: Http) -> str:
    return request.url.rpartition("/")[2]


# ---- answers ---------------------------------------------------------------------------------------------


def _judge_webhook(response: HttpResponse, verdict: Verdict) -> Verdict:
    """Return what the words of an incoming webhook make of the verdict on the status."""
    words = response.body.decode("utf-8", "replace").strip()
    if isinstance(verdict, Delivered) and words != "ok":
        return Blocked(reason="the answer is not Slack's `ok`; is a proxy in between?")
    if response.status == GONE:
        return Blocked(reason="HTTP 410: the channel of this webhook is archived")
    if isinstance(verdict, Reject) and words not in REJECTED:
        return Blocked(reason=verdict.reason)
    return verdict


def _judge_answer(request: Http, response: HttpResponse) -> Verdict:
    """Return the verdict on a 2xx of the Web API."""
    answer = json_object(response.body)
    if answer.get("ok") is True:
        return _accepted(request, answer)
    error = answer.get("error")
    if not isinstance(error, str):
        return Blocked(reason="the answer is not Slack's; is a proxy in between?")
    sent = json_object(request.body)
    if "thread_ts" in sent and error in {"thread_not_found", *LOST, *NO_REPLIES}:
        return Delivered()  # the message itself was changed before; there is nothing left to reply to
    if error in LOST and _method_of(request) == UPDATE:
        return Delivered(memory={}, next_step="post")
    reason = f"Slack answered {clip(one_line(error), 100)}"
    if error in PASSING:
        return Retry(reason=reason, after_s=retry_after_s(response), whole_destination=True)
    if error in TOO_LONG:
        return Split(reason=reason)
    return Reject(reason=reason) if error in REJECTED else Blocked(reason=reason)


def _accepted(request: Http, answer: dict[str, Any]) -> Verdict:
    sent = json_object(request.body)
    channel, ts = answer.get("channel"), answer.get("ts")
    if _method_of(request) == TEST or "thread_ts" in sent:
        return Delivered()
    if not isinstance(channel, str) or not isinstance(ts, str):
        return Delivered()
    is_update = _method_of(request) == UPDATE
    return Delivered(
        memory={"channel": channel, "ts": ts},
        next_step="thread" if is_update and _kind_of(sent) not in QUIET_KINDS else "",
    )


def _kind_of(sent: dict[str, Any]) -> str:
    kind = sent.get("metadata", {}).get("event_payload", {}).get("kind", "")
    return kind if isinstance(kind, str) else ""


# ---- what people read ------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Return `text` for Slack's mrkdwn: `&`, `<` and `>` as entities, so that nothing becomes a mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _metadata(event: Event) -> dict[str, Any]:
    payload = {
        "event_id": event.event_id,
        "incident": event.incident.id,
        "kind": event.kind.value,
        "seq": event.seq,
    }
    return {"event_type": "tocsin_incident", "event_payload": payload}


def _fallback(event: Event) -> str:
    """Return the one line of notifications and of replies in the thread."""
    title = clip_escaped(one_line(event.incident.title[:500]), FALLBACK_CHARACTERS, escape)
    return f"{_mark(event)} {event.kind.value.capitalize()}: {title}"


def _mark(event: Event) -> str:
    is_over = event.incident.state in {IncidentState.CLOSED, IncidentState.MERGED}
    return "✅" if is_over else MARKS[event.incident.severity]


def _blocks(event: Event) -> list[dict[str, Any]]:
    view = event.incident
    title = clip(one_line(f"{_mark(event)} {view.title[:500]}"), HEADER_CHARACTERS)
    header = {"type": "plain_text", "text": title, "emoji": False}
    blocks: list[dict[str, Any]] = [{"type": "header", "text": header}]
    if view.summary.strip():
        lines = (one_line(line) for line in view.summary[:SUMMARY_CHARACTERS].splitlines())
        blocks.append(_section(clip_escaped("\n".join(lines), SUMMARY_CHARACTERS, escape)))
    if view.episodes:
        blocks.append(_section(_list(event)))
    # The id of the event as the block's: it also finds a message that was posted twice through a webhook.
    facts = {"type": "context", "block_id": event.event_id, "elements": [_mrkdwn(_facts(event))]}
    blocks.append(facts)
    return blocks


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text}


def _list(event: Event) -> str:
    view = event.incident
    lines = [
        f"{'•' if episode.ends_at is None else '◦'} "
        + clip_escaped(one_line(alert_line(episode)[:LINE_CHARACTERS]), LINE_CHARACTERS, escape)
        for episode in view.episodes[:LISTED]
    ]
    more = len(view.episodes) - LISTED + view.truncated
    return "\n".join([*lines, f"and {more} more"] if more > 0 else lines)


def _facts(event: Event) -> str:
    view = event.incident
    facts = [
        f"*{view.severity}*",
        view.state.value,
        f"{view.alerts_firing} of {view.alerts_total} alerts firing",
        f"since {_date(view.opened_at)}",
    ]
    if view.closed_at is not None:
        facts.append(f"closed {_date(view.closed_at)}")
    if view.anomaly is not None:
        facts.append(f"anomaly {view.anomaly:.2f}")
    if event.degraded:
        facts.append("decided without models")
    facts.append(_link(view.url) or f"`{escape(clip(view.id, 100))}`")
    return " · ".join(facts)


def _date(time: datetime) -> str:
    """Return a time that Slack shows in each reader's own zone."""
    written = time.strftime("%Y-%m-%d %H:%M UTC")
    return f"<!date^{int(time.timestamp())}^{{date_short_pretty}} {{time}}|{written}>"


def _link(url: str) -> str:
    is_plain = url.startswith(("http://", "https://")) and not set(url) & set("<>| \n")
    return f"<{escape(url)}|open in Tocsin>" if is_plain and len(url) <= LINE_CHARACTERS * 5 else ""
