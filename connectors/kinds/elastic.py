"""Kind `elastic`: events to Elasticsearch or OpenSearch over `_bulk`, as documents of the Elastic Common Schema.

Every event is a document of a data stream. Its `_id` is the event's, and `create` is the only operation that data
streams take: what is sent again is answered with 409, which is as good as delivered. A second index, if one is named,
holds the newest state of each incident: `index` with the event's number as external version, so that an older state
never replaces a newer one, however late it comes.

Both products take the same requests, so nothing says which one it is. What differs is on their side (the template that
makes the data stream, the credentials they know), and stands in the docs.

Rules: a 200 says nothing; each item has a status of its own and is judged by itself. Only what is known to be about a
document (`DOCUMENT`) rejects its event, everything else that is refused blocks. Items are asked for without what is
not needed (`filter_path`), so that the answer to a full batch is read whole.
Rejected: `require_data_stream=true`, which would refuse to make a plain index where the template is missing:
Elasticsearch before 8.13 and OpenSearch refuse the whole request for it.
Source: Elasticsearch, "Bulk index or delete documents"; OpenSearch, "Bulk".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import (
    Blocked,
    Delivered,
    Duplicate,
    Event,
    EventKind,
    Reject,
    Retry,
    Split,
    Verdict,
)
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.common import (
    IN_TROUBLE,
    MULTIPLE_CHOICES,
    OK,
    RETRIED,
    TOO_LARGE,
    encode,
    excerpt,
    first_that_fit,
    json_object,
    judge_http,
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
from connectors.formats import ecs

BULK = (
    "/_bulk?filter_path=errors,items.*.status,"
    "items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason"
)
#: Errors that tell of one document: it cannot be read with the fields that are there.
DOCUMENT = frozenset(
    {"document_parsing_exception", "mapper_parsing_exception", "strict_dynamic_mapping_exception"}
)
CONFLICT, FORBIDDEN = 409, 403
#: What is no incident has no state.
STATELESS = frozenset({EventKind.FORECAST, EventKind.RECOMMENDATION})
STATE_SHARE = 3  # a document without the whole event takes no more than this part of an event's bytes
#: Of several verdicts on one event the first of these counts.
WORST = (Blocked, Retry, Split, Reject, Duplicate, Delivered)

#: What both products take as the name of an index, and a little less: no upper case, nothing that is a pattern.
IndexName = Annotated[str, pydantic.Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,199}$")]


class ElasticSettings(DestinationSettings):
    """Which cluster, and where the documents go."""

    kind: Literal["elastic"] = pydantic.Field(default="elastic", description=KIND)
    url: BaseUrl = pydantic.Field(
        description="Scheme, host and port of the cluster, usually 9200; a path where a proxy wants one."
    )
    data_stream: IndexName = pydantic.Field(
        default="logs-tocsin.incident-default", description="Data stream that every event is added to."
    )
    state_index: IndexName | None = pydantic.Field(
        default=None, description="Index that holds the newest state of each incident; null for none."
    )
    api_key: Secret | None = pydantic.Field(
        default=None, description="Key of Elasticsearch in its encoded form, instead of user and password."
    )
    api_key_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the key, instead of `api_key`."
    )
    username: str = pydantic.Field(default="", max_length=200, description="User, with `password`.")
    password: Secret | None = pydantic.Field(default=None, description="Password of `username`.")
    password_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the password, instead of `password`."
    )
    max_bytes: int = pydantic.Field(
        default=5_000_000, ge=SMALLEST_BYTES, description="Largest request in bytes."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)

    @override
    def required(self) -> frozenset[str]:
        return frozenset()

    @pydantic.model_validator(mode="after")
    def _one_way_in(self) -> Self:
        check_one_way_in(self, "api_key")
        return self


class Elastic(Connector):
    """Sends events to a cluster."""

    Settings: ClassVar[type[ElasticSettings]] = ElasticSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "elastic",
        "kind": "elastic",
        "url": "https://elastic.example.com:9200",
        "api_key": "VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw==",
        "state_index": "tocsin-incidents",
    }
    caps = Caps(
        mode="every",
        max_events=100,
        max_bytes=5_000_000,
        delivery_class="exactly-once effect",
    )

    def __init__(self, settings: ElasticSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._api_key, password = settings.credential("api_key"), settings.credential("password")
        self._basic = None if password is None else basic(settings.username, password)
        self._secrets = (self._api_key, password, self._basic)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        size_bytes = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        records = [self._records(event, size_bytes) for event in events]
        count = first_that_fit(records, self.caps.max_bytes)
        request = Http(
            method="POST",
            url=self._settings.url + BULK,
            headers={"content-type": "application/x-ndjson"},
            body=b"".join(records[:count]),
        )
        event_ids = tuple(event.event_id for event in events[:count])
        return Rendered(request=request, event_ids=event_ids, step=step)

    def _records(self, event: Event, size_bytes: int) -> bytes:
        """Return the lines of an event: operation and document, and again for the state of its incident."""
        create = encode({"create": {"_index": self._settings.data_stream, "_id": event.event_id}}) + b"\n"
        index = self._index(event)
        plain = ecs.document(event, size_bytes // STATE_SHARE - max(len(create), len(index)) - 1)
        state = index + plain + b"\n" if index else b""
        room = size_bytes - len(create) - len(state) - 1
        return create + ecs.with_original(plain, event, room) + b"\n" + state

    def _index(self, event: Event) -> bytes:
        """Return the line before the state of the event's incident; empty where there is none."""
        if self._settings.state_index is None or event.kind in STATELESS:
            return b""
        where = {
            "_index": self._settings.state_index,
            "_id": f"{event.tenant}:{event.incident.id}",
            "version": event.seq,
            "version_type": "external",
        }
        return encode({"index": where}) + b"\n"

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        count = len(rendered.event_ids)
        verdict = judge_http(response, self._secrets)
        if not isinstance(response, HttpResponse):
            return (verdict,) * count
        if isinstance(rendered.request, Http) and rendered.request.method == "GET":
            return (self._judge_probe(verdict, response),) * count
        if isinstance(verdict, Delivered):
            return self._judge_items(count, response)
        if isinstance(verdict, Reject):
            verdict = Blocked(reason=f"{verdict.reason} (not known to be about an event)")
        return (verdict,) * count

    def _judge_probe(self, verdict: Verdict, response: HttpResponse) -> Verdict:
        """Return what the answer to `GET /` says: who may only write is known there all the same."""
        if isinstance(verdict, Delivered) and not isinstance(json_object(response.body).get("version"), dict):
            return self._no_cluster(response)
        if response.status == FORBIDDEN and b"security_exception" in response.body:
            return Delivered()
        return verdict

    def _judge_items(self, count: int, response: HttpResponse) -> tuple[Verdict, ...]:
        items = json_object(response.body).get("items")
        per_event = _per_event(items if isinstance(items, list) else [])
        if len(per_event) == count:
            return tuple(self._worst(each) for each in per_event)
        if count > 1 and response.body.startswith(b'{"') and not json_object(response.body):
            # The answer was cut. What was taken is answered with 409 the next time.
            return (Split(reason="the answer was too long to be read"),) * count
        return (self._no_cluster(response),) * count

    def _worst(self, items: Sequence[tuple[str, dict[str, Any]]]) -> Verdict:
        verdicts = [self._judge_item(operation, told) for operation, told in items]
        return min(verdicts, key=lambda each: WORST.index(type(each)))

    def _judge_item(self, operation: str, told: dict[str, Any]) -> Verdict:
        status = told["status"] if type(told.get("status")) is int else 0
        error = told.get("error")
        kind = str(error.get("type")) if isinstance(error, dict) else ""
        said = encode(error) if error else b""
        of_state = " of the state" if operation == "index" else ""
        reason = f"item{of_state} {status}{excerpt(said, self._secrets)}"
        if OK <= status < MULTIPLE_CHOICES:
            return Delivered()
        if status == CONFLICT and (not kind or "version_conflict" in kind):
            # Of the state: the index has a newer one, or this one already.
            return Duplicate() if operation == "create" else Delivered()
        if status in RETRIED or status == CONFLICT:
            return Retry(reason=reason, whole_destination=status in IN_TROUBLE)
        if status == TOO_LARGE:
            return Split(reason=reason)
        return Reject(reason=reason) if kind in DOCUMENT else Blocked(reason=reason)

    def _no_cluster(self, response: HttpResponse) -> Blocked:
        reason = f"HTTP {response.status}{excerpt(response.body, self._secrets)}"
        return Blocked(reason=f"{reason} (not the answer of a cluster; is a proxy in between?)")

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        headers = dict(request.headers)
        if self._api_key is not None:
            headers["authorization"] = f"ApiKey {self._api_key.reveal()}"
        elif self._basic is not None:
            headers["authorization"] = f"Basic {self._basic.reveal()}"
        path = "/" if request.method == "GET" else BULK
        return msgspec.structs.replace(
            request, url=self._settings.url + path, headers=headers, ca_file=self._settings.ca_file
        )

    @override
    def probe(self) -> Request:
        return Http(method="GET", url=self._settings.url + "/", headers={}, body=b"")


def _per_event(items: Sequence[object]) -> list[list[tuple[str, dict[str, Any]]]]:
    """Return the items of each event: one `create`, and the `index` that follows it where there is a state."""
    found: list[list[tuple[str, dict[str, Any]]]] = []
    for operation, told in _operations(items):
        if operation == "create":
            found.append([])
        if found:
            found[-1].append((operation, told))
    return found


def _operations(items: Sequence[object]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in items:
        for operation, told in item.items() if isinstance(item, dict) else ():
            yield operation, told if isinstance(told, dict) else {}
