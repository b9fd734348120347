"""Timelines from row to event, and the promise that nothing but the rows decides: not batches, not restarts."""

from __future__ import annotations

from pathlib import Path

import pytest
import timeline

from bridge.analysis.settings import AnalysisSettings, Destination, Heartbeat, Route
from bridge.model import Event, InboxRow
from bridge.pipeline import Common, State, advance
from bridge.storage.state import StateStore

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.txt"))
SETTINGS = AnalysisSettings(
    grouping="entities",  # scenarios say by labels which alerts are in one incident
    heartbeats=(Heartbeat(match=('alertname="Watchdog"',), missing_after_s=900.0),),
    destinations=(Destination(name="file", wait_s=0.0), Destination(name="chat", wait_s=30.0)),
    routes=(
        Route(to=("file",)),
        Route(match=('severity=~"critical|warning"',), to=("chat",), repeat_s=14400.0),
    ),
)


def told(events: list[Event]) -> list[str]:
    numbers: dict[str, int] = {}
    lines = []
    for event in events:
        number = numbers.setdefault(event.incident.id, len(numbers) + 1)
        offset = (event.at - timeline.START).total_seconds()
        lines.append(f"{offset:.0f}s #{number} {event.kind.value} {event.incident.severity}")
    return lines


def wanted(lines: list[str]) -> list[str]:
    words = [line.split() for line in lines]
    return [f"{timeline.seconds(word[0]):.0f}s {' '.join(word[1:])}" for word in words]


def run(rows: list[InboxRow], batch: int) -> tuple[State, list[Event]]:
    state = State(Common(settings=SETTINGS))
    events: list[Event] = []
    for start in range(0, len(rows), batch):
        events += advance(state, rows[start : start + batch]).events
    return state, events


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_what_is_told(path: Path) -> None:
    scenario = timeline.read(path.read_text())
    _, events = run(scenario.rows, batch=1)
    assert wanted(scenario.want) == [line for line in told(events) if " reminder " not in line]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_batches_change_nothing(path: Path) -> None:
    rows = timeline.read(path.read_text()).rows
    one, events = run(rows, batch=1)
    whole, events_of_whole = run(rows, batch=len(rows))
    assert events == events_of_whole
    assert one.picture() == whole.picture()


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_restart_after_every_row_changes_nothing(path: Path, tmp_path: Path) -> None:
    rows = timeline.read(path.read_text()).rows
    straight, events = run(rows, batch=1)
    store = StateStore(tmp_path / "state.db")
    first = State(Common(settings=SETTINGS))
    restarted: list[Event] = []
    for number, row in enumerate(rows):
        state = first if number == 0 else store.load()
        outcome = advance(state, [row])
        store.commit(outcome, front="front-1", rows=[row])
        assert store.load().picture() == state.picture()
        restarted += outcome.events
    assert restarted == events
    assert store.load().picture() == straight.picture()
    assert store.cursor("front-1") == rows[-1].id
    store.close()


def test_sequences_are_free_of_gaps_and_ids_never_repeat() -> None:
    for path in SCENARIOS:
        _, events = run(timeline.read(path.read_text()).rows, batch=3)
        by_incident: dict[str, list[int]] = {}
        for event in events:
            by_incident.setdefault(event.incident.id, []).append(event.seq)
        assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in by_incident.values())
        assert len({event.event_id for event in events}) == len(events)


def test_an_incident_with_a_firing_episode_is_never_quiet() -> None:
    for path in SCENARIOS:
        state = State(Common(settings=SETTINGS))
        for row in timeline.read(path.read_text()).rows:
            advance(state, [row])
            for group in (g for t in state.tenants.values() for g in t.groups.values()):
                assert (group.head.state.value == "open") == bool(group.firing)
