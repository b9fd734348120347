"""From when to when a tenant takes more than it may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.quotas import QUOTA_NAMES, Held, QuotaName, Quotas, Usage, counted, figures, judged

LIMITS = Quotas(alerts_per_s=1.0, fingerprints=10, templates=10, open_incidents=10)
NOTHING = Held(fingerprints=0, templates=0, open_incidents=0)


def heard(usage: Usage, now_s: float, alerts: int, held: Held = NOTHING) -> Usage:
    return judged(counted(usage, now_s, alerts), held, LIMITS)


@pytest.mark.parametrize(
    ("told", "over_after"),
    [
        ([(0, 60)], [False]),
        ([(0, 60), (59, 1)], [False, True]),
        ([(0, 60), (60, 60)], [False, False]),  # each minute by itself
        ([(0, 61), (59.9, 0)], [True, True]),
        (
            [(0, 61), (60, 0)],
            [True, True],
        ),  # of the minute that is over nobody knows yet that the next is calm
        ([(0, 61), (60, 48), (120, 0)], [True, True, False]),
        ([(0, 61), (60, 49), (120, 0)], [True, True, True]),  # not a fifth below
        ([(0, 61), (120, 0)], [True, False]),  # a minute without any
        ([(0, 61), (60, 10), (120, 61)], [True, True, True]),
        ([(0, 61), (3600, 60)], [True, True]),  # it goes on where it is no calmer
    ],
)
def test_alerts_are_counted_by_minutes_of_the_clock(
    told: list[tuple[float, int]], over_after: list[bool]
) -> None:
    usage, found = Usage(), []
    for now_s, alerts in told:
        usage = heard(usage, now_s, alerts)
        found.append("alerts_per_s" in usage.over)
    assert found == over_after


@pytest.mark.parametrize("name", [name for name in QUOTA_NAMES if name != "alerts_per_s"])
def test_what_is_held_is_too_much_above_the_quota_and_until_it_is_a_tenth_below(name: QuotaName) -> None:
    usage, found = Usage(), []
    for number in (9, 10, 11, 10, 9, 10, 11):
        held = Held(**({"fingerprints": 0, "templates": 0, "open_incidents": 0} | {name: number}))
        usage = heard(usage, 0, 0, held)
        found.append(usage.over == (name,))
    assert found == [False, False, True, True, False, False, True]


def test_one_quota_changes_nothing_about_another():
    usage = heard(Usage(), 0, 61, Held(fingerprints=11, templates=10, open_incidents=0))
    assert usage.over == ("alerts_per_s", "fingerprints")
    usage = heard(usage, 180, 0, Held(fingerprints=11, templates=10, open_incidents=0))
    assert usage.over == ("fingerprints",)


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 70), st.integers(0, 12)), max_size=30))
def test_nothing_within_its_quotas_is_ever_over_and_nothing_is_for_ever(
    told: list[tuple[int, int, int]],
) -> None:
    usage, now_s = Usage(), 0
    for pause_s, alerts, number in told:
        now_s += pause_s
        usage = heard(usage, now_s, alerts, Held(fingerprints=number, templates=0, open_incidents=0))
        used = figures(usage, Held(fingerprints=number, templates=0, open_incidents=0), LIMITS)
        assert all(name in usage.over for name in QUOTA_NAMES if used[name] > 1)
        assert all(used[name] > 0.8 for name in usage.over)
    assert heard(usage, now_s + 180, 0).over == ()
