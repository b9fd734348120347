"""What can still be read of a broken inbox is put into a new one, under its own ids and times.

Theory: rows lie in pages, in the order of their ids, and each page is read by itself. Where one cannot be read, the
rows of it are lost and those behind it are not. Which ids lie in it is not known, so it is tried from one id to the
next, and where that takes too long in longer and longer steps, from which it is searched back by halves. Halving finds
a broken page with a whole one behind it, not the first of several, so the ids before it are tried one by one again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from bridge.errors import StorageError
from bridge.model import RowKind
from bridge.storage.inbox.file import opened
from bridge.storage.sqlite import open_reader, transaction

#: Ids that are tried one by one; some hundred pages of webhooks.
NEAR = 10_000
#: Rows of one transaction.
PORTION = 200
HIGHEST = 1 << 62
KINDS = frozenset(kind.value for kind in RowKind)
_COLUMNS = "id, received_at, tenant, source, kind, body"


class Rescued(NamedTuple):
    """What was saved."""

    rows: int
    newest_id: int  # 0: none


def rescue(broken: Path, path: Path) -> Rescued:
    """Make a new inbox at `path` of what can be read of `broken`.

    Reads and writes all of it: about a second for 100 MB.

    Raises:
        StorageError: The new one cannot be written. That nothing can be read of the broken one is no error.
    """
    rows = newest = 0
    with closing(opened(path)) as fresh, suppress(_UnreadableError), closing(_reader(broken)) as old:
        portion: list[tuple[Any, ...]] = []
        for row in readable(old):
            portion.append(row)
            if len(portion) == PORTION:
                _add(fresh, portion)
                rows, newest, portion = rows + len(portion), portion[-1][0], []
        if portion:
            _add(fresh, portion)
            rows, newest = rows + len(portion), portion[-1][0]
        with suppress(sqlite3.Error):
            skips = old.execute("SELECT id FROM skip").fetchall()
            with transaction(fresh):
                fresh.executemany("INSERT OR IGNORE INTO skip VALUES (?)", skips)
    return Rescued(rows, newest)


def readable(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Give each row that can be read, in the order of their ids."""
    after = 0
    while (row := _behind(connection, after)) is not None:
        yield row
        after = row[0]


def _behind(connection: sqlite3.Connection, after: int) -> tuple[Any, ...] | None:
    """Return the first row behind an id that can be read; None where there is none."""
    for place in range(after, after + NEAR):
        with suppress(sqlite3.DatabaseError):
            return _next(connection, place)
    bad, step = after + NEAR, NEAR
    while (good := bad + step) < HIGHEST:
        try:
            _next(connection, good)
        except sqlite3.DatabaseError:
            bad, step = good, step * 2
        else:
            return _first_good(connection, after, bad, good)
    return None


def _first_good(connection: sqlite3.Connection, least: int, bad: int, good: int) -> tuple[Any, ...] | None:
    found = _next(connection, good)
    while good - bad > 1:
        middle = (bad + good) // 2
        try:
            found, good = _next(connection, middle), middle
        except sqlite3.DatabaseError:
            bad = middle
    for place in range(max(least, good - NEAR), good):
        with suppress(sqlite3.DatabaseError):
            return _next(connection, place)
    return found


def _next(connection: sqlite3.Connection, after: int) -> tuple[Any, ...] | None:
    question = f"SELECT {_COLUMNS} FROM inbox WHERE id > ? ORDER BY id LIMIT 1"  # noqa: S608 - columns of ours
    row: tuple[Any, ...] | None = connection.execute(question, (after,)).fetchone()
    if row is not None and not _is_sound(row):
        raise sqlite3.DatabaseError("a row of another kind")
    return row


def _is_sound(row: tuple[Any, ...]) -> bool:
    """Return whether a row looks like one of ours: a page of another table may stand where one of rows was."""
    row_id, received_us, tenant, source, kind, body = row
    is_typed = all(isinstance(each, str) for each in (tenant, source, kind)) and isinstance(body, bytes)
    return is_typed and isinstance(received_us, int) and 0 < row_id < HIGHEST and kind in KINDS


def _add(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    with transaction(connection):
        connection.executemany(
            f"INSERT INTO inbox({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 - as above
            rows,
        )


class _UnreadableError(Exception):
    """Not even the first page can be read."""


def _reader(path: Path) -> sqlite3.Connection:
    try:
        return open_reader(path)
    except StorageError as error:
        raise _UnreadableError from error
