"""Kind `splunk`: events to Splunk's HTTP Event Collector (HEC), JSON objects back to back.

HEC does not deduplicate: `fields.event_id` is indexed, so that `| dedup event_id` finds what came twice. What
people search by is indexed too, under the names of Splunk's Common Information Model where it has one:
`signature` (alert names), `dest` (machines), `severity`, and `service`, `cluster`, `namespace`, `state`, `kind`,
`origin`.

HEC's 200 comes before the event is indexed. With indexer acknowledgement (Splunk Enterprise only) a request is
`Pending` until Splunk says that it is; what it has not said in ten minutes is sent again.

Theory: acknowledgements are numbered per channel, from 0, in Splunk's memory. After its restart the numbers begin
anew, and an old number would be answered with what became of another request: an event that was lost would count as
indexed. So each request has a channel of its own, made from its events: a repeat goes through the same one, and no
other request can answer for it. Splunk forgets channels that were idle for ten minutes (`ackIdleCleanup`).

Rule: a refusal that the settings caused (token, index, channel) blocks the destination and loses nothing;
only what Splunk says about one event rejects that event. A 2xx without a collector's JSON is a proxy's.
Source: help.splunk.com, "Troubleshoot HTTP Event Collector", table of status codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import uuid5

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import (
    NAMESPACE,
    Blocked,
    Delivered,
    Event,
    Pending,
    Reject,
    Retry,
    Split,
    Verdict,
)
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.common import (
    clip,
    encode,
    excerpt,
    first_that_fit,
    json_object,
    judge_http,
    milliseconds,
    one_line,
)
from connectors.credentials import (
    CA_FILE,
    KIND,
    SMALLEST_BYTES,
    CaFile,
    DestinationSettings,
    FromFile,
    OriginUrl,
    Secret,
)
from connectors.formats import FORMAT, Format, encoder_of
from connectors.wording import host_of, name_of

COLLECT, HEALTH = "/services/collector/event", "/services/collector/health/1.0"
ACKNOWLEDGE, CHANNEL = "/services/collector/ack", "x-splunk-request-channel"
#: What the channel is made from that is asked about nothing.
PROBE = "probe"
#: How long after an answer the next question comes.
ASK_AFTER_S = 5.0
#: Alerts whose names and places become indexed fields, values of one field, characters of a value.
SEARCHED, MAX_VALUES, FIELD_CHARACTERS = 100, 20, 100
SEARCHED_LABELS = ("service", "cluster", "namespace")
FIELDS_SHARE = 4  # the indexed fields take no more than this part of a request

#: Codes that tell of our settings or of the receiver's; waiting for a person loses nothing.
BLOCKING = {
    1: "the token is disabled",
    2: "the token is missing",
    3: "the token is not in the form that Splunk expects",
    4: "the token is not known",
    7: "the token may not write to this index; change `index` or the token's list",
    10: "the token demands indexer acknowledgement; set `indexer_acknowledgement` or switch it off there",
    11: "the token demands indexer acknowledgement; set `indexer_acknowledgement` or switch it off there",
    14: "indexer acknowledgement is off for the token; switch it on there or take `indexer_acknowledgement` out",
    16: "the token was refused",
    21: "the token is not known",
    22: "the token is disabled",
}
#: Codes that pass: internal error, busy, queues full, shutting down.
PASSING = frozenset({8, 9, 18, 19, 20, 23, 24, 25, 26, 27})
#: Codes that tell of one event in the batch: no data, format, event missing or blank, indexed fields.
OF_ONE_EVENT = frozenset({5, 6, 12, 13, 15})
#: What a 2xx may say: success, healthy.
GOOD = frozenset({0, 17})


class SplunkSettings(DestinationSettings):
    """Which collector, and what the events are called there."""

    kind: Literal["splunk"] = pydantic.Field(default="splunk", description=KIND)
    url: OriginUrl = pydantic.Field(description="Scheme, host and port of the collector, usually 8088.")
    token: Secret | None = pydantic.Field(default=None, description="Token of the HTTP Event Collector.")
    token_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the token, instead of `token`."
    )
    index: str | None = pydantic.Field(
        default=None, description="Index to write to; null for the token's own."
    )
    host: str = pydantic.Field(default="tocsin", max_length=255, description="The events' field `host`.")
    source: str = pydantic.Field(default="tocsin", max_length=255, description="The events' field `source`.")
    sourcetype: str = pydantic.Field(
        default="tocsin:event", max_length=255, description="The events' field `sourcetype`."
    )
    format: Format = pydantic.Field(default="event", description=FORMAT)
    indexer_acknowledgement: bool = pydantic.Field(
        default=False,
        description="Count an event as delivered only when Splunk has indexed it; Splunk Enterprise only.",
    )
    max_bytes: int = pydantic.Field(
        default=1_000_000, ge=SMALLEST_BYTES, description="Largest request in bytes; Splunk Cloud takes 1 MB."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)


class Splunk(Connector):
    """Sends events to a collector."""

    Settings: ClassVar[type[SplunkSettings]] = SplunkSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "siem",
        "kind": "splunk",
        "url": "https://splunk.example.com:8088",
        "token": "0aa11bb2-0000-4000-8000-0123456789ab",
        "index": "incidents",
    }
    caps = Caps(
        mode="every",
        max_events=100,
        max_bytes=1_000_000,
        delivery_class="at least once, deduplicate on event_id",
    )

    def __init__(self, settings: SplunkSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._encoded = encoder_of(settings.format)
        self._token = settings.needed("token")

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        size_bytes = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        records = [self._record(event, size_bytes) for event in events]
        count = first_that_fit(records, self.caps.max_bytes, joint_bytes=1)
        event_ids = tuple(event.event_id for event in events[:count])
        headers = {"content-type": "application/json"}
        if self._settings.indexer_acknowledgement:
            headers[CHANNEL] = str(uuid5(NAMESPACE, "\n".join(event_ids)))
        request = Http(
            method="POST", url=self._address(COLLECT), headers=headers, body=b"\n".join(records[:count])
        )
        return Rendered(request=request, event_ids=event_ids, step=step)

    def _record(self, event: Event, size_bytes: int) -> bytes:
        at_ms = milliseconds(event.at)
        record = {
            "time": f"{at_ms // 1000}.{at_ms % 1000:03d}",
            "host": self._settings.host,
            "source": self._settings.source,
            "sourcetype": self._settings.sourcetype,
            "fields": _fields(event, size_bytes // FIELDS_SHARE),
        }
        if self._settings.index is not None:
            record["index"] = self._settings.index
        room = size_bytes - len(encode(record)) - len(b',"event":')
        return encode(record | {"event": msgspec.Raw(self._encoded(event, room))})

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        count = len(rendered.event_ids)
        verdict = judge_http(response, (self._token,))
        answer = json_object(response.body) if isinstance(response, HttpResponse) else {}
        if not isinstance(response, HttpResponse):
            return (verdict,) * count
        code = answer.get("code") if type(answer.get("code")) is int else None
        reason = f"HTTP {response.status}{excerpt(response.body, (self._token,))}"
        token = _token_of(rendered.request)
        if token:
            is_good, by_code = isinstance(verdict, Delivered), _by_code(code, verdict, reason)
            return (_acknowledged(token, answer, by_code, reason, is_good=is_good),) * count
        if code in OF_ONE_EVENT:
            return _only_one(count, answer.get("invalid-event-number"), reason)
        verdict = _by_code(code, verdict, reason)
        channel = rendered.request.headers.get(CHANNEL) if isinstance(rendered.request, Http) else None
        if isinstance(verdict, Delivered) and channel and self._settings.indexer_acknowledgement:
            # Without a number acknowledgement is off for the token. The question brings that to light (code 14).
            number = answer.get("ackId")
            verdict = Pending(token=f"{channel} {number if type(number) is int else 0}", after_s=ASK_AFTER_S)
        return (verdict,) * count

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        path = HEALTH if request.method == "GET" else ACKNOWLEDGE if _token_of(request) else COLLECT
        headers = request.headers | {"authorization": f"Splunk {self._token.reveal()}"}
        return msgspec.structs.replace(
            request, url=self._address(path), headers=headers, ca_file=self._settings.ca_file
        )

    @override
    def ask(self, token: str) -> Request | None:
        """Return the question whether a request is indexed; None where that is no longer wanted: it goes again."""
        return self._question(token) if self._settings.indexer_acknowledgement else None

    def _question(self, token: str) -> Http:
        channel, _, number = token.partition(" ")
        return Http(
            method="POST",
            url=self._address(ACKNOWLEDGE),
            headers={"content-type": "application/json", CHANNEL: channel},
            body=encode({"acks": [int(number)]}),
            about={"token": token},
        )

    @override
    def probe(self) -> Request:
        if self._settings.indexer_acknowledgement:
            # Asked about nothing, Splunk says whether the token may ask at all; its health says nothing of that.
            return self._question(f"{uuid5(NAMESPACE, PROBE)} 0")
        return Http(method="GET", url=self._address(HEALTH), headers={}, body=b"")

    def _address(self, path: str) -> str:
        return self._settings.url.rstrip("/") + path


def _token_of(request: Request) -> str:
    """Return which acknowledgement a request asks for; "" if it is no question."""
    return request.about.get("token", "") if isinstance(request, Http) else ""


def _acknowledged(
    token: str, answer: dict[str, Any], verdict: Verdict, reason: str, *, is_good: bool
) -> Verdict:
    """Return what the answer to a question means; a question that failed says nothing about the event.

    `verdict` is on the answer's code, `is_good` on its status.
    """
    channel, _, number = token.partition(" ")
    acks = answer.get("acks")
    if is_good and isinstance(acks, dict):
        if acks.get(number) is True or channel == str(uuid5(NAMESPACE, PROBE)):
            return Delivered()
        return Pending(token=token, after_s=ASK_AFTER_S, reason="not indexed yet")
    match verdict:
        case Retry():
            return msgspec.structs.replace(verdict, maybe_sent=True)
        case Split():
            return Retry(reason=reason, maybe_sent=True)
        case Delivered():
            return Blocked(reason=f"{reason} (not the answer of a collector; is a proxy in between?)")
        case _:
            return verdict


def _fields(event: Event, size_bytes: int) -> dict[str, str | list[str]]:
    """Return the indexed fields: what people search by, without opening the event. Lists are multi-value.

    Where they would take more than `size_bytes` only the event's own are left.
    """
    view = event.incident
    alerts = [*view.episodes[:SEARCHED]]
    own: dict[str, str] = {
        "event_id": event.event_id,
        "incident": view.id,
        "kind": event.kind.value,
        "state": view.state.value,
        "severity": view.severity,
        "tenant": event.tenant,
        "origin": view.origin,
    }
    found = {
        "signature": _distinct(map(name_of, alerts)),
        "dest": _distinct(host_of(each.labels) for each in alerts),
        **{name: _distinct(each.labels.get(name, "") for each in alerts) for name in SEARCHED_LABELS},
    }
    all_of_them = own | {key: value for key, value in found.items() if value}
    return all_of_them if len(encode(all_of_them)) <= size_bytes else dict(own)


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(clip(one_line(text), FIELD_CHARACTERS) for text in texts if text))[:MAX_VALUES]


def _by_code(code: int | None, verdict: Verdict, reason: str) -> Verdict:
    """Return what Splunk's code makes of the verdict on the status."""
    if code in BLOCKING:
        return Blocked(reason=f"{reason} ({BLOCKING[code]})")
    if code in PASSING and not isinstance(verdict, Retry):
        return Retry(reason=reason, whole_destination=True)
    if isinstance(verdict, Reject):
        return Blocked(reason=f"{reason} (not known to be about an event)")
    if isinstance(verdict, Delivered) and code not in GOOD:
        return Blocked(reason=f"{reason} (not the answer of a collector; is a proxy in between?)")
    return verdict


def _only_one(count: int, number: object, reason: str) -> tuple[Verdict, ...]:
    """Return the verdicts when one event of a batch was refused; `number` counts from 0.

    Those before it may have been taken, those after it were not read: all others go again. Where it is not
    said which one it was, smaller batches find it.
    """
    if count == 1:
        return (Reject(reason=reason),)
    if not isinstance(number, int) or not 0 <= number < count:
        return (Split(reason=reason),) * count
    others = Retry(reason=f"sent with an event that was refused: {reason}", after_s=0.0, maybe_sent=True)
    return tuple(Reject(reason=reason) if each == number else others for each in range(count))
