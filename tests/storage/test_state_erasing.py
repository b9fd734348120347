"""Erasing what thinking stores: nothing of it is left in the bytes of the files, and nothing else is touched."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import timeline
import zstandard
from desks import Desk, kept
from erased import FINGERPRINTS, LABEL, LAPTOP, NAME, OTHER, VALUE, erase, found_in, lived

from bridge.analysis.erasing import MASK, Erase
from bridge.model import Event, RowKind
from bridge.storage.reading import StateReader
from bridge.storage.state import StateStore, erasing

BY_LABEL = Erase(id="era-1", label=LABEL)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    with closing(StateStore(tmp_path / "state.db")) as opened:
        yield opened


def unpacked(folder: Path) -> str:
    """What stands in the packed columns, where a search of the file is blind."""
    with closing(sqlite3.connect(folder / "state.db")) as db:
        packed = [
            body
            for table in ("history", "quarantine")
            for (body,) in db.execute(f"select body from {table}")  # noqa: S608
        ]
    return "".join(repr(zstandard.ZstdDecompressor().decompressobj().decompress(body)) for body in packed)


def test_nothing_of_a_label_is_left_in_the_file(tmp_path: Path, store: StateStore) -> None:
    desk = Desk(store)
    lived(desk)
    assert found_in(tmp_path, NAME), "there is something to erase"
    assert NAME in unpacked(tmp_path)
    erase(desk, BY_LABEL)
    assert found_in(tmp_path, NAME, VALUE) == []
    assert NAME not in unpacked(tmp_path)
    assert NAME.encode() not in desk.state.picture()


def test_nothing_of_an_alert_is_left_in_the_file(tmp_path: Path, store: StateStore) -> None:
    desk = Desk(store)
    lived(desk)
    erase(desk, Erase(id="era-1", fingerprint=FINGERPRINTS[0]))
    assert found_in(tmp_path, FINGERPRINTS[0]) == []
    assert FINGERPRINTS[0] not in unpacked(tmp_path)
    assert "DiskFull" not in unpacked(tmp_path)
    assert found_in(tmp_path, "DiskFull") == []
    assert VALUE in unpacked(tmp_path), "another alert of the host stays"


def test_nothing_of_a_tenant_is_left_in_the_file(tmp_path: Path, store: StateStore) -> None:
    desk = Desk(store)
    lived(desk)
    erase(desk, Erase(id="era-1"))
    words = (NAME, *FINGERPRINTS, "DiskFull", "RackHot", "rack-4", "nightly", "mia", "shop")
    assert [each for each in found_in(tmp_path, *words) if each[1] != "mia"] == []
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        assert db.execute("select count(*) from history where tenant = 'default'").fetchone() == (0,)


def test_another_tenant_with_the_same_alerts_keeps_everything(tmp_path: Path, store: StateStore) -> None:
    desk = Desk(store)
    lived(desk, "east")
    lived(desk, "west")

    def of_west() -> dict[str, list[tuple[Any, ...]]]:
        return {
            name: [row for row in rows if "west" in row] for name, rows in kept(tmp_path / "state.db").items()
        }

    before = of_west()
    assert before["episode"]
    for each in (BY_LABEL, Erase(id="era-2", fingerprint=FINGERPRINTS[1]), Erase(id="era-3")):
        erase(desk, each, "east", at="40m")
    assert of_west() == before


def test_events_of_a_tombstone_have_no_gap_and_say_nothing(tmp_path: Path, store: StateStore) -> None:
    desk = Desk(store)
    own = lived(desk)
    erase(desk, BY_LABEL)
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        rows = db.execute("select seq, body from event where incident = ? order by seq", (own,)).fetchall()
    events = [msgspec.json.decode(body, type=Event) for _, body in rows]
    assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
    assert [event.kind.value for event in events][-1] == "closed"
    assert {(event.incident.title, event.incident.episodes) for event in events} == {(MASK, ())}
    found = StateReader(tmp_path / "state.db").incident("default", own)
    assert found is not None
    assert (found["title"], found["episodes"], found["common_labels"], found["state"]) == (
        MASK,
        [],
        {},
        "closed",
    )


def test_what_came_after_the_time_that_was_named_stays(tmp_path: Path, store: StateStore) -> None:
    desk = Desk(store)
    lived(desk)
    erase(desk, Erase(id="era-1", label=LABEL, before=timeline.after("2s")))
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        left = {row[0] for row in db.execute("select fingerprint from episode")}
    assert FINGERPRINTS[0] not in left
    assert FINGERPRINTS[1] in left
    assert VALUE in unpacked(tmp_path)


def test_it_goes_on_after_the_process_was_killed_in_any_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "MOST_INCIDENTS", 1)
    monkeypatch.setattr(erasing, "MOST_ROWS", 3)
    with closing(StateStore(tmp_path / "state.db")) as store:
        desk = Desk(store)
        lived(desk)
        desk.take("41m", RowKind.ERASE, msgspec.json.encode(BY_LABEL))
    slices, more = 0, True
    while more:
        with closing(StateStore(tmp_path / "state.db")) as store:
            state = store.load()
            more = store.erase_some(lambda tenant, incident: incident in state.tenants[tenant].groups)  # noqa: B023
            assert store.load().picture() == state.picture()
            slices += 1
    assert slices > 10
    assert found_in(tmp_path, NAME) == []
    assert NAME not in unpacked(tmp_path)


def test_a_file_whose_log_is_read_is_not_called_done(tmp_path: Path, store: StateStore) -> None:
    desk = Desk(store)
    lived(desk)
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as reader:
        store._db.execute("pragma busy_timeout=10")
        reader.execute("begin")
        reader.execute("select count(*) from episode").fetchone()
        erase(desk, BY_LABEL)
        (each,) = StateReader(tmp_path / "state.db").erasures("default")
        assert each["state"] == "working"
    assert store.erase_some(lambda *_: False)
    assert not store.erase_some(lambda *_: False)
    (each,) = StateReader(tmp_path / "state.db").erasures("default")
    assert each["state"] == "done"
    assert each["counts"]["episodes"] == 3
    assert found_in(tmp_path, NAME) == []


def test_history_that_is_left_is_replayed_as_if_the_alert_had_never_come(
    tmp_path: Path, store: StateStore
) -> None:
    desk = Desk(store)
    lived(desk)
    erase(desk, BY_LABEL)
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        rows = db.execute("select tenant, kind, body from history order by seq").fetchall()
    with closing(StateStore(tmp_path / "again.db")) as other:
        again = Desk(other)
        for number, (tenant, kind, body) in enumerate(rows):
            again.take(
                f"{number}s",
                RowKind(kind),
                zstandard.ZstdDecompressor().decompressobj().decompress(body),
                tenant,
            )
    held = [
        episode.labels
        for group in again.state.tenants["default"].groups.values()
        for episode in group.episodes.values()
    ]
    assert OTHER in held
    assert LAPTOP not in held
