"""`state.db`: what thinking knows, the events and the outbox; written by the analyst alone, one transaction a batch.

Rules: an outcome, the history of its rows and the cursor are committed together or not at all; a load after that
gives an equal state. `synchronous=FULL`: an event that was delivered must not be un-thought by a power cut.

Decision: bodies are msgpack of the words themselves beside the few columns that are searched. A column per field
would be a second schema to keep in step, and nobody but Tocsin reads these files; people read the API, exports
and their own SIEM.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from bridge.analysis.anomaly import Habit
from bridge.analysis.dedup import Watch
from bridge.analysis.incidents import Group, Progress, counted
from bridge.analysis.rarity import Rarity
from bridge.analysis.settings import AnalysisSettings, Source
from bridge.model import Episode, InboxRow, Incident, RowKind
from bridge.pipeline import restore
from bridge.pipeline.state import (
    EPOCH,
    Beat,
    Common,
    Outcome,
    State,
    TemplateRecord,
    TenantRecord,
    forgotten,
)
from bridge.storage.sqlite import Schema, open_writer, transaction

#: Rows that a replay needs. A clock row only says that time ran; a rejected body stands in quarantine.
HISTORY_KINDS = frozenset(RowKind) - {RowKind.CLOCK, RowKind.REJECTED}
QUARANTINE_ROWS = 10_000  # the oldest go first
PRUNE_AT_ONCE = 5_000  # rows of one table, or incidents
QUARANTINE_BODY_BYTES = 1 << 20  # a longer one is kept cut; its length is in the reason

SCHEMA = """
create table common (id integer primary key check (id = 1), body blob not null);
create table cursor (front text primary key, id integer not null, at integer not null);
create table tenant_state (tenant text primary key, body blob not null) without rowid;
create table incident (
    tenant text not null, id text not null, opened_at integer not null, changed_at integer not null,
    state text not null, severity text not null, origin text not null, anomaly real,
    body blob not null, work blob not null, primary key (tenant, id)
) without rowid;
create index incident_opened on incident (tenant, opened_at);
create index incident_state on incident (state, changed_at);
create table episode (
    tenant text not null, source text not null, fingerprint text not null, starts_at integer not null,
    incident text not null, ends_at integer, body blob not null,
    primary key (tenant, source, fingerprint, starts_at)
) without rowid;
create index episode_incident on episode (tenant, incident);
create table event (
    tenant text not null, incident text not null, seq integer not null, event_id text not null unique,
    kind text not null, at integer not null, body blob not null, primary key (tenant, incident, seq)
);
create table outbox (
    id integer primary key autoincrement, tenant text not null, destination text not null,
    event_id text not null, incident text not null, seq integer not null, kind text not null,
    at integer not null, not_before integer not null
);
create table quarantine (
    id integer primary key autoincrement, tenant text not null, source text not null,
    received_at integer not null, inbox_id integer not null, what text not null, reason text not null,
    body blob not null
);
create table history (
    id integer primary key, received_at integer not null, tenant text not null, source text not null,
    kind text not null, body blob not null
);
create index history_received on history (received_at);
create table watch (
    tenant text not null, source text not null, fingerprint text not null, body blob not null,
    primary key (tenant, source, fingerprint)
) without rowid;
create table beat (
    tenant text not null, source text not null, fingerprint text not null, body blob not null,
    primary key (tenant, source, fingerprint)
) without rowid;
create table template (
    tenant text not null, id text not null, body blob not null, primary key (tenant, id)
) without rowid;
create table habit (
    tenant text not null, family text not null, body blob not null, primary key (tenant, family)
) without rowid;
create table rarity (tenant text primary key, body blob not null);
"""


ALERT = ("tenant", "source", "fingerprint")


def first_schema(db: Any) -> None:
    """Create the tables of release 0.1; times are microseconds since the epoch."""
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            db.execute(statement)


STATE_SCHEMA = Schema("state.db", [first_schema])
_pack = msgspec.msgpack.Encoder().encode


def micros(at: datetime) -> int:
    """Return microseconds since the epoch, exactly."""
    elapsed = at - EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def remembered_s(settings: AnalysisSettings) -> float:
    """Return how long an incident that is over may still change, in seconds: it reopens, or an end comes late."""
    sources = (*settings.sources, Source(tenant="", name=""))
    late_s = max(2 * (source.repeat_interval_s + source.group_interval_s) for source in sources)
    return 60.0 + max(settings.reopen_within_s, late_s)


class StateStore:
    """The analyst's store. Not for several threads."""

    def __init__(self, path: Path) -> None:
        self._db = open_writer(path, STATE_SCHEMA)
        self._compress = zstandard.ZstdCompressor(level=1)

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self._db.close()

    # ---- reading -----------------------------------------------------------------------------------------

    def cursor(self, front: str) -> int:
        """Return the id of the last inbox row of `front` that was committed, 0 at first."""
        found = self._db.execute("select id from cursor where front = ?", (front,)).fetchone()
        return int(found[0]) if found else 0

    def load(self) -> State:
        """Return the state as it was committed last. Cost grows with what is open, not with history."""
        stored = self._db.execute("select body from common").fetchone()
        common = msgspec.msgpack.decode(stored[0], type=Common) if stored else Common()
        state = State(common)
        for name, body in self._db.execute("select tenant, body from tenant_state order by tenant"):
            state.tenant(name).record = msgspec.msgpack.decode(body, type=TenantRecord)
        self._load_alerts(state)
        self._load_groups(state)
        restore(state)
        return state

    def _load_alerts(self, state: State) -> None:
        query = "select tenant, source, fingerprint, body from {} order by tenant, source, fingerprint"
        for name, source, fingerprint, body in self._db.execute(query.format("watch")):
            watch = msgspec.msgpack.decode(body, type=Watch)
            state.tenant(name).watches[source, fingerprint] = watch
        for name, source, fingerprint, body in self._db.execute(query.format("beat")):
            state.tenant(name).beats[source, fingerprint] = msgspec.msgpack.decode(body, type=Beat)
        for name, body in self._db.execute("select tenant, body from template order by tenant, id"):
            record = msgspec.msgpack.decode(body, type=TemplateRecord)
            state.tenant(name).templates[record.id] = record
        for name, family, body in self._db.execute("select tenant, family, body from habit order by 1, 2"):
            state.tenant(name).habits[family] = msgspec.msgpack.decode(body, type=Habit)
        for name, body in self._db.execute("select tenant, body from rarity order by tenant"):
            state.tenant(name).rarity = Rarity(body)

    def _load_groups(self, state: State) -> None:
        """Load what can still change: open, quiet, and closed or merged so recently that it is not forgotten."""
        since = micros(state.common.clock - timedelta(seconds=remembered_s(state.common.settings)))
        rows = self._db.execute(
            "select tenant, id, body, work from incident where state in ('open', 'quiet') or changed_at >= ?"
            " order by tenant, opened_at, id",
            (since,),
        ).fetchall()
        for name, incident, body, work in rows:
            head = msgspec.msgpack.decode(body, type=Incident)
            progress = msgspec.msgpack.decode(work, type=Progress)
            if forgotten(progress, state.common.clock):
                continue
            episodes = [
                msgspec.msgpack.decode(row[0], type=Episode)
                for row in self._db.execute(
                    "select body from episode where tenant = ? and incident = ?"
                    " order by source, fingerprint, starts_at",
                    (name, incident),
                )
            ]
            group = Group(head, progress, episodes)
            state.tenant(name).adopt(group)

    # ---- writing -----------------------------------------------------------------------------------------

    def commit(self, outcome: Outcome, *, front: str, rows: Sequence[InboxRow]) -> None:
        """Store an outcome, the history of its rows and the cursor in one transaction.

        Raises:
            StorageError: Nothing was stored.
        """
        with transaction(self._db):
            self._write(outcome)
            self._write_history(rows)
            if rows:
                self._move_cursor(front, rows[-1])

    def quarantine_row(self, row: InboxRow, reason: str, *, front: str) -> None:
        """Set a whole row aside that cannot be processed, and move the cursor past it."""
        with transaction(self._db):
            self._insert_quarantine(
                [(row.tenant, row.source, micros(row.received_at), row.id, "row", reason, row.body)]
            )
            self._move_cursor(front, row)

    def _move_cursor(self, front: str, row: InboxRow) -> None:
        self._db.execute(
            "insert or replace into cursor values (?, ?, ?)", (front, row.id, micros(row.received_at))
        )

    def prune(self, now: datetime, settings_of: Common) -> int:
        """Delete what is older than its retention, and the oldest of a quarantine that is too long.

        One transaction, bounded by `PRUNE_AT_ONCE` so that the rows behind it do not wait long; what is left over
        goes at the next call. Returns how many rows and incidents went.

        Raises:
            StorageError: Nothing was deleted.
        """
        settings = settings_of.settings
        history = micros(now - timedelta(seconds=settings.history_s))
        quarantine = micros(now - timedelta(seconds=settings.quarantine_s))
        with transaction(self._db):
            gone = self._delete_some("history", "received_at < ?", history)
            gone += self._delete_some("outbox", "at < ?", history)
            too_many = "received_at < ? or id <= (select max(id) from quarantine) - ?"
            gone += self._delete_some("quarantine", too_many, quarantine, QUARANTINE_ROWS)
            # What may still change is in the memory of the analyst: it stays, however short incidents are kept.
            keep_s = max(settings.incidents_s, remembered_s(settings))
            return gone + self._delete_incidents(micros(now - timedelta(seconds=keep_s)))

    def _delete_some(self, table: str, where: str, *values: int) -> int:
        """Delete what holds true among the rows that came first: ids and times go up together."""
        first = f"select id from {table} order by id limit {PRUNE_AT_ONCE}"  # noqa: S608 - names of ours
        found = self._db.execute(f"delete from {table} where id in ({first}) and ({where})", values)  # noqa: S608
        return found.rowcount

    def _delete_incidents(self, before: int) -> int:
        """Delete incidents that were over `before`, with all they hold."""
        over = self._db.execute(
            "select tenant, id from incident where state in ('closed', 'merged') and changed_at < ? limit ?",
            (before, PRUNE_AT_ONCE),
        ).fetchall()
        for table in ("episode", "event"):
            self._db.executemany(f"delete from {table} where tenant = ? and incident = ?", over)  # noqa: S608
        self._db.executemany("delete from incident where tenant = ? and id = ?", over)
        return len(over)

    def _write(self, outcome: Outcome) -> None:
        many = self._db.executemany
        if outcome.common is not None:
            self._db.execute("insert or replace into common values (1, ?)", (_pack(outcome.common),))
        many(
            "insert or replace into tenant_state values (?, ?)",
            [(name, _pack(record)) for name, record in outcome.tenants.items()],
        )
        many(
            "insert or replace into incident values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [_incident_row(tenant, group) for (tenant, _), group in outcome.touched.items()],
        )
        many(
            "insert or replace into episode values (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *key[:3],
                    micros(key[3]),
                    e.incident,
                    None if e.ends_at is None else micros(e.ends_at),
                    _pack(e),
                )
                for key, e in outcome.episodes.items()
            ],
        )
        self._write_keyed("watch", outcome.watches.items(), *ALERT)
        self._write_keyed("beat", outcome.beats.items(), *ALERT)
        self._write_keyed("template", outcome.templates.items(), "tenant", "id")
        self._write_keyed("habit", outcome.habits.items(), "tenant", "family")
        many(
            "insert or replace into rarity values (?, ?)",
            [(name, rarity.stored()) for name, rarity in outcome.rarities.items()],
        )
        self._write_events(outcome)

    def _write_keyed(self, table: str, things: Iterable[tuple[tuple[str, ...], object]], *names: str) -> None:
        """Write what has a key and a body; None as a body deletes."""
        kept, gone = [], []
        for key, thing in things:
            if thing is None:
                gone.append(key)
            else:
                kept.append((*key, _pack(thing)))
        marks = ", ".join("?" * (len(names) + 1))
        self._db.executemany(f"insert or replace into {table} values ({marks})", kept)  # noqa: S608 - names of ours
        where = " and ".join(f"{name} = ?" for name in names)
        self._db.executemany(f"delete from {table} where {where}", gone)  # noqa: S608

    def _write_events(self, outcome: Outcome) -> None:
        self._db.executemany(
            "insert into event values (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    e.tenant,
                    e.incident.id,
                    e.seq,
                    e.event_id,
                    e.kind.value,
                    micros(e.at),
                    msgspec.json.encode(e),
                )
                for e in outcome.events
            ],
        )
        self._db.executemany(
            "insert into outbox (tenant, destination, event_id, incident, seq, kind, at, not_before)"
            " values (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    o.tenant,
                    o.destination,
                    o.event_id,
                    o.incident,
                    o.seq,
                    o.kind,
                    micros(o.at),
                    micros(o.not_before),
                )
                for o in outcome.outbox
            ],
        )
        self._insert_quarantine(
            [
                (q.tenant, q.source, micros(q.received_at), q.inbox_id, q.what, q.reason, q.body)
                for q in outcome.quarantined
            ]
        )

    def _insert_quarantine(self, rows: list[tuple[str, str, int, int, str, str, bytes]]) -> None:
        cut = [
            (
                *row[:5],
                f"{row[5]} (first {QUARANTINE_BODY_BYTES} of {len(row[6])} bytes)",
                row[6][:QUARANTINE_BODY_BYTES],
            )
            if len(row[6]) > QUARANTINE_BODY_BYTES
            else row
            for row in rows
        ]
        self._db.executemany(
            "insert into quarantine (tenant, source, received_at, inbox_id, what, reason, body)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            cut,
        )

    def _write_history(self, rows: Sequence[InboxRow]) -> None:
        compress = self._compress.compress
        self._db.executemany(
            "insert or replace into history values (?, ?, ?, ?, ?, ?)",
            [
                (row.id, micros(row.received_at), row.tenant, row.source, row.kind.value, compress(row.body))
                for row in rows
                if row.kind in HISTORY_KINDS
            ],
        )


def _incident_row(tenant: str, group: Group) -> tuple[object, ...]:
    head = group.head = counted(group)
    return (
        tenant, head.id, micros(head.opened_at), micros(head.changed_at), head.state.value, head.severity,
        head.origin, head.anomaly.value, _pack(head), _pack(group.progress),
    )  # fmt: skip
