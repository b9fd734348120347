"""What is recommended was written by a person, linked by a rule, or counted; nothing else is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from timeline import START

from bridge.analysis.recommending import Note, Order, Past, Sign, is_link, recommend
from bridge.model import Forecast

NOW = START + timedelta(days=30)
FORECAST = Forecast(
    aim="service", name="checkout", at=NOW, until=NOW + timedelta(hours=4), probability=0.4, published=True,
    reference=0.2, expected=0.3, expected_low=0.0, expected_high=1.0,
    reasons=("3 incidents of checkout in the last hour: 2.4 times the odds", "1 is open: 1.2 times the odds"),
)  # fmt: skip
SIGNS = (Sign("PostgresSlow", "db-1", "https://runbooks.example/slow"), Sign("QueueFull", "checkout"))


def past(
    name="inc-1",
    *,
    days=1.0,
    note="failed over to db-2",
    after_min=20,
    kinds=("PostgresSlow",),
    entities=("db-1", "checkout"),
    **more,
):
    opened = NOW - timedelta(days=days)
    closed = opened + timedelta(minutes=30)
    notes = (Note(closed - timedelta(minutes=after_min), note),) if note else ()
    return Past(
        incident=name,
        opened_at=opened,
        closed_at=closed,
        kinds=frozenset(kinds),
        entities=frozenset(entities),
        notes=notes,
        **more,
    )


def test_what_was_done_in_an_incident_alike_is_recommended_with_its_evidence():
    found = recommend(FORECAST, SIGNS, [past()], now=NOW)
    done = next(each for each in found if each.about == "done")
    assert "failed over to db-2" in done.text
    assert done.incidents == ("inc-1",)
    assert "closed 20 min after it was noted" in done.evidence[0]
    assert "alike in PostgresSlow" in done.evidence[0]
    assert done.evidence[-1] == "forecast: 3 incidents of checkout in the last hour: 2.4 times the odds"


def test_without_the_right_to_publish_nothing_is_recommended():
    assert recommend(replace(FORECAST, published=False), SIGNS, [past()], now=NOW) == ()


def test_incidents_that_are_not_alike_and_false_alarms_lend_nothing():
    other = past("inc-2", kinds=("DiskFull",), entities=("web-9",))
    alarm = past("inc-3", false_alarm=True)
    assert not [each for each in recommend(FORECAST, SIGNS, [other, alarm], now=NOW) if each.about == "done"]


def test_an_incident_that_is_not_over_lends_nothing():
    assert not [
        each for each in recommend(FORECAST, SIGNS, [past(days=0.0)], now=NOW) if each.about == "done"
    ]


def test_the_more_alike_the_newer_and_what_ended_it_come_first():
    alike = past("inc-1", note="a", kinds=("PostgresSlow", "QueueFull"))
    less = past("inc-2", note="b", kinds=("PostgresSlow", "Else", "More"))
    old = past("inc-3", note="c", kinds=("PostgresSlow", "QueueFull"), days=700)
    went_on = past("inc-4", note="d", kinds=("PostgresSlow", "QueueFull"), after_min=-600)
    found = [
        each.text[-2]
        for each in recommend(
            FORECAST, (SIGNS[0], Sign("QueueFull", "checkout")), [went_on, old, less, alike], now=NOW
        )
        if each.about == "done"
    ]
    assert found[0] == "a"
    assert found.index("a") < found.index("d")
    assert found[-1] == "c"


def test_the_same_words_of_several_incidents_are_one_recommendation_that_counts_more():
    once = recommend(FORECAST, SIGNS, [past("inc-1")], now=NOW)
    twice = recommend(FORECAST, SIGNS, [past("inc-1"), past("inc-2", note="Failed  over to DB-2")], now=NOW)
    score = [next(each for each in found if each.about == "done").score for found in (once, twice)]
    assert score[1] > score[0]
    assert len([each for each in twice if each.about == "done"]) == 1


def test_runbooks_of_what_fires_now_and_of_incidents_alike_are_linked():
    found = recommend(
        FORECAST,
        SIGNS,
        [past(note="", runbooks=frozenset({"https://runbooks.example/pg", "javascript:alert(1)"}))],
        now=NOW,
    )
    assert {each.link for each in found if each.about == "runbook"} == {
        "https://runbooks.example/slow",
        "https://runbooks.example/pg",
    }


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("https://a.b/c", True),
        ("http://a", True),
        ("ftp://a", False),
        ("javascript:x", False),
        ("", False),
        ("https://", False),
        ("http://[", False),
    ],
)
def test_only_links_that_a_person_may_follow_are_given(text, good):
    assert is_link(text) is good


def test_what_fires_and_is_followed_by_others_is_to_be_looked_at_first():
    orders = [
        Order("PostgresSlow", "Down", "precedes", "in 6 of 9"),
        Order("PostgresSlow", "QueueFull", "causes", "x"),
        Order("Other", "Down", "causes", "y"),
    ]
    found = [each for each in recommend(FORECAST, SIGNS, [], orders, now=NOW) if each.about == "order"]
    assert [each.text for each in found] == [
        "Look at PostgresSlow first: it precedes Down, which does not fire yet"
    ]
    assert found[0].evidence[0] == "PostgresSlow precedes Down: in 6 of 9"


def test_nobody_says_causes_where_it_is_not_known():
    found = recommend(
        FORECAST, SIGNS, [], [Order("PostgresSlow", "Down", "causes", "a person named it")], now=NOW
    )
    assert "it causes Down" in found[0].text or "it causes Down" in found[1].text


names = st.sampled_from(["PostgresSlow", "QueueFull", "Down", "db-1", "checkout", "x"])
pasts = st.builds(
    past, st.sampled_from([f"inc-{each}" for each in range(9)]), days=st.floats(0, 900), note=st.text(max_size=9),
    after_min=st.integers(-90, 90), kinds=st.sets(names, max_size=3), entities=st.sets(names, max_size=3),
)  # fmt: skip


@given(st.lists(pasts, max_size=9, unique_by=lambda each: each.incident), st.randoms(use_true_random=False))
def test_the_order_of_what_goes_in_is_of_no_account_and_all_of_it_is_bounded(rows, chance):
    mixed, signs = list(rows), list(SIGNS)
    chance.shuffle(mixed)
    chance.shuffle(signs)
    found = recommend(FORECAST, SIGNS, rows, now=NOW)
    assert recommend(FORECAST, signs, mixed, now=NOW) == found
    assert len(found) <= 5
    assert all(0.0 < each.score <= 1.0 and each.evidence for each in found)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
