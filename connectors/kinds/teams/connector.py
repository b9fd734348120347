"""The connector: which message an event needs, and what is made of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, EventKind, Reject, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors import changes
from connectors.common import encode, judge_http, smallest
from connectors.credentials import (
    CA_FILE,
    KIND,
    SMALLEST_BYTES,
    CaFile,
    DestinationSettings,
    SecretUrl,
    SecretUrlFromFile,
    origin,
)
from connectors.kinds.teams.card import LISTED, message

MAX_BYTES = 28_000
ACCEPTED = 202
#: Names the run that a workflow began for the request; nothing in between makes it up.
RUN = "x-ms-workflow-run-id"


class TeamsSettings(DestinationSettings):
    """The address of the workflow."""

    kind: Literal["teams"] = pydantic.Field(default="teams", description=KIND)
    url: SecretUrl | None = pydantic.Field(
        default=None, description="Address that the workflow shows for its trigger; a secret."
    )
    url_file: SecretUrlFromFile | None = pydantic.Field(
        default=None, description="File that holds the address, instead of `url`."
    )
    max_bytes: int = pydantic.Field(
        default=MAX_BYTES, ge=SMALLEST_BYTES, description="Largest message in bytes; Teams takes 28 KB."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)


class Teams(Connector):
    """Posts a message for each thing that a person should notice."""

    Settings: ClassVar[type[TeamsSettings]] = TeamsSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "chat",
        "kind": "teams",
        "url": "https://prod-00.westeurope.logic.azure.com:443/workflows/0123456789abcdef0123456789abcdef/triggers"
        "/manual/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=example-signature",
    }
    caps = Caps(
        mode="newest",
        max_events=1,
        max_bytes=MAX_BYTES,
        delivery_class="at least once, deduplicate on event_id",
        wait_s=30.0,
    )

    def __init__(self, settings: TeamsSettings) -> None:
        self._settings = settings
        self._url = settings.needed("url")
        self._origin = origin(self._url)
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)

    @override
    def wants(self, event: Event, memory: Memory | None) -> bool:
        # A message cannot be changed, and a new one for every update buries the channel.
        return event.kind is not EventKind.UPDATED

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        event = events[0]
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        kind = changes.change(event, memory or {}) or event.kind
        change = changes.words(event, kind, memory) if memory else kind.value.capitalize()
        made = (encode(message(event, change, listed)) for listed in (LISTED, LISTED // 3, 0))
        request = Http(
            method="POST",
            url=self._origin,
            headers={"content-type": "application/json"},
            body=smallest(made, room),
            about=changes.told(event),
        )
        return Rendered(request=request, event_ids=(event.event_id,), step=step)

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        return (self._verdict(rendered.request, response),) * len(rendered.event_ids)

    def _verdict(self, request: Request, response: Response) -> Verdict:
        verdict = judge_http(response, (self._url,))
        if isinstance(verdict, Reject) and isinstance(response, HttpResponse):
            # What a trigger refuses it refuses for its own settings: it does not look into a card.
            return Blocked(reason=verdict.reason)
        if not isinstance(verdict, Delivered) or not isinstance(response, HttpResponse):
            return verdict
        if response.status != ACCEPTED and not response.headers.get(RUN):
            # It may have posted the card all the same: to ask each minute would be a card each minute.
            return Blocked(
                disabled=True,
                reason=f"HTTP {response.status} is not the 202 of a workflow: is a proxy in between, or has the "
                "workflow a Response action?",
            )
        return Delivered(memory=request.about if isinstance(request, Http) else None)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        return msgspec.structs.replace(request, url=self._url.reveal(), ca_file=self._settings.ca_file)
