"""Nothing but a tenant's rows decides: not how they are batched, not when Tocsin is restarted, not Python's hash seed.

And not what other tenants send: whatever is learned, cached or counted is each tenant's own.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest
from comparing import answers, derived, differences, examples, windows
from desks import mixed
from hypothesis import given
from hypothesis import strategies as st
from linkers import fitted
from timelines import BASE, TENANTS, timelines

from bridge.analysis.settings import AnalysisSettings
from bridge.app.mind import mode_row
from bridge.model import Event, InboxRow, RowKind
from bridge.pipeline import Common, State, advance, finish
from bridge.pipeline.state import EPOCH, OutboxEntry, TenantRecord
from bridge.storage.state import StateStore
from bridge.storage.times import microseconds
from bridge.turns import Reached, Turn, Turns, Waiting

FRONT = "front-1"


@pytest.fixture(autouse=True, scope="module")
def little_is_enough() -> Iterator[None]:
    """Let fits and merges happen among a handful of alerts."""
    few: dict[str, float] = {
        "fits.MIN_TEMPLATES": 3, "linkers.LEAST_SIGHTINGS": 3, "linkers.LEAST_NEWS": 2, "linkers.MAX_SIGHTINGS": 12,
        "linkers.MAX_IN_TICK": 4, "window.MAX_INCIDENTS": 6, "bursts.SURGE_REST_S": 10.0, "arrivals.MOST_SECONDS": 5,
        "arrivals.MOST_BACK": 6, "window.MAX_ROWS": 8,
        "window.MAX_PARTNERS": 5, "window.FORGOTTEN": 3, "reclustering.MOST_NODES": 6, "counts.STRANGE": 1.0,
        "counts.SHARE": 1e9, "measuring.SHARE": 1e9, "measuring.MAX_MEASURED": 3, "counts.MAX_COUNTED": 12,
        "unusual.MAX_ALARMS": 4, "measuring.WHOLE_EVERY": 2, "measuring.SETTLED": 3, "measuring.FLAGGED": 0.05,
        "reviews.PORTION": 2, "reviews.LEAST": 2, "reviews.MAX_BUSY": 2, "measuring.MAX_BUSY": 2, "measuring.WARM": 2,
        "reviews.AGAIN_S": 3600.0, "reviews.LATE": 4, "histories.HISTORY": 5, "histories.BLOCK": 3,
        "forecasts.LEAST_EVENTS": 2, "forecasts.MAX_HAPPENED": 4, "forecasts.MAX_NEW": 1,
    }  # fmt: skip
    near = {
        "clustering.MERGE_EVIDENCE": 1, "clustering.BRIDGE_AT": 0.5, "bursts.LEAST_SURGE": 2, "bursts.SURPRISE": 0.3,
        "bursts.SURGE_REST_S": 10.0, "counting.LEAST_WINDOWS": 1.0, "extent.LEAST": 1.0,
        "selection.SHORT": 2, "detectors.shape.WARM_UP": 2.0, "detectors.spot.WARM_UP": 2.0, "detectors.surprise.FLAGGED": 0.05,
        "forecast.outlooks.LEAST_EVENTS": 2, "forecast.forecaster.FIRST_FIT_S": 3600.0,
        "forecast.forecaster.LEAST_HAPPENED": 0.2, "forecast.forecaster.DAY_S": 7200.0, "forecast.trust.EARNED": 1.0,
        "forecast.outlooks.MOST_STEP_S": 21_600.0, "announcing.WORTH": 0.9,
    }  # fmt: skip
    with ExitStack() as stack:
        for name, number in few.items():
            stack.enter_context(patch(f"bridge.pipeline.{name}", number))
        for name, limit in near.items():
            stack.enter_context(patch(f"bridge.analysis.{name}", limit))
        yield


class Told:
    """What a run gave out."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.outbox: list[OutboxEntry] = []
        self.quarantined: list[tuple[int, str]] = []
        self.counts: dict[str, int] = {}
        self.fits: list[object] = []

    def take(self, outcome) -> None:
        self.events += outcome.events
        self.outbox += outcome.outbox
        self.quarantined += [(each.inbox_id, each.reason) for each in outcome.quarantined]
        self.fits += [ask for ask in outcome.asks if hasattr(ask, "fit")]
        for name, number in outcome.counts.items():
            self.counts[name] = self.counts.get(name, 0) + number


def fresh() -> State:
    return State(Common(settings=BASE))


def holding(state: State) -> Callable[[str, str], bool]:
    return lambda tenant, incident: tenant in state.tenants and incident in state.tenants[tenant].groups


def straight(rows: list[InboxRow]) -> tuple[State, Told]:
    state, told = fresh(), Told()
    for row in rows:
        told.take(advance(state, [row]))
    return state, told


def cut(rows: list[InboxRow], at: set[int]) -> list[list[InboxRow]]:
    ends = [*sorted(number for number in at if 0 < number < len(rows)), len(rows)]
    starts = [0, *ends[:-1]]
    return [rows[start:end] for start, end in zip(starts, ends, strict=True)]


@examples(150)
@given(timelines(), st.sets(st.integers(0, 40)))
def test_batches_change_nothing(rows: list[InboxRow], cuts: set[int]) -> None:
    state, told = straight(rows)
    other, other_told = fresh(), Told()
    for batch in cut(rows, cuts):
        other_told.take(advance(other, batch))
    assert vars(other_told) == vars(told)
    assert differences(other, state) == []


@examples(60)
@given(timelines(), st.sets(st.integers(0, 40), min_size=1))
def test_restarts_change_nothing(rows: list[InboxRow], cuts: set[int]) -> None:
    state, told = straight(rows)
    other_told = Told()
    with tempfile.TemporaryDirectory() as folder, closing(StateStore(Path(folder) / "state.db")) as store:
        running = fresh()
        for batch in cut(rows, cuts):
            outcome = advance(running, batch)
            store.commit(outcome, front=FRONT, rows=batch)
            other_told.take(outcome)
            loaded = store.load()
            assert differences(loaded, running) == []
            while store.erase_some(holding(running)):
                assert differences(store.load(), running) == []
            assert {name: derived(tenant) for name, tenant in loaded.tenants.items()} == {
                name: derived(tenant) for name, tenant in running.tenants.items()
            }
            assert windows(loaded) == windows(running)
            assert answers(loaded) == answers(running)
            running = loaded
        without = (
            "select count(*) from incident i where state != 'merged' and not exists (select 1 from episode e"
        )
        where = (
            "where e.tenant = i.tenant and e.incident = i.id) and instr(i.body, cast('[erased]' as blob)) = 0"
        )
        assert store._db.execute(f"{without} {where}").fetchone() == (0,), "an incident has lost its episodes"
    assert vars(other_told) == vars(told)
    assert differences(running, state) == []


def of(tenant: str, rows: list[InboxRow]) -> list[InboxRow]:
    """Return the rows as if no other tenant had sent anything: only their time is left of those."""
    return [
        row
        if row.tenant in {tenant, ""}
        else msgspec.structs.replace(row, tenant="", source="", kind=RowKind.CLOCK, body=b"")
        for row in rows
    ]


@examples(40)
@given(timelines())
def test_other_tenants_change_nothing(rows: list[InboxRow]) -> None:
    # Places among the busiest series are what tenants share: they take turns, see test_reviews.
    with patch("bridge.pipeline.reviews.MAX_BUSY", 99), patch("bridge.pipeline.measuring.MAX_BUSY", 99):
        state, told = straight(rows)
        apart = {name: straight(of(name, rows)) for name in TENANTS}
    for name, (alone, alone_told) in apart.items():
        for each in (state, alone):
            each.common = msgspec.structs.replace(each.common, clock=state.common.clock)
        assert differences(only(name, alone), only(name, state)) == []
        assert alone_told.events == [each for each in told.events if each.tenant == name]
        assert alone_told.outbox == [each for each in told.outbox if each.tenant == name]
        assert alone_told.fits == [each for each in told.fits if each.tenant == name]


def only(name: str, state: State) -> State:
    """Return a state with one tenant."""
    part = State(state.common)
    part.tenants.update({name: state.tenants[name]} if name in state.tenants else {})
    return part


def by_turns(
    rows: list[InboxRow], seen: list[int], most: list[int]
) -> Iterator[tuple[list[InboxRow], Turn, Reached]]:
    """Give the rows by turns, as an inbox that fills up meanwhile is read: so many become known, so many are taken."""
    turns, known = Turns(Reached(0, 0)), {row.id: row for row in rows}
    for step in count():
        fresh = [row for row in rows if row.id > turns.noted][: seen[step % len(seen)]]
        turns.note(
            Waiting(row.id, microseconds(row.received_at), row.tenant, row.kind, len(row.body))
            for row in fresh
        )
        turn = turns.pick(most[step % len(most)], 4000)
        if turn.ids:
            turns.done(turn.ids)
            yield [known[row] for row in turn.ids], turn, turns.reached
        elif not fresh:
            return


@examples(50)
@given(
    timelines(),
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.booleans(),
)
def test_whose_turn_it_is_changes_nothing(
    rows: list[InboxRow], seen: list[int], most: list[int], restarts: bool
) -> None:
    with ExitStack() as stack:
        for name in (
            "measuring.MAX_MEASURED",
            "measuring.MAX_BUSY",
            "reviews.MAX_BUSY",
        ):  # of all tenants together
            stack.enter_context(patch(f"bridge.pipeline.{name}", 100))
        state, told = straight(rows)
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store = stack.enter_context(closing(StateStore(Path(folder) / "state.db")))
        running, other_told = fresh(), Told()
        for batch, turn, reached in by_turns(rows, seen, most):
            outcome = advance(running, batch, behind=turn.behind)
            other_told.take(outcome)
            if restarts:
                store.commit(outcome, front=FRONT, rows=batch, reached=reached)
                loaded = store.load()
                assert differences(loaded, running) == []
                assert {name: derived(tenant) for name, tenant in loaded.tenants.items()} == {
                    name: derived(tenant) for name, tenant in running.tenants.items()
                }
                assert store.cursor(FRONT) == reached.id
                running = loaded
    assert all(tenant.record.behind_at is None for tenant in running.tenants.values())
    assert differences(running, state) == []
    assert other_told.counts == told.counts
    for name in running.tenants:
        assert [each for each in other_told.events if each.tenant == name] == [
            each for each in told.events if each.tenant == name
        ]
        assert [each for each in other_told.outbox if each.tenant == name] == [
            each for each in told.outbox if each.tenant == name
        ]


@examples(40)
@given(
    timelines(),
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.sets(st.integers(0, 30), max_size=6),
)
def test_a_replay_of_what_was_thought_by_turns_is_the_same(
    rows: list[InboxRow], seen: list[int], most: list[int], changes: set[int]
) -> None:
    """A mode begins wherever each tenant is just then; a replay has all rows in the order of their times."""
    rows = [row for row in rows if row.kind is not RowKind.MODE]
    with ExitStack() as stack:
        for name in (
            "measuring.MAX_MEASURED",
            "measuring.MAX_BUSY",
            "reviews.MAX_BUSY",
        ):  # of all tenants together
            stack.enter_context(patch(f"bridge.pipeline.{name}", 100))
        live, told, history, free = fresh(), Told(), list[InboxRow](), False
        for number, (batch, turn, _) in enumerate(by_turns(rows, seen, most)):
            free ^= number in changes
            while (
                live.common.clock != EPOCH
                and (own := mode_row(live, live.common.clock, free=free)) is not None
            ):
                told.take(advance(live, [own]))
                history.append(own)
            told.take(advance(live, batch, behind=turn.behind))
            history += batch
        replayed, replayed_told = straight(sorted(history, key=lambda row: row.received_at))
    replayed.common = live.common
    assert differences(live, replayed) == []
    for name in live.tenants:
        assert [each for each in told.events if each.tenant == name] == [
            each for each in replayed_told.events if each.tenant == name
        ]


@examples(150)
@given(timelines())
def test_what_is_always_so(rows: list[InboxRow]) -> None:
    state = fresh()
    events: list[Event] = []
    for row in rows:
        events += advance(state, [row]).events
        for tenant in state.tenants.values():
            closed = {
                incident
                for action in tenant.actions.values()
                if action.kind == "close"
                for incident in action.incidents
            }
            for group in tenant.groups.values():
                where = group.head.state.value
                assert (where == "open") == bool(group.firing) or (where == "closed" and closed)
            for incident, episode in tenant.firing.values():
                assert tenant.groups[incident].episodes[episode].firing
        tick = state.next_tick()
        assert tick is None or tick >= int((row.received_at.timestamp() // 5) * 5)
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert len({event.event_id for event in events}) == len(events)
    seqs: dict[str, list[int]] = {}
    for event in events:
        seqs.setdefault(event.incident.id, []).append(event.seq)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in seqs.values())


@examples(60)
@given(timelines())
def test_everything_comes_to_an_end(rows: list[InboxRow]) -> None:
    state, _ = straight(rows)
    finish(state)
    for tenant in state.tenants.values():
        for group in tenant.groups.values():
            absent = group.head.origin == "heartbeat"
            assert group.head.state.value in {"closed", "merged"} or absent


SEEDED = """
import hashlib, sys
sys.path[:0] = ["tests", "."]
from hypothesis import HealthCheck, Phase, given, seed, settings
from timelines import BASE, TENANTS, timelines
import msgspec
from bridge.pipeline import Common, State, advance

digest = hashlib.sha256()

@seed(7)
@settings(max_examples=25, database=None, deadline=None, phases=[Phase.generate],
          suppress_health_check=list(HealthCheck))
@given(timelines())
def run(rows):
    state = State(Common(settings=BASE))
    outcome = advance(state, rows)
    digest.update(msgspec.json.encode([rows, outcome.events, outcome.outbox]))
    digest.update(state.picture())

run()
print(digest.hexdigest())
"""


def test_hash_seeds_change_nothing() -> None:
    root = Path(__file__).parent.parent.parent
    digests = set()
    for seed in ("1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", SEEDED], cwd=root, env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, timeout=50, check=True,
        )  # fmt: skip
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    assert digests != {hashlib.sha256().hexdigest()}


def _unset(name: str, state: State) -> None:
    """Put another value in the place of one that all tenants share."""
    others = {"settings": AnalysisSettings(sensitivity=0.123), "model_free": not state.common.model_free}
    other = others.get(name, state.common.clock + timedelta(days=1))
    state.common = msgspec.structs.replace(state.common, **{name: other})


def _forget(things: str) -> Callable[[State], object]:
    return lambda state: getattr(state.tenants["default"], things).popitem()


CHANGES: dict[str, Callable[[State], object]] = {
    **{f"common.{field.name}": partial(_unset, field.name) for field in msgspec.structs.fields(Common)},
    **{things: _forget(things) for things in ("watches", "beats", "templates", "habits", "groups", "actions", "lessons",
                                        "sightings", "measured", "histories", "counted", "pending", "alarms", "happened",
                                        "pasts",
                                        "outlooks")},
    "record": lambda state: setattr(state.tenants["default"], "record", TenantRecord()),
    "link_fit": lambda state: setattr(state.tenants["default"], "link_fit", fitted(fit=7)),
    "rarity": lambda state: state.tenants["default"].rarity.count_incident(),
    "episodes": lambda state: next(iter(state.tenants["default"].groups.values())).episodes.popitem(),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_picture_shows_whatever_is_stored(tmp_path: Path, what: str) -> None:
    """The tests of restarts compare pictures: what is not in them is not compared."""
    with closing(StateStore(tmp_path / "state.db")) as store:
        mixed(store)
        state = store.load()
        before = state.picture()
        CHANGES[what](state)
        assert state.picture() != before
