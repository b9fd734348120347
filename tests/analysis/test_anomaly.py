"""The first anomaly score: honest about what it does not know, and ranked among the tenant's own incidents."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest
from groups import START
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.anomaly import (
    STEP,
    STEPS,
    Experience,
    Habit,
    experienced,
    learn,
    pooled,
    ranked,
    surprise_of,
)
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

    def surprise(
        self, sizes: dict[str, int], opened_s: float, now_s: float | None = None
    ) -> tuple[float, str]:
        opened, now = (START + timedelta(seconds=at or 0.0) for at in (opened_s, now_s or opened_s))
        assert self.usual is not None
        return surprise_of(sizes, self.habits, self.usual, opened_at=opened, now=now)


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


def test_a_kind_never_seen_surprises(tenant: Tenant) -> None:
    now = now_of(tenant)
    tenant.hears("meltdown", now)
    surprise, reason = tenant.surprise({"meltdown": 1}, now)
    assert surprise > 2.0
    assert reason == "this kind of alert was not seen in 14 d before"


def test_a_usual_kind_in_its_usual_number_surprises_little(tenant: Tenant) -> None:
    now = now_of(tenant)
    tenant.hears("disk", now, 2)
    assert tenant.surprise({"disk": 2}, now, now + 600)[0] < 1.0


def test_a_big_burst_of_a_usual_kind_surprises(tenant: Tenant) -> None:
    now = now_of(tenant)
    tenant.hears("disk", now, 80)
    surprise, reason = tenant.surprise({"disk": 80}, now, now + 60)
    assert surprise > 2.0
    assert reason.startswith("80 alerts of one kind at once, ")


def test_many_usual_kinds_are_not_strange_for_being_many() -> None:
    made = Tenant()
    for number in range(14 * 24):
        for kind in range(30):
            made.hears(f"k{kind}", number * 3600.0)
    now = 14 * 24 * 3600.0
    for kind in range(30):
        made.hears(f"k{kind}", now)
    one, _ = made.surprise({"k0": 1}, now)
    many, _ = made.surprise({f"k{kind}": 1 for kind in range(30)}, now)
    assert many <= one


def test_the_same_history_gives_the_same_surprise(tenant: Tenant) -> None:
    now = now_of(tenant)
    sizes = {"disk": 3, "cpu": 1, "new": 2}
    assert tenant.surprise(sizes, now) == tenant.surprise(dict(reversed(sizes.items())), now)


def test_how_often_a_kind_came_is_said_as_people_say_it(tenant: Tenant) -> None:
    now = now_of(tenant)
    for number in range(2):
        tenant.hears("new", now + number * 7200.0)
    assert "came once in 14 d before" in tenant.surprise({"new": 1}, now + 7200.0)[1]


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
    assert tenant.surprise({"f:1.1": 1}, now)[0] < 2.0


# ---- the rank ----------------------------------------------------------------------------------------------


def after(*surprises: float, every_s: float = 3600.0) -> Experience | None:
    experience = None
    for number, surprise in enumerate(surprises):
        experience = experienced(experience, surprise, START + timedelta(seconds=number * every_s))
    return experience


def score(experience: Experience | None, surprise: float, seen_s: float = 10 * DAY) -> Score:
    return ranked(experience, surprise, "why", since=START, now=START + timedelta(seconds=seen_s))


def test_nothing_is_said_about_a_tenant_never_heard_of() -> None:
    told = ranked(None, 3.0, "why", since=None, now=START)
    assert told == Score(value=None, reason="0 h of history, 24 h are needed")


def test_nothing_is_said_before_a_day_or_twenty_incidents() -> None:
    many = after(*(1.0 for _ in range(30)))
    assert score(many, 1.0, DAY - 1.0).reason == "24 h of history, 24 h are needed"
    assert score(many, 1.0, DAY - 1.0).value is None
    assert score(many, 1.0, DAY).value is not None
    few = score(after(*(1.0 for _ in range(19))), 1.0)
    assert (few.value, few.reason) == (None, "19 incidents have closed lately, 20 are needed")


def test_the_score_is_the_share_of_incidents_that_surprised_less() -> None:
    experience = after(*(number / 10 for number in range(100)), every_s=1.0)
    told = score(experience, 9.05)
    assert told.value == pytest.approx(0.9, abs=0.01)
    assert told.reason == "stranger than 90% of 100 incidents: why"
    assert score(experience, 100.0).value == pytest.approx(0.985, abs=0.01), "never quite 1"
    assert score(experience, 0.0).value == pytest.approx(0.005, abs=0.01)


def test_where_all_incidents_are_alike_none_is_strange() -> None:
    assert score(after(*(2.0 for _ in range(50))), 2.0).value == pytest.approx(0.5, abs=0.02)


def test_old_incidents_fade_from_the_ranking() -> None:
    experience = after(*(5.0 for _ in range(100)), *(1.0 for _ in range(100)), every_s=DAY / 2)
    told = score(experience, 3.0).value
    assert told is not None
    assert told > 0.9


def test_on_ordinary_traffic_one_incident_in_ten_scores_above_nine_tenths() -> None:
    """Thirty kinds of alert, each coming by chance at its own rate, and nothing else: what `min_anomaly` promises."""
    draw = random.Random(3)
    rates = [draw.uniform(0.3, 8.0) for _ in range(30)]
    alerts = sorted(
        (draw.uniform(0, 40 * DAY), f"k{kind}")
        for kind, rate in enumerate(rates)
        for _ in range(int(40 * rate))
    )
    made, experience, scores = Tenant(), None, []
    for at_s, family in alerts:
        made.hears(family, at_s)
        surprise, why = made.surprise({family: 1}, at_s)
        at = START + timedelta(seconds=at_s)
        told = ranked(experience, surprise, why, since=START, now=at)
        if told.value is not None:
            scores.append(told.value)
        experience = experienced(experience, surprise, at)
    assert len(scores) > 1000
    assert 0.05 < sum(value > 0.9 for value in scores) / len(scores) < 0.15
    assert 0.35 < sum(value > 0.5 for value in scores) / len(scores) < 0.65


@given(st.lists(st.floats(0, 20), max_size=60), st.floats(0, 20), st.floats(0, 20))
def test_a_score_is_within_0_and_1_and_grows_with_the_surprise(
    known: list[float], one: float, other: float
) -> None:
    experience = after(*known)
    low, high = (score(experience, surprise).value for surprise in sorted((one, other)))
    assert (low is None) is (high is None) is (len(known) < 21)
    if low is not None and high is not None:
        assert 0.0 <= low <= high < 1.0


def test_what_is_beyond_the_last_step_is_all_the_same() -> None:
    assert score(after(*(1.0 for _ in range(30))), STEP * STEPS) == score(
        after(*(1.0 for _ in range(30))), 1e9
    )
