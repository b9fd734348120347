"""The tables of `state.db`.

Rules: times are microseconds since the epoch. Bodies are msgpack of the words themselves beside the few columns that
are searched.

Decision: msgpack rather than a column per field. That would be a second schema to keep in step, and nobody but Tocsin
reads these files; people read the API, exports and their own SIEM.

Decision: tables whose rows hold bodies have a rowid, and pages have 8 KiB. In a table WITHOUT ROWID a body above a
quarter of a page goes to pages of its own, which episodes of a kilobyte and more would each fill in part. Larger pages
would save a little more room and cost a lone alert more time. Rows of a hundred bytes stay WITHOUT ROWID, which saves
them an index.

How much of history is whose is counted by triggers: adding it up when it is asked for would read all of it.

Each file has an outbox of its own, with an identity: whoever remembers how far it was read must notice that another
file, whose numbers begin again, took its place.

An erasure is a piece of work: `stage` and `mark` say how far it has come, and `body` what it erases, until nothing
needs that any more.

A cursor without a tenant says up to where all of an inbox was read, one with a tenant up to where its rows were that
went before others'.

History has the order in which rows were thought, which is not that of the inbox: a mode begins where the analyst
began with it. Bodies in history and in quarantine are packed (zstd); `size` is what one in quarantine has unpacked.
"""

from __future__ import annotations

from typing import Any

from bridge.storage.sqlite import Schema

PAGE_BYTES = 8 << 10

_TABLES = """
create table common (id integer primary key check (id = 1), body blob not null);
create table cursor (
    front text not null, tenant text not null, id integer not null, at integer not null, primary key (front, tenant)
) without rowid;
create table tenant_state (tenant text primary key, body blob not null) without rowid;
create table incident (
    tenant text not null, id text not null, opened_at integer not null, changed_at integer not null,
    state text not null, severity text not null, origin text not null, anomaly real,
    body blob not null, work blob not null, primary key (tenant, id)
);
create index incident_opened on incident (tenant, opened_at);
create index incident_state on incident (state, changed_at);
create table episode (
    tenant text not null, source text not null, fingerprint text not null, starts_at integer not null,
    incident text not null, ends_at integer, body blob not null,
    primary key (tenant, source, fingerprint, starts_at)
);
create index episode_incident on episode (tenant, incident);
create index episode_firing on episode (tenant, incident) where ends_at is null;
create table event (
    tenant text not null, incident text not null, seq integer not null, event_id text not null unique,
    kind text not null, at integer not null, body blob not null, primary key (tenant, incident, seq)
);
create index event_forecast on event (at) where kind in ('forecast', 'recommendation');
create table outbox (
    id integer primary key autoincrement, tenant text not null, destination text not null,
    event_id text not null, incident text not null, seq integer not null, kind text not null,
    at integer not null, not_before integer not null
);
create table outbox_identity (id text not null);
insert into outbox_identity values (lower(hex(randomblob(16))));
create table quarantine (
    id integer primary key autoincrement, tenant text not null, source text not null,
    received_at integer not null, inbox_id integer not null, what text not null, reason text not null,
    body blob not null, size integer not null, replayed_at integer
);
create index quarantine_tenant on quarantine (tenant, id, size);
create table history (
    seq integer primary key autoincrement, inbox_id integer not null, received_at integer not null,
    tenant text not null, source text not null, kind text not null, body blob not null
);
create table stored (tenant text primary key, bytes integer not null) without rowid;
create trigger history_comes after insert on history begin
    insert into stored values (new.tenant, length(new.body))
        on conflict do update set bytes = bytes + excluded.bytes; end;
create trigger history_goes after delete on history begin
    update stored set bytes = bytes - length(old.body) where tenant = old.tenant; end;
create trigger history_changes after update of body on history begin
    update stored set bytes = bytes + length(new.body) - length(old.body) where tenant = new.tenant; end;
create index history_received on history (received_at, tenant);
create index history_in_force on history (kind, tenant, seq) where kind in ('settings', 'mode', 'topology');
create table watch (
    tenant text not null, source text not null, fingerprint text not null, body blob not null,
    primary key (tenant, source, fingerprint)
) without rowid;
create table beat (
    tenant text not null, source text not null, fingerprint text not null, body blob not null,
    primary key (tenant, source, fingerprint)
) without rowid;
create table template (tenant text not null, id text not null, body blob not null, primary key (tenant, id));
create table habit (
    tenant text not null, family text not null, body blob not null, primary key (tenant, family)
) without rowid;
create table chart (tenant text not null, origin text not null, body blob not null, primary key (tenant, origin));
create table service_order (
    tenant text not null, earlier text not null, later text not null, body blob not null,
    primary key (tenant, earlier, later)
) without rowid;
create table measured (tenant text not null, name text not null, body blob not null, primary key (tenant, name));
create table bank_row (tenant text not null, name text not null, body blob not null, primary key (tenant, name));
create table sample_block (
    tenant text not null, name text not null, first integer not null, body blob not null,
    primary key (tenant, name, first)
);
create table counted (tenant text not null, sort text not null, which text not null, body blob not null,
primary key (tenant, sort, which)) without rowid;
create table pending (tenant text not null, sort text not null, which text not null, body blob not null,
primary key (tenant, sort, which)) without rowid;
create table happened (
    tenant text not null, incident text not null, body blob not null, primary key (tenant, incident)
) without rowid;
create table past (
    tenant text not null, incident text not null, body blob not null, primary key (tenant, incident)
);
create table outlook (
    tenant text not null, aim text not null, name text not null, body blob not null, primary key (tenant, aim, name)
);
create table alarm (tenant text not null, name text not null, body blob not null, primary key (tenant, name));
create table sighting (tenant text not null, number integer not null, body blob not null, primary key (tenant, number))
without rowid;
create table link_fit (tenant text primary key, body blob not null);
create table rarity (tenant text primary key, body blob not null);
create table action (tenant text not null, id text not null, body blob not null, primary key (tenant, id));
create table action_on (
    tenant text not null, incident text not null, action text not null, primary key (tenant, incident, action)
) without rowid;
create index action_on_action on action_on (tenant, action);
create table erasure (
    tenant text not null, id text not null, row integer not null, chosen_by text not null, until integer not null,
    stage text not null, mark text not null, body blob not null, counts text not null, primary key (tenant, id)
);
create table lesson (tenant text not null, id text not null, body blob not null, primary key (tenant, id));
"""


def first_schema(db: Any) -> None:
    """Create the tables."""
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            db.execute(statement)


STATE_SCHEMA = Schema("state.db", [first_schema])
