"""Counts of what fires: what is counted, when it is strange, whom it concerns, and what is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest
from thinking import Thinking, ends, fires, same

from bridge.analysis import counting
from bridge.analysis.settings import AnalysisSettings
from bridge.pipeline import counts

SETTINGS = AnalysisSettings(count_by=("team",), reopen_within_s=60.0, close_after_s=10.0, window_s=60.0)
#: An hour with a firing every ten minutes, each over at once.
USUAL = range(0, 60, 10)


@pytest.fixture
def thinking() -> Thinking:
    return Thinking(SETTINGS)


def blink(thinking: Thinking, minute: float, name: str = "Slow", **labels: str) -> None:
    """Let an alert fire and end again."""
    at, over = f"{60 * minute}s", f"{60 * minute + 1}s"
    thinking.hears(at, fires(name, starts=at, **labels))
    thinking.hears(over, ends(name, over, starts=at, **labels))


def counted(thinking: Thinking) -> dict[tuple[str, str], list[int]]:
    return {
        name: [tally.current for tally in known.tallies] for name, known in thinking.tenant.counted.items()
    }


def test_all_kinds_services_and_chosen_labels_are_counted(thinking: Thinking):
    for minute in (1, 2, 7):
        blink(thinking, minute, service="shop", team="db")
    blink(thinking, 8, "Full", host="a")
    thinking.clock("20m")
    found = counted(thinking)
    assert found["all", ""] == [2, 4, 4]
    assert found["service", "\x1f\x1fshop"] == [1, 3, 3]
    assert found["label:team", "db"] == [1, 3, 3]
    assert found["new", ""] == [1, 2, 2]
    assert len([name for name in found if name[0] == "family"]) == 2
    assert not thinking.tenant.pending


def test_a_resend_counts_once_and_a_firing_again_anew(thinking: Thinking):
    alert = fires("Slow", service="shop")
    for second in range(0, 100, 10):
        thinking.hears(f"{second}s", alert)
    thinking.hears("100s", ends("Slow", "100s", service="shop"))
    thinking.hears("150s", fires("Slow", starts="150s", service="shop"))
    thinking.clock("6m")
    assert counted(thinking)["all", ""][0] == 2


def test_a_storm_makes_the_incident_that_took_it_as_surprising(thinking: Thinking, tmp_path: Path):
    for hour in range(30):
        blink(thinking, 60 * hour, service="shop")
    storm = [fires("Slow", starts="30h", service="shop", pod=f"p{number}") for number in range(40)]
    thinking.hears("30h", *storm)
    thinking.clock("1806m")
    group = max(thinking.tenant.groups.values(), key=lambda group: len(group.alerts))
    assert "40 " in group.progress.surprise_why
    assert "within 5 min" in group.progress.surprise_why
    assert group.progress.surprise > 3.0
    assert thinking.counts["anomaly:raised"] >= 1
    assert "anomaly:opened" not in thinking.counts
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_storm_of_which_nothing_is_open_any_more_opens_an_incident_of_its_own(
    thinking: Thinking, tmp_path: Path
):
    for hour in range(30):
        blink(thinking, 60 * hour, service="shop")
    for number in range(120):
        blink(thinking, 1800.5 + number / 40, "Slow", service="shop", pod=f"p{number}")
    thinking.clock("1806m")
    own = [group for group in thinking.tenant.groups.values() if group.head.origin == "anomaly"]
    assert own
    assert all(group.head.severity == "warning" for group in own)
    words = {episode.annotations["summary"] for group in own for episode in group.episodes.values()}
    assert any(text.startswith("120 alerts of service shop within ") for text in words)
    labels = [episode.labels for group in own for episode in group.episodes.values()]
    assert {"service": "shop", "counted": "service shop"}.items() <= next(
        each for each in labels if each["counted"].startswith("service")
    ).items()
    thinking.clock("4d")
    assert all(group.head.origin != "anomaly" for group in thinking.tenant.groups.values())
    assert not thinking.tenant.alarms
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_storm_whose_incident_was_merged_concerns_the_one_that_it_is_in_now(
    thinking: Thinking, tmp_path: Path
):
    for hour in range(40):
        blink(thinking, 60 * hour, service="shop")
    thinking.hears("40h", fires("Other", starts="40h", cluster="far"))
    into = thinking.group.head.id
    storm = [fires("Slow", starts="40h", service="shop", pod=f"p{number}") for number in range(120)]
    thinking.hears("40h", *storm, group="{}:{storm}")
    (gone,) = thinking.tenant.groups.keys() - {into}
    thinking.says("144270s", "a1", "merge", incident=gone, into=into, author="mia")
    thinking.clock("2406m")
    assert thinking.group.head.id == into
    assert thinking.group.progress.surprise > 3.0
    assert "anomaly:opened" not in thinking.counts
    assert same(thinking, thinking.restarted(tmp_path))


def test_what_comes_every_hour_is_usual(thinking: Thinking):
    for hour in range(72):
        blink(thinking, 60 * hour, service="shop")
    assert not {name for name in thinking.counts if name.startswith("anomaly")}


@pytest.fixture
def few() -> Iterator[None]:
    with patch.object(counts, "MAX_COUNTED", 4), patch.object(counts, "MAX_PENDING", 6):
        yield


def test_of_too_much_what_was_busy_least_lately_is_forgotten(few: None, thinking: Thinking, tmp_path: Path):
    del few
    for number in range(8):
        blink(thinking, 10 * number, service=f"s{number}")
    thinking.clock("90m")
    assert len(thinking.tenant.counted) == 4
    assert ("service", "\x1f\x1fs7") in thinking.tenant.counted
    assert thinking.tenant.record.forgotten_busy is not None
    known = thinking.tenant.counted["service", "\x1f\x1fs7"]
    # It may have fired before, and have been forgotten: nothing is known of the time before that.
    assert known.since > thinking.tenant.record.counting_since  # type: ignore[operator]
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_tick_takes_no_more_than_its_share(few: None, thinking: Thinking):
    del few
    thinking.hears("0s", *[fires("Slow", service=f"s{number}") for number in range(50)])
    assert len(thinking.tenant.pending) == 6
    thinking.clock("6m")
    assert counted(thinking)["all", ""][0] == 50


def test_other_windows_begin_anew(thinking: Thinking, tmp_path: Path):
    blink(thinking, 1, service="shop")
    thinking.clock("6m")
    thinking.settings("7m", msgspec.structs.replace(SETTINGS, count_windows_s=(60.0, 120.0)))
    blink(thinking, 8.5, service="shop")
    thinking.clock("10m")
    assert counted(thinking)["all", ""] == [1, 1]
    assert same(thinking, thinking.restarted(tmp_path))


def test_tocsins_own_troubles_are_not_counted(thinking: Thinking):
    thinking.hears("0s", fires("TocsinDiskFilling"), source="tocsin")
    thinking.clock("10m")
    assert not thinking.tenant.counted


def test_a_suspicion_at_the_beginning_is_none(thinking: Thinking):
    """Little history makes for a modest surprise, however large the storm is."""
    thinking.hears("0s", *[fires("Slow", pod=f"p{number}") for number in range(500)])
    thinking.clock("6m")
    assert not {name for name in thinking.counts if name.startswith("anomaly")}
    assert counting.LEAST_WINDOWS > 1
