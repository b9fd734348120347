"""Kind `gcs`: events as JSON lines or Parquet in objects of Google Cloud Storage.

Up to `max_events` events that wait become one object under `path`; its name follows from their ids, and it is
uploaded only if there is none of that name (`ifGenerationMatch=0`). The same batch sent twice is answered 412 and is a
duplicate, so that nothing is stored twice and nothing is written over. Only after a refusal that makes a batch anew
(blocked, too large) can an event stand in two objects; one event per object (`max_events: 1`) rules that out too.

Rules: 200 counts with the JSON of an object of that name; anything else was not Cloud Storage. A store does not read
what it takes, so that no refusal is about an event. Of permissions `storage.objects.create` is enough: who has no more
is told that they may not delete when the object is there already, which is as good as a 412.
Source: cloud.google.com/storage/docs/json_api/v1, "Objects: insert", "Request preconditions", "HTTP status codes".
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

import msgspec
import pydantic
from pydantic import StringConstraints
from typing_extensions import override

from bridge.model import Blocked, Delivered, Duplicate, Event, Reject, Verdict
from bridge.ports import Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.clouds.google import GoogleSettings, auth, fault, judge_google
from connectors.common import json_object
from connectors.credentials import CA_FILE, KIND, SMALLEST_BYTES, CaFile, OriginUrl
from connectors.formats import FORMAT, Format
from connectors.formats.objects import (
    HIVE,
    MAX_BYTES,
    MAX_EVENTS,
    OBJECT_CAPS,
    STORED_AS,
    ObjectPath,
    StoredAs,
    caps_of,
    lacking,
    put,
    shape,
)

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
PERMISSION = "storage.objects.create"
THERE, FORBIDDEN = 412, 403
#: How a 412 says that the object is there, and how a 403 does to those who may only create.
NOT_MET, MAY_NOT_REPLACE = "conditionNotMet", "storage.objects.delete"


class GcsSettings(GoogleSettings):
    """Which bucket, and where in it."""

    kind: Literal["gcs"] = pydantic.Field(default="gcs", description=KIND)
    bucket: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$")] = (
        pydantic.Field(description="Name of the bucket.")
    )
    path: ObjectPath = pydantic.Field(
        default=HIVE, description="Folder of an object; {year}, {month}, {day}, {hour} (UTC), {tenant}."
    )
    format: Format = pydantic.Field(default="event", description=FORMAT)
    stored_as: StoredAs = pydantic.Field(default="jsonl", description=STORED_AS)
    max_events: int = pydantic.Field(
        default=MAX_EVENTS, ge=1, le=10_000, description="Events in one object at most."
    )
    max_bytes: int = pydantic.Field(
        default=MAX_BYTES, ge=SMALLEST_BYTES, le=64 * 2**20, description="Largest object in bytes, as JSON."
    )
    url: OriginUrl = pydantic.Field(
        default="https://storage.googleapis.com",
        description="Address of the service; one with http is an emulator, which gets no credentials.",
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)

    @override
    def faults(self, data_dir: Path) -> dict[str, str]:
        return super().faults(data_dir) | lacking(self.stored_as)


class Gcs(Connector):
    """Uploads events into a bucket."""

    Settings: ClassVar[type[GcsSettings]] = GcsSettings
    example: ClassVar[dict[str, Any]] = {"name": "lake", "kind": "gcs", "bucket": "example-incidents"}
    caps = OBJECT_CAPS

    def __init__(self, settings: GcsSettings) -> None:
        self._settings = settings
        self.caps = caps_of(settings.max_events, settings.max_bytes)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        size_bytes = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        settings = self._settings
        made = put(settings.path, events, size_bytes, settings.format, settings.stored_as)
        request = Http(
            method="POST", url=self._upload(made.key), headers={"content-type": made.content_type},
            body=made.body, about=made.about,
        )  # fmt: skip
        return Rendered(request=request, event_ids=made.event_ids, step=step)

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        return (_verdict(rendered.request, response),) * len(rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        key = request.about.get("key")
        return msgspec.structs.replace(
            request,
            url=self._permissions() if key is None else self._upload(key),
            auth=auth(self._settings, self._settings.url, SCOPE),
            ca_file=self._settings.ca_file,
            shape=shape(request.about),
        )

    @override
    def probe(self) -> Request | None:
        if not self._settings.url.startswith("https://"):
            return None  # emulators do not know this method
        return Http(method="GET", url=self._permissions(), headers={}, body=b"")

    def _upload(self, key: str) -> str:
        query = f"uploadType=media&ifGenerationMatch=0&name={quote(key, safe='')}"
        return f"{self._address('upload/storage')}/o?{query}"

    def _permissions(self) -> str:
        return f"{self._address('storage')}/iam/testPermissions?permissions={PERMISSION}"

    def _address(self, service: str) -> str:
        return f"{self._settings.url.rstrip('/')}/{service}/v1/b/{self._settings.bucket}"


def _verdict(request: Request, response: Response) -> Verdict:
    verdict = judge_google(response)
    if not isinstance(response, HttpResponse) or not isinstance(request, Http):
        return verdict
    key = request.about.get("key")
    if key is not None and _is_there(response):
        return Duplicate()
    if isinstance(verdict, Reject):
        return Blocked(reason=verdict.reason)
    if not isinstance(verdict, Delivered):
        return verdict
    answer = json_object(response.body)
    return _permitted(answer) if key is None else _stored(answer, key)


def _is_there(response: HttpResponse) -> bool:
    told = fault(response.body)
    if response.status == THERE:
        return NOT_MET in told.reasons
    return response.status == FORBIDDEN and MAY_NOT_REPLACE in told.message


def _stored(answer: dict[str, Any], key: str) -> Verdict:
    if answer.get("name") == key and "generation" in answer:
        return Delivered()
    return Blocked(reason="the answer is not Cloud Storage's, which names the object; is a proxy in between?")


def _permitted(answer: dict[str, Any]) -> Verdict:
    if answer.get("permissions") == [PERMISSION]:
        return Delivered()
    return Blocked(reason=f"the credentials may not {PERMISSION} in this bucket")
