"""Kind `otlp`: events as log records of OpenTelemetry (OTLP over HTTP, protobuf) to a collector or a vendor.

An event is one record with an `event_name`. Its body is what a person reads; what is searched by are attributes, those
of the semantic conventions where there is one (`host.name`, `k8s.*`, `user.name`), else under `tocsin.`. The resource
is Tocsin, who tells of it, and not the service that it tells of.

Rules, all of the specification: of what a receiver says, only 429, 502, 503 and 504 are tried again; a partial success
never is. So each request carries one event: of several, `partial_success` does not say which ones were refused, and
neither to send all of them again nor to call all of them delivered would be right.
Rule: a receiver says what is wrong in a `google.rpc.Status`. An HTTP status without one (500, 521, ...) may be that of
a proxy, which knows nothing of the event, and rejects nothing.
Decision: the published message classes rather than bytes written by hand; they come with an extra, and are imported
when the first event is rendered. Rejected: OTLP in JSON, which not every receiver takes.
Source: OTLP 1.x, "OTLP/HTTP Response" and "Failures"; OpenTelemetry, "Logs Data Model".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
import pydantic
from pydantic import AfterValidator
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, Reject, Retry, Severity, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.common import (
    BAD_REQUEST,
    OVER,
    clip,
    excerpt,
    json_object,
    judge_http,
    nanoseconds,
    one_line,
    rfc3339,
    smallest,
)
from connectors.credentials import (
    CA_FILE,
    KIND,
    SMALLEST_BYTES,
    BaseUrl,
    CaFile,
    DestinationSettings,
    FromFile,
    Secret,
    basic,
    check_one_way_in,
)
from connectors.wording import alert_text, host, host_of, is_web, label, links, name_of, suspect

LOGS = "/v1/logs"
PROTOBUF = "application/x-protobuf"
#: What the specification lets a sender try again.
RETRYABLE = frozenset({429, 502, 503, 504})
#: How the two fields of `google.rpc.Status` begin that say something: code and message. No text begins so.
STATUS_BEGINS = (b"\x08", b"\x12")
NOT_OURS = "(not the answer of a receiver of OTLP; is a proxy in between?)"
AUTHORIZATION = "authorization"
#: What stands before the token; in a vendor's own header nothing does.
SCHEMES = {AUTHORIZATION: "Bearer "}
#: Headers that are ours.
TAKEN_HEADERS = frozenset({"accept", "content-encoding", "content-length", "content-type", "host"})
#: ERROR2, WARN and INFO, as the data model places syslog's critical, warning and informational; INFO2 is its notice.
SEVERITY: dict[Severity, int] = {"critical": 18, "warning": 13, "info": 9}
NOTICE = 10
#: How many alerts are written out, how many values an attribute has, how long texts are: as much as fits.
SIZES = ((50, 20, 500), (10, 5, 100), (0, 1, 40))
SEARCHED = 100


def _check_resource(attributes: dict[str, str]) -> dict[str, str]:
    if not all(attributes) or not attributes.get("service.name"):
        raise ValueError("service.name is needed, and no name is empty")
    return attributes


def _check_header(name: str) -> str:
    if name.lower() in TAKEN_HEADERS:
        raise ValueError(f"{name} cannot hold a token")
    return name.lower()


class OtlpSettings(DestinationSettings):
    """Which receiver, and what Tocsin is called there."""

    kind: Literal["otlp"] = pydantic.Field(default="otlp", description=KIND)
    url: BaseUrl = pydantic.Field(
        description="Scheme, host and port of the receiver, usually 4318, and its path before `/v1/logs`."
    )
    resource: Annotated[dict[str, str], AfterValidator(_check_resource)] = pydantic.Field(
        default={"service.name": "tocsin"},
        description="Attributes of the resource; `service.name` is needed.",
    )
    token: Secret | None = pydantic.Field(
        default=None, description="Token or API key, instead of user and password."
    )
    token_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the token, instead of `token`."
    )
    token_header: Annotated[
        str,
        pydantic.Field(pattern=r"^[A-Za-z0-9-]+$", max_length=100),
        AfterValidator(_check_header),
    ] = pydantic.Field(
        default=AUTHORIZATION,
        description="Header of the token: behind `Bearer ` in `authorization`, bare in others.",
    )
    username: str = pydantic.Field(default="", max_length=200, description="User, with `password`.")
    password: Secret | None = pydantic.Field(default=None, description="Password of `username`.")
    password_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the password, instead of `password`."
    )
    max_bytes: int = pydantic.Field(
        default=1_000_000, ge=SMALLEST_BYTES, description="Largest request in bytes."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)

    @override
    def required(self) -> frozenset[str]:
        return frozenset()

    @pydantic.model_validator(mode="after")
    def _one_way_in(self) -> Self:
        check_one_way_in(self, "token")
        return self


class Otlp(Connector):
    """Sends events to a receiver of OTLP."""

    Settings: ClassVar[type[OtlpSettings]] = OtlpSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "collector",
        "kind": "otlp",
        "url": "https://otel.example.com:4318",
        "resource": {"service.name": "tocsin", "deployment.environment.name": "production"},
        "token": "bearer-of-the-collector",
    }
    caps = Caps(
        mode="every",
        max_events=1,
        max_bytes=1_000_000,
        delivery_class="at least once, deduplicate on event_id",
    )

    def __init__(self, settings: OtlpSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._token, password = settings.credential("token"), settings.credential("password")
        self._basic = None if password is None else basic(settings.username, password)
        self._secrets = (self._token, password, self._basic)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        event = events[0]
        body = smallest(self._made(event), min(max_bytes or self.caps.max_bytes, self.caps.max_bytes))
        return Rendered(request=self._request(body), event_ids=(event.event_id,), step=step)

    def _request(self, body: bytes) -> Http:
        return Http(
            method="POST", url=self._settings.url + LOGS, headers={"content-type": PROTOBUF}, body=body
        )

    def _made(self, event: Event) -> Iterator[bytes]:
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2  # noqa: PLC0415 (an extra)
        from opentelemetry.proto.common.v1 import common_pb2  # noqa: PLC0415
        from opentelemetry.proto.logs.v1 import logs_pb2  # noqa: PLC0415
        from opentelemetry.proto.resource.v1 import resource_pb2  # noqa: PLC0415

        def value(of: Any) -> Any:
            match of:
                case bool():
                    return common_pb2.AnyValue(bool_value=of)
                case int():
                    return common_pb2.AnyValue(int_value=of)
                case float():
                    return common_pb2.AnyValue(double_value=of)
                case str():
                    return common_pb2.AnyValue(string_value=of)
                case _:
                    values = common_pb2.ArrayValue(values=[value(each) for each in of])
                    return common_pb2.AnyValue(array_value=values)

        def pairs(of: dict[str, Any]) -> list[Any]:
            return [common_pb2.KeyValue(key=key, value=value(of[key])) for key in sorted(of)]

        for alerts, values, characters in SIZES:
            record = logs_pb2.LogRecord(
                time_unix_nano=nanoseconds(event.at),
                observed_time_unix_nano=nanoseconds(event.at),
                severity_number=_severity(event),
                severity_text=event.incident.severity,
                event_name=f"tocsin.incident.{event.kind.value}",
                body=value(_text(event, alerts, characters)),
                attributes=pairs(_attributes(event, values, characters)),
            )
            logs = logs_pb2.ResourceLogs(
                resource=resource_pb2.Resource(attributes=pairs(self._settings.resource)),
                scope_logs=[
                    logs_pb2.ScopeLogs(
                        scope=common_pb2.InstrumentationScope(name="tocsin"), log_records=[record]
                    )
                ],
            )
            request = logs_service_pb2.ExportLogsServiceRequest(resource_logs=[logs])
            yield request.SerializeToString(deterministic=True)

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_http(response, self._secrets)
        if isinstance(response, HttpResponse):
            verdict = self._judge(verdict, response)
        return (verdict,) * len(rendered.event_ids)

    def _judge(self, verdict: Verdict, response: HttpResponse) -> Verdict:
        if isinstance(verdict, Delivered):
            return self._judge_success(response)
        is_final = response.status >= BAD_REQUEST and response.status not in RETRYABLE
        if not is_final or not isinstance(verdict, Reject | Retry):
            return verdict
        message = _status_message(response.body)
        if message is not None:
            return Reject(reason=f"HTTP {response.status}{excerpt(message.encode(), self._secrets)}")
        return verdict if isinstance(verdict, Retry) else Blocked(reason=f"{verdict.reason} {NOT_OURS}")

    def _judge_success(self, response: HttpResponse) -> Verdict:
        told = _partial_success(response)
        if told is None:
            reason = f"HTTP {response.status}{excerpt(response.body, self._secrets)}"
            return Blocked(reason=f"{reason} {NOT_OURS}")
        rejected, message = told
        if rejected <= 0:  # a message without a number is a warning
            return Delivered()
        return Reject(reason=f"partial success{excerpt(message.encode(), self._secrets)}")

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        headers = dict(request.headers)
        if self._token is not None:
            header = self._settings.token_header
            headers[header] = SCHEMES.get(header, "") + self._token.reveal()
        elif self._basic is not None:
            headers[AUTHORIZATION] = f"Basic {self._basic.reveal()}"
        return msgspec.structs.replace(
            request, url=self._settings.url + LOGS, headers=headers, ca_file=self._settings.ca_file
        )

    @override
    def probe(self) -> Request:
        return self._request(b"")  # a request of no records


def _status_message(body: bytes) -> str | None:
    """Return the message of the `google.rpc.Status` in an answer, protobuf or JSON; None if it is none."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415 (an extra)
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2  # noqa: PLC0415

    answer = json_object(body)
    # Gateways say {"message": ...} as well; the code is what makes it a Status.
    if type(answer.get("code")) is int and not set(answer) - {"code", "message", "details"}:
        return str(answer.get("message", ""))
    if not body.startswith(STATUS_BEGINS):
        return None
    try:
        # The same on the wire: a number in field 1, a text in field 2. No package that we need has the class itself.
        return str(logs_service_pb2.ExportLogsPartialSuccess.FromString(body).error_message)
    except DecodeError:
        return None


def _partial_success(response: HttpResponse) -> tuple[int, str] | None:
    """Return how many records a good status refuses, and why; None if it is no answer to a request of OTLP.

    Some receivers answer in JSON whatever they were sent.
    """
    from google.protobuf.message import DecodeError  # noqa: PLC0415 (an extra)
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2  # noqa: PLC0415

    if response.headers.get("content-type", "").startswith("text/") and response.body:
        return None
    if response.body.lstrip().startswith(b"{"):
        return _partial_success_json(response.body)
    try:
        told = logs_service_pb2.ExportLogsServiceResponse.FromString(response.body).partial_success
    except DecodeError:
        return None
    return told.rejected_log_records, told.error_message


def _partial_success_json(body: bytes) -> tuple[int, str] | None:
    answer = json_object(body)
    told = answer.get("partialSuccess", {})
    if (
        set(answer) - {"partialSuccess"}
        or not isinstance(told, dict)
        or (not answer and body.strip() != b"{}")
    ):
        return None
    rejected = str(told.get("rejectedLogRecords", 0))  # 64 bits stand in quotes in protobuf's JSON
    return int(rejected) if rejected.isascii() and rejected.isdecimal() else 0, str(
        told.get("errorMessage", "")
    )


def _text(event: Event, alerts: int, characters: int) -> str:
    """Return what a person reads: title, counts, summary, suspect, the worst alerts, where to go next."""
    view = event.incident
    listed = view.episodes[:alerts]
    not_listed = view.truncated + len(view.episodes) - len(listed)
    lines = [
        _line(view.title, characters),
        f"{view.alerts_firing} of {view.alerts_total} alerts fire",
    ]
    if alerts:
        lines += [_line(view.summary, 2 * characters), _line(suspect(event), characters)]
        lines += [f"- {_line(alert_text(each), characters)}" for each in listed]
        if not_listed:
            lines.append(f"- and {not_listed} more")
        lines += [f"{each.text}: {each.url}" for each in links(event) if len(each.url) <= characters]
    return "\n".join(line for line in lines if line.strip())


def _attributes(event: Event, values: int, characters: int) -> dict[str, Any]:
    view = event.incident
    own: dict[str, Any] = {
        "tocsin.event.id": event.event_id,
        "tocsin.event.kind": event.kind.value,
        "tocsin.event.seq": event.seq,
        "tocsin.tenant": event.tenant,
        "tocsin.incident.id": view.id,
        "tocsin.incident.state": view.state.value,
        "tocsin.incident.alerts_total": view.alerts_total,
        "tocsin.incident.alerts_firing": view.alerts_firing,
    }
    if values == SIZES[-1][1]:
        return own
    alerts = view.episodes[:SEARCHED]
    found: dict[str, Any] = {
        "tocsin.incident.origin": view.origin,
        "tocsin.incident.title": _line(view.title, characters),
        "tocsin.incident.opened_at": rfc3339(view.opened_at),
        "tocsin.incident.closed_at": "" if view.closed_at is None else rfc3339(view.closed_at),
        "tocsin.incident.merged_into": view.merged_into or "",
        "tocsin.incident.split_from": view.split_from or "",
        "tocsin.incident.url": view.url if is_web(view.url) and len(view.url) <= characters else "",
        "tocsin.alert.names": _distinct(map(name_of, alerts), values),
        "tocsin.alert.hosts": _distinct((host_of(each.labels) for each in alerts), values),
        "tocsin.alert.services": _distinct((each.labels.get("service", "") for each in alerts), values),
        "host.name": _line(host(event), characters),
        "k8s.cluster.name": _line(label(event, "cluster"), characters),
        "k8s.namespace.name": _line(label(event, "namespace"), characters),
        "user.name": "" if event.author is msgspec.UNSET else _line(event.author, characters),
    }
    if view.anomaly is not None:
        own["tocsin.incident.anomaly"] = view.anomaly
    if event.degraded:
        own["tocsin.degraded"] = True
    return own | {name: each for name, each in found.items() if each}


def _severity(event: Event) -> Any:
    """Return the number of `SeverityNumber` for how severe the incident is now."""
    view = event.incident
    return NOTICE if view.state in OVER else SEVERITY[view.severity]


def _distinct(texts: Iterable[str], values: int) -> list[str]:
    return [_line(text, SEARCHED) for text in list(dict.fromkeys(text for text in texts if text))[:values]]


def _line(text: str, characters: int) -> str:
    # Cut first: an annotation may be a megabyte.
    return one_line(clip(text, characters))
