"""From an outcome to the tables, inside of somebody's transaction.

Rule: whatever is written goes through `_many`, which says every few hundred rows that it is still alive.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import zstandard

from bridge.analysis.incidents import Group, counted
from bridge.model import Episode, InboxRow, RowKind
from bridge.pipeline.state import OutboxEntry, Outcome, Quarantined
from bridge.storage.state import quarantine
from bridge.storage.times import microseconds

#: Rows that a replay needs. A clock row only says that time ran; a rejected body stands in quarantine, and that
#: something was sent again out of it changes nothing that is thought. What an erase took is not in the rows any more.
HISTORY_KINDS = frozenset(RowKind) - {RowKind.CLOCK, RowKind.REJECTED, RowKind.REPLAYED, RowKind.ERASE}
#: A commit of 60,000 episodes takes seconds; whoever watches hears of it every so many rows.
PROGRESS_ROWS = 500

#: What identifies an alert.
ALERT = ("tenant", "source", "fingerprint")
Row = tuple[object, ...]
_pack = msgspec.msgpack.Encoder().encode


class Writing:
    """One transaction's writing."""

    def __init__(self, db: sqlite3.Connection, progress: Callable[[], None]) -> None:
        self._db = db
        self._progress = progress

    def outcome(self, outcome: Outcome) -> None:
        """Write what thinking changed, made and asked to be kept."""
        if outcome.common is not None:
            self._db.execute("insert or replace into common values (1, ?)", (_pack(outcome.common),))
        self._many(
            "insert or replace into tenant_state values (?, ?)",
            ((name, _pack(record)) for name, record in outcome.tenants.items()),
        )
        self._many(
            "insert into incident values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do update set"
            " opened_at = excluded.opened_at, changed_at = excluded.changed_at, state = excluded.state,"
            " severity = excluded.severity, origin = excluded.origin, anomaly = excluded.anomaly,"
            " body = excluded.body, work = excluded.work",
            (_incident_row(tenant, group) for (tenant, _), group in outcome.touched.items()),
        )
        self._many(
            "delete from episode where tenant = ? and source = ? and fingerprint = ? and starts_at = ?",
            (
                (*key[:3], microseconds(key[3]))
                for key, episode in outcome.episodes.items()
                if episode is None
            ),
        )
        self._many(
            "insert into episode values (?, ?, ?, ?, ?, ?, ?) on conflict do update set"
            " incident = excluded.incident, ends_at = excluded.ends_at, body = excluded.body",
            (_episode_row(each) for each in outcome.episodes.values() if each is not None),
        )
        self._keyed("watch", outcome.watches.items(), *ALERT)
        self._keyed("beat", outcome.beats.items(), *ALERT)
        self._keyed("template", outcome.templates.items(), "tenant", "id")
        self._keyed("chart", outcome.charts.items(), "tenant", "origin")
        self._keyed("service_order", outcome.orders.items(), "tenant", "earlier", "later")
        self._keyed("habit", outcome.habits.items(), "tenant", "family")
        self._keyed("measured", outcome.measured.items(), "tenant", "name")
        self._keyed("bank_row", outcome.bank_rows.items(), "tenant", "name")
        self._keyed("sample_block", outcome.histories.items(), "tenant", "name", "first")
        self._keyed("counted", outcome.counted.items(), "tenant", "sort", "which")
        self._keyed("pending", outcome.pending.items(), "tenant", "sort", "which")
        self._keyed("alarm", outcome.alarms.items(), "tenant", "name")
        self._keyed("happened", outcome.happened.items(), "tenant", "incident")
        self._keyed("past", outcome.pasts.items(), "tenant", "incident")
        self._keyed("outlook", outcome.outlooks.items(), "tenant", "aim", "name")
        self._keyed("sighting", outcome.sightings.items(), "tenant", "number")
        self._keyed("link_fit", (((name,), fit) for name, fit in outcome.link_fits.items()), "tenant")
        self._many(
            "insert or replace into rarity values (?, ?)",
            ((name, rarity.stored()) for name, rarity in outcome.rarities.items()),
        )
        self._feedback(outcome)
        self._events(outcome)
        quarantine.insert(self._db, [_entry(each) for each in outcome.quarantined])

    def history(self, rows: Sequence[InboxRow]) -> None:
        """Write down the rows that a replay needs, in the order in which they were thought."""
        compress = zstandard.ZstdCompressor(level=1).compress
        self._many(
            "insert into history (inbox_id, received_at, tenant, source, kind, body) values (?, ?, ?, ?, ?, ?)",
            (
                (
                    row.id,
                    microseconds(row.received_at),
                    row.tenant,
                    row.source,
                    row.kind.value,
                    compress(row.body),
                )
                for row in rows
                if row.kind in HISTORY_KINDS
            ),
        )

    def _keyed(self, table: str, things: Iterable[tuple[tuple[str | int, ...], object]], *names: str) -> None:
        """Write what has a key and a body; None as a body deletes."""
        kept: list[Row] = []
        gone: list[Row] = []
        for key, thing in things:
            if thing is None:
                gone.append(key)
            else:
                kept.append((*key, _pack(thing)))
        marks = ", ".join("?" * (len(names) + 1))
        self._many(
            f"insert into {table} values ({marks}) on conflict do update set body = excluded.body",  # noqa: S608 - names of ours
            kept,
        )
        where = " and ".join(f"{name} = ?" for name in names)
        self._many(f"delete from {table} where {where}", gone)  # noqa: S608 - names of ours

    def _feedback(self, outcome: Outcome) -> None:
        """Write what people did, by which incidents it is found, and what it teaches."""
        self._keyed("action", outcome.actions.items(), "tenant", "id")
        self._keyed("lesson", outcome.lessons.items(), "tenant", "id")
        self._many(
            "insert or ignore into action_on values (?, ?, ?)",
            (
                (tenant, incident, name)
                for (tenant, name), action in outcome.actions.items()
                if action is not None
                for incident in action.incidents
            ),
        )
        self._many(
            "delete from action_on where tenant = ? and action = ?",
            (key for key, action in outcome.actions.items() if action is None),
        )

    def _events(self, outcome: Outcome) -> None:
        self._many(
            "insert into event values (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    e.tenant,
                    e.incident.id,
                    e.seq,
                    e.event_id,
                    e.kind.value,
                    microseconds(e.at),
                    msgspec.json.encode(e),
                )
                for e in outcome.events
            ),
        )
        self._many(
            "insert into outbox (tenant, destination, event_id, incident, seq, kind, at, not_before)"
            " values (?, ?, ?, ?, ?, ?, ?, ?)",
            map(_outbox_row, outcome.outbox),
        )

    def _many(self, statement: str, rows: Iterable[Row]) -> None:
        self._db.executemany(statement, self._paced(rows))

    def _paced(self, rows: Iterable[Row]) -> Iterator[Row]:
        for number, row in enumerate(rows, 1):
            yield row
            if number % PROGRESS_ROWS == 0:
                self._progress()


def _episode_row(episode: Episode) -> Row:
    return (
        episode.tenant, episode.source, episode.fingerprint, microseconds(episode.starts_at), episode.incident,
        None if episode.ends_at is None else microseconds(episode.ends_at), _pack(episode),
    )  # fmt: skip


def _outbox_row(entry: OutboxEntry) -> Row:
    return (
        entry.tenant, entry.destination, entry.event_id, entry.incident, entry.seq, entry.kind, microseconds(entry.at),
        microseconds(entry.not_before),
    )  # fmt: skip


def _incident_row(tenant: str, group: Group) -> Row:
    head = group.head = counted(group)
    return (
        tenant, head.id, microseconds(head.opened_at), microseconds(head.changed_at), head.state.value, head.severity,
        head.origin, head.anomaly.value, _pack(head), _pack(group.progress),
    )  # fmt: skip


def _entry(each: Quarantined) -> quarantine.Entry:
    return quarantine.Entry(
        tenant=each.tenant, source=each.source, received_at=microseconds(each.received_at), inbox_id=each.inbox_id,
        what=each.what, reason=each.reason, body=each.body,
    )  # fmt: skip
