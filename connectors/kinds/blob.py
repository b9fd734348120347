"""Kind `blob`: events as JSON lines or Parquet in blobs of Azure Blob Storage.

Up to `max_events` events that wait become one blob under `path`; its name follows from their ids, and it is put only if
there is none of that name (`If-None-Match: *`). The same batch sent twice is answered 409 and is a duplicate, so that
nothing is stored twice and nothing is written over. Only after a refusal that makes a batch anew (blocked, too large)
can an event stand in two blobs; one event per blob (`max_events: 1`) rules that out too.

Rules: 201 counts with an `ETag`; without it something else answered. A signature needs the rights to create and to
write; one that may only create is answered 403 `UnauthorizedBlobOverwrite` for what is there, which is as good as the
409. (Azurite answers as if a right were missing.)
Decision: the probe puts an empty blob `_tocsin` below the fixed part of `path` (readers skip names with `_`), once:
afterwards it is there, which is as good an answer. To ask for the container would need the right to read or list, which
who only writes should not have; a destination that is blocked would then stay so.
Source: learn.microsoft.com, "Put Blob", "Blob service error codes", "Create a service SAS".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
import pydantic
from pydantic import AfterValidator, StringConstraints
from typing_extensions import override

from bridge.model import Blocked, Delivered, Duplicate, Event, Verdict
from bridge.ports import Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.clouds.azure import AzureSettings, auth, judge_azure
from connectors.credentials import CA_FILE, KIND, SMALLEST_BYTES, CaFile, FromFile, HttpUrl, Secret
from connectors.formats import FORMAT, Format
from connectors.formats.objects import (
    HIVE,
    JSON_LINES,
    MAX_BYTES,
    MAX_EVENTS,
    OBJECT_CAPS,
    STORED_AS,
    ObjectPath,
    Put,
    StoredAs,
    caps_of,
    fixed_part,
    lacking,
    put,
    quoted,
    shape,
)

VERSION = "2023-11-03"
SCOPE = "https://storage.azure.com/.default"
ROLE = (
    "the role Storage Blob Data Contributor on the container, or a signature the rights to create and write"
)
CREATED = 201
#: Codes that say that a blob of this name is there, with the status that they come with.
THERE = {(409, "BlobAlreadyExists"), (412, "ConditionNotMet"), (403, "UnauthorizedBlobOverwrite")}
PROBE = "_tocsin"
_CODE = re.compile(rb"<Code>(\w{1,100})</Code>")


def _check_account(url: str) -> str:
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise ValueError("expected the address alone; a shared access signature is given as sas_token")
    return url


def _check_signature(signature: Secret) -> Secret:
    text = signature.reveal().removeprefix("?")
    if "sig=" not in text or not text.isprintable() or set(text) & set(" #"):
        raise ValueError("expected a shared access signature, such as sv=...&sig=...")
    return Secret(text)


Signature = Annotated[Secret, AfterValidator(_check_signature)]
SignatureFromFile = Annotated[FromFile, AfterValidator(_check_signature)]


class BlobSettings(AzureSettings):
    """Which container, and where in it."""

    kind: Literal["blob"] = pydantic.Field(default="blob", description=KIND)
    url: Annotated[HttpUrl, AfterValidator(_check_account)] = pydantic.Field(
        description="Address of the account, such as https://example.blob.core.windows.net."
    )
    container: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", min_length=3, max_length=63)
    ] = pydantic.Field(description="Name of the container.")
    sas_token: Signature | None = pydantic.Field(
        default=None,
        description="Shared access signature that may create and write blobs, instead of an identity.",
    )
    sas_token_file: SignatureFromFile | None = pydantic.Field(
        default=None, description="File that holds the signature, instead of `sas_token`."
    )
    path: ObjectPath = pydantic.Field(
        default=HIVE, description="Folder of a blob; {year}, {month}, {day}, {hour} (UTC), {tenant}."
    )
    format: Format = pydantic.Field(default="event", description=FORMAT)
    stored_as: StoredAs = pydantic.Field(default="jsonl", description=STORED_AS)
    max_events: int = pydantic.Field(
        default=MAX_EVENTS, ge=1, le=10_000, description="Events in one blob at most."
    )
    max_bytes: int = pydantic.Field(
        default=MAX_BYTES, ge=SMALLEST_BYTES, le=64 * 2**20, description="Largest blob in bytes, as JSON."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)

    @override
    def signature(self) -> Secret | None:
        return self.credential("sas_token")

    @override
    def faults(self, data_dir: Path) -> dict[str, str]:
        return super().faults(data_dir) | lacking(self.stored_as)


class Blob(Connector):
    """Puts events into a container."""

    Settings: ClassVar[type[BlobSettings]] = BlobSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "lake",
        "kind": "blob",
        "url": "https://example.blob.core.windows.net",
        "container": "incidents",
        "identity": "managed",
    }
    caps = OBJECT_CAPS

    def __init__(self, settings: BlobSettings) -> None:
        self._settings = settings
        self.caps = caps_of(settings.max_events, settings.max_bytes)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        size_bytes = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        settings = self._settings
        made = put(settings.path, events, size_bytes, settings.format, settings.stored_as)
        return Rendered(request=self._put(made), event_ids=made.event_ids, step=step)

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        return (self._verdict(rendered.request, response),) * len(rendered.event_ids)

    def _verdict(self, request: Request, response: Response) -> Verdict:
        verdict = judge_azure(response, CREATED, ROLE, self._settings.secrets())
        if not isinstance(response, HttpResponse):
            return verdict
        if isinstance(verdict, Delivered) and "etag" not in response.headers:
            return Blocked(reason="HTTP 201 without an ETag is no storage's answer; is a proxy in between?")
        if (response.status, _code(response)) in THERE:
            return Delivered() if _is_probe(request) else Duplicate()
        return verdict

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        url, signature = self._address(request.about["key"]), self._settings.signature()
        return msgspec.structs.replace(
            request,
            url=f"{url}?{signature.reveal()}" if signature else url,
            ca_file=self._settings.ca_file,
            auth=auth(self._settings, url, SCOPE),
            shape=shape(request.about),
        )

    @override
    def probe(self) -> Request:
        key = fixed_part(self._settings.path) + PROBE
        return self._put(Put(key=key, body=b"", event_ids=(), content_type=JSON_LINES, about={"key": key}))

    def _put(self, made: Put) -> Http:
        headers = {
            "content-type": made.content_type,
            "if-none-match": "*",
            "x-ms-blob-type": "BlockBlob",
            "x-ms-version": VERSION,
        }
        return Http(
            method="PUT", url=self._address(made.key), headers=headers, body=made.body, about=made.about
        )

    def _address(self, key: str) -> str:
        return f"{self._settings.url.rstrip('/')}/{self._settings.container}/{quoted(key)}"


def _code(response: HttpResponse) -> str:
    """Return Azure's word for what is wrong; "" for none."""
    found = _CODE.search(response.body)
    return response.headers.get("x-ms-error-code", "") or (found[1].decode() if found else "")


def _is_probe(request: Request) -> bool:
    return isinstance(request, Http) and request.about.get("key", "").rpartition("/")[2] == PROBE
