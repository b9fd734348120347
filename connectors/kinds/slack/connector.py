"""The connector: which call an event needs, and what is made of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Event, EventKind, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors import changes
from connectors.common import encode, judge_http, smallest
from connectors.credentials import (
    CA_FILE,
    KIND,
    SMALLEST_BYTES,
    CaFile,
    DestinationSettings,
    FromFile,
    HttpUrl,
    Secret,
    SecretUrl,
    SecretUrlFromFile,
    origin,
)
from connectors.kinds.slack.answers import POST, REPLY, TEST, UPDATE, judge_api, judge_webhook, method_of
from connectors.kinds.slack.blocks import LISTED, blocks, fallback, reply

HEADERS = {"content-type": "application/json; charset=utf-8"}
#: What a link leads to is not fetched and shown below the message.
QUIET = {"unfurl_links": False, "unfurl_media": False}


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
    buttons: bool = pydantic.Field(
        default=False,
        description="true: a bot's messages have buttons; Slack must have the address of /v1/slack then.",
    )
    api_url: HttpUrl = pydantic.Field(
        default="https://slack.com/api", description="Address of Slack's API; change it for a proxy."
    )
    max_bytes: int = pydantic.Field(
        default=64 * 1024, ge=SMALLEST_BYTES, description="Largest request in bytes."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)

    @override
    def required(self) -> frozenset[str]:
        return frozenset()

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> SlackSettings:
        has_token, has_url = self.credential("token") is not None, self.credential("url") is not None
        if has_token == has_url or has_token != (self.channel is not None):
            raise ValueError("give either token and channel (a bot), or url (an incoming webhook)")
        if self.buttons and has_url:
            raise ValueError("buttons: an incoming webhook has none; give token and channel")
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
        delivery_class="at least once, deduplicate on event_id",
        updates=True,
        wait_s=30.0,
    )

    def __init__(self, settings: SlackSettings) -> None:
        self._settings = settings
        self._token, self._url = settings.credential("token"), settings.credential("url")
        self.caps = msgspec.structs.replace(
            self.caps, max_bytes=settings.max_bytes, updates=self._url is None
        )

    @override
    def wants(self, event: Event, memory: Memory | None) -> bool:
        # A webhook's message cannot be changed, and a new one for every update buries the channel.
        return self._url is None or event.kind is not EventKind.UPDATED

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        event, memory = events[0], memory or {}
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        if self._url is not None:
            request = _webhook(self._url, event, memory, room)
        elif step == "post" or "ts" not in memory:
            request = self._post(event, room)
        elif step == "thread":
            request = self._thread(event, memory)
        else:
            request = self._update(event, memory, room)
        return Rendered(request=request, event_ids=(event.event_id,), step=step)

    def _post(self, event: Event, room: int) -> Http:
        body = {
            "channel": self._settings.channel,
            "text": fallback(event, event.kind, ""),
            "metadata": _metadata(event),
        }
        return self._message(self._method(POST), event, body, changes.told(event), room)

    def _update(self, event: Event, memory: Memory, room: int) -> Http:
        kind = changes.change(event, memory)
        body = {
            "channel": memory["channel"],
            "ts": memory["ts"],
            "text": fallback(event, kind or event.kind, ""),
            "metadata": _metadata(event),
        }
        about = changes.told(event) | ({} if kind is None else {REPLY: kind.value})
        return self._message(self._method(UPDATE), event, body, about, room)

    def _message(self, url: str, event: Event, body: dict[str, Any], about: Memory, room: int) -> Http:
        return _message(url, event, body, about, room, buttons=self._settings.buttons)

    def _thread(self, event: Event, memory: Memory) -> Http:
        kind = changes.change(event, memory) or event.kind
        body = {
            "channel": memory["channel"],
            "thread_ts": memory["ts"],
            "reply_broadcast": kind is EventKind.ESCALATED,
            "text": reply(event, changes.words(event, kind, memory)),
            "metadata": _metadata(event),
            **QUIET,
        }
        return _request(self._method(POST), body, changes.told(event))

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_http(response, (self._token, self._url))
        if isinstance(response, HttpResponse) and isinstance(rendered.request, Http):
            judge = judge_api if self._url is None else judge_webhook
            verdict = judge(rendered.request, response, verdict)
        return (verdict,) * len(rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        url, headers = request.url, request.headers
        if self._url is not None:
            url = self._url.reveal()
        elif self._token is not None:
            url = self._method(method_of(request))
            headers = headers | {"authorization": f"Bearer {self._token.reveal()}"}
        return msgspec.structs.replace(request, url=url, headers=headers, ca_file=self._settings.ca_file)

    @override
    def probe(self) -> Request | None:
        # An incoming webhook can only be tried by writing into the channel.
        return _request(self._method(TEST), {}, {}) if self._url is None else None

    def _method(self, method: str) -> str:
        return f"{self._settings.api_url.rstrip('/')}/{method}"


def _webhook(url: Secret, event: Event, memory: Memory, room: int) -> Http:
    kind = changes.change(event, memory) or event.kind
    change = changes.words(event, kind, memory) if memory else ""
    body = {"text": fallback(event, kind, change)}
    return _message(origin(url), event, body, changes.told(event), room)


def _message(
    url: str, event: Event, body: dict[str, Any], about: Memory, room: int, *, buttons: bool = False
) -> Http:
    """Return the request with as many alerts listed as there is room for."""
    made = (
        encode(body | QUIET | {"blocks": blocks(event, listed, buttons=buttons)})
        for listed in (LISTED, LISTED // 3, 0)
    )
    return Http(method="POST", url=url, headers=HEADERS, body=smallest(made, room), about=about)


def _request(url: str, body: dict[str, Any], about: Memory) -> Http:
    return Http(method="POST", url=url, headers=HEADERS, body=encode(body), about=about)


def _metadata(event: Event) -> dict[str, Any]:
    payload = {
        "event_id": event.event_id,
        "incident": event.incident.id,
        "kind": event.kind.value,
        "seq": event.seq,
    }
    return {"event_type": "tocsin_incident", "event_payload": payload}
