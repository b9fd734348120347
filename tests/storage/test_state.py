"""state.db: what is loaded is what was thought, and a failed commit leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest
import timeline
import zstandard
from desks import FRONT, SETTINGS, TABLES, TOPOLOGY, Desk, host, kept, mixed, samples, trigger, untrigger
from linkers import fitted, linker_row

from bridge.analysis.erasing import Erase
from bridge.errors import StorageError
from bridge.model import IncidentState, RowKind
from bridge.pipeline import Common, State, advance
from bridge.storage.state import StateStore
from bridge.storage.times import microseconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    """An empty store of a state that forecasts from its first incident on."""
    with closing(StateStore(path)) as opened, patch("bridge.pipeline.forecasts.LEAST_EVENTS", 1):
        yield opened


# ---- loading what was stored -------------------------------------------------------------------------------


def test_a_new_store_is_empty(store: StateStore) -> None:
    assert store.load().picture() == State(Common()).picture()
    assert store.cursor(FRONT) == 0


def test_a_mixed_history_is_loaded_as_it_was_thought(path: Path, store: StateStore) -> None:
    desk = mixed(store)
    tenant = desk.state.tenants["default"]
    assert desk.states() == set(IncidentState), "the history is as mixed as it should be"
    assert sorted(beat.missing for beat in tenant.beats.values()) == [False, True]
    assert {bool(record.vector) for record in tenant.templates.values()} == {True, False}
    assert "f:1.1" in tenant.habits
    assert desk.state.common.model_free
    assert tenant.outlooks
    assert any(watch.disputed_alert for watch in tenant.watches.values())
    assert store.load().picture() == desk.state.picture()
    with closing(StateStore(path)) as other:
        assert other.load().picture() == desk.state.picture()


def test_it_is_so_after_every_row(store: StateStore) -> None:
    assert mixed(store, compared=True).number > 15


def test_what_can_no_longer_change_is_not_loaded(store: StateStore) -> None:
    desk = mixed(store)
    desk.take("6d", RowKind.CLOCK)
    loaded = store.load()
    assert loaded.picture() == desk.state.picture()
    left = [group.head.origin for group in loaded.tenants["default"].groups.values()]
    assert set(left) == {"heartbeat"}, "an absence goes on, all else is over"


def test_a_store_opened_again_goes_on_where_it_was(path: Path) -> None:
    with closing(StateStore(path)) as store:
        desk = mixed(store)
        newest = desk.number
    with closing(StateStore(path)) as store:
        assert store.cursor(FRONT) == newest
        assert store.cursor("front-2") == 0


# ---- committing --------------------------------------------------------------------------------------------


def test_a_commit_stores_events_with_their_way_out_and_the_rows_they_came_from(
    path: Path, store: StateStore
) -> None:
    desk = Desk(store)
    desk.use("0s", SETTINGS)
    outcome = desk.fires("5s", host("NodeDown", "db-1", "critical"))
    tables = kept(path)
    [event] = outcome.events
    [(tenant, incident, seq, event_id, kind, at, body)] = tables["event"]
    assert (tenant, incident, seq, event_id) == ("default", event.incident.id, 1, event.event_id)
    assert (kind, at) == ("opened", microseconds(timeline.after("5s")))
    assert msgspec.json.decode(body)["event_id"] == event_id
    assert [(row[2], row[3], row[-1]) for row in tables["outbox"]] == [
        ("file", event_id, at),
        ("chat", event_id, at),
    ]
    assert [(*row[:2], row[5]) for row in tables["history"]] == [(1, 1, "settings"), (2, 2, "webhook")]
    assert json.loads(zstandard.decompress(tables["history"][1][-1]))["alerts"][0]["labels"]["instance"]
    assert tables["cursor"] == [(FRONT, "", 2, at)]


def test_history_keeps_what_a_replay_needs_and_nothing_else(path: Path, store: StateStore) -> None:
    desk = Desk(store)
    desk.take("0s", RowKind.CLOCK)
    desk.tell("1s", RowKind.REJECTED, reason="no JSON", body_base64="ew==")
    desk.tell("2s", RowKind.MODE, model_free=True)
    assert [row[5] for row in kept(path)["history"]] == ["mode"]
    assert store.cursor(FRONT) == 3


def began(service: str, when: str) -> bytes:
    return timeline.webhook([timeline.alert({"service": service}, starts=timeline.after(when))])


@pytest.mark.parametrize("table", [table for table in TABLES if table != "beat"])
def test_a_failing_commit_leaves_nothing_behind(path: Path, store: StateStore, table: str) -> None:
    desk = mixed(store)
    before, picture = kept(path), desk.state.picture()
    trigger(path, "fails", f"before insert on {table}")
    said = {"action": "act-2", "kind": "useful", "incident": min(desk.state.tenants["default"].groups)}
    rows = [
        desk.row("22m", RowKind.WEBHOOK, began("db", "22m")),
        desk.row("23m", RowKind.WEBHOOK, began("web", "23m")),
        desk.row("23m", RowKind.SETTINGS, msgspec.json.encode(SETTINGS), ""),
        desk.row("23m", RowKind.FEEDBACK, json.dumps(said).encode()),
        desk.row("23m", RowKind.LINKER, linker_row(fitted(way="entities", fit=2))),
        desk.row(
            "23m", RowKind.TOPOLOGY, msgspec.json.encode(msgspec.structs.replace(TOPOLOGY, calls=())), ""
        ),
        desk.row(
            "23m", RowKind.WEBHOOK, timeline.webhook([timeline.alert(host("Newest", "far-1")), {"labels": 7}])
        ),
        desk.row("23m", RowKind.SAMPLES, samples("23m", [1e9])),
        desk.row("23m", RowKind.SAMPLES, samples("23m", [1.0] * 40, name="other")),
        desk.row("26m", RowKind.CLOCK, b"", ""),
        desk.row("26m", RowKind.WEBHOOK, began("far", "26m")),
    ]
    if table == "past":  # an incident is over by the next forecast
        over = timeline.alert(host("Good", "ok-1"), ends=timeline.after("24m"))
        rows.insert(-2, desk.row("24m", RowKind.WEBHOOK, timeline.webhook([over])))
    if table in {"happened", "past", "outlook"}:
        rows.append(
            desk.row("31m", RowKind.CLOCK, b"", "")
        )  # by then pending counts are counted, alarms over
    if table == "erasure":
        rows.append(desk.row("26m", RowKind.ERASE, msgspec.json.encode(Erase(id="era-1", fingerprint="f"))))
    outcome = advance(desk.state, rows)
    with pytest.raises(StorageError, match="not today"):
        store.commit(outcome, front=FRONT, rows=rows)
    assert kept(path) == before
    state = store.load()
    assert state.picture() == picture
    untrigger(path, "fails")
    store.commit(advance(state, rows), front=FRONT, rows=rows)
    assert store.load().picture() == state.picture() == desk.state.picture()


def test_an_event_is_never_stored_twice(path: Path, store: StateStore) -> None:
    """A batch that is committed again, because somebody lost count, fails instead of telling twice."""
    desk = Desk(store)
    outcome = desk.fires("0s", host("NodeDown", "db-1"))
    before = kept(path)
    with pytest.raises(StorageError, match="UNIQUE"):
        store.commit(outcome, front=FRONT, rows=[])
    assert kept(path) == before


# ---- times -------------------------------------------------------------------------------------------------


def test_times_are_stored_exactly() -> None:
    at = datetime.fromisoformat("2026-01-05T03:00:00.123457+00:00")
    assert microseconds(at) == 1_767_582_000_123_457
    assert microseconds(datetime.fromisoformat("1969-12-31T23:59:59.999999+00:00")) == -1
