"""What one row of each kind does, through the only way in: `advance`, and what time alone does after it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import timeline
from msgspec.structs import replace

from bridge.analysis.families import EncodeAsk, FitAsk
from bridge.analysis.incidents import Group
from bridge.analysis.settings import AnalysisSettings, Destination, Heartbeat, Route
from bridge.model import EventKind, IncidentState, RowKind
from bridge.pipeline import Common, Outcome, State, advance, finish, outstanding
from bridge.pipeline.state import Tenant
from bridge.storage.state import StateStore

WATCHDOG = {"alertname": "Watchdog", "severity": "none"}
SETTINGS = AnalysisSettings(
    grouping="entities",  # the labels say which alerts are in one incident
    heartbeats=(Heartbeat(match=('alertname="Watchdog"',), missing_after_s=900.0),),
    destinations=(Destination(name="file", wait_s=0.0), Destination(name="chat", wait_s=30.0)),
    routes=(Route(to=("file",)), Route(match=('severity="critical"',), to=("chat",), repeat_s=3600.0)),
)
EXPIRED = "9h"  # after this nobody believes in an alert that was not named again


class Bench:
    """A state, the rows it gets, and all that came of them."""

    def __init__(self, settings: AnalysisSettings = SETTINGS, store: StateStore | None = None) -> None:
        self.state = State(Common(settings=settings))
        self.store = store  # what came of each row is committed there
        self.number = 0
        self.outcome = Outcome()
        self.told: list[tuple[str, str]] = []  # of all events: kind, title

    def take(self, when: str, kind: RowKind, body: bytes = b"", tenant: str = "default") -> Outcome:
        self.number += 1
        row = timeline.row(self.number, timeline.after(when), body, kind=kind, tenant=tenant)
        self.outcome = advance(self.state, [row])
        if self.store is not None:
            self.store.commit(self.outcome, front="front-1", rows=[row])
        self.told += [(event.kind.value, event.incident.title) for event in self.outcome.events]
        return self.outcome

    def tell(self, when: str, kind: RowKind, **told: Any) -> Outcome:
        return self.take(when, kind, json.dumps(told).encode())

    def webhook(self, when: str, alerts: Sequence[Any], **given: Any) -> Outcome:
        return self.take(when, RowKind.WEBHOOK, timeline.webhook(alerts, **given))

    def fires(self, when: str, *alerts: Mapping[str, str], **given: Any) -> Outcome:
        at = timeline.after(when)
        return self.webhook(when, [timeline.alert(dict(labels), starts=at) for labels in alerts], **given)

    def ends(self, when: str, *alerts: Mapping[str, str], **given: Any) -> Outcome:
        at = timeline.after(when)
        return self.webhook(when, [timeline.alert(dict(labels), ends=at) for labels in alerts], **given)

    def clock(self, when: str) -> Outcome:
        return self.take(when, RowKind.CLOCK)

    def use(self, when: str, settings: AnalysisSettings) -> Outcome:
        return self.take(when, RowKind.SETTINGS, msgspec.json.encode(settings), "")

    @property
    def tenant(self) -> Tenant:
        return self.state.tenants["default"]

    def groups(self) -> list[Group]:
        return sorted(self.tenant.groups.values(), key=lambda group: group.head.opened_at)

    def states(self) -> list[IncidentState]:
        return [group.head.state for group in self.groups()]

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    with closing(StateStore(tmp_path / "state.db")) as opened:
        yield opened


def host(name: str, host: str, severity: str = "warning", **labels: str) -> dict[str, str]:
    return {"alertname": name, "instance": f"{host}:9100", "severity": severity, **labels}


def letters(number: int) -> str:
    """Return a name that is not masked as a number is."""
    return "".join("abcdefghij"[int(digit)] for digit in f"{number:04}")


def vector(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, "<f2").tobytes()).decode()


# ---- webhooks ----------------------------------------------------------------------------------------------


def test_one_webhook_makes_one_event_that_speaks_of_all_of_it(bench: Bench) -> None:
    outcome = bench.fires("0s", *(host("Down", "db-1", disk=str(number)) for number in range(50)))
    [event] = outcome.events
    assert (event.kind, event.incident.alerts_total) == (EventKind.OPENED, 50)
    assert [entry.destination for entry in outcome.outbox] == ["file"]


def test_a_malformed_alert_is_set_aside_and_the_others_go_on(bench: Bench) -> None:
    sent = [timeline.alert(host("Down", "db-1")), {"labels": 7}, "x", timeline.alert(host("Slow", "db-1"))]
    outcome = bench.webhook("0s", sent)
    assert [(each.what, each.inbox_id) for each in outcome.quarantined] == [("alert", 1), ("alert", 1)]
    assert [json.loads(each.body) for each in outcome.quarantined] == [{"labels": 7}, "x"]
    assert all(each.reason.startswith("unusable alert: ") for each in outcome.quarantined)
    assert outcome.counts["quarantined"] == 2
    assert [event.incident.alerts_total for event in outcome.events] == [2]


def test_a_body_that_is_no_webhook_is_set_aside_whole(bench: Bench) -> None:
    outcome = bench.take("0s", RowKind.WEBHOOK, b"[1, 2]")
    [aside] = outcome.quarantined
    assert (aside.what, aside.body, aside.received_at) == ("body", b"[1, 2]", timeline.START)
    assert not outcome.events


def test_a_truncated_group_whose_status_lies_leaves_firing_what_it_does_not_name(bench: Bench) -> None:
    """Alertmanager sent 64 of 70, all resolved, and called the whole group resolved; six of it still fire."""
    alerts = [host("Down", "db-1", disk=str(number)) for number in range(70)]
    bench.fires("0s", *alerts)
    body = json.loads(timeline.webhook([timeline.alert(each, ends=timeline.after("5m")) for each in alerts[:64]],
                                       truncated=6))  # fmt: skip
    assert body["status"] == "resolved"
    bench.take("5m", RowKind.WEBHOOK, json.dumps(body).encode())
    [group] = bench.groups()
    assert (len(group.firing), group.head.state) == (6, IncidentState.OPEN)
    bench.clock("1h")
    assert bench.states() == [IncidentState.OPEN]
    bench.ends("2h", *alerts[64:])
    assert bench.states() == [IncidentState.QUIET]


def test_a_storm_of_thousands_in_one_row_is_one_message() -> None:
    bench = Bench()
    alerts = [
        host("PodCrash", f"node-{number % 50}", pod=f"shop-{number}", cluster="eu") for number in range(5000)
    ]
    outcome = bench.fires("0s", *alerts, group='{}:{alertname="PodCrash"}')
    [event] = outcome.events
    assert (event.incident.alerts_total, len(event.incident.episodes), event.incident.truncated) == (
        5000,
        100,
        4900,
    )
    assert len(outcome.outbox) == 1
    assert outcome.counts["change:first_seen"] == 5000
    assert len(outcome.episodes) == len(outcome.watches) == 5000
    assert len(bench.tenant.templates) == 1, "and one text to encode"


def test_progress_is_told_for_every_row() -> None:
    rows = [timeline.row(number, timeline.START, b"", kind=RowKind.CLOCK) for number in range(1, 4)]
    calls: list[None] = []
    advance(State(), rows, progress=lambda: calls.append(None))
    assert len(calls) == 3


def test_tenants_share_nothing(bench: Bench) -> None:
    body = timeline.webhook([timeline.alert(host("Down", "db-1"))])
    for tenant in ("east", "west"):
        assert [event.tenant for event in bench.take("0s", RowKind.WEBHOOK, body, tenant).events] == [tenant]
    ends = timeline.webhook([timeline.alert(host("Down", "db-1"), ends=timeline.after("1m"))])
    bench.take("1m", RowKind.WEBHOOK, ends, "east")
    firing = {name: len(tenant.firing) for name, tenant in bench.state.tenants.items()}
    assert firing == {"east": 0, "west": 1}


def test_time_does_not_go_back(bench: Bench) -> None:
    bench.clock("1h")
    bench.fires("30m", host("Down", "db-1"))
    assert bench.outcome.events[0].at == timeline.after("1h")


# ---- rejected ----------------------------------------------------------------------------------------------


def test_a_rejected_body_is_set_aside_with_its_bytes_and_its_reason(bench: Bench) -> None:
    body = base64.b64encode(b"\xff\x00").decode()
    outcome = bench.tell("0s", RowKind.REJECTED, reason="not UTF-8", body_base64=body)
    [aside] = outcome.quarantined
    assert (aside.what, aside.reason, aside.body) == ("body", "not UTF-8", b"\xff\x00")
    assert (aside.tenant, aside.source, aside.inbox_id) == ("default", "default", 1)
    assert not outcome.events


# ---- vectors and families ----------------------------------------------------------------------------------


def test_a_new_text_is_asked_about_once(bench: Bench) -> None:
    [ask] = bench.fires("0s", host("Down", "db-1")).asks
    assert isinstance(ask, EncodeAsk)
    assert [template.id for template in ask.templates] == list(bench.tenant.templates)
    assert bench.fires("1s", host("Down", "db-2")).asks == []


def test_vectors_are_kept_for_known_texts_and_nothing_else(bench: Bench) -> None:
    bench.fires("0s", host("Down", "db-1"))
    [known] = bench.tenant.templates
    outcome = bench.tell(
        "1s", RowKind.VECTORS, model="m", vectors={known: vector(1, 0), "0" * 16: vector(0, 1)}
    )
    assert list(outcome.templates) == [("default", known)]
    assert bench.tenant.templates[known].vector == base64.b64decode(vector(1, 0))
    assert list(bench.tenant.templates) == [known]


@pytest.mark.parametrize(("second", "alike"), [((1.0, 0.0), True), ((0.0, 1.0), False)])
def test_texts_that_are_alike_speak_for_one_cause(
    bench: Bench, second: tuple[float, float], *, alike: bool
) -> None:
    bench.fires("0s", host("Beta", "b-1"))
    bench.fires("1h", host("Alpha", "a-1", namespace="web"))
    alpha, beta = sorted(bench.tenant.templates.values(), key=lambda record: "Beta" in record.text)
    bench.tell("1h", RowKind.VECTORS, vectors={alpha.id: vector(1, 0), beta.id: vector(*second)})
    bench.fires("3602s", host("Beta", "c-1", namespace="web"))
    reasons = [episode.why for group in bench.groups() for episode in group.episodes.values()]
    assert any("similar text (1.00)" in reason for reason in reasons) is alike


def test_families_act_from_their_row_on_and_begin_with_what_is_usual_for_their_texts(bench: Bench) -> None:
    bench.fires("0s", host("Alpha", "a-1"), host("Beta", "b-1"))
    one, other = sorted(bench.tenant.templates)
    outcome = bench.tell(
        "1m", RowKind.FAMILIES, fit=3, assign={one: "f:3.1", other: "f:3.1", "0" * 16: "f:3.2"}
    )
    assert {bench.tenant.family_of(each, model_free=False) for each in (one, other)} == {"f:3.1"}
    assert list(outcome.habits) == [("default", "f:3.1")]
    assert outcome.habits["default", "f:3.1"].sizes == pytest.approx(2.0)
    assert bench.tenant.record.fit_done == 3
    bench.tell("2m", RowKind.FAMILIES, fit=2, assign={})
    assert bench.tenant.record.fit_done == 3, "a late answer does not count back"
    bench.fires("3m", host("Alpha", "a-2"))
    assert bench.tenant.habits["f:3.1"].sizes == pytest.approx(3.0, rel=1e-3)


def known_texts(bench: Bench, number: int = 200) -> list[str]:
    """Hear `number` unlike alerts and tell the vectors of their texts."""
    bench.fires("0s", *(host(f"Alert {letters(each)}", "db-1") for each in range(number)))
    templates = sorted(bench.tenant.templates)
    assert len(templates) == number
    bench.tell("1s", RowKind.VECTORS, vectors=dict.fromkeys(templates, vector(1, 0)))
    return templates


def test_families_are_asked_for_at_the_full_ten_minutes(bench: Bench) -> None:
    templates = known_texts(bench)
    assert bench.clock("599s").asks == []
    [ask] = bench.clock("601s").asks
    assert isinstance(ask, FitAsk)
    assert (ask.fit, [each[0] for each in ask.templates]) == (1, templates)
    assert bench.clock("2h").asks == [], "there is nothing new to fit"


def test_too_few_texts_are_not_fitted(bench: Bench) -> None:
    known_texts(bench, 199)
    assert bench.clock("2h").asks == []


# ---- mode --------------------------------------------------------------------------------------------------


def test_without_models_incidents_are_degraded_and_no_fit_is_asked_for(bench: Bench) -> None:
    known_texts(bench)
    bench.tell("2s", RowKind.MODE, model_free=True)
    assert bench.clock("1h").asks == []
    [event] = bench.fires("2h", host("Mail", "mail-9")).events
    assert event.degraded
    bench.tell("3h", RowKind.MODE, model_free=False)
    [ask] = bench.clock("4h").asks
    assert isinstance(ask, FitAsk)
    [event] = bench.fires("5h", host("Web", "web-9")).events
    assert not event.degraded


def test_an_incident_that_was_degraded_once_says_so_to_its_end(bench: Bench) -> None:
    bench.tell("0s", RowKind.MODE, model_free=True)
    bench.fires("1s", host("Down", "db-1"))
    bench.tell("2s", RowKind.MODE, model_free=False)
    bench.ends("3s", host("Down", "db-1"))
    degraded = [event.degraded for event in bench.clock("1h").events]
    assert degraded == [True, True]


# ---- settings ----------------------------------------------------------------------------------------------


def test_new_settings_act_from_their_row_on(bench: Bench) -> None:
    bench.fires("0s", host("Down", "db-1", "p9"))
    bench.use("1m", replace(SETTINGS, severities={"p9": "critical"}))
    bench.fires("2m", host("Down", "far-7", "p9"))
    assert [group.head.severity for group in bench.groups()] == ["warning", "critical"]


def test_new_routes_act_on_incidents_that_are_open(bench: Bench) -> None:
    down, slow = host("Down", "db-1", team="db"), host("Slow", "db-1", "critical")
    bench.fires("0s", down)
    bench.use("1m", replace(SETTINGS, routes=(Route(match=('team="db"',), to=("chat",), wait_s=60.0),)))
    outcome = bench.fires("2m", slow)
    assert [entry.destination for entry in outcome.outbox] == ["chat"]
    bench.ends("3m", down, slow)
    outbox = bench.clock("1h").outbox
    assert {entry.destination for entry in outbox} == {"chat"}, "nothing leads to the file any more"


def test_a_shorter_patience_acts_on_incidents_that_are_quiet(bench: Bench) -> None:
    bench.fires("0s", host("Down", "db-1"))
    bench.use("1s", replace(SETTINGS, close_after_s=7200.0))
    bench.ends("1m", host("Down", "db-1"))
    bench.clock("1h")
    assert bench.states() == [IncidentState.QUIET]
    bench.use("1h", replace(SETTINGS, close_after_s=60.0))
    bench.clock("3605s")
    assert bench.states() == [IncidentState.CLOSED]


def test_a_heartbeat_that_is_none_any_more_is_no_longer_missed(bench: Bench) -> None:
    bench.fires("0s", WATCHDOG)
    bench.clock("20m")
    assert bench.states() == [IncidentState.OPEN]
    bench.use("21m", replace(SETTINGS, heartbeats=()))
    assert not bench.tenant.beats
    bench.clock("1h")
    assert bench.kinds() == ["opened", "updated", "closed"]


def test_an_alert_that_becomes_a_heartbeat_leaves_its_incident() -> None:
    bench = Bench(replace(SETTINGS, heartbeats=()))
    bench.fires("0s", WATCHDOG)
    bench.use("1m", SETTINGS)
    assert bench.states() == [IncidentState.QUIET]
    assert not bench.tenant.watches
    bench.fires("2m", WATCHDOG)
    assert len(bench.tenant.beats) == 1
    bench.clock("10m")
    assert bench.states() == [IncidentState.CLOSED]


def test_settings_told_again_change_nothing(bench: Bench) -> None:
    bench.fires("0s", host("Down", "db-1", "critical"), WATCHDOG)
    before = bench.state.picture()
    outcome = bench.use("0s", SETTINGS)
    assert not outcome.events
    assert bench.state.picture() == before


# ---- what time does ----------------------------------------------------------------------------------------


def test_an_open_incident_reminds_on_the_routes_that_want_it(bench: Bench) -> None:
    bench.fires("0s", host("Down", "db-1", "critical"))
    outcome = bench.clock("7201s")
    assert [(event.kind.value, event.at) for event in outcome.events] == [
        ("reminder", timeline.after("1h")),
        ("reminder", timeline.after("2h")),
    ]
    assert [(entry.destination, entry.kind) for entry in outcome.outbox] == [("chat", "reminder")] * 2
    bench.ends("7201s", host("Down", "db-1", "critical"))
    bench.clock("5h")
    assert bench.kinds().count("reminder") == 2


def test_a_missing_heartbeat_opens_an_incident_that_its_return_closes(bench: Bench) -> None:
    bench.fires("0s", WATCHDOG)
    assert not bench.clock("899s").events
    [event] = bench.clock("15m").events
    assert (event.kind, event.incident.origin, event.incident.severity) == (
        EventKind.OPENED,
        "heartbeat",
        "critical",
    )
    [episode] = event.incident.episodes
    assert (episode.labels["alertname"], episode.labels["heartbeat"]) == ("WatchdogMissing", "Watchdog")
    assert "was not heard for 15 min" in episode.annotations["summary"]
    assert "Watchdog was last heard 03:00:00 UTC" in episode.why
    assert {entry.destination for entry in bench.outcome.outbox} == {"file", "chat"}
    bench.fires("20m", WATCHDOG)
    bench.clock("1h")
    closed = [title for kind, title in bench.told if kind == "closed"]
    assert closed[0] == event.incident.title


def test_a_heartbeat_is_missing_once_and_joined_by_nothing(bench: Bench) -> None:
    bench.fires("0s", {**WATCHDOG, "instance": "db-1:9"})
    bench.clock("15m")
    bench.fires("16m", host("Down", "db-1", "critical"))
    assert [group.head.origin for group in bench.groups()] == ["heartbeat", "alerts"]
    bench.clock("50m")
    assert len(bench.groups()) == 2


def test_a_heartbeat_called_resolved_is_not_heard(bench: Bench) -> None:
    bench.fires("0s", WATCHDOG)
    bench.ends("10m", WATCHDOG)
    assert not bench.groups()
    assert [event.kind for event in bench.clock("15m").events] == [EventKind.OPENED]


def test_memory_is_released_once_an_incident_can_no_longer_reopen(bench: Bench) -> None:
    alerts = [host("Down", f"db-{number}") for number in range(20)]
    bench.fires("0s", *alerts)
    bench.ends("1m", *alerts)
    bench.clock("2159s")  # closed after five minutes, remembered for half an hour
    assert set(bench.states()) == {IncidentState.CLOSED}
    bench.clock("2170s")
    tenant = bench.tenant
    assert (tenant.groups, tenant.firing, tenant.homes, len(tenant.index)) == ({}, {}, {}, 0)
    assert len(tenant.watches) == 20, "a late copy of a firing must not open anything"
    bench.clock("1d")
    assert not tenant.watches
    assert bench.state.next_tick() is None
    assert len(tenant.timers) == 0


def test_an_alert_that_is_back_in_time_reopens_its_incident_and_later_opens_another(bench: Bench) -> None:
    bench.fires("0s", host("Down", "db-1"))
    bench.ends("1m", host("Down", "db-1"))
    bench.fires("30m", host("Down", "db-1"))
    bench.ends("31m", host("Down", "db-1"))
    bench.clock("2h")
    bench.fires("3h", host("Down", "db-1"))
    assert [kind for kind in bench.kinds() if kind != "updated"] == [
        "opened", "closed", "reopened", "closed", "opened",
    ]  # fmt: skip


# ---- the end of a recording --------------------------------------------------------------------------------


def test_finish_runs_until_every_incident_is_closed(bench: Bench) -> None:
    bench.fires("0s", host("Down", "db-1"), host("Cert", "mail-9"), WATCHDOG)
    outcome = finish(bench.state)
    assert set(bench.states()) == {IncidentState.CLOSED}
    assert bench.state.common.clock < timeline.after(EXPIRED)
    closed = [event for event in outcome.events if event.kind is EventKind.CLOSED]
    assert closed
    assert all(event.incident.expired for event in closed)
    assert all(event.incident.origin == "alerts" for event in outcome.events), "no heartbeat went missing"


def test_finish_does_not_wait_for_a_heartbeat_that_is_missing(bench: Bench) -> None:
    bench.fires("0s", WATCHDOG)
    bench.clock("20m")
    finish(bench.state)
    assert bench.states() == [IncidentState.OPEN]
    assert bench.state.common.clock == timeline.after("20m")


def test_finish_until_a_time_runs_to_that_time_and_no_further(bench: Bench) -> None:
    bench.fires("0s", host("Down", "db-1"), WATCHDOG)
    outcome = finish(bench.state, timeline.after("20m"))
    assert bench.state.common.clock == timeline.after("20m")
    assert [event.incident.origin for event in outcome.events] == ["heartbeat"]
    assert bench.states() == [IncidentState.OPEN, IncidentState.OPEN]


def test_finishing_nothing_is_nothing() -> None:
    state = State()
    assert not finish(state).events
    assert state.common.clock == Common().clock


# ---- after a restart ---------------------------------------------------------------------------------------


def test_what_the_models_still_owe_is_asked_again_after_a_restart(store: StateStore) -> None:
    bench = Bench(store=store)
    outcome = bench.fires("0s", host("Alpha", "a-1"), host("Beta", "b-1"))
    [ask] = outstanding(store.load())
    assert isinstance(ask, EncodeAsk)
    asked = [each for each in outcome.asks if isinstance(each, EncodeAsk)]
    assert {template for each in asked for template in each.templates} == set(ask.templates)
    answered, owed = ask.templates
    bench.tell("1s", RowKind.VECTORS, vectors={answered.id: vector(1, 0)})
    [left] = outstanding(store.load())
    assert isinstance(left, EncodeAsk)
    assert left.templates == (owed,)


def test_a_fit_that_was_not_answered_is_asked_for_again_after_a_restart(store: StateStore) -> None:
    bench = Bench(store=store)
    known_texts(bench)
    [ask] = bench.clock("10m").asks
    assert outstanding(store.load()) == [ask]
    bench.tell("11m", RowKind.FAMILIES, fit=1, assign={})
    assert outstanding(store.load()) == []


def test_nothing_is_outstanding_at_the_beginning(store: StateStore) -> None:
    assert outstanding(store.load()) == []


def test_a_call_that_is_owed_is_made_though_the_incident_is_merged_before(bench: Bench) -> None:
    bench.fires("0s", host("DbDown", "db-1", "critical"))
    bench.fires("2s", host("WebDown", "web-1", "critical"))
    bench.fires("60s", host("QueueFull", "web-1", "critical"))
    older, younger = bench.groups()
    assert younger.progress.ring_at is not None
    younger.progress = replace(younger.progress, bridges={older.head.id: 9})
    bench.tenant.timers.arm("merge", (younger.head.id, older.head.id), timeline.after("65s"))
    bench.clock("65s")
    assert IncidentState.MERGED in bench.states()
    before = len(bench.told)
    bench.clock("2h")
    assert "escalated" in [kind for kind, _ in bench.told[before:]]


def test_of_more_criticals_than_are_remembered_a_restart_remembers_the_same(
    bench: Bench, store: StateStore
) -> None:
    bench.store = store
    bench.fires(
        "0s", *(host("Down", f"n-{letters(number * 7919 % 3000)}", "critical") for number in range(300))
    )
    bench.clock("40s")
    bench.fires("41s", host("Down", "another", "critical"))
    bench.clock("3h")
    loaded = store.load()
    assert loaded.picture() == bench.state.picture()
    for state in (loaded, bench.state):
        row = timeline.row(
            99, timeline.after("3h"), timeline.webhook([timeline.alert(host("Slow", "x", "critical"))])
        )
        advance(state, [row])
    assert loaded.picture() == bench.state.picture()
