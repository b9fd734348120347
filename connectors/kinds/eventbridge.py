"""Kind `eventbridge`: events to an Amazon EventBridge bus, ten at a time (`PutEvents`).

`source` is `tocsin`, `detail-type` is `incident.<kind>`, `detail` is the event as JSON: rules match
`{"source": ["tocsin"], "detail": {"incident": {"severity": ["critical"]}}}`. EventBridge does not deduplicate;
`detail.event_id` tells what came twice.

Rules: 200 is not success, each entry has its own answer, in the order of the request.
Decision: the probe is an empty batch. It needs no permission that sending does not need; EventBridge refuses it as
empty only after the signature was good. Whether the bus is there and may be written to is told by the first event.
Source: docs.aws.amazon.com, "PutEvents" and "PutEventsResultEntry"; quotas: 10 entries, 256 KiB together (1 MiB since
2026 in most regions).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from pydantic import StringConstraints
from typing_extensions import override

from bridge.model import Delivered, Event, Retry, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.clouds.aws import AwsSettings, error_of, foreign, judge_aws, judge_entry, wrapped
from connectors.common import encode, first_that_fit, json_object, milliseconds
from connectors.credentials import KIND, SMALLEST_BYTES

HEAD, TAIL = b'{"Entries":[', b"]}"
INVALID, ABOUT_ENTRIES = "ValidationException", "entries"


class EventBridgeSettings(AwsSettings):
    """Which bus, and as what."""

    kind: Literal["eventbridge"] = pydantic.Field(default="eventbridge", description=KIND)
    bus: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./:-]+$", max_length=1600)] = pydantic.Field(
        default="default", description="Name or ARN of the event bus."
    )
    source: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]+$", max_length=256)] = pydantic.Field(
        default="tocsin", description="The events' field `source`."
    )
    max_bytes: int = pydantic.Field(
        default=256 * 1024, ge=SMALLEST_BYTES, le=2**20, description="Largest request in bytes."
    )

    @pydantic.model_validator(mode="after")
    def _own_source(self) -> EventBridgeSettings:
        if self.source.startswith("aws."):
            raise ValueError("source: aws. is for events of AWS")
        return self


class EventBridge(Connector):
    """Puts events on a bus."""

    Settings: ClassVar[type[EventBridgeSettings]] = EventBridgeSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "bus",
        "kind": "eventbridge",
        "region": "eu-west-1",
        "bus": "operations",
    }
    caps = Caps(
        mode="every",
        max_events=10,
        max_bytes=256 * 1024,
        delivery_class="at least once, deduplicate on event_id",
    )

    def __init__(self, settings: EventBridgeSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        around = len(HEAD) + len(TAIL)
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes) - around
        entries = [self._entry(event, room) for event in events]
        count = first_that_fit(entries, self.caps.max_bytes - around, joint_bytes=1)
        return Rendered(
            request=self._request(HEAD + b",".join(entries[:count]) + TAIL),
            event_ids=tuple(event.event_id for event in events[:count]),
            step=step,
        )

    def _entry(self, event: Event, size_bytes: int) -> bytes:
        entry = {
            "Time": milliseconds(event.at) / 1000,
            "Source": self._settings.source,
            "DetailType": f"incident.{event.kind.value}",
            "EventBusName": self._settings.bus,
        }
        return wrapped(event, size_bytes, lambda text: encode(entry | {"Detail": text}))

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        count, secrets = len(rendered.event_ids), self._settings.secrets()
        verdict = judge_aws(response, secrets)
        if not isinstance(response, HttpResponse):
            return (verdict,) * count
        entries = json_object(response.body).get("Entries")
        if _is_probe(rendered.request) and _is_empty_refused(response, entries):
            return (Delivered(),) * count
        if not isinstance(verdict, Delivered):
            return (verdict,) * count
        if not isinstance(entries, list) or len(entries) != count:
            return (foreign(response.status),) * count
        return tuple(self._one(each) for each in entries)

    def _one(self, entry: object) -> Verdict:
        fields = entry if isinstance(entry, dict) else {}
        code, message = fields.get("ErrorCode"), fields.get("ErrorMessage")
        if isinstance(code, str) and code:
            text = message if isinstance(message, str) else ""
            return judge_entry(code, text, secrets=self._settings.secrets())
        if fields.get("EventId"):
            return Delivered()
        return Retry(reason="the answer does not say what became of it", maybe_sent=True)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        return msgspec.structs.replace(
            request,
            url=self._settings.address("events"),
            ca_file=self._settings.ca_file,
            auth=self._settings.auth("events"),
        )

    @override
    def probe(self) -> Request:
        return self._request(HEAD + TAIL)

    def _request(self, body: bytes) -> Http:
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "AWSEvents.PutEvents"}
        return Http(method="POST", url=self._settings.address("events"), headers=headers, body=body)


def _is_probe(request: Request) -> bool:
    return isinstance(request, Http) and request.body == HEAD + TAIL


def _is_empty_refused(response: HttpResponse, entries: object) -> bool:
    code, message = error_of(response)
    return (code == INVALID and ABOUT_ENTRIES in message.lower()) or entries == []
