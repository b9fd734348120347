"""The schema of `delivery.db` and the forms of its rows. Times are microseconds since the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from bridge.delivery import LineKey, Told
from bridge.model import Delivery, DeliveryState, EventKind
from bridge.storage.sqlite import Schema
from bridge.storage.times import microseconds, moment_of

#: The condition of the partial index; a query must repeat it word for word to be served by the index.
IS_OPEN = "state IN ('waiting', 'pending')"

_TABLES = f"""
CREATE TABLE delivery (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant TEXT NOT NULL, destination TEXT NOT NULL, event_id TEXT NOT NULL,
  incident TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, urgent INTEGER NOT NULL, state TEXT NOT NULL,
  fit_bytes INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL, next_at INTEGER NOT NULL, attempts INTEGER NOT NULL,
  token TEXT NOT NULL, step TEXT NOT NULL, reason TEXT NOT NULL, delivered_at INTEGER,
  maybe_duplicate INTEGER NOT NULL, until_recovery INTEGER NOT NULL, pending_since INTEGER,
  failing_since INTEGER, stuck_since INTEGER, refusals INTEGER NOT NULL DEFAULT 0,
  asked_at INTEGER,
  instead_of TEXT NOT NULL DEFAULT '',
  diverted INTEGER NOT NULL DEFAULT 0,  -- 1: its destination's fallback has been given it
  request INTEGER,              -- the frozen request that carries it; NULL: it is rendered when it is due
  changed_at INTEGER NOT NULL,
  UNIQUE (destination, event_id)
) STRICT;
CREATE INDEX delivery_in_line ON delivery (destination, tenant, incident, seq) WHERE {IS_OPEN};
CREATE INDEX delivery_by_age ON delivery (destination, created_at) WHERE {IS_OPEN};
CREATE INDEX delivery_of_request ON delivery (request) WHERE request IS NOT NULL;
CREATE INDEX delivery_ended ON delivery (state, changed_at);
CREATE INDEX delivery_dead ON delivery (destination, changed_at) WHERE state = 'dead';
CREATE INDEX delivery_stuck ON delivery (destination, stuck_since) WHERE stuck_since IS NOT NULL AND {IS_OPEN};
CREATE INDEX delivery_of_tenant ON delivery (tenant, id);
CREATE INDEX delivery_of_incident ON delivery (tenant, incident, id);
CREATE INDEX delivery_in_state ON delivery (tenant, state, id);
CREATE TABLE request (          -- what was claimed, as it was sent, gone once all its events are settled
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  destination TEXT NOT NULL, body BLOB NOT NULL, event_ids TEXT NOT NULL, step TEXT NOT NULL,
  claimed INTEGER NOT NULL,     -- 1: an attempt is under way, or was when the process ended
  urgent INTEGER NOT NULL,      -- 1: one of its events is
  due_at INTEGER NOT NULL
) STRICT;
CREATE INDEX request_due ON request (destination, claimed, due_at);
CREATE TABLE line (             -- one incident at one destination
  tenant TEXT NOT NULL, destination TEXT NOT NULL, incident TEXT NOT NULL,
  due_at INTEGER,               -- of its first open delivery; NULL: nothing waits, or a request holds it
  held INTEGER NOT NULL,        -- 1: due_at stands, whatever joins the line
  urgent INTEGER NOT NULL DEFAULT 0,  -- 1: one of its open deliveries is
  told_seq INTEGER NOT NULL, told_kind TEXT, told_maybe INTEGER NOT NULL,
  memory TEXT, changed_at INTEGER NOT NULL,
  PRIMARY KEY (destination, tenant, incident)
) STRICT, WITHOUT ROWID;
CREATE INDEX line_due ON line (destination, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX line_urgent ON line (destination, due_at) WHERE due_at IS NOT NULL AND urgent = 1;
CREATE INDEX line_due_of_tenant ON line (destination, tenant, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX line_urgent_of_tenant ON line (destination, tenant, due_at) WHERE due_at IS NOT NULL AND urgent = 1;
CREATE TABLE destination (      -- those a dispatcher has worked for
  name TEXT PRIMARY KEY,
  mark TEXT NOT NULL            -- of the settings that frozen requests were rendered with
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox_cursor (    -- the only row: which outbox was read last, and how far
  outbox TEXT NOT NULL, id INTEGER NOT NULL
) STRICT;
CREATE TABLE lost (             -- dead letters that made room for newer ones, or grew too old
  destination TEXT PRIMARY KEY, count INTEGER NOT NULL
) STRICT;
"""

#: How far below the events of a new state those of the one before it stand, more than any incident has events.
#: `seq` of the store is the event's own number less so much for every state that was begun since; see `rewind`.
ERA = 1 << 32

TIMES = (
    "created_at", "next_at", "delivered_at", "pending_since", "failing_since", "stuck_since", "asked_at",
)  # fmt: skip
#: The columns of a `Delivery`, in the order of its fields.
COLUMNS = ", ".join(Delivery.__struct_fields__)


def first_schema(database: Any) -> None:
    """Create the tables."""
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            database.execute(statement)
    database.execute("INSERT INTO outbox_cursor VALUES ('', 0)")


SCHEMA = Schema("delivery.db", [first_schema])


def delivery_of(row: Sequence[Any]) -> Delivery:
    """Return the delivery in a row of `COLUMNS`."""
    fields = dict(zip(Delivery.__struct_fields__, row, strict=True))
    for name in TIMES:
        fields[name] = None if fields[name] is None else moment_of(fields[name])
    for name in ("urgent", "maybe_duplicate", "until_recovery"):
        fields[name] = bool(fields[name])
    fields["kind"] = EventKind(fields["kind"])
    fields["state"] = DeliveryState(fields["state"])
    return Delivery(**fields)


def values_of(delivery: Delivery) -> dict[str, Any]:
    """Return the delivery as named parameters."""
    return {name: _stored(getattr(delivery, name)) for name in Delivery.__struct_fields__}


def _stored(value: Any) -> Any:
    if isinstance(value, datetime):
        return microseconds(value)
    if isinstance(value, EventKind | DeliveryState):
        return value.value
    return int(value) if isinstance(value, bool) else value


def told_of(seq: int, kind: str | None, maybe: int) -> Told:
    """Return what is told, from the columns of a line."""
    return Told(seq=seq, kind=None if kind is None else EventKind(kind), maybe=bool(maybe))


def key_of(delivery: Delivery) -> LineKey:
    """Return the line that a delivery stands in."""
    return LineKey(delivery.tenant, delivery.incident)


def pack(value: object) -> str:
    """Return the stored form of ids and memory."""
    return msgspec.json.encode(value, order="deterministic").decode()
