"""Deliveries as the API shows them: lists by key, counts, what became of one incident. Never writes.

Rules: one connection per question, so that threads need not share one; a tenant sees its own. Newest first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bridge.model import DeliveryState, Word
from bridge.storage.deliveries.rows import COLUMNS, ERA, delivery_of
from bridge.storage.reading.pages import Cursor, next_of, read_cursor
from bridge.storage.sqlite import open_reader, storage_error

Shown = dict[str, Any]


class DeliveryPage(Word, frozen=True, kw_only=True):
    """Part of a list. `next` is what to ask the following part with, None at the end."""

    items: tuple[Shown, ...]
    next: str | None


class DeliveryReader:
    """Answers questions about one `delivery.db`. Threads may share it; each question blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def listed(
        self,
        tenant: str,
        *,
        states: Sequence[DeliveryState] = (),
        destination: str | None = None,
        incident: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> DeliveryPage:
        """Return part of a tenant's deliveries, the newest first; no `states` means all of them.

        Raises:
            ValueError: `cursor` is not one that this list gave out.
            StorageError: The store cannot be read.
        """
        where: list[str] = ["tenant = ?"]
        values: list[str | int] = [tenant]
        if states:
            where.append(f"state IN ({', '.join('?' * len(states))})")
            values += [state.value for state in states]
        for column, value in (("destination", destination), ("incident", incident)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        if cursor is not None:
            where.append("id < ?")
            values.append(read_cursor(cursor, tenant).at)
        rows = self._ask(
            f"SELECT id, {COLUMNS} FROM delivery WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?",  # noqa: S608
            [*values, limit + 1],
        )
        items = tuple(_shown(row) for row in rows[:limit])
        return DeliveryPage(
            items=items, next=next_of(rows, limit, lambda row: Cursor(at=row[0], tenant=tenant))
        )

    def of_incident(self, tenant: str, incident: str) -> list[Shown]:
        """Return every delivery of one incident, in the order in which its events came."""
        rows = self._ask(
            f"SELECT id, {COLUMNS} FROM delivery WHERE tenant = ? AND incident = ? ORDER BY id",  # noqa: S608
            [tenant, incident],
        )
        return [_shown(row) for row in rows]

    def counts(self, tenant: str) -> dict[str, int]:
        """Return how many deliveries are in each state, every state named."""
        rows = self._ask("SELECT state, count(*) FROM delivery WHERE tenant = ? GROUP BY state", [tenant])
        return {state.value: 0 for state in DeliveryState} | dict(rows)

    def destinations(self, tenant: str) -> tuple[str, ...]:
        """Return the names of destinations that a tenant has deliveries for, whether they are configured or were."""
        rows = self._ask("SELECT DISTINCT destination FROM line WHERE tenant = ?", [tenant])
        return tuple(sorted(name for (name,) in rows))

    def _ask(self, question: str, values: Sequence[object]) -> list[Any]:
        try:
            with closing(open_reader(self._path)) as connection:
                return connection.execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise storage_error(error, f"{self._path.name} cannot be read") from error


def row_number(text: str) -> int | None:
    """Return the number of a delivery as a caller wrote it, None if it is none that the store can have."""
    # `isdecimal` alone lets other scripts' digits and numbers beyond SQLite's through.
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None  # noqa: PLR2004


def _shown(row: Sequence[Any]) -> Shown:
    delivery = delivery_of(row[1:])
    return {
        "id": row[0],
        "destination": delivery.destination,
        "state": delivery.state.value,
        "kind": delivery.kind.value,
        "incident": delivery.incident,
        "seq": delivery.seq % ERA,
        "event_id": delivery.event_id,
        "attempts": delivery.attempts,
        "created_at": delivery.created_at,
        "next_at": delivery.next_at
        if delivery.state in {DeliveryState.WAITING, DeliveryState.PENDING}
        else None,
        "delivered_at": delivery.delivered_at,
        "reason": delivery.reason,
        "maybe_duplicate": delivery.maybe_duplicate,
        "instead_of": delivery.instead_of,
    }
