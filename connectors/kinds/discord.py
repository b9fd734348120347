"""Kind `discord`: one message per incident in a channel of Discord, kept up to date by the webhook that posted it.

`?wait=true` makes Discord answer with the message, whose id is remembered; later states of the incident change that
message. A change makes no sound, so what a person should notice (escalated, closed, ...) is posted as a short message
as well. A message that somebody deleted is posted anew.

Rules: texts come from senders. All that Markdown gives a meaning to is escaped and nobody can be mentioned
(`allowed_mentions`). Limits count UTF-16 code units, as Discord's editor does; what is within them is within any count.
The address is the secret: of it only the host is stored, and the message's id stands in `about`.
Source: docs.discord.com, "Webhook Resource", "Message Resource", "Rate Limits", "Opcodes and Status Codes".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, EventKind, Reject, Retry, Severity, Split, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors import changes
from connectors.common import OVER, clip_escaped, encode, json_object, judge_http, one_line, rfc3339, smallest
from connectors.credentials import (
    CA_FILE,
    KIND,
    SMALLEST_BYTES,
    CaFile,
    DestinationSettings,
    SecretUrl,
    SecretUrlFromFile,
    origin,
)
from connectors.wording import alert_mark, alert_text, links, mark, standing, suspect, together

HEADERS = {"content-type": "application/json"}
#: In `about`: the message that is changed, and that something is to be told aloud after it.
ID, ALOUD = "id", "aloud"
#: Units of a title (256 allowed), of the message that is told aloud (2000), and of parts of a description (4096); all
#: together stay below 6000.
TITLE_UNITS, ALOUD_UNITS, SUMMARY_UNITS, LINE_UNITS, FIELD_UNITS = 250, 1000, 1500, 220, 400
LISTED, LINK_UNITS = 10, 450
COLORS: dict[Severity, int] = {"critical": 0xD32F2F, "warning": 0xF57C00, "info": 0x1976D2}
COLOR_OVER = 0x388E3C
_MARKDOWN = re.compile(r"([\\*_~`|<>\[\]@]|^[#-])", re.MULTILINE)

#: Discord's codes: the message is not there; it was changed too often; too large; wrong in itself.
UNKNOWN_MESSAGE, TOO_MANY_EDITS, TOO_LARGE = 10008, 30046, 40005
OF_MESSAGE = frozenset({50006, 50035, 50109})
HINTS = {10015: "the webhook was deleted", 50027: "the webhook's token is not right"}
NOT_FOUND = 404


class DiscordSettings(DestinationSettings):
    """The address of a webhook."""

    kind: Literal["discord"] = pydantic.Field(default="discord", description=KIND)
    url: SecretUrl | None = pydantic.Field(
        default=None,
        description="Webhook of a channel; a secret. `?thread_id=...` at its end posts into that thread.",
    )
    url_file: SecretUrlFromFile | None = pydantic.Field(
        default=None, description="File that holds the webhook's address, instead of `url`."
    )
    max_bytes: int = pydantic.Field(
        default=64 * 1024, ge=SMALLEST_BYTES, description="Largest request in bytes."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)


class Discord(Connector):
    """Keeps one message per incident."""

    Settings: ClassVar[type[DiscordSettings]] = DiscordSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "chat",
        "kind": "discord",
        "url": "https://discord.com/api/webhooks/1234567890/a-secret-token-of-the-webhook",
    }
    caps = Caps(
        mode="newest",
        max_events=1,
        max_bytes=64 * 1024,
        delivery_class="at least once, deduplicate on event_id",
        updates=True,
        wait_s=30.0,
    )

    def __init__(self, settings: DiscordSettings) -> None:
        self._settings = settings
        self._url = settings.needed("url")
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        event, memory = events[0], memory or {}
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        told = changes.told(event)
        if step == "post" or ID not in memory:
            request = self._request("POST", _whole(event, room), told)
        elif step == "aloud":
            request = self._request("POST", _aloud(event, memory), told | {ID: memory[ID]})
        else:
            loud = {} if changes.change(event, memory) is None else {ALOUD: "1"}
            request = self._request("PATCH", _whole(event, room), told | loud | {ID: memory[ID]})
        return Rendered(request=request, event_ids=(event.event_id,), step=step)

    def _request(self, method: str, body: bytes, about: Memory) -> Http:
        return Http(method=method, url=origin(self._url), headers=HEADERS, body=body, about=about)

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_http(response, (self._url,))
        if isinstance(response, HttpResponse) and isinstance(rendered.request, Http):
            verdict = _verdict(rendered.request, response, verdict)
        return (verdict,) * len(rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        parts = urlsplit(self._url.reveal())
        path, query = parts.path.rstrip("/"), parts.query
        if request.method == "PATCH":
            path = f"{path}/messages/{request.about[ID]}"
        elif request.method == "POST":
            query = f"{query}&wait=true" if query else "wait=true"
        url = urlunsplit((parts.scheme, parts.netloc, path, query, ""))
        return msgspec.structs.replace(request, url=url, ca_file=self._settings.ca_file)

    @override
    def probe(self) -> Request:
        # Discord describes a webhook to whoever has its address.
        return Http(method="GET", url=origin(self._url), headers={}, body=b"")


# ---- answers ---------------------------------------------------------------------------------------------


def _verdict(request: Http, response: HttpResponse, verdict: Verdict) -> Verdict:
    answer = json_object(response.body)
    if isinstance(verdict, Delivered):
        return _accepted(request, answer)
    code = answer.get("code")
    code = code if isinstance(code, int) else None
    if request.method == "PATCH" and response.status == NOT_FOUND and code == UNKNOWN_MESSAGE:
        return Delivered(memory={}, next_step="post")
    if isinstance(verdict, Retry):
        # Limits are kept for a webhook, and those that are global for all of us: no other event would pass.
        after_s = verdict.after_s if verdict.after_s is not None else _reset_s(response)
        return msgspec.structs.replace(verdict, after_s=after_s)
    if isinstance(verdict, Reject | Blocked):
        return _refused(code, verdict)
    return verdict


def _refused(code: int | None, verdict: Reject | Blocked) -> Verdict:
    if code == TOO_LARGE:
        return Split(reason=verdict.reason)
    if code == TOO_MANY_EDITS:
        return Retry(reason=verdict.reason)
    if isinstance(verdict, Reject):
        return verdict if code in OF_MESSAGE else Blocked(reason=verdict.reason)
    hint = None if code is None else HINTS.get(code)
    return Blocked(reason=f"{verdict.reason} ({hint})") if hint else verdict


def _reset_s(response: HttpResponse) -> float | None:
    text = response.headers.get("x-ratelimit-reset-after", "")
    return float(text) if len(text) <= 10 and text.replace(".", "", 1).isdecimal() else None  # noqa: PLR2004


def _accepted(request: Http, answer: dict[str, Any]) -> Verdict:
    message, channel = answer.get("id"), answer.get("channel_id")
    if not isinstance(message, str) or not isinstance(channel, str) or not message.isalnum():
        return Blocked(reason="the answer is not Discord's; is a proxy in between?")
    if request.method == "GET":
        return Delivered()
    if ALOUD in request.about:
        return Delivered(next_step="aloud")  # what is told stays what it was until it is told aloud
    told = {key: value for key, value in request.about.items() if key != ID}
    return Delivered(memory=told | {ID: request.about.get(ID, message)})


# ---- the message -----------------------------------------------------------------------------------------


def _escape(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _units(text: str) -> int:
    """Return the length as Discord counts at worst: UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _line(text: str, units: int) -> str:
    return clip_escaped(one_line(text[:units]), units, _escape, _units)


def _whole(event: Event, room: int) -> bytes:
    made = (
        encode({"embeds": [_embed(event, listed)], "allowed_mentions": {"parse": []}})
        for listed in (LISTED, LISTED // 3, 0)
    )
    return smallest(made, room)


def _aloud(event: Event, memory: Memory) -> bytes:
    kind = changes.change(event, memory) or event.kind
    words = _line(changes.words(event, kind, memory), ALOUD_UNITS // 2)
    text = f"{mark(event)} **{words}**: {_line(event.incident.title, ALOUD_UNITS // 2)}"
    return encode({"content": text, "allowed_mentions": {"parse": []}})


def _embed(event: Event, listed: int) -> dict[str, Any]:
    view = event.incident
    embed: dict[str, Any] = {
        "title": f"{mark(event)} {_line(view.title, TITLE_UNITS)}",
        "color": COLOR_OVER if view.state in OVER else COLORS[view.severity],
        "fields": _fields(event, listed),
        "footer": {"text": f"incident {view.id[:100]} · event {event.event_id}"},
        "timestamp": rfc3339(event.at),
    }
    description = _description(event, listed)
    return embed | ({"description": description} if description else {})


def _description(event: Event, listed: int) -> str:
    view = event.incident
    if not listed:
        return ""
    lines = [one_line(each) for each in view.summary[:SUMMARY_UNITS].splitlines()]
    parts = [clip_escaped("\n".join(lines), SUMMARY_UNITS, _escape, _units)] if view.summary.strip() else []
    if view.episodes:
        alerts = [
            f"{alert_mark(each)} {_line(alert_text(each), LINE_UNITS)}" for each in view.episodes[:listed]
        ]
        more = len(view.episodes) - listed + view.truncated
        parts.append("\n".join([*alerts, f"and {more} more"] if more > 0 else alerts))
    return "\n\n".join(parts)


def _fields(event: Event, listed: int) -> list[dict[str, Any]]:
    view = event.incident
    severity, *state = standing(event)
    fields = [
        _field("Severity", severity),
        _field("State", ", ".join(state)),
        _field("Forecast of" if event.kind is EventKind.FORECAST else "Since", _date(view.opened_at)),
    ]
    if view.closed_at is not None:
        fields.append(_field("Closed", _date(view.closed_at)))
    if view.anomaly is not None:
        fields.append(_field("Anomaly", f"{view.anomaly:.2f}"))
    if event.degraded:
        fields.append(_field("Decided", "without models"))
    if listed:
        told = (("First suspect", suspect(event)), ("One incident because", together(event)))
        fields += [_field(name, _line(text, FIELD_UNITS), inline=False) for name, text in told if text]
        targets = " · ".join(
            f"[{each.text}]({_target(each.url)})" for each in links(event) if _is_short(each.url)
        )
        fields += [_field("Where to go next", targets, inline=False)] if targets else []
    return fields


def _field(name: str, value: str, *, inline: bool = True) -> dict[str, Any]:
    return {"name": name, "value": value, "inline": inline}


def _is_short(url: str) -> bool:
    return _units(_target(url)) <= LINK_UNITS


def _target(url: str) -> str:
    """Return an address that a pair of parentheses can hold."""
    return url.replace("(", "%28").replace(")", "%29").replace("\\", "%5C")


def _date(time: datetime) -> str:
    """Return a time that Discord shows in each reader's own zone."""
    return f"<t:{int(time.timestamp())}:f>"
