"""What is old goes, so much at once, and what is still needed stays."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import timeline
from desks import SETTINGS, TOPOLOGY, Desk, host, kept, mixed, trigger, untrigger
from msgspec.structs import replace

from bridge.analysis.announcing import announcement
from bridge.analysis.settings import AnalysisSettings, Keeping, Route
from bridge.analysis.topology import Chart
from bridge.errors import StorageError
from bridge.model import Forecast, IncidentState, RowKind
from bridge.pipeline import Common, Outcome
from bridge.storage.reading import StateReader
from bridge.storage.state import StateStore
from bridge.storage.state import store as room


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    with closing(StateStore(path)) as opened:
        yield opened


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
    settings = AnalysisSettings(
        grouping="entities", destinations=SETTINGS.destinations, routes=(Route(to=("file",)),)
    )
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
        (31, {"history": 4, "outbox": 4}),
        (61, {"history": 4, "outbox": 4, "quarantine": 1}),
        (366, {"history": 4, "outbox": 4, "quarantine": 1, "incident": 1, "episode": 1, "event": 3}),
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
    assert pruned.gone == sum(number for name, number in gone.items() if name not in {"episode", "event"})
    assert not pruned.more
    assert store.load().picture() == desk.state.picture()
    assert store.prune(day(age), KEEPING).gone == 0


def test_a_tenant_with_a_time_of_its_own_keeps_it_and_others_keep_theirs(
    path: Path, store: StateStore
) -> None:
    desk = Desk(store)
    desk.use("0s", SETTINGS)
    for tenant in ("east", "west"):
        desk.fires("1s", host("Over", "a-1"), tenant=tenant)
        desk.take("2s", RowKind.WEBHOOK, b"[]", tenant)
    own = Keeping(tenant="east", history_s=86_400.0, quarantine_s=2 * 86_400.0)
    longer = Keeping(tenant="west", history_s=300 * 86_400.0)
    settings = replace(KEEPING.settings, keeping=(own, longer))

    def tenants(table: str, place: int) -> list[str]:
        return sorted(row[place] for row in kept(path)[table])

    assert store.prune(day(1.5), Common(settings=settings)).gone > 0
    assert tenants("history", 3) == ["", "west", "west"]
    assert tenants("quarantine", 1) == ["east", "west"]
    store.prune(day(3), Common(settings=settings))
    assert tenants("quarantine", 1) == ["west"]
    store.prune(day(200), Common(settings=settings))
    assert tenants("history", 3) == ["", "west", "west"]
    store.prune(day(301), Common(settings=settings))
    assert tenants("history", 3) == [""]


def test_what_is_pruned_is_not_left_in_free_pages(path: Path, store: StateStore) -> None:
    desk = Desk(store)
    word = "a-name-that-nobody-else-has"
    incident = desk.fires("0s", host(word, "a-1"))
    assert incident.events
    desk.ends("1s", host(word, "a-1"))
    desk.take("6h", RowKind.CLOCK)
    store._db.execute("pragma wal_checkpoint(truncate)")
    before = path.read_bytes().count(word.encode())
    while store.prune(day(400), KEEPING).gone:
        continue
    store._db.execute("pragma wal_checkpoint(truncate)")
    # Templates and what else was learned go by other clocks.
    left = sum(repr(rows).count(word) for rows in kept(path).values())
    assert left < before
    assert path.read_bytes().count(word.encode()) == left


def test_the_settings_the_mode_and_the_topologies_in_force_stay_in_history(
    path: Path, store: StateStore
) -> None:
    """A replay of what is left begins with them."""
    desk = Desk(store)
    for sensitivity in (0.1, 0.2):
        desk.use("0s", AnalysisSettings(grouping="entities", sensitivity=sensitivity))
        desk.tell("1s", RowKind.MODE, model_free=sensitivity < 0.2)
    for tenant, topology in (
        ("", TOPOLOGY),
        ("east", TOPOLOGY),
        ("", Chart(origin="file")),
        ("west", TOPOLOGY),
    ):
        desk.take("1s", RowKind.TOPOLOGY, msgspec.json.encode(topology), tenant)
    desk.fires("2s", host("Old", "a-1"))
    whole = StateReader(path).history_lines(None).lines
    assert not any("partial" in json.loads(line) for line in whole)
    store.prune(day(400), KEEPING)
    in_force = [(row[5], row[3]) for row in kept(path)["history"]][2:]
    assert in_force == [("topology", "east"), ("topology", ""), ("topology", "west")]
    lines = [json.loads(line) for line in StateReader(path).history_lines(None).lines]
    assert (lines[0]["body"]["sensitivity"], lines[1]["body"]) == (0.2, {"model_free": False})
    assert [line.get("partial") for line in lines] == [True, None, None, None, None]


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


def test_one_call_deletes_only_so_much(
    path: Path, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PRUNE_AT_ONCE", 2)
    desk = Desk(store)
    desk.use(
        "0s", AnalysisSettings(grouping="entities")
    )  # these two stay for ever, and are not counted among what goes
    desk.tell("0s", RowKind.MODE, model_free=True)
    for number in range(5):
        desk.fires("0s", host(f"Alert{'ABCDE'[number]}", f"host-{number}"))
    desk.take("12h", RowKind.CLOCK)
    left = []
    more = True
    while more:
        more = store.prune(day(400), KEEPING).more
        left.append((counts(path)["history"], counts(path)["incident"]))
    assert left == [(5, 3), (3, 1), (2, 0)]
    assert [row[5] for row in kept(path)["history"]] == ["settings", "mode"]
    assert sum(counts(path).values()) == 2


def test_pruning_is_all_or_nothing_and_fails_as_a_store_does(path: Path, store: StateStore) -> None:
    over_and_open(store)
    before = kept(path)
    trigger(path, "fails", "before delete on incident")
    with pytest.raises(StorageError, match="not today"):
        store.prune(day(400), KEEPING)
    assert kept(path) == before
    untrigger(path, "fails")
    assert store.prune(day(400), KEEPING).gone > 0


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
    assert store.prune(day(400), KEEPING).gone > 0


def test_what_was_forecast_goes_as_incidents_do(path: Path, store: StateStore) -> None:
    over_and_open(store)
    newest = Forecast(
        aim="any", at=day(0), until=day(1), probability=0.9, published=True, reference=0.5, expected=1.0,
        expected_low=0.0, expected_high=2.0,
    )  # fmt: skip
    outcome = Outcome()
    for number in (0, 10):
        said = replace(newest, at=day(number))
        outcome.events.append(announcement(said, "default", degraded=False, external_url=""))
    store.commit(outcome, front="front-1", rows=())
    before = counts(path)["event"]
    store.prune(day(364), KEEPING)
    assert counts(path)["event"] == before
    store.prune(day(370), KEEPING)
    assert counts(path)["event"] == before - 3 - 1, "with the events of the incident that is over"


def test_how_much_history_is_whose_is_known_without_adding_it_up(path: Path, store: StateStore) -> None:
    def added_up() -> dict[str, int]:
        with closing(sqlite3.connect(path)) as db:
            return dict(db.execute("select tenant, sum(length(body)) from history group by 1").fetchall())

    over_and_open(store)
    reader = StateReader(path)
    assert reader.stored() == added_up()
    before = sum(reader.stored().values())
    store.prune(day(31), KEEPING)
    assert {name: size for name, size in reader.stored().items() if size} == added_up()
    assert sum(reader.stored().values()) < before


def test_a_store_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    assert StateReader(tmp_path / "state.db").stored() == {}
