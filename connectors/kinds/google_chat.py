"""Kind `google_chat`: one card per incident in a space of Google Chat, kept up to date; changes are told in its thread.

As a Chat app: the message has an id of ours (`messageId`), so that it is created once, found again without remembering
anything, and changed by `PATCH` with `allowMissing`, which creates it anew where somebody deleted it. Each reply has an
id that follows from its event. A repeat is answered with 409, or with the message that is there: nothing stands twice.

With the URL of an incoming webhook there is nothing to change: one card for each thing that a person should notice, in
the incident's thread, none for an update. Google does not say that a webhook's repeats are recognised.

Rules: texts come from senders. A card's texts are a small HTML, in which everything is escaped; a reply's text knows
`<users/all>` and has no escape, so that no angle bracket stays one. The webhook's URL is the secret.
Source: developers.google.com/workspace/chat/api/reference/rest/v1/spaces.messages, "create", "patch"; ".../Card".
"""

from __future__ import annotations

import html
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec
import pydantic
from pydantic import StringConstraints
from typing_extensions import override

from bridge.model import NAMESPACE, Blocked, Delivered, Event, EventKind, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors import changes
from connectors.clouds.google import GoogleSettings, auth, fault, is_installed, judge_google
from connectors.common import clip, clip_escaped, encode, json_object, one_line, smallest
from connectors.credentials import (
    CA_FILE,
    KIND,
    SEGMENT_CHARACTERS,
    SMALLEST_BYTES,
    CaFile,
    OriginUrl,
    Secret,
    SecretUrl,
    SecretUrlFromFile,
    origin,
)
from connectors.wording import alert_mark, alert_text, links, mark, standing, suspect, together

SCOPE = "https://www.googleapis.com/auth/chat.bot"
HEADERS = {"content-type": "application/json; charset=utf-8"}
#: A message with all that is in it. Source: "spaces.messages.create".
MAX_BYTES = 32_000
IN_THREAD = "REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD"
THERE, EXISTS = 409, "ALREADY_EXISTS"
TITLE_CHARACTERS, FALLBACK_CHARACTERS, REPLY_CHARACTERS = 150, 300, 600
SUMMARY_CHARACTERS, LINE_CHARACTERS, LISTED, LINK_CHARACTERS = 2000, 220, 10, 1500
#: Angle brackets that mean nothing.
NO_ANGLES = {ord("<"): "\u2039", ord(">"): "\u203a"}
#: In `about`: the path and query below the address; that a reply follows the change.
CALL, REPLY = "call", "reply"
#: Steps: change what turned out to be there; tell in the thread.
CHANGE, THREAD = "change", "thread"


class GoogleChatSettings(GoogleSettings):
    """A space and the credentials of a Chat app, or the URL of an incoming webhook."""

    kind: Literal["google_chat"] = pydantic.Field(default="google_chat", description=KIND)
    space: Annotated[str, StringConstraints(pattern=r"^spaces/[A-Za-z0-9_-]+$")] | None = pydantic.Field(
        default=None, description="Space that the Chat app is a member of, as `spaces/AAAA`."
    )
    url: SecretUrl | None = pydantic.Field(
        default=None, description="Incoming webhook, instead of `space`; a secret."
    )
    url_file: SecretUrlFromFile | None = pydantic.Field(
        default=None, description="File that holds the webhook's address, instead of `url`."
    )
    api_url: OriginUrl = pydantic.Field(
        default="https://chat.googleapis.com", description="Address of the API; change it for a proxy."
    )
    max_bytes: int = pydantic.Field(
        default=MAX_BYTES, ge=SMALLEST_BYTES, le=MAX_BYTES, description="Largest request in bytes."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> GoogleChatSettings:
        if (self.credential("url") is None) == (self.space is None):
            raise ValueError("give either space (a Chat app), or url (an incoming webhook)")
        return self

    @override
    def faults(self, data_dir: Path) -> dict[str, str]:
        if self.space is None or is_installed():
            return {}
        return {"space": 'a Chat app needs more: pip install "tocsin[google]"; a webhook does not'}


class GoogleChat(Connector):
    """Keeps one card per incident."""

    Settings: ClassVar[type[GoogleChatSettings]] = GoogleChatSettings
    example: ClassVar[dict[str, Any]] = {"name": "chat", "kind": "google_chat", "space": "spaces/AAAAexample"}
    caps = Caps(
        mode="newest",
        max_events=1,
        max_bytes=MAX_BYTES,
        delivery_class="exactly-once effect",
        updates=True,
        wait_s=30.0,
    )

    def __init__(self, settings: GoogleChatSettings) -> None:
        self._settings = settings
        self._url = settings.credential("url")
        self._secrets = () if self._url is None else (self._url, *_keys(self._url))
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        if self._url is not None:
            self.caps = msgspec.structs.replace(
                self.caps, updates=False, delivery_class="at least once, deduplicate on event_id"
            )

    @override
    def wants(self, event: Event, memory: Memory | None) -> bool:
        # A webhook's card cannot be changed, and a new one for every update buries the space.
        return self._url is None or event.kind is not EventKind.UPDATED

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        event, memory = events[0], memory or {}
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        told = changes.told(event)
        if self._url is not None:
            request = self._create(event, "", _whole(event, memory, room, aloud=bool(memory)), told)
        elif step == THREAD:
            request = self._create(event, _id("reply", event.event_id), _reply(event, memory), told)
        elif step == CHANGE or memory:
            request = self._change(event, memory, room)
        else:
            request = self._create(event, _message_id(event), _whole(event, {}, room), told)
        return Rendered(request=request, event_ids=(event.event_id,), step=step)

    def _create(self, event: Event, message_id: str, body: bytes, about: Memory) -> Http:
        named = {"messageId": message_id} if message_id else {}
        # One event makes two messages, the incident's and a reply.
        query = {
            "requestId": _id("request", message_id, event.event_id),
            **named,
            "messageReplyOption": IN_THREAD,
        }
        return self._request("POST", f"messages?{urlencode(query)}", body, about)

    def _change(self, event: Event, memory: Memory, room: int) -> Http:
        loud = {} if changes.change(event, memory) is None else {REPLY: "1"}
        call = f"messages/{_message_id(event)}?updateMask=cardsV2&allowMissing=true"
        return self._request("PATCH", call, _whole(event, memory, room), changes.told(event) | loud)

    def _request(self, method: str, call: str, body: bytes, about: Memory) -> Http:
        return Http(
            method=method, url=self._address(call), headers=HEADERS, body=body, about=about | {CALL: call}
        )

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_google(response, self._secrets)
        if isinstance(response, HttpResponse) and isinstance(rendered.request, Http):
            verdict = _verdict(rendered.request, response, verdict)
        return (verdict,) * len(rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        call = request.about.get(CALL, "")
        if self._url is not None:
            url, credentials = _sealed(self._url, call), None
        else:
            url, credentials = self._address(call), auth(self._settings, self._settings.api_url, SCOPE)
        return msgspec.structs.replace(request, url=url, auth=credentials, ca_file=self._settings.ca_file)

    @override
    def probe(self) -> Request | None:
        # An incoming webhook can only be tried by writing into the space.
        if self._url is not None:
            return None
        return Http(method="GET", url=self._address(""), headers={}, body=b"")

    def _address(self, call: str) -> str:
        """Return the address of a call in the space; of a webhook, what is no secret of it."""
        if self._url is not None:
            return origin(self._url)
        path = f"{self._settings.api_url.rstrip('/')}/v1/{self._settings.space}"
        return f"{path}/{call}" if call else path


def _keys(url: Secret) -> Iterator[Secret]:
    """Return what is secret of a webhook's address by itself: its key and its token."""
    for _name, value in parse_qsl(urlsplit(url.reveal()).query):
        if len(value) >= SEGMENT_CHARACTERS:
            yield Secret(value)


def _sealed(url: Secret, call: str) -> str:
    """Return a webhook's address with the query of a call added to its own."""
    parts = urlsplit(url.reveal())
    query = parse_qsl(parts.query, keep_blank_values=True) + parse_qsl(urlsplit(call).query)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query, quote_via=quote), ""))


def _message_id(event: Event) -> str:
    """Return the id of an incident's message: at most 63 small letters, digits and hyphens, after `client-`."""
    return _id("incident", event.tenant, event.incident.id)


def _id(*of: str) -> str:
    return f"client-{uuid.uuid5(NAMESPACE, chr(10).join(('google_chat', *of)))}"


# ---- answers ---------------------------------------------------------------------------------------------


def _verdict(request: Http, response: HttpResponse, verdict: Verdict) -> Verdict:
    told = {key: value for key, value in request.about.items() if key not in {CALL, REPLY}}
    if (
        response.status == THERE
        and fault(response.body).status == EXISTS
        and "messageId=" in request.about[CALL]
    ):
        # The message of the incident may tell of an older state; a reply tells of its event and no other.
        is_card = "cardsV2" in json_object(request.body)
        return Delivered(next_step=CHANGE) if is_card else Delivered(memory=told)
    if not isinstance(verdict, Delivered):
        return verdict
    name = json_object(response.body).get("name")
    if not isinstance(name, str) or not name.startswith("spaces/"):
        return Blocked(reason="the answer is not Google Chat's; is a proxy in between?")
    if request.method == "GET":
        return Delivered()
    if REPLY in request.about:
        return Delivered(next_step=THREAD)  # what is told stays what it was until it is told aloud
    return Delivered(memory=told)


# ---- the message -----------------------------------------------------------------------------------------


def _plain(text: str, characters: int) -> str:
    """Return `text` on one line, without angle brackets, which would mention somebody or make a link."""
    return clip(one_line(text[: 2 * characters]).translate(NO_ANGLES), characters)


def _line(text: str, characters: int) -> str:
    """Return `text` on one line for a card."""
    return clip_escaped(one_line(text[:characters]), characters, _escape)


def _escape(text: str) -> str:
    return html.escape(text, quote=False)


def _reply(event: Event, memory: Memory) -> bytes:
    kind = changes.change(event, memory) or event.kind
    text = f"{mark(event)} {_plain(changes.words(event, kind, memory), REPLY_CHARACTERS)}"
    return encode({"text": text, "thread": _thread(event)})


def _whole(event: Event, memory: Memory, room: int, *, aloud: bool = False) -> bytes:
    kind = changes.change(event, memory) or event.kind
    words = changes.words(event, kind, memory) if memory else kind.value.capitalize()
    body = {
        "fallbackText": _plain(f"{mark(event)} {words}: {event.incident.title[:500]}", FALLBACK_CHARACTERS),
        "thread": _thread(event),
    }
    made = (
        encode(
            body
            | {"cardsV2": [{"cardId": event.event_id, "card": _card(event, words if aloud else "", listed)}]}
        )
        for listed in (LISTED, LISTED // 3, 0)
    )
    return smallest(made, room)


def _thread(event: Event) -> dict[str, str]:
    return {"threadKey": event.incident.id[:1000]}


def _card(event: Event, words: str, listed: int) -> dict[str, Any]:
    view = event.incident
    title = clip(one_line(f"{mark(event)} {view.title[:500]}"), TITLE_CHARACTERS)
    return {
        "header": {"title": title, "subtitle": " · ".join(standing(event))},
        "sections": [{"widgets": each} for each in _sections(event, words, listed) if each],
    }


def _sections(event: Event, words: str, listed: int) -> list[list[dict[str, Any]]]:
    view = event.incident
    texts = [f"<b>{_line(words, REPLY_CHARACTERS)}</b>"] if words else []
    if listed and view.summary.strip():
        lines = [one_line(each) for each in view.summary[:SUMMARY_CHARACTERS].splitlines()]
        texts.append(clip_escaped("\n".join(lines), SUMMARY_CHARACTERS, _escape))
    if listed and view.episodes:
        texts.append(_list(event, listed))
    told = (("First suspect", suspect(event)), ("One incident because", together(event))) if listed else ()
    reasons = [_labelled(name, _line(text, 2 * LINE_CHARACTERS)) for name, text in told if text]
    buttons = [
        {"text": each.text, "onClick": {"openLink": {"url": each.url}}}
        for each in links(event)
        if listed and len(each.url) <= LINK_CHARACTERS
    ]
    last = [{"buttonList": {"buttons": buttons}}] if buttons else []
    return [[_paragraph(text) for text in texts], reasons, [*last, _paragraph(_facts(event))]]


def _list(event: Event, listed: int) -> str:
    view = event.incident
    lines = [
        f"{alert_mark(each)} {_line(alert_text(each), LINE_CHARACTERS)}" for each in view.episodes[:listed]
    ]
    more = len(view.episodes) - listed + view.truncated
    return "\n".join([*lines, f"and {more} more"] if more > 0 else lines)


def _facts(event: Event) -> str:
    view = event.incident
    facts = [
        f"{'forecast of' if event.kind is EventKind.FORECAST else 'since'} {view.opened_at:%Y-%m-%d %H:%M} UTC"
    ]
    if view.closed_at is not None:
        facts.append(f"closed {view.closed_at:%Y-%m-%d %H:%M} UTC")
    if view.anomaly is not None:
        facts.append(f"anomaly {view.anomaly:.2f}")
    if event.degraded:
        facts.append("decided without models")
    return " · ".join([*facts, f"incident {_line(view.id, 100)}"])


def _paragraph(text: str) -> dict[str, Any]:
    return {"textParagraph": {"text": text}}


def _labelled(name: str, text: str) -> dict[str, Any]:
    return {"decoratedText": {"topLabel": name, "text": text, "wrapText": True}}
