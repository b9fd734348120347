"""Writing: one commit for all who wait, and nothing is promised that is not kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from inboxes import HOOK, held_up, rows

from bridge.errors import MisplacedError, StorageError, StoreFullError
from bridge.model import InboxRow, RowKind
from bridge.storage.inbox import InboxWriter
from bridge.storage.inbox import writer as room

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
