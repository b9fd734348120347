"""The mode as the analyst tells it: what is decided without models says so, and a replay of the history agrees."""

# ruff: noqa: ARG002 - what stands in for something keeps its signature

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from stores import WON, apart, linker_row, settings_row
from timeline import START, alert, webhook

from bridge import pipeline
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.topology import Chart, Service
from bridge.analyst import Analyst, Work
from bridge.app import exporting
from bridge.app.mind import Mind
from bridge.app.replay import Wishes, replay
from bridge.model import InboxRow, RowKind
from bridge.storage.inbox import InboxReader, InboxWriter
from bridge.storage.reading import StateReader
from bridge.storage.state import StateStore
from bridge.storage.times import microseconds
from bridge.turns import Waiting


class Models:
    """Models that are up when the test says so, and answer nothing."""

    def __init__(self) -> None:
        self.up = False
        self.wanted = False

    def ask(self, ask: Any) -> None:
        pass

    def answers(self) -> Iterator[Any]:
        return iter(())


class Live:
    """An inbox in memory, and one analyst after the other on the same store."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.rows: list[InboxRow] = []
        self.models = Models()
        self._opened = ExitStack()
        self.analyst = self._started()

    def _started(self, work: Work | None = None) -> Analyst[pipeline.State]:
        store = self._opened.enter_context(closing(StateStore(self.data / "state.db")))
        analyst = Analyst(
            inbox=self, store=store, thinking=Mind(store, self.models, lambda: None), models=self.models,  # type: ignore[arg-type]
            say=lambda _message: None, clock=lambda: 0.0, work=work,
        )  # fmt: skip
        analyst.load()
        return analyst

    def restarted(self, **work: Any) -> None:
        """Kill the analyst; the next one has no models yet."""
        self._opened.close()
        self._opened = ExitStack()
        self.models.up = False
        self.analyst = self._started(Work(**work))

    def read(self, after: int, max_rows: int, max_bytes: int) -> list[InboxRow]:
        return [row for row in self.rows if row.id > after][:max_rows]

    def newest_id(self) -> int:
        return len(self.rows)

    def waiting(self, after: int, max_rows: int) -> list[Waiting]:
        found = self.read(after, max_rows, 0)
        return [
            Waiting(row.id, microseconds(row.received_at), row.tenant, row.kind, len(row.body))
            for row in found
        ]

    def fetch(self, ids: Sequence[int]) -> list[InboxRow]:
        return [row for row in self.rows if row.id in ids]

    def put(self, seconds: float, kind: RowKind, body: bytes) -> None:
        at = START + timedelta(seconds=seconds)
        self.rows.append(
            InboxRow(id=len(self.rows) + 1, received_at=at, tenant="t", source="am", kind=kind, body=body)
        )

    def fires(self, seconds: float, name: str) -> None:
        at = START + timedelta(seconds=seconds)
        self.put(
            seconds,
            RowKind.WEBHOOK,
            webhook([alert({"alertname": name, "host": name}, starts=at)], group=name),
        )

    def think(self) -> None:
        while self.analyst.step():
            pass

    def degraded(self) -> dict[str, bool]:
        """Whether each incident was opened without models, by the name of its alert."""
        reader = StateReader(self.data / "state.db")
        found = {}
        for item in reader.incidents(None, limit=1000).items:
            first = json.loads(bytes(events_of(reader, item["incident"])[0]))
            found[first["incident"]["episodes"][0]["labels"]["alertname"]] = first["degraded"]
        return found

    def close(self) -> None:
        self._opened.close()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    (tmp_path / "live").mkdir()
    with closing(Live(tmp_path / "live")) as made:
        made.put(0.0, RowKind.SETTINGS, msgspec.json.encode(AnalysisSettings(grouping="entities")))
        yield made


def events_of(reader: StateReader, incident: str) -> list[msgspec.Raw]:
    found = reader.incident("t", incident)
    assert found is not None
    events: list[msgspec.Raw] = found["events"]
    return events


def lived(live: Live) -> None:
    """Live through all that changes the mode."""
    live.fires(1.0, "BeforeTheModels")
    live.think()
    live.models.up = True
    live.fires(100.0, "WithModels")
    live.think()
    live.fires(200.0, "InTheBacklogOfTheKilled")  # the analyst is killed before it reads this
    live.fires(300.0, "BehindIt")
    live.restarted(max_rows=1)
    live.think()
    live.models.up = True
    live.fires(400.0, "WithModelsAgain")
    live.think()
    live.models.up = False  # the child died
    live.fires(500.0, "AfterTheModelsDied")
    live.think()
    live.models.up = True
    live.think()  # nothing is there to be read, yet the mode changes
    live.fires(600.0, "Last")
    live.think()


DEGRADED = {
    "BeforeTheModels": True,
    "WithModels": False,
    "InTheBacklogOfTheKilled": True,
    "BehindIt": True,
    "WithModelsAgain": False,
    "AfterTheModelsDied": True,
    "Last": False,
}


def test_an_event_says_degraded_exactly_where_models_took_no_part(live: Live):
    lived(live)
    assert live.degraded() == DEGRADED


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_a_replay_of_the_history_says_the_same_byte_for_byte(live: Live, tmp_path: Path, batch: int):
    """Promise 8: the modes stand where the analysts began with them, not where the inbox had its rows."""
    lived(live)
    until = START + timedelta(seconds=700)
    live.put(700.0, RowKind.CLOCK, b"")
    live.think()
    exported, _ = exporting.write(
        exporting.lines_of(live.data, "webhooks"), tmp_path, "webhooks", lambda _lines: None
    )
    lines = [json.loads(line) for line in exported.read_bytes().splitlines()]
    modes = [line["body"]["model_free"] for line in lines if line.get("kind") == "mode"]
    assert modes == [True, False, True, False, True, False]
    assert [line["received_at"] for line in lines] == sorted(line["received_at"] for line in lines)
    wishes = Wishes(
        incidents=tmp_path / "incidents.jsonl", events=tmp_path / "events.jsonl", until=until, batch=batch
    )
    told: list[str] = []
    replay([str(exported)], wishes, say=told.append)
    assert told == []
    assert (tmp_path / "incidents.jsonl").read_bytes() == b"".join(exporting.lines_of(live.data, "jsonl"))
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]
    assert [(event["event_id"], event["degraded"]) for event in events] == sorted_events(live)


def sorted_events(live: Live) -> list[tuple[str, bool]]:
    reader = StateReader(live.data / "state.db")
    events = [
        json.loads(bytes(event))
        for item in reader.incidents(None, limit=1000).items
        for event in events_of(reader, item["incident"])
    ]
    return [(event["event_id"], event["degraded"]) for event in sorted(events, key=lambda event: event["at"])]


def test_a_state_begun_anew_begins_with_the_settings_that_were_told_last(tmp_path: Path):
    last = msgspec.json.encode(AnalysisSettings(sensitivity=0.9))
    with closing(StateStore(tmp_path / "state.db")) as store:
        mind = Mind(store, Models(), lambda: last)  # type: ignore[arg-type]
        state = store.load()
        row = InboxRow(
            id=50, received_at=START, tenant="t", source="am", kind=RowKind.WEBHOOK, body=webhook([])
        )
        assert mind.own_row(state, None, models_up=False) is None
        kinds = [own.kind for own in own_rows(mind, state, row)]
        assert kinds == [RowKind.SETTINGS, RowKind.MODE]
        assert state.common.settings.sensitivity == 0.9
        assert (state.common.clock, state.common.model_free) == (START, True)
        other = store.load()
        told = msgspec.structs.replace(row, kind=RowKind.SETTINGS, body=last)
        assert [own.kind for own in own_rows(mind, other, told)] == [RowKind.MODE]


def test_a_state_begun_anew_begins_with_the_topologies_that_were_told_last(tmp_path: Path):
    inbox = InboxWriter(tmp_path / "inbox.db", clock_us=lambda: 0)
    inbox.start()
    charts = {name: Chart(origin="file", services=(Service(name=name),)) for name in ("old", "new", "east")}

    async def told() -> None:
        for tenant, name in (("", "old"), ("east", "east"), ("", "new")):
            await inbox.put(tenant, "tocsin", RowKind.TOPOLOGY, msgspec.json.encode(charts[name]))

    asyncio.run(told())
    inbox.close()
    with (
        closing(StateStore(tmp_path / "state.db")) as store,
        closing(InboxReader(tmp_path / "inbox.db")) as reader,
    ):
        mind = Mind(store, Models(), lambda: None, reader.newest_topologies)  # type: ignore[arg-type]
        state = store.load()
        row = InboxRow(
            id=50, received_at=START, tenant="t", source="am", kind=RowKind.WEBHOOK, body=webhook([])
        )
        assert {own.kind for own in own_rows(mind, state, row)} == {RowKind.TOPOLOGY, RowKind.MODE}
        assert state.charts == {("", "file"): charts["new"], ("east", "file"): charts["east"]}


def own_rows(mind: Mind, state: pipeline.State, following: InboxRow) -> Sequence[InboxRow]:
    found: list[InboxRow] = []
    while (own := mind.own_row(state, following, models_up=False)) is not None:
        assert (own.id, own.received_at) == (0, START)
        pipeline.advance(state, [own])
        found.append(own)
    return found


def test_a_mode_comes_at_the_time_that_thinking_has_reached(tmp_path: Path):
    with closing(StateStore(tmp_path / "state.db")) as store:
        mind = Mind(store, Models(), lambda: None)  # type: ignore[arg-type]
        state = store.load()
        state.common = msgspec.structs.replace(state.common, clock=START)
        own = mind.own_row(state, later(START, 60.0), models_up=False)
        assert own is not None
        assert own.received_at == START


def later(at: datetime, seconds: float) -> InboxRow:
    return InboxRow(
        id=9,
        received_at=at + timedelta(seconds=seconds),
        tenant="t",
        source="am",
        kind=RowKind.CLOCK,
        body=b"",
    )


def test_ways_of_grouping_are_counted_with_the_exams_and_the_age_of_the_oldest_verdict(
    tmp_path: Path,
) -> None:
    store = StateStore(tmp_path / "state.db")
    mind, state = Mind(store, Models(), lambda: None), pipeline.State(pipeline.Common())  # type: ignore[arg-type]

    def gauges() -> dict[str, float]:
        found = mind.gauges(state)
        ours = ("grouping:", "exam_f1:", "verdict_age_s")
        return {name: value for name, value in found.items() if name.startswith(ours)}

    pipeline.advance(state, [*apart(1), *apart(1, tenant="other", first=2)])
    nobody = {"grouping:entities": 0, "grouping:bursts": 2, "grouping:linker": 0}
    assert gauges() == {"verdict_age_s": 0.0, **nobody}
    later = START + timedelta(hours=1)
    pipeline.advance(state, [linker_row(3, START, WON), settings_row(4, later)])
    assert gauges() == {
        "verdict_age_s": 3600.0, "grouping:entities": 0, "grouping:bursts": 1, "grouping:linker": 1,
        "exam_f1:entities": 0.6, "exam_f1:bursts": 0.5, "exam_f1:linker": 0.9,
    }  # fmt: skip
    pipeline.advance(state, [settings_row(5, later, AnalysisSettings(grouping="bursts"))])
    assert gauges()["grouping:bursts"] == 2
    store.close()


def test_a_forecast_an_hour_away_wakes_nobody(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.db")
    mind, state = Mind(store, Models(), lambda: None), pipeline.State(pipeline.Common())  # type: ignore[arg-type]
    assert not mind.gauges(state)["due"]
    tenant = state.tenant("default")
    pipeline.advance(state, [later(START, 0.0)])
    tenant.timers.arm("forecast", (), START + timedelta(hours=1))
    assert not mind.gauges(state)["due"]
    pipeline.advance(state, [later(START, 3540.0)])
    assert mind.gauges(state)["due"]
    store.close()
