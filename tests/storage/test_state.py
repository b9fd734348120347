"""state.db: what is loaded is what was thought, a failed commit leaves nothing, and what is old goes."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import timeline
import zstandard

from bridge.analysis.settings import AnalysisSettings, Destination, Heartbeat, Route
from bridge.errors import StorageError
from bridge.model import InboxRow, IncidentState, RowKind
from bridge.pipeline import Common, Outcome, State, advance
from bridge.storage import state as room
from bridge.storage.state import StateStore, micros

FRONT = "front-1"
TABLES = (
    "common", "cursor", "tenant_state", "incident", "episode", "event", "outbox", "quarantine", "history",
    "watch", "beat", "template", "habit",
)  # fmt: skip
SETTINGS = AnalysisSettings(
    sensitivity=0.7,
    heartbeats=(Heartbeat(match=('alertname="Watchdog"',), missing_after_s=900.0),),
    destinations=(Destination(name="file", wait_s=0.0), Destination(name="chat", wait_s=30.0)),
    routes=(Route(to=("file",)), Route(match=('severity="critical"',), to=("chat",), repeat_s=3600.0)),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    with closing(StateStore(path)) as opened:
        yield opened


class Desk:
    """Rows one after the other, each advanced and committed as the analyst does it."""

    def __init__(self, store: StateStore, *, compared: bool = False) -> None:
        self.store = store
        self.compared = compared  # with what is loaded, after each row
        self.state = store.load()
        self.number = 0

    def row(self, when: str, kind: RowKind, body: bytes = b"", tenant: str = "default") -> InboxRow:
        self.number += 1
        at = timeline.after(when)
        return timeline.row(self.number, at, body, kind=kind, tenant=tenant)

    def take(self, when: str, kind: RowKind, body: bytes = b"", tenant: str = "default") -> Outcome:
        row = self.row(when, kind, body, tenant)
        outcome = advance(self.state, [row])
        self.store.commit(outcome, front=FRONT, rows=[row])
        if self.compared:
            assert self.store.load().picture() == self.state.picture()
        return outcome

    def tell(self, when: str, kind: RowKind, **told: Any) -> Outcome:
        return self.take(when, kind, json.dumps(told).encode())

    def fires(self, when: str, *alerts: dict[str, str], tenant: str = "default", starts: str = "") -> Outcome:
        starts_at = timeline.after(starts or when)
        sent = [timeline.alert(labels, starts=starts_at) for labels in alerts]
        return self.take(when, RowKind.WEBHOOK, timeline.webhook(sent), tenant)

    def ends(self, when: str, *alerts: dict[str, str]) -> Outcome:
        at = timeline.after(when)
        sent = [timeline.alert(labels, ends=at) for labels in alerts]
        return self.take(when, RowKind.WEBHOOK, timeline.webhook(sent))

    def use(self, when: str, settings: AnalysisSettings) -> Outcome:
        return self.take(when, RowKind.SETTINGS, msgspec.json.encode(settings), "")

    def states(self) -> set[IncidentState]:
        groups = [group for tenant in self.state.tenants.values() for group in tenant.groups.values()]
        return {group.head.state for group in groups}


def host(name: str, host: str, severity: str = "warning", **labels: str) -> dict[str, str]:
    return {"alertname": name, "instance": f"{host}:9100", "severity": severity, **labels}


WATCHDOG = {"alertname": "Watchdog", "severity": "none"}


def mixed(store: StateStore, *, compared: bool = False) -> Desk:
    """Live through heartbeats that come and go, vectors, families, a merge, an end, faults and two tenants."""
    desk = Desk(store, compared=compared)
    desk.use("0s", SETTINGS)
    desk.fires("0s", WATCHDOG, {"alertname": "Watchdog", "severity": "none", "cluster": "eu"})
    desk.fires("1s", host("NodeDown", "db-1", "critical"))
    desk.fires("2s", host("Latency", "web-1"))
    for number, name in enumerate(("Errors", "Restarts", "Queue", "Disk")):
        desk.fires(f"{number + 3}s", host(name, "db-1", node="web-1"))
    vectors = {
        template: base64.b64encode(np.array([number, 1], "<f2").tobytes()).decode()
        for number, template in enumerate(sorted(desk.state.tenants["default"].templates))
    }
    desk.tell("10s", RowKind.VECTORS, model="test", vectors=vectors)
    desk.tell("11s", RowKind.FAMILIES, fit=1, assign=dict.fromkeys(sorted(vectors)[:3], "f:1.1"))
    desk.fires("12s", host("Cert", "mail-9", "info"), tenant="other")
    desk.fires("13s", host("Mail", "mail-9", "info"))
    desk.ends("20s", host("Mail", "mail-9", "info"))
    desk.take("30s", RowKind.WEBHOOK, b"[]")
    desk.take("31s", RowKind.WEBHOOK, timeline.webhook([timeline.alert(host("Good", "ok-1")), {"labels": 7}]))
    desk.fires("14m", WATCHDOG)  # the other one goes missing
    desk.fires("20m", host("Mail", "new-1"))
    desk.ends("21m", host("Mail", "new-1"))
    desk.fires("1310s", host("Mail", "new-1"), starts="20m")  # a late copy, or it fires again
    desk.tell("22m", RowKind.MODE, model_free=True)
    return desk


def kept(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    with closing(sqlite3.connect(path)) as db:
        return {table: sorted(db.execute(f"select * from {table}"), key=repr) for table in TABLES}  # noqa: S608


def trigger(path: Path, name: str, when: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"create trigger {name} {when} begin select raise(abort, 'not today'); end")


def untrigger(path: Path, name: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"drop trigger {name}")


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
    assert (kind, at) == ("opened", micros(timeline.after("5s")))
    assert msgspec.json.decode(body)["event_id"] == event_id
    assert [(row[2], row[3], row[-1]) for row in tables["outbox"]] == [
        ("file", event_id, at),
        ("chat", event_id, at),
    ]
    assert [(row[0], row[4]) for row in tables["history"]] == [(1, "settings"), (2, "webhook")]
    assert json.loads(zstandard.decompress(tables["history"][1][-1]))["alerts"][0]["labels"]["instance"]
    assert tables["cursor"] == [(FRONT, 2, at)]


def test_history_keeps_what_a_replay_needs_and_nothing_else(path: Path, store: StateStore) -> None:
    desk = Desk(store)
    desk.take("0s", RowKind.CLOCK)
    desk.tell("1s", RowKind.REJECTED, reason="no JSON", body_base64="ew==")
    desk.tell("2s", RowKind.MODE, model_free=True)
    assert [row[4] for row in kept(path)["history"]] == ["mode"]
    assert store.cursor(FRONT) == 3


@pytest.mark.parametrize("table", [table for table in TABLES if table != "beat"])
def test_a_failing_commit_leaves_nothing_behind(path: Path, store: StateStore, table: str) -> None:
    desk = mixed(store)
    before, picture = kept(path), desk.state.picture()
    trigger(path, "fails", f"before insert on {table}")
    rows = [
        desk.row("23m", RowKind.SETTINGS, msgspec.json.encode(SETTINGS), ""),
        desk.row(
            "23m", RowKind.WEBHOOK, timeline.webhook([timeline.alert(host("Newest", "far-1")), {"labels": 7}])
        ),
    ]
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


# ---- quarantine --------------------------------------------------------------------------------------------


def test_a_row_set_aside_is_kept_and_passed(path: Path, store: StateStore) -> None:
    desk = mixed(store)
    picture = desk.state.picture()
    row = desk.row("23m", RowKind.WEBHOOK, b"poison", "other")
    store.quarantine_row(row, "an analyst died of it", front=FRONT)
    assert store.cursor(FRONT) == row.id
    newest = max(kept(path)["quarantine"])
    assert newest[1:] == (
        "other", "default", micros(row.received_at), row.id, "row", "an analyst died of it", b"poison",
    )  # fmt: skip
    assert store.load().picture() == picture, "it changes nothing that is thought"


def test_a_row_that_cannot_be_set_aside_is_not_passed(path: Path, store: StateStore) -> None:
    desk = mixed(store)
    before = kept(path)
    trigger(path, "fails", "before insert on cursor")
    with pytest.raises(StorageError, match="not today"):
        store.quarantine_row(desk.row("23m", RowKind.WEBHOOK, b"poison"), "bad", front=FRONT)
    assert kept(path) == before


def test_a_body_that_is_too_long_is_cut_and_says_so(
    path: Path, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "QUARANTINE_BODY_BYTES", 10)
    desk = Desk(store)
    for body in (b"x" * 10, b"x" * 11):
        store.quarantine_row(desk.row("0s", RowKind.WEBHOOK, body), "bad", front=FRONT)
    assert [(row[6], row[7]) for row in kept(path)["quarantine"]] == [
        ("bad", b"x" * 10),
        ("bad (first 10 of 11 bytes)", b"x" * 10),
    ]


# ---- pruning -----------------------------------------------------------------------------------------------

DAYS = {"history_s": 30, "incidents_s": 365, "quarantine_s": 60}
KEEPING = Common(settings=AnalysisSettings(**{name: days * 86_400.0 for name, days in DAYS.items()}))


def day(number: float) -> datetime:
    return timeline.START + timedelta(days=number)


def counts(path: Path) -> dict[str, int]:
    tables = ("history", "outbox", "quarantine", "incident", "episode", "event")
    return {table: len(rows) for table, rows in kept(path).items() if table in tables}


def over_and_open(store: StateStore) -> Desk:
    """Live through one incident that closed on the first day and one that is still open."""
    desk = Desk(store)
    settings = AnalysisSettings(destinations=SETTINGS.destinations, routes=(Route(to=("file",)),))
    desk.use("0s", settings)
    desk.fires("1s", host("Over", "a-1"))
    desk.fires("2s", host("Open", "b-1"))
    desk.ends("3s", host("Over", "a-1"))
    desk.take("4s", RowKind.WEBHOOK, b"[]")
    desk.take("6h", RowKind.CLOCK)
    return desk


@pytest.mark.parametrize(
    ("age", "gone"),
    [
        (29.9, {}),
        (31, {"history": 5, "outbox": 4}),
        (61, {"history": 5, "outbox": 4, "quarantine": 1}),
        (366, {"history": 5, "outbox": 4, "quarantine": 1, "incident": 1, "episode": 1, "event": 3}),
    ],
)
def test_what_is_older_than_its_retention_goes(
    path: Path, store: StateStore, age: float, gone: dict[str, int]
) -> None:
    desk = over_and_open(store)
    before = counts(path)
    pruned = store.prune(day(age), KEEPING)
    after = counts(path)
    assert {name: before[name] - after[name] for name in before if before[name] != after[name]} == gone
    assert pruned == sum(number for name, number in gone.items() if name not in {"episode", "event"})
    assert store.load().picture() == desk.state.picture()
    assert store.prune(day(age), KEEPING) == 0


def test_an_open_incident_is_kept_however_old_it_is(path: Path, store: StateStore) -> None:
    over_and_open(store)
    store.prune(day(5000), KEEPING)
    tables = kept(path)
    assert [row[4] for row in tables["incident"]] == ["open"]
    [incident] = [row[1] for row in tables["incident"]]
    assert {row[4] for row in tables["episode"]} == {row[1] for row in tables["event"]} == {incident}


def test_a_merged_incident_goes_like_a_closed_one(path: Path, store: StateStore) -> None:
    mixed(store)
    assert "merged" in {row[4] for row in kept(path)["incident"]}
    store.prune(day(366), KEEPING)
    assert {row[4] for row in kept(path)["incident"]} == {"open", "quiet"}


def test_an_incident_that_may_still_reopen_is_kept(store: StateStore) -> None:
    settings = AnalysisSettings(incidents_s=60.0, reopen_within_s=86_400.0)
    desk = Desk(store)
    desk.use("0s", settings)
    desk.fires("1s", host("Over", "a-1"))
    desk.ends("3s", host("Over", "a-1"))
    desk.take("6h", RowKind.CLOCK)
    assert desk.states() == {IncidentState.CLOSED}
    store.prune(timeline.after("6h"), desk.state.common)
    assert store.load().picture() == desk.state.picture()
    assert desk.fires("7h", host("Over", "a-1")).events[0].kind == "reopened"
    assert store.load().picture() == desk.state.picture()


def test_a_quarantine_is_bounded_and_the_oldest_go_first(
    path: Path, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "QUARANTINE_ROWS", 3)
    desk = Desk(store)
    for number in range(5):
        store.quarantine_row(desk.row("0s", RowKind.WEBHOOK, b"%d" % number), "bad", front=FRONT)
    assert store.prune(day(0), KEEPING) == 2
    assert [row[-1] for row in kept(path)["quarantine"]] == [b"2", b"3", b"4"]


def test_one_call_deletes_only_so_much(
    path: Path, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PRUNE_AT_ONCE", 2)
    desk = Desk(store)
    for number in range(5):
        desk.fires("0s", host(f"Alert{'ABCDE'[number]}", f"host-{number}"))
    desk.take("12h", RowKind.CLOCK)
    left = []
    while store.prune(day(400), KEEPING):
        left.append((counts(path)["history"], counts(path)["incident"]))
    assert left == [(3, 3), (1, 1), (0, 0)]
    assert not any(counts(path).values())


def test_pruning_is_all_or_nothing_and_fails_as_a_store_does(path: Path, store: StateStore) -> None:
    over_and_open(store)
    before = kept(path)
    trigger(path, "fails", "before delete on incident")
    with pytest.raises(StorageError, match="not today"):
        store.prune(day(400), KEEPING)
    assert kept(path) == before
    untrigger(path, "fails")
    assert store.prune(day(400), KEEPING) > 0


def test_pruning_a_store_that_another_process_locks_fails_as_a_store_does(
    path: Path, store: StateStore
) -> None:
    over_and_open(store)
    store._db.execute("pragma busy_timeout = 0")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(StorageError, match="locked"):
            store.prune(day(400), KEEPING)
        other.execute("rollback")
    assert store.prune(day(400), KEEPING) > 0


# ---- times -------------------------------------------------------------------------------------------------


def test_times_are_stored_exactly() -> None:
    at = datetime.fromisoformat("2026-01-05T03:00:00.123457+00:00")
    assert micros(at) == 1_767_582_000_123_457
    assert micros(datetime.fromisoformat("1969-12-31T23:59:59.999999+00:00")) == -1
