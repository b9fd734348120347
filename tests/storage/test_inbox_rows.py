"""Ids and times that never go back, what is deleted, and reading beside the writer."""

from __future__ import annotations

import sqlite3

import pytest
from inboxes import HOOK, rows

from bridge.errors import DamagedError, StorageError
from bridge.storage.inbox import InboxReader, InboxWriter, Position, file

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
def test_a_broken_file_is_told_from_one_that_cannot_be_used_now_and_stays_as_it_is(path, clock, content):
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"inbox\.db"):
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


async def test_rows_to_skip_survive_a_restart_and_go_when_they_are_passed(opened):
    first = opened()
    for row in (7, 3, 7):
        await first.add_skip(row)
    first.close()
    second = opened()
    assert await second.skips() == (3, 7)
    await second.drop_skips(6)
    assert await second.skips() == (7,)


async def test_rows_that_were_alone_in_enough_deaths_are_named(opened):
    writer = opened()
    for low, high, deaths in ((1, 1, 3), (2, 2, 2), (3, 9, 3), (4, 4, 4)):
        for _ in range(deaths):
            await writer.note_death(low, high)
    assert await writer.blamed(3) == (1, 4)
    await writer.clear_deaths(1)
    assert await writer.blamed(3) == (4,)


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
