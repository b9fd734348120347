"""What could not be used: kept whole or cut, packed, and bounded for each tenant."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import timeline
from desks import FRONT, Desk, host, kept, mixed, trigger

from bridge.errors import StorageError
from bridge.model import RowKind
from bridge.pipeline import Common
from bridge.storage.reading import StateReader
from bridge.storage.state import StateStore, quarantine


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    with closing(StateStore(path)) as opened:
        yield opened


def test_a_row_set_aside_is_kept_and_passed(path: Path, store: StateStore) -> None:
    desk = mixed(store)
    picture = desk.state.picture()
    row = desk.row("23m", RowKind.WEBHOOK, b"poison", "other")
    store.quarantine_row(row, "an analyst died of it", front=FRONT)
    assert store.cursor(FRONT) == row.id
    newest = StateReader(path).quarantined("other", max(kept(path)["quarantine"])[0])
    assert newest is not None
    assert (newest.source, newest.received_at, newest.inbox_id) == ("default", row.received_at, row.id)
    assert (newest.what, newest.reason, newest.body) == ("row", "an analyst died of it", b"poison")
    assert store.load().picture() == picture, "it changes nothing that is thought"


def test_a_row_that_cannot_be_set_aside_is_not_passed(path: Path, store: StateStore) -> None:
    desk = mixed(store)
    before = kept(path)
    trigger(path, "fails", "before insert on cursor")
    with pytest.raises(StorageError, match="not today"):
        store.quarantine_row(desk.row("23m", RowKind.WEBHOOK, b"poison"), "bad", front=FRONT)
    assert kept(path) == before


def test_an_alert_that_is_too_long_is_cut_and_says_so(
    path: Path, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "BODY_BYTES", 10)
    desk = Desk(store)
    desk.take("0s", RowKind.WEBHOOK, b'{"alerts": [7, "a longer one"]}')
    found = [StateReader(path).quarantined(None, number) for number in (1, 2)]
    assert [entry and entry.body for entry in found] == [b"7", b'"a longer ']
    assert [entry and entry.reason.endswith("(first 10 of 14 bytes)") for entry in found] == [False, True]


def test_a_row_that_is_set_aside_is_kept_whole(
    path: Path, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was answered 200."""
    monkeypatch.setattr(quarantine, "BODY_BYTES", 10)
    body = timeline.webhook([timeline.alert(host("Big", f"h-{number}")) for number in range(1000)])
    store.quarantine_row(Desk(store).row("0s", RowKind.WEBHOOK, body), "bad", front=FRONT)
    entry = StateReader(path).quarantined(None, 1)
    assert entry is not None
    assert (entry.reason, entry.body) == ("bad", body)
    (item,) = StateReader(path).quarantine(None).items
    assert item["body_bytes"] == len(body)
    assert len(kept(path)["quarantine"][0][7]) < len(body) / 10


def set_aside(desk: Desk, body: bytes, tenant: str = "default") -> None:
    row = desk.row("0s", RowKind.WEBHOOK, body, tenant)
    desk.store.quarantine_row(row, "bad", front=FRONT)


def bodies_of(path: Path, tenant: str) -> list[int]:
    """How many bytes each of a tenant's entries has, the oldest first."""
    return [item["body_bytes"] for item in reversed(StateReader(path).quarantine(tenant, limit=1000).items)]


def test_a_quarantine_is_bounded_in_rows_for_each_tenant_and_the_oldest_go_first(
    path: Path, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "ROWS", 3)
    desk = Desk(store)
    set_aside(desk, b"x", "other")
    for size in range(1, 6):
        set_aside(desk, b"x" * size)
    assert bodies_of(path, "default") == [3, 4, 5]
    assert bodies_of(path, "other") == [1]


def test_a_quarantine_is_bounded_in_bytes_but_the_newest_always_stays(
    path: Path, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "BYTES", 1000)
    desk = Desk(store)
    draw = random.Random(1)
    set_aside(desk, draw.randbytes(900), "other")
    for size in (500, 400, 300, 2000):
        set_aside(desk, draw.randbytes(size))
        if size == 300:
            assert bodies_of(path, "default") == [400, 300]
    assert bodies_of(path, "default") == [2000]
    set_aside(desk, b"")
    assert bodies_of(path, "default") == [0]
    assert bodies_of(path, "other") == [900]


def test_an_entry_that_was_sent_again_is_marked(path: Path, store: StateStore) -> None:
    desk = Desk(store)
    set_aside(desk, b"one")
    set_aside(desk, b"another")
    set_aside(desk, b"not theirs", "other")
    picture = desk.state.picture()
    for number in (1, 3, 99):
        desk.tell("1m", RowKind.REPLAYED, id=number)
    items = {item["id"]: item["replayed_at"] for item in StateReader(path).quarantine(None).items}
    assert items == {1: timeline.after("1m"), 2: None, 3: None}
    entry = StateReader(path).quarantined("default", 1)
    assert entry is not None
    assert entry.replayed_at == timeline.after("1m")
    assert kept(path)["history"] == []
    desk.state.common = Common()
    assert desk.state.picture() == picture
