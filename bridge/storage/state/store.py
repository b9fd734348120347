"""The analyst's store: load, commit, set aside, prune, erase.

Rules: an outcome, the history of its rows and the cursor are committed together or not at all; a load after that
gives an equal state. `synchronous=FULL`: an event that was delivered must not be un-thought by a power cut. Nothing is
committed into a file that was moved or deleted meanwhile. Whatever SQLite or a body says that makes no sense is a
`DamagedError`: trying again will not help, and the analyst knows what to do.

A row without an id (0) is the analyst's own: it was never in an inbox, and moves no cursor.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from bridge.analysis.settings import AnalysisSettings
from bridge.errors import DamagedError
from bridge.model import InboxRow, RowKind, Word
from bridge.pipeline.state import Common, Outcome, State
from bridge.storage.in_force import IN_FORCE
from bridge.storage.place import Place
from bridge.storage.sqlite import open_writer, told, transaction, write_anew
from bridge.storage.state import erasing, loading, quarantine
from bridge.storage.state.schema import PAGE_BYTES, STATE_SCHEMA
from bridge.storage.state.writing import Writing
from bridge.storage.times import microseconds
from bridge.turns import Reached, queue_of

PRUNE_AT_ONCE = 5_000  # rows of one table, or incidents
#: The newest settings, mode and topologies stay, however old: a replay of what is left begins with them.
_NOT_IN_FORCE = f"and seq not in ({IN_FORCE.format(before='')})"


class Pruned(Word, frozen=True, kw_only=True):
    """What one call of `prune` deleted."""

    gone: int  # rows and incidents
    more: bool  # there may be more that is too old: come back soon


def _nothing() -> None:
    """Nobody watches."""


class StateStore:
    """The analyst's store. Not for several threads."""

    def __init__(self, path: Path) -> None:
        """Open the file; create it if it is not there.

        Raises:
            DamagedError: It is broken.
            StorageError: It cannot be opened, or is of a newer release.
        """
        self._db = open_writer(path, STATE_SCHEMA, page_bytes=PAGE_BYTES, wipes=True)
        self._place = Place(path)
        with told("cannot read state.db"):
            self._erases = erasing.is_any(self._db)

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self._db.close()

    def cursor(self, front: str) -> int:
        """Return the id of the inbox row of `front` up to which all were committed, 0 at first.

        Raises:
            StorageError: It cannot be read.
        """
        with told("cannot read state.db"):
            question = "select id from cursor where front = ? and tenant = ''"
            found = self._db.execute(question, (front,)).fetchone()
        return int(found[0]) if found else 0

    def taken(self, front: str) -> dict[str, int]:
        """Return by tenant the last row that was committed, of those whose rows went before others'.

        Raises:
            StorageError: It cannot be read.
        """
        with told("cannot read state.db"):
            question = "select tenant, id from cursor where front = ? and tenant <> ''"
            return dict(self._db.execute(question, (front,)).fetchall())

    def load(self) -> State:
        """Return the state as it was committed last. Cost grows with what is open, not with history.

        Raises:
            DamagedError: What is stored makes no sense.
            StorageError: It cannot be read.
        """
        with told("cannot read state.db"):
            try:
                return loading.load(self._db)
            except msgspec.MsgspecError as error:
                raise DamagedError(f"cannot read state.db: {error}") from error

    def commit(
        self,
        outcome: Outcome,
        *,
        front: str,
        rows: Sequence[InboxRow],
        reached: Reached | None = None,
        progress: Callable[[], None] = _nothing,
    ) -> None:
        """Store an outcome, the history of its rows as they were thought, and the cursors in one transaction.

        Args:
            outcome: What thinking made of the rows.
            front: Whose inbox they came from.
            rows: Those it came from, in the order in which they were thought.
            reached: Up to where all rows were thought then; the last of `rows` if it is not told.
            progress: Called every few hundred rows that are written.

        Raises:
            StorageError: Nothing was stored.
        """
        with self._transaction():
            writing = Writing(self._db, progress)
            writing.outcome(outcome)
            writing.history([row for row in outcome.rows if row.id not in outcome.void])
            for row in rows:
                if row.kind is RowKind.REPLAYED:
                    self._mark_replayed(row)
            erasing.begin(self._db, outcome.erasures)
            self._move_cursors(front, rows, reached)
        self._erases = self._erases or bool(outcome.erasures)

    @property
    def erases(self) -> bool:
        """Whether something is to be erased."""
        return self._erases

    def erase_some(self, holds: Callable[[str, str], bool], progress: Callable[[], None] = _nothing) -> bool:
        """Go on with what is to be erased, a slice in one transaction; return whether to come back at once.

        Costs nothing where there is nothing to erase. The last slice writes the whole file anew (`VACUUM`), some ten
        seconds a gigabyte: what was deleted stands in free pages, and traces of it where pages were split.

        Args:
            holds: Says whether thinking has an incident of a tenant in memory: that is its own to change.
            progress: Called now and then while the file is written.

        Raises:
            StorageError: Nothing of this slice was kept; it is done again.
        """
        if not self._erases:
            return False
        with self._transaction():
            stage = erasing.step(self._db, holds)
        if stage == erasing.SWEEP:
            swept = write_anew(self._db, progress)
            if swept:
                with self._transaction():
                    erasing.finish(self._db)
            return swept
        self._erases = stage != erasing.DONE
        return self._erases

    def quarantine_row(
        self, row: InboxRow, reason: str, *, front: str, reached: Reached | None = None
    ) -> None:
        """Set a whole row aside that cannot be processed, and move the cursor past it.

        Raises:
            StorageError: Nothing was stored.
        """
        entry = quarantine.Entry(
            tenant=row.tenant, source=row.source, received_at=microseconds(row.received_at), inbox_id=row.id,
            what="row", reason=reason, body=row.body,
        )  # fmt: skip
        with self._transaction():
            quarantine.insert(self._db, [entry])
            self._move_cursors(front, [row], reached)

    def prune(self, now: datetime, settings_of: Common) -> Pruned:
        """Delete what is older than its retention.

        One transaction, bounded by `PRUNE_AT_ONCE` so that the rows behind it do not wait long; what is left over
        goes at the next call.

        Raises:
            StorageError: Nothing was deleted.
        """
        settings = settings_of.settings
        own = [each.tenant for each in settings.keeping]
        with self._transaction():
            # What belongs to nobody, and of all tenants without a time of their own, goes first.
            gone = [each for tenant in (None, *own) for each in self._delete_old(tenant, own, now, settings)]
        return Pruned(gone=sum(gone), more=max(gone) >= PRUNE_AT_ONCE)

    def _delete_old(
        self, tenant: str | None, own: Sequence[str], now: datetime, settings: AnalysisSettings
    ) -> tuple[int, ...]:
        """Delete what is too old of a tenant; None: of all that are not among `own`."""

        def before(kept_s: float) -> int:
            return microseconds(now - timedelta(seconds=kept_s))

        name = "" if tenant is None else tenant
        names = own if tenant is None else [tenant]
        these = f"tenant {'not in' if tenant is None else 'in'} ({', '.join('?' * len(names))})"
        history = before(settings.kept_s(name, "history"))
        quarantine = before(settings.kept_s(name, "quarantine"))
        # What may still change is in the memory of the analyst: it stays, however short incidents are kept.
        incidents = before(max(settings.kept_s(name, "incidents"), loading.remembered_s(settings)))
        delete = self._delete_some if tenant is None else self._delete_own
        return (
            delete("history", "seq", "received_at", history, f"and {these} {_NOT_IN_FORCE}", names),
            delete("outbox", "id", "at", history, f"and {these}", names),
            delete("quarantine", "id", "received_at", quarantine, f"and {these}", names),
            self._delete_incidents(incidents, these, names),
            self._delete_forecasts(incidents, these, names),
            self._delete_erasures(incidents, these, names),
        )

    def _delete_some(
        self, table: str, key: str, time: str, before: int, also: str, values: Sequence[str]
    ) -> int:
        """Delete what is old among the first rows that `also` is true of: numbers and times go up together."""
        # What stays for ever is not among the first, or each call would find fewer than there are to delete.
        first = f"select {key} from {table} where true {also} order by {key} limit {PRUNE_AT_ONCE}"  # noqa: S608 - names of ours
        found = self._db.execute(
            f"delete from {table} where {key} in ({first}) and {time} < ?",  # noqa: S608 - names of ours
            (*values, before),
        )
        return found.rowcount

    def _delete_own(
        self, table: str, key: str, time: str, before: int, also: str, values: Sequence[str]
    ) -> int:
        """Do the same for one tenant of many, whose first rows would be looked for among those of all."""
        old = f"select {key} from {table} where {time} < ? {also} order by {time} limit {PRUNE_AT_ONCE}"  # noqa: S608 - names of ours
        found = self._db.execute(f"delete from {table} where {key} in ({old})", (before, *values))  # noqa: S608
        return found.rowcount

    def _delete_forecasts(self, before: int, these: str, values: Sequence[str]) -> int:
        """Delete what was told ahead: it belongs to no incident."""
        old = f"select rowid from event where kind in ('forecast', 'recommendation') and at < ? and {these} limit ?"  # noqa: S608
        found = self._db.execute(
            f"delete from event where rowid in ({old})",  # noqa: S608
            (before, *values, PRUNE_AT_ONCE),
        )
        return found.rowcount

    def _delete_erasures(self, before: int, these: str, values: Sequence[str]) -> int:
        """Delete what is known of erasures that are done."""
        found = self._db.execute(
            f"delete from erasure where stage = 'done' and until < ? and {these}",  # noqa: S608
            (before, *values),
        )
        return found.rowcount

    def _delete_incidents(self, before: int, these: str, values: Sequence[str]) -> int:
        """Delete incidents that were over `before`, with all they hold."""
        over = self._db.execute(
            f"select tenant, id from incident where state in ('closed', 'merged') and changed_at < ? and {these}"  # noqa: S608
            # A person closed it, and it fires on.
            " and (tenant, id) not in (select tenant, incident from episode where ends_at is null) limit ?",
            (before, *values, PRUNE_AT_ONCE),
        ).fetchall()
        for table in ("episode", "event", "action_on"):
            self._db.executemany(f"delete from {table} where tenant = ? and incident = ?", over)  # noqa: S608
        self._db.executemany("delete from incident where tenant = ? and id = ?", over)
        return len(over)

    def _mark_replayed(self, row: InboxRow) -> None:
        number = msgspec.json.decode(row.body)["id"]
        quarantine.mark_replayed(self._db, row.tenant, number, microseconds(row.received_at))

    def _move_cursors(self, front: str, rows: Sequence[InboxRow], reached: Reached | None) -> None:
        if not rows or not rows[-1].id:
            return
        if reached is None:
            reached = Reached(rows[-1].id, microseconds(rows[-1].received_at))
        behind = "delete from cursor where front = ? and tenant <> '' and id <= ?"
        self._db.execute(behind, (front, reached.id))
        places = [(front, "", reached.id, reached.at_us)]
        for row in rows:
            name = queue_of(row.tenant, row.kind)
            if name and row.id > reached.id:
                places.append((front, name, row.id, microseconds(row.received_at)))
        self._db.executemany("insert or replace into cursor values (?, ?, ?, ?)", places)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with transaction(self._db) as db:
            yield db
            self._place.check()
