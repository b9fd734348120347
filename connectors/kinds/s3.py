"""Kind `s3`: events as JSON lines or Parquet in objects of Amazon S3, or of a store that speaks like it (MinIO, Ceph).

Up to `max_events` events that wait become one object under `path`; its key follows from their ids, and it is put only
if there is none of that key (`If-None-Match: *`). The same batch sent twice is answered 412 and is a duplicate, so that
nothing is stored twice and nothing is written over. Only after a refusal that makes a batch anew (blocked, too large)
can an event stand in two objects; one event per object (`max_events: 1`) rules that out too.

Rules: 200 counts with an `ETag`, which every store of this protocol gives; without it something else answered. Every
object goes with a checksum, which buckets with Object Lock ask for. Of permissions `s3:PutObject` is enough.
Decision: the probe puts an object under a checksum (MD5) that is wrong. A store finds that out last, after address,
signature and permission were good, says `BadDigest`, and keeps nothing; one that checks nothing keeps an object
`_tocsin`, a name that readers skip. To ask for the bucket would need `s3:ListBucket`, which who only writes should not
have; a destination that is blocked would then stay so.
Source: docs.aws.amazon.com, "PutObject", "Conditional writes", "Virtual hosting of buckets".
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from pydantic import StringConstraints
from typing_extensions import override

from bridge.model import Delivered, Duplicate, Event, Verdict
from bridge.ports import Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.clouds.aws import AwsSettings, error_of, foreign, judge_aws
from connectors.credentials import KIND, SMALLEST_BYTES
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

THERE, PRECONDITION = 412, "PreconditionFailed"
#: The probe's name, its body, a checksum that is another's (that of nothing), and what is said of it.
PROBE, PROBED, WRONG, MISMATCH = "_tocsin", b"tocsin", "1B2M2Y8AsgTpgAmY7PhCfg==", "BadDigest"


class S3Settings(AwsSettings):
    """Which bucket, and where in it."""

    kind: Literal["s3"] = pydantic.Field(default="s3", description=KIND)
    bucket: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] = pydantic.Field(
        description="Name of the bucket."
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

    @override
    def faults(self, data_dir: Path) -> dict[str, str]:
        return super().faults(data_dir) | lacking(self.stored_as)


class S3(Connector):
    """Puts events into a bucket."""

    Settings: ClassVar[type[S3Settings]] = S3Settings
    example: ClassVar[dict[str, Any]] = {
        "name": "lake",
        "kind": "s3",
        "region": "eu-west-1",
        "bucket": "example-incidents",
    }
    caps = OBJECT_CAPS

    def __init__(self, settings: S3Settings) -> None:
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
        verdict = judge_aws(response, self._settings.secrets())
        if not isinstance(response, HttpResponse):
            return verdict
        code = error_of(response)[0]
        if isinstance(verdict, Delivered) and "etag" not in response.headers:
            return foreign(response.status)
        if _is_probe(request) and (code == MISMATCH or (response.status == THERE and code == PRECONDITION)):
            return Delivered()
        if response.status == THERE and code == PRECONDITION:
            return Duplicate()
        return verdict

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        return msgspec.structs.replace(
            request,
            url=self._address(request.about["key"]),
            ca_file=self._settings.ca_file,
            auth=self._settings.auth("s3"),
            shape=shape(request.about),
        )

    @override
    def probe(self) -> Request:
        key = fixed_part(self._settings.path) + PROBE
        made = self._put(Put(key=key, body=PROBED, event_ids=(), content_type=JSON_LINES, about={"key": key}))
        return msgspec.structs.replace(made, headers=made.headers | {"content-md5": WRONG})

    def _put(self, made: Put) -> Http:
        headers = {"content-type": made.content_type, "if-none-match": "*"}
        if made.content_type == JSON_LINES:
            checksum = zlib.crc32(made.body).to_bytes(4, "big")
            headers["x-amz-checksum-crc32"] = base64.b64encode(checksum).decode()
        else:  # there are no such bytes yet; who signs them adds it
            headers["x-amz-sdk-checksum-algorithm"] = "CRC32"
        return Http(
            method="PUT", url=self._address(made.key), headers=headers, body=made.body, about=made.about
        )

    def _address(self, key: str) -> str:
        # A certificate for *.s3.region... does not hold for a name with dots; a compatible store rarely has names.
        bucket, service = self._settings.bucket, "s3"
        if self._settings.endpoint is not None or "." in bucket:
            return f"{self._settings.address(service)}{bucket}/{quoted(key)}"
        return f"{self._settings.address(f'{bucket}.{service}')}{quoted(key)}"


def _is_probe(request: Request) -> bool:
    return isinstance(request, Http) and request.about.get("key", "").rpartition("/")[2] == PROBE
