"""Kind `servicenow`: incidents as events of ServiceNow's Event Management (`/api/global/em/jsonv2`).

ServiceNow makes one alert of all events with the same `message_key`, which is the incident: a later event changes the
alert, one with severity 0 and `resolution_state` Closing clears it. So only the newest state goes, one incident a
request. `node` is the machine, which ServiceNow binds to its configuration item; what has no field of its own stands in
`additional_info`, flat texts under names that alert rules can use.

Rules: nothing is sent of what has not begun: a forecast would be an alert that nobody clears. A 2xx without the words
of the collector is somebody else's (an instance that sleeps answers 200 with a page). Only a 400 in ServiceNow's own
JSON is about an event.
Source: servicenow.com/docs, "Event collection via web service API", "Event field format for event collection".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, EventKind, Reject, Severity, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.common import OVER, clip, encode, json_object, judge_http, one_line, smallest
from connectors.credentials import (
    CA_FILE,
    KIND,
    SMALLEST_BYTES,
    CaFile,
    DestinationSettings,
    FromFile,
    OriginUrl,
    Secret,
    basic,
)
from connectors.wording import alert_text, host, label, links, name_of, suspect, together, worst

COLLECT = "/api/global/em/jsonv2"
AHEAD = frozenset({EventKind.FORECAST, EventKind.RECOMMENDATION})
#: 1 Critical, 2 Major, 3 Minor, 4 Warning, 5 OK; 0 clears.
SEVERITIES: dict[Severity, str] = {"critical": "1", "warning": "4", "info": "5"}
CLEAR = "0"
FIELD_CHARACTERS, KEY_CHARACTERS, DESCRIPTION_CHARACTERS, VALUE_CHARACTERS = 100, 1024, 4000, 500
LINE_CHARACTERS, LISTED, LABELS = 300, 20, 30
BARE_CHARACTERS = 100  # of each text where all else has been left out already
#: What of a machine it is, the most precise first.
RESOURCES = ("device", "mountpoint", "interface", "container", "service", "job")
PLACES = ("service", "namespace", "cluster")


class ServiceNowSettings(DestinationSettings):
    """Which instance, and how to sign in: a user, or an API key."""

    kind: Literal["servicenow"] = pydantic.Field(default="servicenow", description=KIND)
    url: OriginUrl = pydantic.Field(description="Scheme and host of the instance.")
    username: str | None = pydantic.Field(
        default=None, description="User with the role evt_mgmt_integration; null for an API key."
    )
    password: Secret | None = pydantic.Field(default=None, description="The user's password.")
    password_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the password, instead of `password`."
    )
    api_key: Secret | None = pydantic.Field(default=None, description="API key, instead of a user.")
    api_key_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the API key, instead of `api_key`."
    )
    source: str = pydantic.Field(
        default="Tocsin", min_length=1, max_length=100, description="The events' field `source`."
    )
    max_bytes: int = pydantic.Field(
        default=256 * 1024, ge=SMALLEST_BYTES, description="Largest request in bytes."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)

    @override
    def required(self) -> frozenset[str]:
        return frozenset()

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> ServiceNowSettings:
        has_password, has_key = (self.credential(each) is not None for each in ("password", "api_key"))
        if has_password == has_key or has_password != (self.username is not None):
            raise ValueError("give either username and password, or api_key")
        return self


class ServiceNow(Connector):
    """Keeps one alert per incident."""

    Settings: ClassVar[type[ServiceNowSettings]] = ServiceNowSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "itom",
        "kind": "servicenow",
        "url": "https://example.service-now.com",
        "username": "tocsin.integration",
        "password": "servicenow-password-of-tocsin",
    }
    caps = Caps(
        mode="newest",
        max_events=1,
        max_bytes=256 * 1024,
        delivery_class="exactly-once effect",
        updates=True,
    )

    def __init__(self, settings: ServiceNowSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._password, self._key = settings.credential("password"), settings.credential("api_key")
        self._basic = None if self._password is None else basic(settings.username or "", self._password)

    @override
    def wants(self, event: Event, memory: Memory | None) -> bool:
        return event.kind not in AHEAD

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        event, room = events[0], min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        request = Http(
            method="POST",
            url=self._address(),
            headers={"content-type": "application/json", "accept": "application/json"},
            body=smallest(self._bodies(event), room),
        )
        return Rendered(request=request, event_ids=(event.event_id,), step=step)

    def _bodies(self, event: Event) -> Iterator[bytes]:
        """Yield the whole request, the longest first; the last keeps little more than title, place and counts."""
        for listed in (LISTED, LISTED // 4, 0):
            record = {"source": self._settings.source, **_record(event, listed)}
            yield encode({"records": [record]})

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_http(response, (self._password, self._basic, self._key))
        if isinstance(response, HttpResponse):
            verdict = _judge_answer(response, verdict)
        return (verdict,) * len(rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        headers = request.headers | self._credentials()
        return msgspec.structs.replace(
            request, url=self._address(), headers=headers, ca_file=self._settings.ca_file
        )

    def _credentials(self) -> dict[str, str]:
        if self._basic is not None:
            return {"authorization": f"Basic {self._basic.reveal()}"}
        return {"x-sn-apikey": self._settings.needed("api_key").reveal()}

    def _address(self) -> str:
        return self._settings.url.rstrip("/") + COLLECT


def _judge_answer(response: HttpResponse, verdict: Verdict) -> Verdict:
    answer = json_object(response.body)
    if isinstance(verdict, Delivered):
        if "result" in answer and "error" not in answer:
            return verdict
        return Blocked(
            reason=f"HTTP {response.status}: not the answer of Event Management; does the instance sleep?"
        )
    if isinstance(verdict, Reject) and "error" not in answer:
        return Blocked(reason=f"{verdict.reason} (not ServiceNow's answer; is a proxy in between?)")
    return verdict


# ---- what ServiceNow reads -------------------------------------------------------------------------------


def _record(event: Event, listed: int) -> dict[str, str]:
    view, found = event.incident, worst(event)
    is_over = view.state in OVER
    limit = FIELD_CHARACTERS if listed else BARE_CHARACTERS // 2
    name = name_of(found) if found else view.origin
    told = {
        "event_class": f"tocsin/{event.tenant}",
        "node": host(event) or _first(event, PLACES) or "unknown",
        "resource": _first(event, RESOURCES),
        "metric_name": name,
        "type": name,
    }
    return {
        **{key: clip(one_line(text), limit) for key, text in told.items()},
        "message_key": clip(one_line(f"tocsin/{event.tenant}/{view.id}"), KEY_CHARACTERS),
        "severity": CLEAR if is_over else SEVERITIES[view.severity],
        "resolution_state": "Closing" if is_over else "New",
        "time_of_event": event.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "description": clip(_description(event, listed), DESCRIPTION_CHARACTERS),
        "additional_info": encode(_additional(event, listed)).decode(),
    }


def _first(event: Event, names: Sequence[str]) -> str:
    return next((value for name in names if (value := label(event, name).strip())), "")


def _description(event: Event, listed: int) -> str:
    view = event.incident
    limit = LINE_CHARACTERS if listed else BARE_CHARACTERS
    lines = [view.title, f"{view.alerts_firing} of {view.alerts_total} alerts firing"]
    if listed:
        lines += [
            view.summary,
            *(f"- {each.severity}: {alert_text(each)}" for each in view.episodes[:listed]),
        ]
        unlisted = view.alerts_total - min(listed, len(view.episodes))
        lines += [f"and {unlisted} more"] if unlisted > 0 else []
    return "\n".join(clip(one_line(line), limit) for line in lines if line.strip())


def _additional(event: Event, listed: int) -> dict[str, str]:
    """Return what has no field there, as flat texts; rules and alert fields can be filled from them by name."""
    view = event.incident
    told = {
        "event_id": event.event_id,
        "incident": clip(view.id, BARE_CHARACTERS),
        "sequence": str(event.seq),
        "kind": event.kind.value,
        "state": view.state.value,
        "tenant": clip(event.tenant, BARE_CHARACTERS),
        "origin": view.origin,
        "original_severity": view.severity,
        "alerts_total": str(view.alerts_total),
        "alerts_firing": str(view.alerts_firing),
        "anomaly": "unknown" if view.anomaly is None else f"{view.anomaly:.2f}",
    }
    if listed:
        told |= {
            "first_suspect": suspect(event),
            "one_incident_because": together(event),
            "merged_into": view.merged_into or "",
            "incident_url": view.url,
            **{each.text.lower().replace(" ", "_") + "_url": each.url for each in links(event)},
            **_labels(view.common_labels),
        }
    return {key: clip(one_line(value), VALUE_CHARACTERS) for key, value in told.items() if value}


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    return {f"label_{clip(one_line(name), 60)}": value for name, value in sorted(labels.items())[:LABELS]}
