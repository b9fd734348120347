from __future__ import annotations

import asyncio
import sqlite3
import threading
from datetime import UTC, datetime

import pytest

from bridge.errors import DamagedError, MisplacedError, StorageError, StoreFullError
from bridge.model import InboxRow, RowKind
from bridge.storage.inbox import InboxReader, InboxWriter, Position, file
from bridge.storage.inbox import writer as room

HOOK = RowKind.WEBHOOK


class Clock:
    """A clock that is set by hand, and that can hold the writer thread up in the middle of a commit."""

    def __init__(self, now_us: int = 1_000) -> None:
        self.now_us = now_us
        self.asked = threading.Event()
        self.going = threading.Event()
        self.going.set()

    def __call__(self) -> int:
        self.asked.set()
        self.going.wait(10)
        return self.now_us


class Commits(list[int]):
    """How many rows each commit had."""

    def __call__(self, seconds: float, rows: int, size_bytes: int) -> None:
        assert seconds > 0
        assert size_bytes >= rows
        self.append(rows)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "inbox.db"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def commits():
    return Commits()


@pytest.fixture
def opened(path, clock, commits):
    """Open the inbox; closed at the end if the test did not."""
    writers = []

    def start() -> InboxWriter:
        writer = InboxWriter(path, clock_us=clock, on_commit=commits)
        writer.start()
        writers.append(writer)
        return writer

    yield start
    clock.going.set()
    for writer in writers:
        writer.close()


def rows(path, after: int = 0, max_rows: int = 1000, max_bytes: int = 1 << 30) -> list[InboxRow]:
    reader = InboxReader(path)
    try:
        return reader.read(after, max_rows, max_bytes)
    finally:
        reader.close()


async def held_up(
    writer: InboxWriter, clock: Clock, others: int, body: bytes = b"x"
) -> list[asyncio.Task[int]]:
    """Put one row whose commit is under way, and `others` that have to queue behind it."""
    clock.going.clear()
    clock.asked.clear()
    tasks = [asyncio.Task(writer.put("t", "s", HOOK, body))]
    await asyncio.to_thread(clock.asked.wait, 10)
    tasks += [asyncio.Task(writer.put("t", "s", HOOK, body)) for _ in range(others)]
    while writer.queued_bytes < len(body) * (others + 1):
        await asyncio.sleep(0)
    return tasks


# ---- writing ---------------------------------------------------------------------------------------------


async def test_a_row_is_there_for_others_when_put_returns(opened, path, clock):
    writer = opened()
    clock.now_us = 1_764_000_000_123_456
    assert await writer.put("acme", "prod", RowKind.REJECTED, b"\x00\xffbytes") == 1
    assert rows(path) == [
        InboxRow(
            id=1,
            received_at=datetime(2025, 11, 24, 16, 0, 0, 123456, tzinfo=UTC),
            tenant="acme",
            source="prod",
            kind=RowKind.REJECTED,
            body=b"\x00\xffbytes",
        )
    ]


async def test_what_queues_during_a_commit_is_the_next_commit(opened, clock, commits):
    writer = opened()
    tasks = await held_up(writer, clock, others=50)
    clock.going.set()
    assert await asyncio.gather(*tasks) == list(range(1, 52))
    assert writer.queued_bytes == 0
    writer.close()
    assert commits == [1, 50]


async def test_every_row_of_a_commit_has_one_time(opened, clock, path):
    writer = opened()
    tasks = await held_up(writer, clock, others=5)
    clock.now_us = 5_000
    clock.going.set()
    await asyncio.gather(*tasks)
    assert {row.received_at.microsecond for row in rows(path)[1:]} == {5_000}


@pytest.mark.parametrize(("bound", "limit"), [("MAX_BATCH_ROWS", 4), ("MAX_BATCH_BYTES", 400)])
async def test_a_commit_is_bounded_in_rows_and_bytes(opened, clock, commits, monkeypatch, bound, limit):
    monkeypatch.setattr(room, bound, limit)
    writer = opened()
    tasks = await held_up(writer, clock, others=10, body=b"x" * 100)
    clock.going.set()
    await asyncio.gather(*tasks)
    writer.close()
    assert commits == [1, 4, 4, 2]


async def test_a_failed_commit_keeps_nothing_tells_everyone_and_the_next_goes_on(opened, clock, path):
    writer = opened()
    tasks = await held_up(writer, clock, others=3)
    tasks.append(asyncio.Task(writer.put(None, "s", HOOK, b"y")))  # breaks the NOT NULL of its column
    while writer.queued_bytes < 5:
        await asyncio.sleep(0)
    clock.going.set()
    assert await tasks[0] == 1
    failed = await asyncio.gather(*tasks[1:], return_exceptions=True)
    assert all(type(error) is StorageError for error in failed)
    assert len({id(error) for error in failed}) == 4
    assert "NOT NULL" in writer.trouble
    assert await writer.put("t", "s", HOOK, b"zzzz") == 2
    assert writer.trouble == ""
    assert [row.body for row in rows(path)] == [b"x", b"zzzz"]


async def test_a_full_disk_is_said_to_be_full_and_goes_on_when_there_is_room(opened, path):
    writer = opened()
    await writer.put("t", "s", HOOK, b"before")
    # The most direct way to a disk without room: a file that may not grow.
    (pages,) = writer._connection.execute("PRAGMA page_count").fetchone()
    writer._connection.execute(f"PRAGMA max_page_count={pages}")
    for _ in range(2):
        with pytest.raises(StoreFullError):
            await writer.put("t", "s", HOOK, b"x" * 100_000)
    assert (
        await writer.put("t", "s", RowKind.CLOCK, b"c") == 2
    )  # what is small still fits, and proves nothing
    assert "no room" in writer.trouble
    assert writer.failed_bytes == 100_000
    writer._connection.execute("PRAGMA max_page_count=1000000")
    assert await writer.put("t", "s", HOOK, b"x" * 100_000) == 3
    assert [len(row.body) for row in rows(path)] == [6, 1, 100_000]
    assert (writer.trouble, writer.failed_bytes) == ("", 0)


async def test_a_disk_that_hangs_is_noticed_and_lets_nobody_wait_for_ever(opened, clock, path, monkeypatch):
    writer = opened()
    tasks = await held_up(writer, clock, others=2)
    writer.look()
    assert writer.trouble == ""
    monkeypatch.setattr(room, "STALL_S", 0.0)
    writer.look()
    assert "has not answered" in writer.trouble
    with pytest.raises(StorageError, match="does not answer"):
        await writer.put("t", "s", HOOK, b"late")
    assert not any(task.done() for task in tasks)
    monkeypatch.setattr(room, "GIVE_UP_S", 0.0)
    writer.look()
    failed = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in failed] == ["the disk does not answer; try again"] * 3
    writer.look()
    assert "has not answered" in writer.trouble  # though nobody waits any more
    monkeypatch.undo()
    clock.going.set()
    while writer.queued_bytes:
        await asyncio.sleep(0)
    writer.look()
    assert await writer.put("t", "s", HOOK, b"after") == 4
    assert writer.trouble == ""
    assert [row.body for row in rows(path)] == [b"x", b"x", b"x", b"after"]  # late, but there


async def test_closing_does_not_wait_for_a_disk_that_hangs(opened, clock, monkeypatch):
    monkeypatch.setattr(room, "CLOSE_S", 0.05)
    writer = opened()
    tasks = await held_up(writer, clock, others=0)
    writer.close()
    assert not tasks[0].done()
    tasks[0].cancel()


@pytest.mark.parametrize("gone", ["inbox.db", "inbox.db-wal", "."])
async def test_nothing_is_acknowledged_into_a_file_that_is_gone(tmp_path, commits, gone):
    folder = tmp_path / "data"
    folder.mkdir()
    writer = InboxWriter(folder / "inbox.db", clock_us=lambda: 1, on_commit=commits)
    writer.start()
    await writer.put("t", "s", HOOK, b"1")
    writer.look()
    assert writer.trouble == ""
    away = tmp_path / "away"
    (folder / gone).rename(away)
    for _ in range(2):
        with pytest.raises(MisplacedError, match="moved or deleted"):
            await writer.put("t", "s", HOOK, b"2")
    writer.look()
    assert "moved or deleted" in writer.trouble
    assert not (folder / "inbox.db").exists() or gone == "inbox.db-wal"
    away.rename(folder / gone)
    writer.look()
    assert await writer.put("t", "s", HOOK, b"3") == 2
    assert writer.trouble == ""
    writer.close()
    assert [row.body for row in rows(folder / "inbox.db")] == [b"1", b"3"]


async def test_a_file_in_the_place_of_another_is_not_written_to(opened, path):
    writer = opened()
    await writer.put("t", "s", HOOK, b"1")
    path.rename(path.with_name("old"))
    path.write_bytes(b"")
    with pytest.raises(MisplacedError):
        await writer.put("t", "s", HOOK, b"2")
    assert path.read_bytes() == b""


async def test_a_file_that_broke_is_opened_anew(opened, path):
    writer = opened()
    await writer.put("t", "s", HOOK, b"1")
    writer._connection.close()  # every statement fails from here on
    with pytest.raises(StorageError):
        await writer.put("t", "s", HOOK, b"2")
    assert await writer.put("t", "s", HOOK, b"3") == 2
    assert [row.body for row in rows(path)] == [b"1", b"3"]


async def test_who_does_not_wait_any_more_disturbs_nobody(opened, clock):
    writer = opened()
    tasks = await held_up(writer, clock, others=2)
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    clock.going.set()
    assert await tasks[0] == 1
    assert await tasks[2] == 3
    assert writer.queued_bytes == 0


def test_a_loop_that_ended_does_not_end_the_writer(opened, clock, path):
    writer = opened()

    async def leave() -> None:
        for task in await held_up(writer, clock, others=1):
            task.cancel()

    asyncio.run(leave())
    clock.going.set()
    writer.close()
    assert len(rows(path)) == 2


async def test_more_than_may_wait_is_refused(opened, monkeypatch):
    monkeypatch.setattr(room, "MAX_QUEUED_BYTES", 10)
    writer = opened()
    with pytest.raises(StorageError, match="too much waits"):
        await writer.put("t", "s", HOOK, b"x" * 11)
    assert await writer.put("t", "s", HOOK, b"x" * 10) == 1


async def test_closing_commits_what_is_queued_and_takes_no_more(opened, clock, path):
    writer = opened()
    tasks = await held_up(writer, clock, others=20)
    asyncio.get_running_loop().call_soon(clock.going.set)
    await asyncio.to_thread(writer.close)
    assert await asyncio.gather(*tasks) == list(range(1, 22))
    with pytest.raises(StorageError, match="closed"):
        await writer.put("t", "s", HOOK, b"late")
    writer.close()  # a second time does nothing
    assert len(rows(path)) == 21


# ---- time and ids ----------------------------------------------------------------------------------------


async def test_time_never_goes_back(opened, clock, path):
    writer = opened()
    for now_us in (5_000, 4_000, 6_000):
        clock.now_us = now_us
        await writer.put("t", "s", HOOK, b"x")
    assert [row.received_at.microsecond for row in rows(path)] == [5_000, 5_000, 6_000]


async def test_time_never_goes_back_across_a_restart(opened, clock, path):
    clock.now_us = 9_000
    first = opened()
    await first.put("t", "s", HOOK, b"x")
    await first.put("t", "s", HOOK, b"y")
    assert await first.delete_through(2, 1_000_000) == 1  # the newest row stays, as the measure of time
    first.close()
    clock.now_us = 2_000
    second = opened()
    assert await second.put("t", "s", HOOK, b"z") == 3
    assert [row.received_at.microsecond for row in rows(path)] == [9_000, 9_000]


async def test_ids_are_never_used_again(opened, path):
    first = opened()
    for _ in range(3):
        await first.put("t", "s", HOOK, b"x")
    first.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM inbox")
    connection.close()
    second = opened()
    assert second.newest_id == 3
    assert await second.put("t", "s", HOOK, b"x") == 4
    assert second.newest_id == 4


@pytest.mark.parametrize("left", [0, 2])
async def test_a_lost_or_older_file_goes_on_above_what_was_read(path, clock, left):
    """The state has read up to row 7; the file is gone, or a copy of when it had two rows."""
    clock.now_us = 3_000
    before = InboxWriter(path, clock_us=clock)
    assert not before.start(Position(id=0, at_us=0))
    for _ in range(left):
        await before.put("t", "s", HOOK, b"old")
    before.close()
    writer = InboxWriter(path, clock_us=clock)
    assert writer.start(Position(id=7, at_us=9_000))
    assert writer.newest_id == 7
    assert await writer.put("t", "s", HOOK, b"new") == 8
    writer.close()
    (new,) = rows(path, after=7)
    assert (new.body, new.received_at.microsecond) == (b"new", 9_000)
    again = InboxWriter(path, clock_us=clock)
    assert not again.start(Position(id=8, at_us=9_000))
    again.close()


@pytest.mark.parametrize(
    "content", [b"this is no database" * 1000, b"SQLite format 3\x00" + b"\xff" * 20_000]
)
def test_a_broken_file_says_what_to_do(path, clock, content):
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"Move .*inbox\.db and the files named like it out of the way"):
        InboxWriter(path, clock_us=clock).start()
    assert path.read_bytes() == content


# ---- retention and the supervisor's rows -----------------------------------------------------------------


async def test_deletes_what_is_both_old_and_understood(opened, clock, path, monkeypatch):
    monkeypatch.setattr(file, "DELETE_ROWS", 2)
    writer = opened()
    for number in range(1, 11):
        clock.now_us = number * 10
        await writer.put("t", "s", HOOK, b"x")
    assert await writer.delete_through(8, 55) == 5
    assert [row.id for row in rows(path)] == [6, 7, 8, 9, 10]
    assert await writer.delete_through(8, 1_000) == 3
    assert await writer.delete_through(8, 1_000) == 0
    assert await writer.delete_through(10, 1_000) == 1
    assert [row.id for row in rows(path)] == [10]


async def test_deaths_are_counted_per_batch_and_survive_a_restart(opened):
    first = opened()
    assert await first.note_death(1, 8) == 1
    assert await first.note_death(1, 4) == 1
    assert await first.note_death(1, 8) == 2
    first.close()
    second = opened()
    assert await second.note_death(1, 8) == 3
    await second.clear_deaths(4)
    assert await second.note_death(1, 8) == 4
    assert await second.note_death(1, 4) == 1


async def test_rows_to_skip_survive_a_restart(opened):
    first = opened()
    for row in (7, 3, 7):
        await first.add_skip(row)
    first.close()
    assert await opened().skips() == (3, 7)


# ---- reading ---------------------------------------------------------------------------------------------


async def test_reads_in_order_and_within_bounds(opened, path):
    writer = opened()
    for size in (10, 20, 30, 500, 5):
        await writer.put("t", "s", HOOK, b"x" * size)
    assert [row.id for row in rows(path)] == [1, 2, 3, 4, 5]
    assert [row.id for row in rows(path, after=2)] == [3, 4, 5]
    assert [row.id for row in rows(path, max_rows=2)] == [1, 2]
    assert [row.id for row in rows(path, max_bytes=59)] == [1, 2]
    assert [row.id for row in rows(path, max_bytes=60)] == [1, 2, 3]
    assert [row.id for row in rows(path, after=3, max_bytes=1)] == [4]  # one at least, however large
    assert rows(path, after=5) == []


async def test_a_reader_follows_the_writer(opened, path):
    writer = opened()
    reader = InboxReader(path)
    assert reader.newest_id() == 0
    for number in range(1, 4):
        await writer.put("t", "s", HOOK, b"x")
        assert reader.newest_id() == number
        assert [row.id for row in reader.read(number - 1, 10, 100)] == [number]
    reader.close()


async def test_a_row_of_a_newer_release_is_not_passed_over(opened, path):
    writer = opened()
    await writer.put("t", "s", HOOK, b"x")
    writer.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE inbox SET kind = 'telepathy'")
    connection.close()
    with pytest.raises(StorageError, match="newer release"):
        rows(path)


def test_an_inbox_that_is_not_there_is_said_to_be_missing(path):
    with pytest.raises(StorageError, match=r"cannot open inbox\.db"):
        InboxReader(path)


def test_a_directory_that_cannot_be_written_is_said_at_the_start(tmp_path):
    with pytest.raises(StorageError, match="cannot open"):
        InboxWriter(tmp_path / "nowhere" / "inbox.db", clock_us=lambda: 0).start()
