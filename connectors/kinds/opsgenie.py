"""Kind `opsgenie`: alerts in Jira Service Management Operations, and in Opsgenie, whose alert API it took over.

`alias` is `<incident>/e<n>`, n = how often the incident escalated (`connectors.paging`): an escalation opens an alert
anew, anything else about an open one is not sent. While one is open a repeat under its alias only counts it up.

Rules: the API key is the secret; it stands in a header, which `seal` adds. The API answers 202 before it looks at the
alert, so a close or acknowledgement of an alias that is not open is accepted and comes to nothing. Only a 202 with a
`requestId` is success, and only a 422 with one is about the alert.

Decision: no update of an open alert (its message or description), as for PagerDuty: what is worth a look at once
escalates, and that opens one with all that is known by then.
Sources: docs.opsgenie.com, "Alert API" and "Alert fields" (limits); Atlassian, "Integration events API".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlsplit

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, EventKind, Reject, Retry, Severity, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.common import clip, encode, json_object, judge_http, one_line, smallest
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

ACCEPTED, INVALID, TOO_MANY = 202, 422, 429
WAIT_S = 60.0  # limits count by the minute, where it does not say how long
MESSAGE_CHARACTERS, DESCRIPTION_CHARACTERS, ENTITY_CHARACTERS = 130, 15_000, 512
TAG_CHARACTERS, LINE_CHARACTERS, DETAIL_CHARACTERS, SUMMARY_CHARACTERS, LISTED = 50, 300, 500, 4000, 20
BARE_CHARACTERS = 100  # of each text where all else has been left out already
PRIORITIES: dict[Severity, str] = {"critical": "P1", "warning": "P3", "info": "P5"}
#: What each action is called in the address; a trigger has none.
VERBS: dict[str, str] = {"acknowledge": "acknowledge", "resolve": "close"}
SOURCE = "Tocsin"


class OpsgenieSettings(DestinationSettings):
    """Which integration to send to."""

    kind: Literal["opsgenie"] = pydantic.Field(default="opsgenie", description=KIND)
    api_key: Secret | None = pydantic.Field(default=None, description="Key of an API integration.")
    api_key_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the key, instead of `api_key`."
    )
    url: HttpUrl = pydantic.Field(
        default="https://api.atlassian.com/jsm/ops/integration",
        description="Where /v2/alerts is; for Opsgenie https://api.opsgenie.com or https://api.eu.opsgenie.com.",
    )
    resolve_on_expiry: bool = pydantic.Field(
        default=False, description="true: also close when an alert's resolve never came."
    )
    max_bytes: int = pydantic.Field(
        default=128 * 1024, ge=SMALLEST_BYTES, description="Largest request in bytes."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)


class Opsgenie(Connector):
    """Opens, acknowledges and closes alerts."""

    Settings: ClassVar[type[OpsgenieSettings]] = OpsgenieSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "pager",
        "kind": "opsgenie",
        "api_key": "00000000-aaaa-4bbb-8ccc-0123456789ab",
    }
    caps = Caps(
        mode="newest",
        max_events=1,
        max_bytes=128 * 1024,
        delivery_class="exactly-once effect",
        updates=True,
        pages=True,
        wait_s=30.0,
    )

    def __init__(self, settings: OpsgenieSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._key = settings.needed("api_key")

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
        alias = key_of(event, number)
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        path = "" if action == "trigger" else f"/{quote(alias, safe='')}/{VERBS[action]}?identifierType=alias"
        request = Http(
            method="POST",
            url=self._address(path),
            headers={"content-type": "application/json"},
            body=smallest(_bodies(event, alias), room) if action == "trigger" else encode(_remark(event)),
            about={"action": action, "number": str(number), "path": path},
        )
        return Rendered(request=request, event_ids=(event.event_id,), step=step)

    def _address(self, path: str) -> str:
        return f"{self._settings.url.rstrip('/')}/v2/alerts{path}"

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
        return msgspec.structs.replace(
            request,
            url=self._address(request.about.get("path", "")),
            headers=request.headers | {"authorization": f"GenieKey {self._key.reveal()}"},
            ca_file=self._settings.ca_file,
        )


def _judge_answer(request: Http, response: HttpResponse, verdict: Verdict) -> Verdict:
    """Return what the body makes of the verdict on the status."""
    is_theirs = "requestId" in json_object(response.body)
    if isinstance(verdict, Delivered):
        if response.status == ACCEPTED and is_theirs:
            return accepted(request.about["action"], int(request.about["number"]))
        host = urlsplit(request.url).hostname
        return Blocked(reason=f"HTTP {response.status}: not the answer of {host}; is a proxy in between?")
    if response.status == TOO_MANY and isinstance(verdict, Retry):
        after_s = verdict.after_s if verdict.after_s is not None else WAIT_S
        return msgspec.structs.replace(verdict, after_s=after_s)
    if isinstance(verdict, Reject) and (response.status != INVALID or not is_theirs):
        return Blocked(reason=verdict.reason)
    return verdict


# ---- what people read ------------------------------------------------------------------------------------


def _remark(event: Event) -> dict[str, str]:
    note = event.note or f"Incident {event.incident.state.value} in Tocsin"
    return {
        "source": SOURCE,
        "user": clip(one_line(event.author or SOURCE), BARE_CHARACTERS),
        "note": clip(one_line(note), LINE_CHARACTERS),
    }


def _bodies(event: Event, alias: str) -> Iterator[bytes]:
    """Yield the whole alert, the longest first; the last keeps little more than title, place and counts."""
    for listed in (LISTED, LISTED // 4, 0):
        yield encode(_alert(event, alias, listed))


def _alert(event: Event, alias: str, listed: int) -> dict[str, Any]:
    view = event.incident
    alert = {
        "alias": alias,
        "message": clip(one_line(_message(event)), MESSAGE_CHARACTERS if listed else BARE_CHARACTERS),
        "source": SOURCE,
        "priority": PRIORITIES[view.severity],
        "entity": clip(one_line(_entity(event)), ENTITY_CHARACTERS if listed else BARE_CHARACTERS),
        "details": _details(event, listed),
        "tags": _tags(event) if listed else [],
    }
    if listed:
        alert["description"] = clip("\n".join(_description(event, listed)), DESCRIPTION_CHARACTERS)
    return {key: value for key, value in alert.items() if value}


def _message(event: Event) -> str:
    view = event.incident
    title = one_line(view.title[:1000]).strip() or f"Incident {view.id}"
    if event.kind is EventKind.REOPENED:
        return f"Reopened: {title}"
    return f"Escalated: {title}" if view.escalations else title


def _entity(event: Event) -> str:
    """Return the place that the incident is about."""
    found = worst(event)
    return place_of(event.incident.common_labels) or (place_of(found.labels) if found else "")


def _tags(event: Event) -> list[str]:
    named = (label(event, "service"), label(event, "cluster"), label(event, "namespace"))
    tags = ("tocsin", event.incident.severity, event.incident.origin, *named)
    return list(dict.fromkeys(clip(one_line(each), TAG_CHARACTERS) for each in tags if each.strip()))


def _details(event: Event, listed: int) -> dict[str, str]:
    view, found = event.incident, worst(event)
    details = {
        "incident": clip(view.id, BARE_CHARACTERS),
        "event_id": event.event_id,
        "tenant": clip(event.tenant, BARE_CHARACTERS),
        "alerts": f"{view.alerts_firing} of {view.alerts_total} firing",
        "anomaly": "unknown" if view.anomaly is None else f"{view.anomaly:.2f}",
        "degraded": str(event.degraded).lower(),
    }
    if listed:
        details |= {"alertname": name_of(found) if found else "", "service": label(event, "service")}
        details |= {
            each.text.lower(): each.url for each in links(event) if len(each.url) <= DETAIL_CHARACTERS
        }
    return {key: clip(one_line(text), DETAIL_CHARACTERS) for key, text in details.items() if text}


def _description(event: Event, listed: int) -> Iterator[str]:
    view = event.incident
    if view.summary.strip():
        yield from (one_line(line) for line in clip(view.summary, SUMMARY_CHARACTERS).splitlines())
        yield ""
    for each in view.episodes[:listed]:
        text = one_line(alert_text(each)[: 4 * LINE_CHARACTERS])
        yield clip(f"{each.severity}: {text}", LINE_CHARACTERS)
    more = len(view.episodes[listed:]) + view.truncated
    if more:
        yield f"and {more} more"
    for name, why in (("First suspect", suspect(event)), ("One incident because", together(event))):
        if why:
            yield clip(f"{name}: {one_line(why[: 4 * LINE_CHARACTERS])}", LINE_CHARACTERS)
