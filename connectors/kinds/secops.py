"""Kind `secops`: events to Google SecOps (Chronicle) in its Unified Data Model, by `events.import`.

What stands where is said in `formats.udm`. A request is taken whole or not at all ("an error in one entity will cause
the entire request to be rejected") and does not say which event it was: smaller requests find it. Success is an empty
object.

There is no probe: every harmless question to an instance needs a permission that who only imports has no use for.
Source: cloud.google.com/chronicle/docs/reference/rest, "events.import"; github.com/google/secops-wrapper.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from pydantic import StringConstraints
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.clouds.google import GoogleSettings, auth, judge_google, of_batch
from connectors.common import first_that_fit
from connectors.credentials import CA_FILE, KIND, SMALLEST_BYTES, CaFile, OriginUrl
from connectors.formats.udm import udm

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
HEADERS = {"content-type": "application/json"}
HEAD, BEFORE, AFTER, TAIL = b'{"inline_source":{"events":[', b'{"udm":', b"}", b"]}}"
#: The older ingestion API takes 1 MB; of this one no limit is written.
MAX_EVENTS, MAX_BYTES = 100, 1_000_000


class SecOpsSettings(GoogleSettings):
    """Which instance."""

    kind: Literal["secops"] = pydantic.Field(default="secops", description=KIND)
    project: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.:-]{1,80}$")] = pydantic.Field(
        description="Id or number of the project that the instance belongs to."
    )
    region: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,40}$")] = pydantic.Field(
        description="Where the instance is: `us`, `eu`, `europe-west2`, ...; a part of the address."
    )
    instance: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f-]{36}$")] = pydantic.Field(
        description="Customer id of the instance, an UUID."
    )
    version: Literal["v1alpha", "v1beta", "v1"] = pydantic.Field(
        default="v1alpha", description="Version of the API: `v1alpha`, `v1beta` or `v1`."
    )
    url: OriginUrl | None = pydantic.Field(
        default=None,
        description="Address of the service; null for https://<region>-chronicle.googleapis.com.",
    )
    max_bytes: int = pydantic.Field(
        default=MAX_BYTES, ge=SMALLEST_BYTES, description="Largest request in bytes."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)


class SecOps(Connector):
    """Imports events."""

    Settings: ClassVar[type[SecOpsSettings]] = SecOpsSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "siem",
        "kind": "secops",
        "project": "example-security",
        "region": "eu",
        "instance": "5f0c6a1e-0000-4000-8000-0123456789ab",
    }
    caps = Caps(
        mode="every",
        max_events=MAX_EVENTS,
        max_bytes=MAX_BYTES,
        delivery_class="at least once, deduplicate on event_id",
        atomic=True,
    )

    def __init__(self, settings: SecOpsSettings) -> None:
        self._settings = settings
        self._origin = (settings.url or f"https://{settings.region}-chronicle.googleapis.com").rstrip("/")
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        size_bytes = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes) - len(HEAD) - len(TAIL)
        room = size_bytes - len(BEFORE) - len(AFTER)
        records = [BEFORE + udm(event, room) + AFTER for event in events]
        count = first_that_fit(records, size_bytes, joint_bytes=1)
        request = Http(
            method="POST", url=self._address(), headers=HEADERS, body=HEAD + b",".join(records[:count]) + TAIL
        )
        return Rendered(
            request=request, event_ids=tuple(event.event_id for event in events[:count]), step=step
        )

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_google(response)
        if (
            isinstance(verdict, Delivered)
            and isinstance(response, HttpResponse)
            and not _is_empty(response.body)
        ):
            verdict = Blocked(
                reason="the answer is not SecOps', which is an empty object; is a proxy in between?"
            )
        return of_batch(verdict, len(rendered.event_ids))

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        return msgspec.structs.replace(
            request,
            url=self._address(),
            auth=auth(self._settings, self._origin, SCOPE),
            ca_file=self._settings.ca_file,
        )

    def _address(self) -> str:
        told = self._settings
        instance = f"projects/{told.project}/locations/{told.region}/instances/{told.instance}"
        return f"{self._origin}/{told.version}/{instance}/events:import"


def _is_empty(body: bytes) -> bool:
    return b"".join(body.split()) == b"{}"
