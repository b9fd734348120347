"""Rows in, SQLSTATEs out.

Rule: only what is known to be about a row rejects it (classes 22 and 23); what a role may not do, what is not there and
what is not understood blocks, because a person can correct it; everything about the server's own state is waited for.
Source: PostgreSQL's manual, appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from pydantic import AfterValidator
from typing_extensions import override

from bridge.model import Blocked, Delivered, Duplicate, Event, EventKind, Reject, Retry, Split, Verdict
from bridge.ports import (
    Caps,
    Connector,
    Memory,
    Refused,
    Rendered,
    Request,
    Response,
    Unreached,
    Upsert,
    Upserted,
)
from connectors.common import excerpt, first_that_fit, judge_unreached
from connectors.credentials import (
    CA_FILE,
    KIND,
    SMALLEST_BYTES,
    CaFile,
    DestinationSettings,
    FromFile,
    Secret,
)
from connectors.formats.flat import Named, fitted
from connectors.kinds.postgres.tables import setup
from connectors.kinds.postgres.writing import statements

MAX_PORT = 65_535
#: What to look at, by SQLSTATE.
HINTS = {
    "22P05": "the database has an encoding other than UTF8",
    "28000": "the server lets this user not in; look at pg_hba.conf",
    "28P01": "the password was refused",
    "3D000": "there is no such database",
    "3F000": "there is no such schema; set create: true, or run the script for it",
    "42501": "the role may not do this; the page of this kind lists the grants it needs",
    "42703": "the tables are of an older version; set create: true, or run the script again",
    "42P01": "a table is missing; set create: true, or run the script for it",
}
#: Classes that pass: connection, rollback, resources, not in its state, operator (shutting down), system, internal.
PASSING = ("08", "40", "53", "55", "57", "58", "XX")
#: A server that only reads is a standby: after a switch another one answers at this address.
READ_ONLY, TOO_MUCH = "25006", "54"
OF_A_ROW = ("22", "23")


def _check_address(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= MAX_PORT:
        raise ValueError("expected host:port, such as db.example.com:5432, or /folder/of/a/socket:5432")
    return address


class PostgresSettings(DestinationSettings):
    """Which database, and who writes to it."""

    kind: Literal["postgres"] = pydantic.Field(default="postgres", description=KIND)
    address: Annotated[str, AfterValidator(_check_address)] = pydantic.Field(
        description="Server as host:port; a host that begins with / is the folder of its socket."
    )
    database: str = pydantic.Field(
        default="tocsin", min_length=1, max_length=63, description="Database; it has to be UTF8."
    )
    user: str = pydantic.Field(default="tocsin", min_length=1, max_length=63, description="Role that writes.")
    password: Secret | None = pydantic.Field(
        default=None, description="Its password; none where the server asks for none (peer)."
    )
    password_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the password, instead of `password`."
    )
    schema_name: str = pydantic.Field(
        default="tocsin", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="Schema of the tables."
    )
    create: bool = pydantic.Field(
        default=True, description="Make schema and tables, and bring them to the newest version."
    )
    team_label: str = pydantic.Field(
        default="team", min_length=1, max_length=200, description="Label that says whose an alert is."
    )
    service_label: str = pydantic.Field(
        default="service", min_length=1, max_length=200, description="Label that names the service."
    )
    tls: bool = pydantic.Field(
        default=True,
        description="Speak TLS and check the certificate; without it everything goes in the clear.",
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)
    max_bytes: int = pydantic.Field(
        default=2**20, ge=SMALLEST_BYTES, description="Largest batch in bytes, before it becomes rows."
    )

    @override
    def required(self) -> frozenset[str]:
        return frozenset()


class Postgres(Connector):
    """Writes incidents, events, alerts and forecasts."""

    Settings: ClassVar[type[PostgresSettings]] = PostgresSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "bi",
        "kind": "postgres",
        "address": "db.example.com:5432",
        "database": "reports",
        "user": "tocsin",
        "password": "correct-horse-battery-staple",
    }
    caps = Caps(
        mode="every",
        max_events=500,
        max_bytes=2**20,
        delivery_class="exactly-once effect",
        atomic=True,
    )

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._password = settings.credential("password")
        self._named = Named(team=settings.team_label, service=settings.service_label)

    @override
    def wants(self, event: Event, memory: Memory | None) -> bool:
        return event.kind is not EventKind.RECOMMENDATION  # a text for people

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes) - len("[]")
        records = [fitted(event, self._named, room) for event in events]
        count = first_that_fit(records, room, joint_bytes=1)
        return Rendered(
            request=self._upsert(b"[" + b",".join(records[:count]) + b"]"),
            event_ids=tuple(event.event_id for event in events[:count]),
            step=step,
        )

    def _upsert(self, rows: bytes, *, is_rehearsal: bool = False) -> Upsert:
        settings = self._settings
        return Upsert(
            address=settings.address, database=settings.database, user=settings.user, rows=rows, tls=settings.tls,
            ca_file=settings.ca_file, is_rehearsal=is_rehearsal,
        )  # fmt: skip

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        count = len(rendered.event_ids)
        match response:
            case Upserted(returned=new):
                return tuple(
                    Delivered() if each in new else self._old(rendered) for each in rendered.event_ids
                )
            case Refused():
                return (self._refused(response, count),) * count
            case Unreached():
                return (judge_unreached(response),) * count
            case _:
                return (Reject(reason="the answer is of another protocol"),) * count

    def _old(self, rendered: Rendered) -> Verdict:
        is_rehearsal = isinstance(rendered.request, Upsert) and rendered.request.is_rehearsal
        return Delivered() if is_rehearsal else Duplicate()

    def _refused(self, response: Refused, count: int) -> Verdict:
        code = response.code
        hint = f" ({HINTS[code]})" if code in HINTS else ""
        reason = f"{code}{excerpt(response.reason.encode(), (self._password,))}{hint}"
        if hint:
            return Blocked(reason=reason)
        if code == READ_ONLY or code.startswith(PASSING):
            return Retry(reason=reason, whole_destination=True)
        if code.startswith(TOO_MUCH) or (count > 1 and code.startswith(OF_A_ROW)):
            return Split(reason=reason)
        return Reject(reason=reason) if code.startswith(OF_A_ROW) else Blocked(reason=reason)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        settings = self._settings
        return msgspec.structs.replace(
            request,
            address=settings.address, database=settings.database, user=settings.user, tls=settings.tls,
            ca_file=settings.ca_file, password=self._password.reveal() if self._password else "",
            setup=setup(settings.schema_name) if settings.create else "",
            statements=statements(settings.schema_name),
        )  # fmt: skip

    @override
    def probe(self) -> Request:
        return self._upsert(b"[]", is_rehearsal=True)
