"""Kind `loki`: events to Grafana Loki (`/loki/api/v1/push`), one JSON line each.

Labels are few, since every set of them is a stream of its own: those of the settings and `level`. What people search
by beside them (incident, state, alert names, machines, services) is structured metadata, which costs no stream.

Rules: only 204 is success. Loki answers 260 while an operator blocks writing, and can be told to answer 200 then
(`block_ingestion_status_code`). A 400 is about an entry only where Loki says so in words that are known (`OF_ENTRY`,
`TOO_LONG`); a label or a feature that it does not allow is a setting, and blocks. Of a batch it takes what is good and
answers 400 for the rest without naming it, so a refused batch is taken apart; what comes twice has the same time and
the same line, and Loki keeps one of two such entries.
Rejected: protobuf with snappy, Loki's other form; it needs two libraries more and saves a few kilobytes.
Source: grafana/loki 3.x, docs "Loki HTTP API" and pkg/validation/validate.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
import pydantic
from pydantic import AfterValidator
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, Reject, Split, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.common import (
    MULTIPLE_CHOICES,
    OK,
    clip,
    encode,
    excerpt,
    first_that_fit,
    fit_quoted,
    judge_http,
    nanoseconds,
    one_line,
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
from connectors.wording import host_of, name_of

PUSH = "/loki/api/v1/push"
TAKEN, UNPROCESSABLE = 204, 422
#: What the probe sends: nothing. Loki takes it, or says that there is nothing in it; both after it let us in.
NOTHING = b'{"streams":[]}'
NOTHING_IN_IT = b"at least one valid stream is required"
#: How Loki says that one entry is older or newer than it takes.
OF_ENTRY = ("too far behind", "out of order", "timestamp too old", "timestamp too new")
#: How it, and what stands before it, say that something is too large.
TOO_LONG = (
    "max entry size",
    "structured metadata too large",
    "request body too large",
    "received message larger than max",
)
LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Loki takes 15 labels; one is ours.
MAX_LABELS, LEVEL = 10, "level"
#: Alerts that are searched through, values of one field, characters of a value.
SEARCHED, MAX_VALUES, VALUE_CHARACTERS = 100, 20, 100
SEARCHED_LABELS = ("service", "cluster", "namespace")
METADATA_SHARE = 4  # structured metadata takes no more than this part of a request


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    if not labels or len(labels) > MAX_LABELS:
        raise ValueError(f"give 1 to {MAX_LABELS} labels")
    for name, value in labels.items():
        if name == LEVEL or name.startswith("__") or not LABEL.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a label here")
        if not value:
            raise ValueError(f"the label {name!r} is empty")
    return labels


class LokiSettings(DestinationSettings):
    """Which Loki, and under which labels events stand there."""

    kind: Literal["loki"] = pydantic.Field(default="loki", description=KIND)
    url: BaseUrl = pydantic.Field(
        description="Scheme, host and port of Loki, usually 3100; a path where a proxy wants one."
    )
    labels: Annotated[dict[str, str], AfterValidator(_check_labels)] = pydantic.Field(
        default={"job": "tocsin"}, description="Labels of every event, beside `level`."
    )
    structured_metadata: bool = pydantic.Field(
        default=True,
        description="Send what is searched by as structured metadata; Loki before 3.0 may not take it.",
    )
    org_id: str = pydantic.Field(
        default="",
        pattern=r"^[!-~]*$",
        max_length=150,
        description="Loki's tenant (`X-Scope-OrgID`); empty for none.",
    )
    token: Secret | None = pydantic.Field(
        default=None, description="Bearer token, instead of user and password."
    )
    token_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the token, instead of `token`."
    )
    username: str = pydantic.Field(default="", max_length=200, description="User, with `password`.")
    password: Secret | None = pydantic.Field(default=None, description="Password of `username`.")
    password_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the password, instead of `password`."
    )
    max_line_bytes: int = pydantic.Field(
        default=262_144, ge=2048, description="Longest line in bytes; Loki's `max_line_size`."
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


class Loki(Connector):
    """Sends events to a Loki."""

    Settings: ClassVar[type[LokiSettings]] = LokiSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "loki",
        "kind": "loki",
        "url": "https://loki.example.com:3100",
        "labels": {"job": "tocsin", "env": "production"},
        "username": "123456",
        "password": "glc_example-token-of-a-stack",
    }
    caps = Caps(
        mode="every",
        max_events=100,
        max_bytes=1_000_000,
        delivery_class="at least once, deduplicate on event_id",
    )

    def __init__(self, settings: LokiSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._token, password = settings.credential("token"), settings.credential("password")
        self._basic = None if password is None else basic(settings.username, password)
        self._secrets = (self._token, password, self._basic)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        size_bytes = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes) - len(NOTHING)
        streams = [self._stream(event) for event in events]
        entries = [
            self._entry(event, size_bytes - len(stream))
            for event, stream in zip(events, streams, strict=True)
        ]
        sizes = [stream + entry for stream, entry in zip(streams, entries, strict=True)]
        count = first_that_fit(sizes, self.caps.max_bytes - len(NOTHING), joint_bytes=1)
        by_stream: dict[bytes, list[bytes]] = {}
        for stream, entry in zip(streams[:count], entries[:count], strict=True):
            by_stream.setdefault(stream, []).append(entry)
        joined = (stream[:-2] + b",".join(found) + b"]}" for stream, found in by_stream.items())
        request = Http(
            method="POST",
            url=self._settings.url + PUSH,
            headers={"content-type": "application/json"},
            body=b'{"streams":[' + b",".join(joined) + b"]}",
        )
        event_ids = tuple(event.event_id for event in events[:count])
        return Rendered(request=request, event_ids=event_ids, step=step)

    def _stream(self, event: Event) -> bytes:
        """Return the stream of an event without its entries; it ends in `]}`."""
        return encode({"stream": self._settings.labels | {LEVEL: event.incident.severity}, "values": []})

    def _entry(self, event: Event, size_bytes: int) -> bytes:
        entry: list[Any] = [str(nanoseconds(event.at))]
        metadata = (
            _metadata(event, size_bytes // METADATA_SHARE) if self._settings.structured_metadata else None
        )
        more = [] if metadata is None else [metadata]
        room = min(size_bytes - len(encode([*entry, "", *more])) + 2, self._settings.max_line_bytes)
        line = fit_quoted(event, room)
        if len(encode(line)) > room:
            line = _shortest(event)
        return encode([*entry, line, *more])

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_http(response, self._secrets)
        if isinstance(response, HttpResponse):
            is_probe = isinstance(rendered.request, Http) and rendered.request.body == NOTHING
            verdict = self._judge(verdict, response, is_probe=is_probe)
        return (verdict,) * len(rendered.event_ids)

    def _judge(self, verdict: Verdict, response: HttpResponse, *, is_probe: bool) -> Verdict:
        reason = f"HTTP {response.status}{excerpt(response.body, self._secrets)}"
        words = response.body.decode("utf-8", "replace").lower()
        if response.status == TAKEN:
            return Delivered()
        if OK <= response.status < MULTIPLE_CHOICES:
            return Blocked(
                reason=f"{reason} (Loki answers 204; is writing blocked there, or a proxy in between?)"
            )
        if is_probe and response.status == UNPROCESSABLE and NOTHING_IN_IT in response.body:
            return Delivered()
        if any(each in words for each in TOO_LONG):
            return Split(reason=reason)
        if isinstance(verdict, Reject) and not any(each in words for each in OF_ENTRY):
            return Blocked(reason=f"{reason} (not known to be about an event)")
        return verdict

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        headers = dict(request.headers)
        if self._settings.org_id:
            headers["x-scope-orgid"] = self._settings.org_id
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token.reveal()}"
        elif self._basic is not None:
            headers["authorization"] = f"Basic {self._basic.reveal()}"
        return msgspec.structs.replace(
            request, url=self._settings.url + PUSH, headers=headers, ca_file=self._settings.ca_file
        )

    @override
    def probe(self) -> Request:
        headers = {"content-type": "application/json"}
        return Http(method="POST", url=self._settings.url + PUSH, headers=headers, body=NOTHING)


def _metadata(event: Event, size_bytes: int) -> dict[str, str]:
    """Return what people search by, without opening the line; lists are joined by commas.

    Where it would take more than `size_bytes` only the event's own is left.
    """
    view = event.incident
    alerts = view.episodes[:SEARCHED]
    own = {
        "event_id": event.event_id,
        "incident": view.id,
        "kind": event.kind.value,
        "state": view.state.value,
        "seq": str(event.seq),
        "tenant": event.tenant,
        "origin": view.origin,
        "alerts_total": str(view.alerts_total),
    }
    found = {
        "alertname": _joined(map(name_of, alerts)),
        "host": _joined(host_of(each.labels) for each in alerts),
        **{name: _joined(each.labels.get(name, "") for each in alerts) for name in SEARCHED_LABELS},
    }
    all_of_them = own | {name: value for name, value in found.items() if value}
    return all_of_them if len(encode(all_of_them)) <= size_bytes else own


def _joined(texts: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(text for text in texts if text))[:MAX_VALUES]
    return ",".join(one_line(clip(text, VALUE_CHARACTERS)) for text in distinct)


def _shortest(event: Event) -> str:
    """Return a line of ids and counts, for a request with next to no room."""
    view = event.incident
    return encode(
        {
            "event_id": event.event_id,
            "kind": event.kind.value,
            "seq": event.seq,
            "incident": {
                "id": view.id,
                "state": view.state.value,
                "severity": view.severity,
                "title": one_line(clip(view.title, 40)),
                "alerts_total": view.alerts_total,
                "alerts_firing": view.alerts_firing,
            },
        }
    ).decode()
