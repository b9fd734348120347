"""What surprises more than what: rarer, larger and at an odder hour; and what must hold of every surprise."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.anomaly import BUCKET_S, Habit, learn, surprise_of

START = datetime(2026, 1, 5, 0, 0, 0, tzinfo=UTC)
DAY_S = 86_400.0
NOW = 10 * DAY_S


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Site:
    """A tenant that hears alerts: (seconds after the beginning, family)."""

    def __init__(self, alerts: Iterable[tuple[float, str]] = ()) -> None:
        self.tenant: Habit | None = None
        self.families: dict[str, Habit] = {}
        for seconds, family in sorted(alerts):
            self.hear(seconds, family)

    def hear(self, seconds: float, family: str) -> None:
        self.tenant = learn(self.tenant, at(seconds), by_hour=True)
        self.families[family] = learn(self.families.get(family), at(seconds))

    def surprise(
        self, sizes: dict[str, int], seconds: float, *, opened: float | None = None
    ) -> tuple[float, str]:
        opened_at = at(seconds if opened is None else opened)
        assert self.tenant is not None
        return surprise_of(sizes, self.families, self.tenant, opened_at=opened_at, now=at(seconds))

    def incident(self, seconds: float, **sizes: int) -> float:
        """Hear an incident and return how surprising it is."""
        for family, size in sizes.items():
            for _ in range(size):
                self.hear(seconds, family)
        return self.surprise(sizes, seconds)[0]


def every(seconds: float, family: str, days: int = 10) -> list[tuple[float, str]]:
    return [(number * seconds, family) for number in range(int(days * DAY_S / seconds))]


def settled(*alerts: tuple[float, str]) -> Site:
    """Return a site that was watched for ten days, with an alert of no interest every hour."""
    return Site([*every(3600, "noise"), *alerts])


def test_the_more_often_a_family_came_the_less_it_surprises() -> None:
    pauses_s = (600, 3600, 6 * 3600, DAY_S)
    surprises = [settled(*every(pause_s, "disk")).incident(NOW, disk=1) for pause_s in pauses_s]
    surprises.append(settled().incident(NOW, disk=1))
    assert sorted(set(surprises)) == surprises
    assert surprises[0] < 0.3
    assert surprises[-1] > 2.0


def test_a_burst_surprises_the_more_the_larger_it_is() -> None:
    sizes = (1, 4, 8, 16, 400, 800)
    surprises = [settled(*every(600, "disk")).incident(NOW, disk=size) for size in sizes]
    assert sorted(surprises) == surprises
    assert surprises[0] < 0.3
    assert surprises[-1] > 2.0


def test_a_burst_as_large_as_ever_is_usual() -> None:
    bursts = [(seconds + offset, "disk") for seconds, _ in every(600, "disk") for offset in range(40)]
    assert settled(*bursts).incident(NOW, disk=40) < 0.3


def test_the_strangest_family_gives_the_reason() -> None:
    site = settled(*every(600, "disk"))
    site.incident(NOW, disk=1, fire=1)
    assert "not seen" in site.surprise({"disk": 1, "fire": 1}, NOW)[1]


def test_an_incident_is_not_made_usual_by_itself() -> None:
    site = settled()
    first = site.incident(NOW, fire=1)
    site.hear(NOW + 1, "fire")  # the same burst
    assert site.surprise({"fire": 1}, NOW)[0] == first


def test_the_hour_of_the_day_matters() -> None:
    """An alert of the office hours is stranger at three in the morning."""
    minutes = range(0, 60, 10)
    office = [(day * DAY_S + 9 * 3600 + minute * 60, "disk") for day in range(14) for minute in minutes]
    surprises = {}
    for hour in (3, 9):
        now = 13 * DAY_S + hour * 3600
        surprises[hour] = Site(alert for alert in office if alert[0] < now).incident(now, disk=1)
    assert surprises[3] > surprises[9] + 0.3


def test_an_hour_of_which_little_is_known_moves_little() -> None:
    site = Site(every(3600, "disk", days=2))
    surprises = [site.surprise({"disk": 1}, 2 * DAY_S + hour * 3600)[0] for hour in range(24)]
    assert max(surprises) - min(surprises) < 0.2  # a third of which is that a day has passed


def test_what_was_usual_long_ago_is_nearly_as_unusual_as_what_never_was() -> None:
    now = 207 * DAY_S
    noise = every(3600, "noise", days=207)
    never = Site(noise).incident(now, disk=1)
    assert never - 0.1 < Site([*every(600, "disk", days=7), *noise]).incident(now, disk=1) <= never


def test_a_storm_is_one_burst() -> None:
    site = Site((number * 0.05, "disk") for number in range(5000))
    assert site.tenant is not None
    assert site.tenant.bursts == pytest.approx(1.0, abs=1e-3)
    assert site.tenant.in_bucket == 5000
    site.hear(BUCKET_S, "disk")
    assert site.tenant.bursts == pytest.approx(2.0, abs=1e-3)
    assert site.tenant.in_bucket == 1


_heard = st.lists(
    st.tuples(st.floats(0, 20 * DAY_S), st.sampled_from(("a", "b", "c"))), min_size=1, max_size=60
)
_sizes = st.dictionaries(st.sampled_from(("a", "b", "c", "new")), st.integers(1, 10_000), min_size=1)


@given(_heard, _sizes, st.floats(0, 5 * DAY_S), st.floats(0, DAY_S))
def test_a_surprise_is_not_negative_has_a_reason_and_is_always_the_same(
    heard: list[tuple[float, str]], sizes: dict[str, int], pause_s: float, open_s: float
) -> None:
    site = Site(heard)
    now = max((seconds for seconds, _ in heard), default=0.0) + pause_s
    found = site.surprise(sizes, now, opened=now - open_s)
    assert found[1]
    assert found[0] >= 0.0
    assert Site(heard).surprise(dict(reversed(sizes.items())), now, opened=now - open_s) == found
