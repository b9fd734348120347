"""Kind `file`: one JSON line per event (`tocsin.event/1`) in a local file, fsynced before it counts.

Rule: a line is never longer than the largest request. What a crash tore is left as it is and a new line is
begun, so a reader skips a line that is no JSON and reads `event_id` to see what stands there twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Delivered, Event, Reject, Verdict
from bridge.ports import Append, Appended, Caps, Connector, Memory, Rendered, Request, Response, Unreached
from connectors.common import first_that_fit, fit, judge_unreached
from connectors.credentials import KIND, DestinationSettings


class FileSettings(DestinationSettings):
    """Where the lines go."""

    kind: Literal["file"] = pydantic.Field(default="file", description=KIND)
    path: Annotated[str, pydantic.Field(min_length=1)] = pydantic.Field(
        description="File that lines are appended to; a relative path starts at the working directory."
    )


class File(Connector):
    """Appends events to a file."""

    Settings: ClassVar[type[FileSettings]] = FileSettings
    example: ClassVar[dict[str, Any]] = {"name": "archive", "kind": "file", "path": "./data/incidents.jsonl"}
    caps = Caps(
        mode="every",
        max_events=500,
        max_bytes=16 * 2**20,
        idempotency="none",
        delivery_class="at least once, deduplicate on event_id",
        atomic=True,
    )

    def __init__(self, settings: FileSettings) -> None:
        self._settings = settings

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        size_bytes = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        lines = [fit(event, size_bytes - 1) + b"\n" for event in events]
        count = first_that_fit(lines, self.caps.max_bytes)
        return Rendered(
            request=Append(path=self._settings.path, lines=b"".join(lines[:count])),
            event_ids=tuple(event.event_id for event in events[:count]),
            step=step,
        )

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        return (self._verdict(response),) * len(rendered.event_ids)

    def _verdict(self, response: Response) -> Verdict:
        match response:
            case Appended():
                return Delivered()
            case Unreached():
                return judge_unreached(response)
            case _:
                return Reject(reason="the answer is of another protocol")

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        return msgspec.structs.replace(request, path=self._settings.path)

    @override
    def probe(self) -> Request:
        return Append(path=self._settings.path, lines=b"")
