"""Kind `file`: one JSON line per event (`tocsin.event/1`, or OCSF) in a local file, fsynced before it counts.

Rule: a line is never longer than the largest request. What a crash tore is left as it is and a new line is
begun, so a reader skips a line that is no JSON and reads `event_id` to see what stands there twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Delivered, Event, Reject, Verdict
from bridge.ports import Append, Appended, Caps, Connector, Memory, Rendered, Request, Response, Unreached
from connectors.common import first_that_fit, judge_unreached
from connectors.credentials import KIND, DestinationSettings
from connectors.formats import FORMAT, Format, encoder_of

#: What Tocsin itself keeps in its storage directory; SQLite puts its journals beside its files.
OWN_NAMES = frozenset({"troubles.json", "token.key", "tokens.jsonl"})
OWN_MONTHS = "audit-*.jsonl"
OWN_ENDS = frozenset({".db", ".db-wal", ".db-shm", ".db-journal", ".lock"})


class FileSettings(DestinationSettings):
    """Where the lines go."""

    kind: Literal["file"] = pydantic.Field(default="file", description=KIND)
    path: Annotated[str, pydantic.Field(min_length=1)] = pydantic.Field(
        description="File that lines are appended to; a relative path starts at the working directory."
    )
    format: Format = pydantic.Field(default="event", description=FORMAT)

    @override
    def faults(self, data_dir: Path) -> dict[str, str]:
        path = Path(self.path)
        if self.path.endswith("/") or path.is_dir():
            return {"path": "is a directory; write the path of a file in it"}
        is_beside = path.resolve().parent == data_dir.resolve()
        if is_beside and (
            path.name in OWN_NAMES or OWN_ENDS.intersection(path.suffixes) or path.match(OWN_MONTHS)
        ):
            return {
                "path": "is one of Tocsin's own stores; choose another path, such as ./data/incidents.jsonl"
            }
        return {}


class File(Connector):
    """Appends events to a file."""

    Settings: ClassVar[type[FileSettings]] = FileSettings
    example: ClassVar[dict[str, Any]] = {"name": "archive", "kind": "file", "path": "./data/incidents.jsonl"}
    caps = Caps(
        mode="every",
        max_events=500,
        max_bytes=16 * 2**20,
        delivery_class="at least once, deduplicate on event_id",
        atomic=True,
    )

    def __init__(self, settings: FileSettings) -> None:
        self._settings = settings
        self._encoded = encoder_of(settings.format)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        size_bytes = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        lines = [self._encoded(event, size_bytes - 1) + b"\n" for event in events]
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
