"""Routing: who hears of an incident, when at the earliest, and who hears of its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from bridge.analysis import incidents
from bridge.analysis.incidents import Group
from bridge.analysis.routing import Router
from bridge.analysis.settings import AnalysisSettings, Destination, Route
from bridge.model import Episode, EventKind, IncidentState, Origin, Score, Severity

START = datetime(2026, 1, 5, 3, 0, 0, tzinfo=UTC)
NAMES = ("file", "chat", "pager")
WAITS = {"file": 0.0, "chat": 30.0, "pager": 120.0}
K = EventKind


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def router(*routes: Route) -> Router:
    destinations = tuple(Destination(name=name, wait_s=WAITS[name]) for name in NAMES)
    return Router(AnalysisSettings(destinations=destinations, routes=routes))


def episode(
    number: int = 0, severity: Severity = "warning", tenant: str = "default", **labels: str
) -> Episode:
    return Episode(
        tenant=tenant, source="am", fingerprint=f"{number:016x}", starts_at=START, ends_at=None, seen_at=START,
        labels={"alertname": "Errors", **labels}, annotations={}, generator_url="", group_key="",
        severity=severity, template="t", incident="", why="",
    )  # fmt: skip


def incident(
    routes: Router,
    *members: Episode,
    origin: Origin = "alerts",
    anomaly: float | None = None,
) -> Group:
    """Return an incident of which `routes` noted every episode; the first founds it."""
    members = members or (episode(),)
    group = incidents.found(members[0], origin, START, degraded=False)
    group.head = replace(group.head, anomaly=Score(value=anomaly, reason="so it is"))
    for member in members:
        hear(routes, group, member)
    return group


def hear(routes: Router, group: Group, member: Episode) -> None:
    group.add(member)
    incidents.raised(group, member)
    routes.note(group, member)


def tell(routes: Router, group: Group, kind: EventKind = K.OPENED, seconds: float = 0.0) -> dict[str, float]:
    """Return destination -> earliest time, in seconds after the beginning; no destination stands twice."""
    if kind is K.CLOSED:
        group.head = replace(group.head, state=IncidentState.CLOSED)
    event = incidents.event_of(group, kind, at(seconds), degraded=False, external_url="")
    due = routes.due(group, event)
    found = {each.destination: (each.not_before - START).total_seconds() for each in due}
    assert len(found) == len(due)
    return found


def to(*names: str, **conditions: Any) -> Route:
    return Route(to=names, **conditions)


# ---- which routes apply ------------------------------------------------------------------------------------


def test_without_routes_nobody_hears() -> None:
    routes = router()
    assert tell(routes, incident(routes)) == {}


def test_a_route_without_conditions_hears_all_but_what_only_models_say() -> None:
    routes = router(to("file"))
    for kind in EventKind:
        group = incident(routes)
        heard = tell(routes, group, kind)
        assert heard == ({} if kind in {K.FORECAST, K.RECOMMENDATION, K.REMINDER} else {"file": 0.0})


def test_each_matcher_holds_once_any_firing_episode_satisfied_it() -> None:
    routes = router(to("file", match=('team="db"', 'zone=~"eu-.+"')))
    group = incident(routes, episode(1, team="db"))
    assert tell(routes, group) == {}
    hear(routes, group, episode(2, team="web", zone="eu-1"))
    assert tell(routes, group, K.UPDATED) == {"file": 0.0}, "one satisfied the first, another the second"


def test_a_matcher_holds_on_when_the_episode_that_satisfied_it_has_ended() -> None:
    routes = router(to("file", match=('team="db"',)))
    first = episode(1, team="db")
    group = incident(routes, first, episode(2, team="web"))
    group.add(replace(first, ends_at=at(60)))
    assert tell(routes, group, K.UPDATED, 90) == {"file": 90.0}


def test_a_negative_matcher_holds_once_an_episode_without_the_value_fired() -> None:
    routes = router(to("file", match=('team!="db"',)))
    group = incident(routes, episode(1, team="db"))
    assert tell(routes, group) == {}
    hear(routes, group, episode(2))
    assert tell(routes, group, K.UPDATED) == {"file": 0.0}


def test_two_matchers_that_no_one_episode_satisfies_may_name_one_label() -> None:
    routes = router(to("file", match=('team="db"', 'team="web"')))
    group = incident(routes, episode(1, team="db"), episode(2, team="web"))
    assert tell(routes, group) == {"file": 0.0}


def test_severity_is_the_incidents_own_and_no_label() -> None:
    routes = router(to("file", match=('severity="critical"',)), to("chat", match=('severity="page"',)))
    paged, claimed = episode(severity="critical"), episode(severity="info")
    paged.labels["severity"], claimed.labels["severity"] = "page", "critical"
    assert tell(routes, incident(routes, paged)) == {"file": 0.0}
    assert tell(routes, incident(routes, claimed)) == {}


def test_severity_holds_on_when_the_worst_alert_has_ended() -> None:
    routes = router(to("file", match=('severity=~"critical"',)))
    worst = episode(1, "critical")
    group = incident(routes, episode(2, "info"), worst)
    group.add(replace(worst, ends_at=at(10)))
    assert tell(routes, group, K.UPDATED, 20) == {"file": 20.0}


@pytest.mark.parametrize(
    ("value", "heard"), [(0.95, True), (0.9, True), (0.8999, False), (None, False), (0.0, False)]
)
def test_min_anomaly_needs_a_score_that_high(value: float | None, *, heard: bool) -> None:
    routes = router(to("file", min_anomaly=0.9))
    assert bool(tell(routes, incident(routes, anomaly=value))) is heard


def test_min_anomaly_of_nought_takes_what_cannot_be_scored_yet() -> None:
    routes = router(to("file", min_anomaly=0.0))
    assert tell(routes, incident(routes, anomaly=None)) == {"file": 0.0}


@pytest.mark.parametrize("kind", [kind for kind in EventKind if kind is not K.REMINDER])
def test_kinds_choose_events(kind: EventKind) -> None:
    routes = router(to("file", kinds=(K.OPENED, K.FORECAST)))
    heard = {"file": 0.0} if kind in {K.OPENED, K.FORECAST} else {}
    assert tell(routes, incident(routes), kind) == heard


@pytest.mark.parametrize("origin", ["alerts", "heartbeat", "tocsin", "anomaly"])
def test_origins_choose_incidents(origin: Origin) -> None:
    routes = router(to("file", origin=("heartbeat", "tocsin")), to("chat"))
    heard = set(tell(routes, incident(routes, origin=origin)))
    wanted = {"alerts": {"chat"}, "heartbeat": {"file", "chat"}, "tocsin": {"file", "chat"}, "anomaly": set()}
    assert heard == wanted[origin]


def test_a_route_of_one_tenant_is_for_that_tenant_alone() -> None:
    routes = router(to("file", tenant="east"), to("chat"))
    assert set(tell(routes, incident(routes, episode(tenant="east")))) == {"file", "chat"}
    assert set(tell(routes, incident(routes, episode(tenant="west")))) == {"chat"}


def test_all_routes_that_apply_are_taken_in_their_order() -> None:
    routes = router(to("pager", "file"), to("chat", match=('team="web"',)), to("chat"))
    group = incident(routes)
    assert list(tell(routes, group)) == ["pager", "file", "chat"]


# ---- waiting -----------------------------------------------------------------------------------------------


def test_wait_is_the_destinations_own_unless_the_route_says_otherwise() -> None:
    routes = router(to("file", "chat"), to("pager", wait_s=5.0))
    assert tell(routes, incident(routes)) == {"file": 0.0, "chat": 30.0, "pager": 5.0}


@pytest.mark.parametrize("waits", [(60.0, 5.0), (5.0, 60.0)])
def test_several_routes_to_one_destination_give_one_entry_with_the_shortest_wait(
    waits: tuple[float, float],
) -> None:
    routes = router(*(to("chat", wait_s=wait_s) for wait_s in waits))
    assert tell(routes, incident(routes)) == {"chat": 5.0}


def test_wait_is_counted_from_the_first_telling() -> None:
    routes = router(to("chat"))
    group = incident(routes)
    assert tell(routes, group) == {"chat": 30.0}
    assert tell(routes, group, K.UPDATED, 10) == {"chat": 30.0}, "not 40"
    assert tell(routes, group, K.UPDATED, 45) == {"chat": 45.0}, "it has waited already"


def test_a_destination_that_comes_in_late_waits_from_then() -> None:
    routes = router(to("file"), to("chat", match=('team="db"',)))
    group = incident(routes)
    assert tell(routes, group) == {"file": 0.0}
    hear(routes, group, episode(1, team="db"))
    assert tell(routes, group, K.UPDATED, 100) == {"file": 100.0, "chat": 130.0}


def test_critical_never_waits_whatever_the_route_says() -> None:
    routes = router(to("chat"), to("pager", wait_s=600.0))
    assert tell(routes, incident(routes, episode(severity="critical"))) == {"chat": 0.0, "pager": 0.0}


def test_an_incident_that_becomes_critical_while_it_waits_waits_no_longer() -> None:
    routes = router(to("chat"))
    group = incident(routes)
    assert tell(routes, group) == {"chat": 30.0}
    hear(routes, group, episode(1, "critical"))
    assert tell(routes, group, K.ESCALATED, 10) == {"chat": 10.0}
    assert tell(routes, group, K.UPDATED, 12) == {"chat": 12.0}


# ---- the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [K.CLOSED, K.MERGED])
def test_whoever_was_told_hears_the_end_whatever_became_of_the_score(end: EventKind) -> None:
    routes = router(to("chat", min_anomaly=0.9), to("file", min_anomaly=0.99))
    group = incident(routes, anomaly=0.95)
    assert tell(routes, group) == {"chat": 30.0}
    group.head = replace(group.head, anomaly=Score(value=0.1, reason="usual after all"))
    assert tell(routes, group, K.UPDATED, 60) == {}
    assert tell(routes, group, end, 90) == {"chat": 90.0}


def test_the_end_is_not_told_before_the_beginning() -> None:
    routes = router(to("chat"))
    group = incident(routes)
    tell(routes, group)
    assert tell(routes, group, K.CLOSED, 10) == {"chat": 30.0}


def test_a_destination_that_wants_no_ends_hears_none() -> None:
    routes = router(to("chat", kinds=(K.OPENED,)), to("file", kinds=(K.CLOSED,), match=('team="db"',)))
    group = incident(routes)
    assert tell(routes, group) == {"chat": 30.0}
    assert tell(routes, group, K.CLOSED, 60) == {}


def test_who_was_never_told_hears_no_end_that_its_routes_do_not_want() -> None:
    routes = router(to("file"), to("chat", match=('team="db"',)))
    group = incident(routes)
    tell(routes, group)
    assert tell(routes, group, K.CLOSED, 60) == {"file": 60.0}


# ---- reminders ---------------------------------------------------------------------------------------------


def test_without_repeat_there_are_no_reminders() -> None:
    routes = router(to("file"))
    group = incident(routes)
    tell(routes, group)
    assert routes.remind_at(group) is None


def test_reminders_go_out_on_the_routes_that_are_due_and_on_no_others() -> None:
    routes = router(to("chat", repeat_s=3600.0), to("pager", repeat_s=7200.0), to("file"))
    group = incident(routes)
    tell(routes, group)
    assert routes.remind_at(group) == at(3600)
    assert tell(routes, group, K.REMINDER, 3600) == {"chat": 3600.0}
    assert routes.remind_at(group) == at(7200)
    assert tell(routes, group, K.REMINDER, 7200) == {"chat": 7200.0, "pager": 7200.0}
    assert routes.remind_at(group) == at(10_800)


def test_updates_do_not_put_reminders_off() -> None:
    routes = router(to("chat", repeat_s=3600.0))
    group = incident(routes)
    tell(routes, group)
    tell(routes, group, K.UPDATED, 1800)
    assert routes.remind_at(group) == at(3600)


def test_a_route_reminds_from_when_it_began_to_apply() -> None:
    routes = router(to("chat", match=('team="db"',), repeat_s=3600.0))
    group = incident(routes)
    tell(routes, group)
    assert routes.remind_at(group) is None
    hear(routes, group, episode(1, team="db"))
    tell(routes, group, K.UPDATED, 600)
    assert routes.remind_at(group) == at(4200)


def test_a_route_that_wants_no_reminders_gets_none() -> None:
    routes = router(to("chat", repeat_s=3600.0, kinds=(K.OPENED,)))
    group = incident(routes)
    tell(routes, group)
    assert tell(routes, group, K.REMINDER, 3600) == {}


def test_only_an_open_incident_reminds() -> None:
    routes = router(to("chat", repeat_s=3600.0))
    group = incident(routes)
    tell(routes, group)
    tell(routes, group, K.CLOSED, 600)
    assert routes.remind_at(group) is None
    assert group.progress.reminders == {}


# ---- new settings ------------------------------------------------------------------------------------------


def test_new_routes_are_asked_about_the_alerts_that_came_before_them() -> None:
    before, after = router(to("file")), router(to("chat", match=('team="db"',), wait_s=0.0))
    group = incident(before, episode(1, team="db"))
    tell(before, group)
    after.renew(group, before, at(60))
    assert tell(after, group, K.UPDATED, 60) == {"chat": 60.0}


def test_a_reminder_keeps_its_time_when_its_route_has_moved() -> None:
    repeating = to("chat", repeat_s=3600.0)
    before, after = router(repeating), router(to("pager", repeat_s=7200.0), repeating)
    group = incident(before)
    tell(before, group)
    after.renew(group, before, at(600))
    assert group.progress.reminders == {1: at(3600), 0: at(7800)}
    assert tell(after, group, K.REMINDER, 3600) == {"chat": 3600.0}


def test_a_reminder_goes_with_its_route() -> None:
    before, after = router(to("chat", repeat_s=3600.0)), router(to("chat"))
    group = incident(before)
    tell(before, group)
    after.renew(group, before, at(600))
    assert after.remind_at(group) is None


def test_an_incident_that_never_spoke_is_not_reminded_of_by_new_routes() -> None:
    before, after = router(), router(to("chat", repeat_s=3600.0))
    group = incident(before)
    after.renew(group, before, at(600))
    assert after.remind_at(group) is None
