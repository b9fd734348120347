"""Kind `pagerduty`: pages through the Events API v2, one PagerDuty alert per page of an incident.

`dedup_key` is `<incident>/e<n>`, n = how often the incident escalated (`connectors.paging`): an escalation pages anew,
anything else about an open page is not sent (`wants`). A key that was never triggered is resolved in vain, which
PagerDuty ignores.

Rules: the routing key is the secret; it stands in the body, so `seal` puts it there and `render` leaves it out. Only
202 with `"status": "success"` is success, and only a 400 in PagerDuty's own JSON is about an event: anything else comes
from something in between, and a page that a login page has swallowed would be missed at night.

Decision: an `updated` event is not sent, although a trigger with the same key would only be appended to the alert's
log. Somebody who resolves the alert in PagerDuty while the incident goes on would be woken by the next update: there
the key is free again and opens a new alert. What is worth a look at once (a critical that joins) escalates, and that
pages anew with all that is known by then.
Source: developer.pagerduty.com, "Events API v2": 202 accepted, 400 invalid, 429 wait "a few minutes".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, EventKind, Reject, Retry, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.common import clip, encode, json_object, judge_http, one_line, rfc3339, smallest
from connectors.credentials import (
    CA_FILE,
    KIND,
    SMALLEST_BYTES,
    CaFile,
    DestinationSettings,
    FromFile,
    HttpUrl,
    Secret,
)
from connectors.paging import Action, accepted, action_of, key_of, number_of, usual_action
from connectors.wording import alert_text, label, links, name_of, place_of, suspect, together, worst

ACCEPTED, INVALID, TOO_MANY = 202, 400, 429
ROUTING_KEY = (b"routing_key", b"routing key")
PAGERDUTY = "pagerduty.com"
WAIT_S = 120.0  # "a few minutes", where PagerDuty does not say how long
SUMMARY_CHARACTERS, FIELD_CHARACTERS, DETAIL_CHARACTERS = 1024, 255, 2000
LINE_CHARACTERS, LINK_CHARACTERS, LISTED, LABELS = 300, 2000, 20, 50
BARE_CHARACTERS = 100  # of each text where all else has been left out already
GROUPS = ("cluster", "namespace")


class PagerDutySettings(DestinationSettings):
    """Which service to page."""

    kind: Literal["pagerduty"] = pydantic.Field(default="pagerduty", description=KIND)
    routing_key: Secret | None = pydantic.Field(
        default=None, description="Integration key of an Events API v2 service."
    )
    routing_key_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the key, instead of `routing_key`."
    )
    url: HttpUrl = pydantic.Field(
        default="https://events.pagerduty.com/v2/enqueue",
        description="Where events go; in the EU region events.eu.pagerduty.com.",
    )
    resolve_on_expiry: bool = pydantic.Field(
        default=False, description="true: also resolve when an alert's resolve never came."
    )
    max_bytes: int = pydantic.Field(
        default=512 * 1024,
        ge=SMALLEST_BYTES,
        description="Largest request in bytes; PagerDuty takes no more.",
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)

    @pydantic.model_validator(mode="after")
    def _key_of_a_service(self) -> PagerDutySettings:
        host, key = urlsplit(self.url).hostname or "", self.needed("routing_key").reveal()
        # Others speak the same protocol and have keys of their own form.
        if (host == PAGERDUTY or host.endswith(f".{PAGERDUTY}")) and not re.fullmatch("[A-Za-z0-9]{32}", key):
            raise ValueError(
                "routing_key: must be the 32 letters and digits of an `Events API v2` integration of a service"
            )
        return self


class PagerDuty(Connector):
    """Triggers, acknowledges and resolves pages."""

    Settings: ClassVar[type[PagerDutySettings]] = PagerDutySettings
    example: ClassVar[dict[str, Any]] = {
        "name": "pager",
        "kind": "pagerduty",
        "routing_key": "0123456789abcdef0123456789abcdef",
    }
    caps = Caps(
        mode="newest",
        max_events=1,
        max_bytes=512 * 1024,
        delivery_class="exactly-once effect",
        updates=True,
        pages=True,
        wait_s=30.0,
    )

    def __init__(self, settings: PagerDutySettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._key = settings.needed("routing_key")

    @override
    def wants(self, event: Event, memory: Memory | None) -> bool:
        return self._action(event, memory) != ""

    def _action(self, event: Event, memory: Memory | None) -> Action:
        return action_of(event, memory, resolve_on_expiry=self._settings.resolve_on_expiry)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        event = events[0]
        action = self._action(event, memory) or usual_action(event)
        number = number_of(event, memory, action, step)
        head = {"event_action": action, "dedup_key": key_of(event, number)}
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes) - len(self._key_member())
        request = Http(
            method="POST",
            url=self._settings.url,
            headers={"content-type": "application/json"},
            body=encode(head) if action != "trigger" else smallest(_bodies(head, event), room),
        )
        return Rendered(request=request, event_ids=(event.event_id,), step=step)

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_http(response, (self._key,))
        if isinstance(rendered.request, Http) and isinstance(response, HttpResponse):
            verdict = _judge_answer(rendered.request, response, verdict)
        return (verdict,) * len(rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        # The frozen body is a JSON object that is never empty: the key becomes its first member.
        body = b"{" + self._key_member() + request.body[1:]
        return msgspec.structs.replace(
            request, url=self._settings.url, body=body, ca_file=self._settings.ca_file
        )

    def _key_member(self) -> bytes:
        return b'"routing_key":' + encode(self._key.reveal()) + b","


def _accepted(request: Http) -> Delivered:
    """Return what is remembered, and whether another page of the incident is to be treated alike."""
    sent = json_object(request.body)
    number = int(str(sent["dedup_key"]).rpartition("/e")[2])
    return accepted(str(sent["event_action"]), number)


def _judge_answer(request: Http, response: HttpResponse, verdict: Verdict) -> Verdict:
    """Return what the body makes of the verdict on the status."""
    answer = json_object(response.body)
    if isinstance(verdict, Delivered):
        if response.status == ACCEPTED and answer.get("status") == "success":
            return _accepted(request)
        return Blocked(
            reason=f"HTTP {response.status}: not PagerDuty's word of success; is a proxy in between?"
        )
    if response.status == TOO_MANY and isinstance(verdict, Retry):
        after_s = verdict.after_s if verdict.after_s is not None else WAIT_S
        return msgspec.structs.replace(verdict, after_s=after_s)
    if not isinstance(verdict, Reject):
        return verdict
    if response.status != INVALID or not answer:
        return Blocked(reason=f"{verdict.reason} (not PagerDuty's answer; is a proxy in between?)")
    if any(words in response.body.lower() for words in ROUTING_KEY):
        return Blocked(reason="HTTP 400: PagerDuty does not accept the routing key")
    return verdict


# ---- what people read ------------------------------------------------------------------------------------


def _bodies(head: dict[str, str], event: Event) -> Iterator[bytes]:
    """Yield the whole page, the longest first; the last keeps little more than title, place and counts."""
    for listed in (LISTED, LISTED // 4, 0):
        yield encode(head | _trigger(event, listed))


def _trigger(event: Event, listed: int) -> dict[str, Any]:
    found = [each for each in links(event) if len(each.url) <= LINK_CHARACTERS]
    body: dict[str, Any] = {"payload": _payload(event, listed), "client": "Tocsin"}
    if found and listed:
        body |= {
            "client_url": found[0].url,
            "links": [{"href": each.url, "text": each.text} for each in found],
        }
    return body


def _payload(event: Event, listed: int) -> dict[str, Any]:
    view, found = event.incident, worst(event)
    texts = {
        "summary": clip(_summary(event), SUMMARY_CHARACTERS),
        "source": clip(_source(event), FIELD_CHARACTERS),
        "class": clip(name_of(found) if found else view.origin, FIELD_CHARACTERS),
        "component": clip(label(event, "service"), FIELD_CHARACTERS),
        "group": clip("/".join(filter(None, (label(event, name) for name in GROUPS))), FIELD_CHARACTERS),
    }
    return {
        **{
            key: one_line(text if listed else clip(text, BARE_CHARACTERS))
            for key, text in texts.items()
            if text
        },
        "severity": view.severity,
        # When this page came up: a later page of the incident is about what happened then.
        "timestamp": rfc3339(event.at if view.escalations else view.opened_at),
        "custom_details": _details(event, listed) if listed else _counts(event),
    }


def _summary(event: Event) -> str:
    view = event.incident
    title = one_line(view.title).strip() or f"Incident {view.id}"
    if event.kind is EventKind.REOPENED:
        return f"Reopened: {title}"
    return f"Escalated: {title}" if view.escalations else title


def _source(event: Event) -> str:
    """Return the place that the incident is about; PagerDuty demands one."""
    found = worst(event)
    place = place_of(event.incident.common_labels) or (place_of(found.labels) if found else "")
    return place if place.strip() else f"tocsin/{event.tenant}"


def _counts(event: Event) -> dict[str, Any]:
    view = event.incident
    return {
        "incident": clip(view.id, BARE_CHARACTERS),
        "event_id": event.event_id,
        "tenant": clip(event.tenant, BARE_CHARACTERS),
        "alerts": f"{view.alerts_firing} of {view.alerts_total} firing",
        "anomaly": "unknown" if view.anomaly is None else f"{view.anomaly:.2f}",
        "degraded": event.degraded,
    }


def _details(event: Event, listed: int) -> dict[str, Any]:
    view = event.incident
    reasons = {"first_suspect": suspect(event), "one_incident_because": together(event)}
    return {
        **_counts(event),
        "summary": clip(view.summary, DETAIL_CHARACTERS),
        **{key: clip(one_line(text), LINE_CHARACTERS) for key, text in reasons.items() if text},
        "common_labels": {
            clip(key, 100): clip(value, 200) for key, value in sorted(view.common_labels.items())[:LABELS]
        },
        "worst_alerts": [
            clip(f"{each.severity}: {one_line(alert_text(each))}", LINE_CHARACTERS)
            for each in view.episodes[:listed]
        ],
    }
