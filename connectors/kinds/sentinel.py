"""Kind `sentinel`: events into a table of Microsoft Sentinel (Log Analytics), by the Logs Ingestion API.

A data collection rule (DCR) names a stream and its columns; what is sent is a JSON array of rows of these columns. They
bear the names that Microsoft's Advanced Security Information Model (ASIM) has for alerts where it has one
(`EventSeverity`, `DvcHostname`, `AlertName`, ...), and `Event` holds the whole of it. Azure drops what a rule does not
declare without a word, so the page of this kind lists the columns, and a test compares them.

Theory: 204 says that the rows were taken over; they can be searched minutes later. There is no receipt and no
deduplication: `EventId` finds what came twice. A field longer than 64 KB is cut by Azure, which would tear the JSON in
`Event`: it is made to fit before.

Decision: not compressed. The limit of a call holds for what is unpacked, and what is frozen stays readable.
Sources: learn.microsoft.com, "Logs Ingestion API in Azure Monitor"; "Azure Monitor service limits"; "ASIM Alert Event
schema".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Blocked, Event, Severity, Split, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.clouds.azure import AzureSettings, auth, judge_azure
from connectors.common import OVER, clip, encode, first_that_fit, fit, one_line, rfc3339, smallest
from connectors.credentials import CA_FILE, KIND, SMALLEST_BYTES, CaFile, OriginUrl
from connectors.wording import host, host_of, name_of, suspect

API_VERSION = "2023-01-01"
#: A call of the API, and a field of a row, in bytes (64 KB, some room left for how Azure counts).
MAX_BYTES, FIELD_BYTES = 1_000_000, 60_000
#: Less than this is no room for an event.
LEAST_BYTES = 2048
#: The least request that a 404 may mean "too large" of; one event is never so large.
LARGE_BYTES = 250_000
ACCEPTED, NOT_FOUND = 204, 404
ROLE = "the role Monitoring Metrics Publisher on the data collection rule"
#: What the endpoints of the sovereign clouds end in, and the scope of their tokens.
SCOPES = {
    ".azure.us": "https://monitor.azure.us/.default",
    ".azure.cn": "https://monitor.azure.cn/.default",
}
SCOPE = "https://monitor.azure.com/.default"
#: ASIM's words.
SEVERITIES: dict[Severity, str] = {"critical": "High", "warning": "Medium", "info": "Informational"}
TITLE_CHARACTERS, MESSAGE_CHARACTERS, VALUE_CHARACTERS, MAX_VALUES = 100, 2000, 100, 20
_EVENT = b',"Event":'
#: Labels whose values are a column.
LISTED_LABELS = {"Services": "service", "Clusters": "cluster", "Namespaces": "namespace"}


class SentinelSettings(AzureSettings):
    """Which endpoint, rule and stream."""

    kind: Literal["sentinel"] = pydantic.Field(default="sentinel", description=KIND)
    url: OriginUrl = pydantic.Field(
        description="Logs ingestion endpoint, of the data collection rule or of a data collection endpoint."
    )
    rule: Annotated[str, pydantic.Field(pattern=r"^dcr-[A-Za-z0-9-]{1,100}$")] = pydantic.Field(
        description="Immutable id of the data collection rule."
    )
    stream: Annotated[str, pydantic.Field(pattern=r"^(Custom|Microsoft)-[A-Za-z0-9_-]{1,100}$")] = (
        pydantic.Field(default="Custom-Tocsin", description="Stream that the rule declares.")
    )
    max_bytes: int = pydantic.Field(
        default=MAX_BYTES,
        ge=SMALLEST_BYTES,
        le=2**20,
        description="Largest request in bytes; Azure takes 1 MB.",
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)


class Sentinel(Connector):
    """Sends events as rows of a table."""

    Settings: ClassVar[type[SentinelSettings]] = SentinelSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "sentinel",
        "kind": "sentinel",
        "url": "https://tocsin-5kyl.westeurope-1.ingest.monitor.azure.com",
        "rule": "dcr-000a00a000a00000a000000aa000a0aa",
        "tenant_id": "11111111-0000-4000-8000-000000000000",
        "client_id": "22222222-0000-4000-8000-000000000000",
        "client_secret": "abc8Q~example-client-secret",
    }
    caps = Caps(
        mode="every",
        max_events=100,
        max_bytes=MAX_BYTES,
        delivery_class="at least once, deduplicate on event_id",
        atomic=True,
    )

    def __init__(self, settings: SentinelSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        size_bytes = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes) - len(b"[]")
        rows = [row(event, size_bytes) for event in events]
        count = first_that_fit(rows, size_bytes, joint_bytes=1)
        return Rendered(
            request=self._request(b"[" + b",".join(rows[:count]) + b"]"),
            event_ids=tuple(event.event_id for event in events[:count]),
            step=step,
        )

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        count = len(rendered.event_ids)
        verdict = judge_azure(response, ACCEPTED, ROLE, self._settings.secrets())
        if isinstance(response, HttpResponse) and response.status == NOT_FOUND:
            if isinstance(rendered.request, Http) and len(rendered.request.body) > LARGE_BYTES:
                # Azure has said so of a request that was too large; if it was not, smaller ones will block.
                return (
                    Split(reason="HTTP 404: the request was too large, or the rule is not there"),
                ) * count
            verdict = Blocked(reason="HTTP 404: there is no such rule or stream at this endpoint")
        return (verdict,) * count

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        return msgspec.structs.replace(
            request,
            url=self._address(),
            auth=auth(self._settings, self._settings.url, self._scope()),
            ca_file=self._settings.ca_file,
        )

    @override
    def probe(self) -> Request:
        return self._request(b"[]")

    def _request(self, body: bytes) -> Http:
        headers = {"content-type": "application/json"}
        return Http(method="POST", url=self._address(), headers=headers, body=body)

    def _address(self) -> str:
        told = self._settings
        return (
            f"{told.url.rstrip('/')}/dataCollectionRules/{told.rule}/streams/{told.stream}"
            f"?api-version={API_VERSION}"
        )

    def _scope(self) -> str:
        endpoint = urlsplit(self._settings.url).hostname or ""
        return next((scope for end, scope in SCOPES.items() if endpoint.endswith(end)), SCOPE)


def row(event: Event, size_bytes: int) -> bytes:
    """Return the row of an event, at most `size_bytes`: with the whole event in it where there is room for one."""
    own = _columns(event)
    made = [encode(own | _described(event))]
    if size_bytes - len(made[0]) < LEAST_BYTES:
        made.append(encode(own))
    for columns in made:
        room = min(size_bytes - len(columns) - len(_EVENT), FIELD_BYTES)
        if room >= LEAST_BYTES:
            return columns[:-1] + _EVENT + fit(event, room) + b"}"
    return smallest(made, size_bytes)


def _columns(event: Event) -> dict[str, Any]:
    """Return ids, counts and states, which no row is without."""
    view = event.incident
    columns: dict[str, Any] = {
        "TimeGenerated": rfc3339(event.at),
        "EventId": event.event_id,
        "EventVendor": "Tocsin",
        "EventProduct": "Tocsin",
        "EventType": "Alert",
        "EventSubType": event.kind.value,
        "EventStartTime": rfc3339(view.opened_at),
        "EventSeverity": "Informational" if view.state in OVER else SEVERITIES[view.severity],
        "EventOriginalSeverity": view.severity,
        "AlertName": clip(one_line(view.title[:500]), TITLE_CHARACTERS),
        "AlertStatus": "Closed" if view.state in OVER else "Active",
        "AlertOriginalStatus": view.state.value,
        "IncidentId": view.id,
        "Sequence": event.seq,
        "Tenant": event.tenant,
        "Origin": view.origin,
        "AlertsTotal": view.alerts_total,
        "AlertsFiring": view.alerts_firing,
        "Escalations": view.escalations,
        "Degraded": event.degraded,
    }
    if view.closed_at is not None:
        columns["EventEndTime"] = rfc3339(view.closed_at)
    if view.anomaly is not None:
        columns["Anomaly"] = view.anomaly
    return columns


def _described(event: Event) -> dict[str, Any]:
    """Return what else people search by; what is empty is left out."""
    view = event.incident
    columns: dict[str, Any] = {
        "EventMessage": clip(one_line(view.summary[: 2 * MESSAGE_CHARACTERS]), MESSAGE_CHARACTERS),
        "EventReportUrl": clip(one_line(view.url[:MESSAGE_CHARACTERS]), MESSAGE_CHARACTERS),
        "DvcHostname": _value(host(event)),
        "RootSuspect": clip(one_line(suspect(event)[: 2 * MESSAGE_CHARACTERS]), MESSAGE_CHARACTERS),
        "AlertNames": _distinct(map(name_of, view.episodes)),
        "Hosts": _distinct(host_of(each.labels) for each in view.episodes),
    }
    for column, label in LISTED_LABELS.items():
        columns[column] = _distinct(each.labels.get(label, "") for each in view.episodes)
    return {name: value for name, value in columns.items() if value}


def _value(text: str) -> str:
    return clip(one_line(text[: 2 * VALUE_CHARACTERS]), VALUE_CHARACTERS)


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(_value(text) for text in texts if text))[:MAX_VALUES]
