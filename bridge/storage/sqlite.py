"""Opening SQLite files: the pragmas, the schema, the transaction and the errors that all stores share.

Rules: one writing process per file; WAL with `synchronous=FULL`, so that a commit that returned is on the
disk; writes begin with `BEGIN IMMEDIATE` (a deferred one can fail half way, when it first writes).
Connections are in autocommit mode (`isolation_level=None`): `transaction` begins and ends, nothing begins
by itself. Nothing but a `StorageError` leaves here.

Decision: sqlite-utils owns the schema's history (`Migrations`), and is imported only when a migration is
due. It brings numpy along: 28 MB and a quarter of a second, which the front does not have to spare at each
start.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bridge.errors import DamagedError, StorageError, StoreFullError

#: How long a statement waits for another connection's lock. Only recovery and resets of the log take one.
BUSY_MS = 5_000
#: The same for whoever reads the log while that is to be emptied: others wait behind it.
LOG_MS, LOG_TRIES = 200, 5
#: Of SQLite's machine, between two signs of life of something long.
INSTRUCTIONS = 100_000
#: A step of the schema's history: gets a `sqlite_utils.Database`, runs inside a transaction of its own.
Migration = Callable[[Any], None]


class Schema:
    """The history of one file's schema. Steps are never changed once released; new ones come at the end."""

    def __init__(self, name: str, steps: Sequence[Migration]) -> None:
        self.name = name
        self.steps = tuple(steps)


def open_writer(
    path: Path, schema: Schema | None = None, *, page_bytes: int = 4096, wipes: bool = False
) -> sqlite3.Connection:
    """Open `path` for the one process that writes it; create it and bring its schema up to date.

    Another thread may take the connection over. `page_bytes` counts only for a new file. With `wipes` what is deleted
    is overwritten in the same transaction, but for traces where pages were split; a commit costs some 5 % more.

    Raises:
        StorageError: It cannot be opened, is no database, or was written by a newer release.
    """
    with told(f"cannot open {path.name}"):
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000
        )
    try:
        with told(f"cannot open {path.name}"):
            connection.execute(f"PRAGMA page_size={page_bytes:d}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            if wipes:
                connection.execute("PRAGMA secure_delete=ON")
        if schema is not None:
            migrate(connection, schema)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open `path` for reading only.

    Raises:
        StorageError: It is not there, or cannot be read.
    """
    with told(f"cannot open {path.name} for reading"):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_MS / 1000,
        )
        try:
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Commit what is done inside, or none of it.

    Raises:
        StoreFullError: There is no room on the disk.
        StorageError: The commit failed for another reason; nothing was kept.
    """
    with told("did not commit"):
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # SQLite rolls back by itself after some faults (a full disk in the middle of a write).
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def write_anew(connection: sqlite3.Connection, progress: Callable[[], None] = lambda: None) -> bool:
    """Write a file anew without what was deleted from it, and empty its log; outside of a transaction.

    Some ten seconds a gigabyte, during which nobody else writes; as much room as the file has is needed for that long.
    `progress` is called now and then.

    Returns:
        False: somebody reads the log still, so that something may be left in it. Try again.

    Raises:
        StorageError: It did not work; the file is as it was.
    """
    with told("cannot write the file anew"):
        connection.set_progress_handler(lambda: progress(), INSTRUCTIONS)  # noqa: PLW0108 - None goes on
        try:
            connection.execute("VACUUM")
        finally:
            connection.set_progress_handler(None, 0)
        connection.execute(f"PRAGMA busy_timeout={LOG_MS:d}")
        try:
            for _ in range(LOG_TRIES):
                busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy:
                    return True
        finally:
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS:d}")
    return False


def migrate(connection: sqlite3.Connection, schema: Schema) -> None:
    """Apply the steps of `schema` that this file has not seen.

    Raises:
        StorageError: A step failed, or the file has steps of a newer release.
    """
    with told(f"cannot read the schema of {schema.name}"):
        applied = _applied(connection, schema)
    names = [step.__name__ for step in schema.steps]
    if unknown := applied - set(names):
        raise StorageError(
            f"{schema.name} was written by a newer release of Tocsin (it has {', '.join(sorted(unknown))}): "
            "start that release, or restore the file of this one"
        )
    if set(names) <= applied:
        return
    from sqlite_utils import Database, Migrations  # noqa: PLC0415 - see the module docstring

    migrations = Migrations(schema.name)
    for step in schema.steps:
        migrations()(step)
    with told(f"cannot migrate {schema.name}"):
        migrations.apply(Database(connection, execute_plugins=False, recursive_triggers=False))


def storage_error(error: sqlite3.Error, doing: str) -> StorageError:
    """Return `error` as one of ours; `doing` says what failed, without secrets."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFullError(f"{doing}: there is no room on the disk")
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return DamagedError(f"{doing}: {error}")
    return StorageError(f"{doing}: {error}")


def _applied(connection: sqlite3.Connection, schema: Schema) -> set[str]:
    known = "SELECT 1 FROM sqlite_schema WHERE name = '_sqlite_migrations'"
    with closing(connection.execute(known)) as found:
        if found.fetchone() is None:
            return set()
    rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", [schema.name])
    return {name for (name,) in rows.fetchall()}


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Turn what SQLite raises into a StorageError; `doing` says what failed, without secrets."""
    try:
        yield
    except sqlite3.Error as error:
        raise storage_error(error, doing) from error
