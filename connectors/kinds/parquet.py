"""Kind `parquet`: events as Parquet files in a local folder, partitioned by day, for DuckDB, Spark, Power BI.

A batch is a file, `day=2026-11-26/<time>-<hash>.parquet`, with the columns of `formats.flat`, the alerts nested. Its
name comes from the events in it, so that a repeat replaces what it left. A batch has the events of one day alone.

Decision: one row per event, not per incident. A file is never changed, so the newest state is asked for, by
`qualify row_number() over (partition by tenant, incident order by seq desc) = 1`. Rejected: Delta or Iceberg, which can
replace rows, for 60 to 200 MB of libraries.
Decision: small files are not put together here. Whoever reads a folder meanwhile would see rows twice, or files go that
were just listed; the page has the statement that does it, for a time of the operator's choosing.
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
from bridge.ports import Appended, Caps, Connector, Memory, Rendered, Request, Response, Table, Unreached
from connectors.common import judge_unreached
from connectors.credentials import KIND, DestinationSettings
from connectors.formats.flat import ALERT_COLUMNS, COLUMNS, Named, fitted
from connectors.formats.objects import MAX_BYTES, MAX_EVENTS, batch

#: By day, as DuckDB, Spark and Athena read partitions.
FOLDER = "day={year}-{month}-{day}"
TYPES = {
    "uuid": "UUID", "text": "VARCHAR", "integer": "INTEGER", "timestamptz": "TIMESTAMPTZ", "boolean": "BOOLEAN",
    "double precision": "DOUBLE",
}  # fmt: skip
_ALERT = {name: TYPES[kind] for name, kind in ALERT_COLUMNS.items()} | {"labels": "MAP(VARCHAR, VARCHAR)"}
#: The columns in their order, which is that of the page.
SHAPE = msgspec.json.encode(
    {name: TYPES[kind] for name, kind in COLUMNS.items()} | {"alerts": [_ALERT]}
).decode()


class ParquetSettings(DestinationSettings):
    """Where the files go."""

    kind: Literal["parquet"] = pydantic.Field(default="parquet", description=KIND)
    path: Annotated[str, pydantic.Field(min_length=1)] = pydantic.Field(
        description="Folder of the dataset; a relative path starts at the working directory."
    )
    team_label: str = pydantic.Field(
        default="team", min_length=1, max_length=200, description="Label that says whose an alert is."
    )
    service_label: str = pydantic.Field(
        default="service", min_length=1, max_length=200, description="Label that names the service."
    )

    @override
    def faults(self, data_dir: Path) -> dict[str, str]:
        path = Path(self.path)
        if path.exists() and not path.is_dir():
            return {"path": "is a file; write the path of a folder"}
        if path.resolve() == data_dir.resolve():
            return {"path": "is the folder of Tocsin's own stores; choose another, such as ./data/lake"}
        return {}


class Parquet(Connector):
    """Writes a file per batch."""

    Settings: ClassVar[type[ParquetSettings]] = ParquetSettings
    example: ClassVar[dict[str, Any]] = {"name": "lake", "kind": "parquet", "path": "./data/lake"}
    caps = Caps(
        mode="every",
        max_events=MAX_EVENTS,
        max_bytes=MAX_BYTES,
        delivery_class="at least once, deduplicate on event_id",
        atomic=True,
    )

    def __init__(self, settings: ParquetSettings) -> None:
        self._settings = settings
        self._named = Named(team=settings.team_label, service=settings.service_label)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes) - len("[]")
        made = batch(FOLDER, events, room, line=self._line, ending=".parquet")
        rows = b"[" + b",".join(made.body.splitlines()) + b"]"
        request = Table(path=self._settings.path, name=made.key, rows=rows, shape="")
        return Rendered(request=request, event_ids=made.event_ids, step=step)

    def _line(self, event: Event, size_bytes: int) -> bytes:
        return fitted(event, self._named, size_bytes)

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
        return msgspec.structs.replace(request, path=self._settings.path, shape=SHAPE)

    @override
    def probe(self) -> Request:
        return Table(path=self._settings.path, name="", rows=b"[]", shape="")
