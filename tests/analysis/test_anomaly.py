"""The first anomaly score: honest about what it does not know, high for what is new, low for what is usual."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from groups import START

from bridge.analysis.anomaly import Habit, learn, pooled, score
from bridge.model import Score

DAY = 86_400.0


class Tenant:
    """A tenant whose alerts are learned as the pipeline does it."""

    def __init__(self) -> None:
        self.habits: dict[str, Habit] = {}
        self.usual: Habit | None = None

    def hears(self, family: str, at_s: float, number: int = 1) -> None:
        at = START + timedelta(seconds=at_s)
        for _ in range(number):
            self.habits[family] = learn(self.habits.get(family), at)
            self.usual = learn(self.usual, at, by_hour=True)

    def score(self, sizes: dict[str, int], opened_s: float, now_s: float | None = None) -> Score:
        opened, now = (START + timedelta(seconds=at or 0.0) for at in (opened_s, now_s or opened_s))
        return score(sizes, self.habits, self.usual, opened_at=opened, now=now)


@pytest.fixture
def tenant() -> Tenant:
    """Two weeks of "disk" every two hours, two at a time, and of a busier "cpu"."""
    made = Tenant()
    for number in range(14 * 12):
        made.hears("disk", number * 7200.0, 2)
        made.hears("cpu", number * 7200.0 + 3600.0)
    return made


def now_of(tenant: Tenant) -> float:
    assert tenant.usual is not None
    return (tenant.usual.updated_at - START).total_seconds() + 3600.0


def test_nothing_is_said_about_a_tenant_never_heard_of() -> None:
    assert Tenant().score({"a": 1}, 0.0) == Score(value=None, reason="0 h of history, 24 h are needed")


def test_nothing_is_said_before_a_day() -> None:
    made = Tenant()
    for number in range(100):
        made.hears("a", number * 600.0)
    assert made.score({"a": 1}, 60_000.0).value is None
    assert made.score({"a": 1}, 60_000.0).reason == "17 h of history, 24 h are needed"
    assert made.score({"a": 1}, DAY - 1.0).value is None
    assert made.score({"a": 1}, DAY).value is not None


def test_nothing_is_said_before_twenty_bursts() -> None:
    made = Tenant()
    for number in range(19):
        made.hears("a", number * 10_000.0, 50)  # a storm is one burst, however large
    told = made.score({"a": 1}, 200_000.0)
    assert (told.value, told.reason) == (None, "18 bursts of alerts seen, 20 are needed")


def test_a_kind_never_seen_scores_high(tenant: Tenant) -> None:
    now = now_of(tenant)
    tenant.hears("meltdown", now)
    told = tenant.score({"meltdown": 1}, now)
    assert told.value is not None
    assert told.value > 0.99
    assert told.reason == "this kind of alert was not seen in 14 d before"


def test_a_usual_kind_in_its_usual_number_scores_low(tenant: Tenant) -> None:
    now = now_of(tenant)
    tenant.hears("disk", now, 2)
    told = tenant.score({"disk": 2}, now, now + 600)
    assert told.value is not None
    assert told.value < 0.9


def test_a_big_burst_of_a_usual_kind_scores_high(tenant: Tenant) -> None:
    now = now_of(tenant)
    tenant.hears("disk", now, 80)
    told = tenant.score({"disk": 80}, now, now + 60)
    assert told.value is not None
    assert told.value > 0.99
    assert told.reason.startswith("80 alerts of one kind, ")


def test_many_usual_kinds_are_not_strange_for_being_many() -> None:
    made = Tenant()
    for number in range(14 * 24):
        for kind in range(30):
            made.hears(f"k{kind}", number * 3600.0)
    now = 14 * 24 * 3600.0
    for kind in range(30):
        made.hears(f"k{kind}", now)
    one = made.score({"k0": 1}, now).value
    many = made.score({f"k{kind}": 1 for kind in range(30)}, now).value
    assert one is not None
    assert many is not None
    assert many <= one


def test_the_same_history_gives_the_same_score(tenant: Tenant) -> None:
    now = now_of(tenant)
    sizes = {"disk": 3, "cpu": 1, "new": 2}
    assert tenant.score(sizes, now) == tenant.score(dict(reversed(sizes.items())), now)


def test_an_incident_without_alerts_is_not_scored(tenant: Tenant) -> None:
    assert tenant.score({}, now_of(tenant)) == Score(value=None, reason="no alerts to compare")


def test_habits_fade_with_a_half_life_of_two_weeks() -> None:
    old = learn(None, START)
    new = learn(old, START + timedelta(days=14))
    assert new.bursts == pytest.approx(1.5)


def test_only_the_tenant_learns_its_hours() -> None:
    at = datetime(2026, 1, 5, 15, 0, 0, tzinfo=START.tzinfo)
    assert learn(None, at).hours == (0.0,) * 24
    assert learn(None, at, by_hour=True).hours[15] == 1.0


def test_a_new_family_begins_with_what_its_templates_did(tenant: Tenant) -> None:
    """A fit renames kinds of alert; that does not make them strange."""
    together = pooled([tenant.habits["disk"], tenant.habits["cpu"]])
    assert together == pooled([tenant.habits["cpu"], tenant.habits["disk"]])
    assert together.since == START
    assert together.bursts == pytest.approx(
        tenant.habits["disk"].bursts + tenant.habits["cpu"].bursts, rel=0.01
    )
    now = now_of(tenant)
    tenant.habits["f:1.1"] = together
    tenant.hears("f:1.1", now)
    told = tenant.score({"f:1.1": 1}, now).value
    assert told is not None
    assert told < 0.99
