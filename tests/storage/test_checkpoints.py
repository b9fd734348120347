from __future__ import annotations

import threading

import pytest

from bridge.errors import StorageError
from bridge.storage import checkpoints as room
from bridge.storage.checkpoints import Checkpoints
from bridge.storage.sqlite import open_writer


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.db"


@pytest.fixture
def writer(path):
    connection = open_writer(path)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("CREATE TABLE thing(name TEXT)")
    yield connection
    connection.close()


def waiting(connection) -> int:
    """Return how many pages of the log are not in the file; looking moves them."""
    _, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return frames - moved


def test_moves_the_log_and_survives_every_error(path, writer, monkeypatch):
    """The first two tries fail: to open, and while moving."""
    monkeypatch.setattr(room, "EVERY_S", 0.001)
    tries: list[str] = []
    moved = threading.Event()

    def opening(where):
        tries.append("open")
        if len(tries) == 1:
            raise StorageError("cannot open")
        return open_writer(where)

    def moving(connection):
        tries.append("move")
        if tries.count("move") == 1:
            raise MemoryError
        size = ordinary(connection)
        moved.set()
        return size

    ordinary = room._checkpoint
    monkeypatch.setattr(room, "open_writer", opening)
    monkeypatch.setattr(room, "_checkpoint", moving)
    checkpoints = Checkpoints(path)
    checkpoints.start()
    writer.execute("INSERT INTO thing VALUES ('a')")
    checkpoints.appended()
    assert moved.wait(10)
    checkpoints.close()
    assert tries == ["open", "open", "move", "open", "move"]


def test_a_writer_finishes_a_log_that_became_too_long(path, writer):
    """Only a log that was moved to its end begins anew; else it would grow for ever under load."""
    checkpoints = Checkpoints(path)
    log = path.with_name("some.db-wal")
    sizes = []
    for _ in range(20):
        writer.execute("INSERT INTO thing VALUES (?)", ["x" * 50_000])
        checkpoints._too_long = log.stat().st_size > 200_000
        checkpoints.finish(writer)
        sizes.append(log.stat().st_size)
    assert max(sizes) < 400_000


def test_nothing_is_moved_while_the_log_is_short(path, writer):
    writer.execute("INSERT INTO thing VALUES ('a')")
    Checkpoints(path).finish(writer)
    Checkpoints(path).finish(None)
    assert path.stat().st_size < path.with_name("some.db-wal").stat().st_size
