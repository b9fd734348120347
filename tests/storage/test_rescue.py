"""What is saved of a broken inbox: what stands on pages that can be read, as it was, and nothing else."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inboxes import HOOK, Clock, rows

from bridge.errors import DamagedInboxError
from bridge.storage.damage import PARTS, is_suspect, set_aside, suspect
from bridge.storage.inbox import InboxReader, InboxWriter, Position, Rescued, rescue
from bridge.storage.inbox.file import PAGE_BYTES

BODY = b"x" * 500
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def fill(path: Path, count: int, first: int = 0) -> None:
    """Write so many webhooks, numbered in their bodies; the ids begin above `first`."""
    clock = Clock()
    writer = InboxWriter(path, clock_us=clock)
    writer.start(Position(id=first, at_us=1) if first else None)
    await asyncio.gather(
        *(writer.put("t", "s", HOOK, BODY + str(number).encode()) for number in range(count))
    )
    writer.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def break_pages(path: Path, pages: set[int]) -> int:
    """Overwrite pages, the first of which is 0; return how many there are in all."""
    with path.open("r+b") as file:
        count = file.seek(0, 2) // PAGE_BYTES
        for page in pages:
            if page < count:
                file.seek(page * PAGE_BYTES)
                file.write(random.Random(page).randbytes(PAGE_BYTES))
    return count


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of an inbox of 1,000 webhooks, whose ids begin far above 0 as after a month of retention."""
    path = tmp_path_factory.mktemp("whole") / "inbox.db"
    asyncio.run(fill(path, 1000, first=50_000_000))
    return path.read_bytes()


def rescued_from(folder: Path, content: bytes, pages: set[int]) -> tuple[Rescued, list[tuple[int, bytes]]]:
    broken, path = folder / "broken.db", folder / "inbox.db"
    for part in PARTS:
        path.with_name(path.name + part).unlink(missing_ok=True)
    broken.write_bytes(content)
    break_pages(broken, pages)
    found = rescue(broken, path)
    return found, [(row.id, row.body) for row in rows(path, max_rows=10_000)]


def test_of_a_sound_inbox_all_is_saved(tmp_path: Path, whole: bytes):
    found, saved = rescued_from(tmp_path, whole, set())
    assert found == Rescued(rows=1001, newest_id=50_001_000)
    assert saved == [
        (50_000_000, b""),
        *((50_000_001 + each, BODY + str(each).encode()) for each in range(1000)),
    ]


@settings(max_examples=20, deadline=None)
@given(pages=st.sets(st.integers(4, 60), max_size=12))
@example({4, 5, 7, 12})
def test_what_stands_on_whole_pages_is_saved_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, pages: set[int]
):
    _, everything = rescued_from(tmp_path_factory.mktemp("a"), whole, set())
    found, saved = rescued_from(tmp_path_factory.mktemp("b"), whole, pages)
    assert set(saved) <= set(everything)
    assert found.rows == len(saved)
    # A page holds some thirty webhooks; one that leads to all others may be among those that are broken.
    assert len(saved) >= 1001 - 32 * len(pages) or len(saved) == 0


def test_rows_before_and_behind_a_broken_page_are_saved(tmp_path: Path, whole: bytes):
    _, saved = rescued_from(tmp_path, whole, {20})
    ids = [row for row, _ in saved]
    assert 1001 - 32 <= len(ids) < 1001
    assert (ids[0], ids[-1]) == (50_000_000, 50_001_000)


@pytest.mark.parametrize(
    "content", [b"", b"this is no database" * 1000, b"SQLite format 3\x00" + b"\xff" * 20_000]
)
def test_of_what_is_no_inbox_nothing_is_saved_and_the_new_one_works(tmp_path: Path, content: bytes):
    found, saved = rescued_from(tmp_path, content, set())
    assert (found, saved) == (Rescued(rows=0, newest_id=0), [])


def test_rows_that_must_not_be_touched_stay_marked(tmp_path: Path, whole: bytes):
    broken = tmp_path / "broken.db"
    broken.write_bytes(whole)
    with closing(sqlite3.connect(broken)) as connection:
        connection.execute("INSERT INTO skip VALUES (50000007)")
        connection.commit()
    rescue(broken, tmp_path / "inbox.db")
    with closing(sqlite3.connect(tmp_path / "inbox.db")) as connection:
        assert connection.execute("SELECT id FROM skip").fetchall() == [(50_000_007,)]


def test_a_reader_says_that_the_inbox_is_broken_and_not_its_own_file(tmp_path: Path, whole: bytes):
    path = tmp_path / "inbox.db"
    path.write_bytes(whole)
    break_pages(path, set(range(3, 60)))
    reader = InboxReader(path)
    with closing(reader), pytest.raises(DamagedInboxError):
        reader.read(0, 10, 1 << 20)


def test_a_store_is_moved_aside_with_its_log_and_its_mark(tmp_path: Path):
    path = tmp_path / "inbox.db"
    for part in PARTS:
        path.with_name(path.name + part).write_text(part, "ascii")
    suspect(path)
    assert is_suspect(path)
    kept = set_aside(path, NOW)
    assert not is_suspect(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(kept.name + part for part in PARTS)
