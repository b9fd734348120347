from __future__ import annotations

import sqlite3

import pytest

from bridge.errors import StorageError, StoreFullError
from bridge.storage.sqlite import Schema, open_reader, open_writer, transaction


def first(database) -> None:
    database.execute("CREATE TABLE thing(id INTEGER PRIMARY KEY, name TEXT)")


def second(database) -> None:
    database.execute("ALTER TABLE thing ADD COLUMN size INTEGER")


def broken(database) -> None:
    database.execute("ALTER TABLE thing ADD COLUMN weight INTEGER")
    database.execute("ALTER TABLE nothing ADD COLUMN size INTEGER")


def columns(connection) -> list[str]:
    return [row[1] for row in connection.execute("PRAGMA table_info(thing)")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.db"


def test_a_writer_is_safe_against_power_loss(path):
    connection = open_writer(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    connection.close()


def test_the_schema_is_brought_up_to_date_once(path):
    open_writer(path, Schema("things", [first])).close()
    for _ in range(2):
        connection = open_writer(path, Schema("things", [first, second]))
        assert columns(connection) == ["id", "name", "size"]
        connection.close()


def test_a_failed_step_leaves_the_file_as_it_was(path):
    with pytest.raises(StorageError, match="cannot migrate things"):
        open_writer(path, Schema("things", [first, broken]))
    connection = open_writer(path, Schema("things", [first]))
    assert columns(connection) == ["id", "name"]
    connection.close()


def test_a_file_of_a_newer_release_is_left_alone(path):
    open_writer(path, Schema("things", [first, second])).close()
    with pytest.raises(StorageError, match="newer release"):
        open_writer(path, Schema("things", [first]))


@pytest.mark.parametrize("opened", [open_writer, open_reader])
def test_what_is_no_database_is_said_to_be_none(path, opened):
    path.write_bytes(b"x" * 10_000)
    with pytest.raises(StorageError, match=r"cannot open some\.db.*not a database"):
        opened(path)


def test_a_reader_neither_creates_nor_writes(path):
    with pytest.raises(StorageError, match="for reading"):
        open_reader(path)
    writer = open_writer(path, Schema("things", [first]))
    reader = open_reader(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("INSERT INTO thing(name) VALUES ('a')")
    reader.close()
    writer.close()


def test_a_reader_copes_with_a_path_that_has_signs(tmp_path):
    odd = tmp_path / "100% ?#& sure.db"
    open_writer(odd, Schema("things", [first])).close()
    open_reader(odd).close()


def add(connection, *ids: int) -> None:
    with transaction(connection):
        for number in ids:
            connection.execute("INSERT INTO thing VALUES (?, 'x')", [number])


def test_a_transaction_is_kept_whole_or_not_at_all(path):
    connection = open_writer(path, Schema("things", [first]))
    add(connection, 1)
    with pytest.raises(StorageError, match="UNIQUE"):
        add(connection, 2, 1)
    with pytest.raises(StorageError):
        add(connection, 4, "not a number")
    assert connection.execute("SELECT id FROM thing").fetchall() == [(1,)]
    connection.close()


def test_a_full_disk_is_told_from_other_faults(path):
    connection = open_writer(path, Schema("things", [first]))
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreFullError, match="no room"), transaction(connection):
        connection.execute("INSERT INTO thing VALUES (1, ?)", ["x" * 100_000])
    connection.execute("PRAGMA max_page_count=1000000")
    with transaction(connection):
        connection.execute("INSERT INTO thing VALUES (1, ?)", ["x" * 100_000])
    connection.close()
