"""A learned linker chooses the incident that an alert goes to, and says why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import timeline
from linked import BURSTS, LINKER, episode, home, linked, look, pay, shop, the_window
from linkers import APART, BY_RELATION, TOGETHER, fitted, grown, table
from msgspec.structs import replace
from thinking import Thinking, ends, fires, same
from timeline import START

from bridge.analysis.gate import Verdict
from bridge.analysis.pairs import Ints
from bridge.analysis.settings import AnalysisSettings
from bridge.pipeline import linkers as linkers_
from bridge.pipeline import links, window

# ---- by links --------------------------------------------------------------------------------------------


def test_an_alert_goes_to_the_incident_whose_links_add_up_to_most() -> None:
    """One strong link to one incident is less than three to another."""
    strong_then_weak = grown(("related", 0.5, -6.0, 1.2), ("kind", 1.5, 0.6, 0.0))
    thinking = linked(strong_then_weak)
    for number in range(3):
        thinking.hears(f"{number}s", shop(f"Shop{number}", f"{number}s", host="s-1"))
    thinking.hears("4s", fires("Disk", starts="4s", host="d-1"))
    assert len(thinking.tenant.groups) == 2
    thinking.hears("5s", shop("Disk", "5s", host="d-1"))
    assert home(thinking, "Disk").head.id == home(thinking, "Shop0").head.id
    assert len(home(thinking, "Shop0").episodes) == 4


def test_a_weak_link_founds_an_incident_of_its_own_and_says_so() -> None:
    thinking = linked(BY_RELATION)
    thinking.hears("0s", shop("Errors", "0s"))
    thinking.hears("30s", fires("Cert", starts="30s", host="mail-1"))
    assert len(thinking.tenant.groups) == 2
    assert episode(thinking, "Errors").why == "first alert of this incident"
    why = episode(thinking, "Cert").why
    assert why == "first alert of this incident: the likeliest link to another is too weak (p=0.01)"


def test_why_an_alert_joined_is_said_with_its_numbers() -> None:
    families = thinking_families(("Errors", "Latency"))
    learned = table(list(families.values()), [(families["Errors"], families["Latency"], 4.0)])
    thinking = linked(BY_RELATION, learned=learned)
    thinking.hears("0s", shop("Errors", "0s", namespace="web"))
    thinking.hears("12s", shop("Latency", "12s", namespace="web"))
    assert episode(thinking, "Latency").why == (
        "12 s from Errors, same service, these two kinds come together 16 times more often than by chance (p=0.95)"
    )


def thinking_families(names: tuple[str, ...]) -> dict[str, str]:
    """Return how the kinds of these alerts are called where no fit has named families."""
    thinking = Thinking()
    thinking.hears("0s", *(shop(name, "0s", namespace="web") for name in names))
    return {one.name: f"t:{one.template}" for one in thinking.group.episodes.values()}


def test_what_returns_and_has_no_link_goes_home() -> None:
    thinking = linked(APART)
    thinking.hears("0s", shop("Errors", "0s"))
    thinking.hears("1s", pay("Latency", "1s"))
    thinking.hears("60s", ends("Errors", "60s", service="shop"))
    thinking.hears("20m", shop("Errors", "20m"))
    assert len(thinking.tenant.groups) == 2
    assert len(home(thinking, "Errors").episodes) == 2
    assert episode(thinking, "Errors").why == "fires again"


def test_higher_sensitivity_joins_more() -> None:
    """Half a step of sensitivity is two of log odds."""

    def incidents(sensitivity: float) -> int:
        weak = grown(base=0.4)  # log odds of about -0.7
        thinking = linked(weak, settings=replace(LINKER, sensitivity=sensitivity))
        thinking.hears("0s", shop("Errors", "0s"))
        thinking.hears("9s", pay("Latency", "9s"))
        return len(thinking.tenant.groups)

    assert (incidents(0.5), incidents(1.0)) == (2, 1)


def test_a_verdict_says_how_strong_a_link_must_be() -> None:
    def incidents(shift: float) -> int:
        thinking = linked(TOGETHER, shift=shift)  # log odds of 1.85
        thinking.hears("0s", shop("Errors", "0s"))
        thinking.hears("9s", pay("Latency", "9s"))
        return len(thinking.tenant.groups)

    assert (incidents(0.0), incidents(2.5)) == (1, 2)


def test_the_verdict_decides_which_way_acts_unless_the_settings_name_one() -> None:
    def way(grouping: str, verdict: str | None) -> str:
        thinking = Thinking(AnalysisSettings(grouping=grouping))  # type: ignore[arg-type]
        if verdict is not None:
            thinking.linker("0s", fitted(way=verdict))  # type: ignore[arg-type]
        thinking.hears("1s", shop("Errors", "1s"))
        thinking.hears("2s", shop("Latency", "2s"))
        why = episode(thinking, "Latency").why
        return next(way for way, word in said.items() if word in why)

    said = {"bursts": "newest alert", "linker": "too weak", "entities": ""}
    assert (way("auto", None), way("auto", "bursts"), way("linker", None)) == ("bursts",) * 3
    assert (way("entities", "linker"), way("auto", "entities")) == ("entities", "entities")
    assert (way("auto", "linker"), way("linker", "entities")) == ("linker", "linker")
    assert (way("bursts", "linker"), way("bursts", None)) == ("bursts", "bursts")


def test_a_quiet_incident_takes_alerts_in_and_a_closed_one_does_not() -> None:
    settings = replace(LINKER, close_after_s=10.0)
    thinking = linked(TOGETHER, settings=settings)
    thinking.hears("0s", shop("Errors", "0s"))
    thinking.hears("5s", ends("Errors", "5s", service="shop"))
    thinking.hears("10s", pay("Latency", "10s"))  # quiet is not over
    assert len(thinking.tenant.groups) == 1
    thinking.hears("12s", ends("Latency", "12s", starts="10s", service="pay"))
    thinking.hears("60s", pay("Queue", "60s"))
    assert len(thinking.tenant.groups) == 2


def test_own_troubles_and_heartbeats_stay_out_of_the_window() -> None:
    thinking = linked(TOGETHER)
    thinking.hears("0s", shop("Errors", "0s"))
    thinking.hears("1s", fires("TocsinDiskFull", starts="1s"), source="tocsin")
    assert len(thinking.tenant.groups) == 2
    assert [key[0] for key in the_window(thinking).keys] == ["default"]


# ---- bad times, bad labels, too much ---------------------------------------------------------------------


def test_alerts_minutes_out_of_order_are_compared_by_when_they_began() -> None:
    in_order, turned = linked(BY_RELATION), linked(BY_RELATION)
    told = [shop("First", "0s"), shop("Second", "90s"), shop("Third", "180s")]
    in_order.hears("200s", *told)
    turned.hears("200s", *reversed(told))
    for thinking in (in_order, turned):
        assert len(thinking.tenant.groups) == 1
    assert "90 s from " in episode(in_order, "Third").why
    assert "90 s from " in episode(turned, "First").why


@pytest.mark.parametrize("skew", ["-6h", "6h", "-40d"])
@pytest.mark.parametrize("settings", [LINKER, BURSTS])
def test_a_clock_that_is_hours_off_neither_breaks_nor_parts_what_comes_together(
    settings: AnalysisSettings, skew: str
) -> None:
    thinking = linked(TOGETHER, settings=settings)
    wrong = timedelta(seconds=timeline.seconds(skew))
    for number in range(6):
        at = START + timedelta(seconds=number)
        labels = {"alertname": f"Slow{number}", "service": "shop"}
        thinking.hears(
            f"{number}s", timeline.alert(labels, starts=at + (wrong if number % 2 else timedelta()))
        )
    assert len(thinking.tenant.groups) == 1
    thinking.hears("10m", shop("Later", "10m"))


def test_one_label_set_that_changes_with_every_alert_stays_one_incident_and_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pod of another name each time: names are remembered up to a bound, then the window is built anew."""
    monkeypatch.setattr(window, "MAX_NAMES", 200)
    thinking = linked(BY_RELATION)
    most = 0
    for number in range(60):
        at = f"{number}s"
        thinking.hears(
            at,
            fires("CrashLoop", starts=at, service="shop", namespace="web", pod=f"shop-{number:x}-z{number}"),
        )
        most = max(most, the_window(thinking).columns.remembered)
    assert len(thinking.tenant.groups) == 1
    assert most <= 200 + 5 * 60, "what is in the window, and little more"
    long_after = linked(BY_RELATION)
    for number in range(150):
        long_after.hears(f"{number * 60}s", shop("CrashLoop", f"{number * 60}s", pod=f"p{number}"))
        assert the_window(long_after).columns.remembered <= 300


def test_a_webhook_of_more_than_a_window_leaves_a_window_that_is_bounded_and_still_speaks_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []
    weights = links.Links.weights

    def watched(self, tenant, window, one, other):
        compared.append(len(one))
        return weights(self, tenant, window, one, other)

    monkeypatch.setattr(links.Links, "weights", watched)
    monkeypatch.setattr(window, "MAX_ROWS", 200)
    monkeypatch.setattr(window, "MAX_PARTNERS", 40)
    thinking = linked(BY_RELATION)
    thinking.hears("0s", *(shop(f"Slow{number % 40}", "0s", host=f"h-{number}") for number in range(400)))
    assert len(thinking.tenant.groups) == 1
    assert len(the_window(thinking)) <= 201
    assert max(compared) == 40
    for number in range(3):
        thinking.hears(f"{number + 1}s", shop("After", f"{number + 1}s", host=f"new-{number}"))
        assert len(look(thinking)) == 200, "of one moment not all go together"
    assert len(thinking.tenant.groups) == 1


def test_which_alerts_of_a_storm_stay_does_not_depend_on_their_order_or_on_a_restart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(window, "MAX_ROWS", 20)
    kept = []
    for turned in (False, True):
        thinking = linked(TOGETHER)
        told = [shop(f"Slow{number}", "0s", host=f"h-{number}") for number in range(50)]
        thinking.hears("0s", *(reversed(told) if turned else told))
        thinking.hears("1s", *(shop(f"Next{number}", "1s") for number in range(5)))
        look(thinking)
        kept.append(sorted(the_window(thinking).keys))
        (tmp_path / str(turned)).mkdir()
        assert same(thinking, thinking.restarted(tmp_path / str(turned)))
    assert kept[0] == kept[1]
    assert len(kept[0]) == 20


@pytest.mark.parametrize("forgotten", [1, 7, 1000])
def test_what_an_alert_is_compared_with_is_near_it_or_newest_and_takes_alerts_in(
    monkeypatch: pytest.MonkeyPatch, forgotten: int
) -> None:
    monkeypatch.setattr(window, "MAX_ROWS", 60)
    monkeypatch.setattr(window, "MAX_PARTNERS", 10)
    monkeypatch.setattr(window, "FORGOTTEN", forgotten)
    thinking = linked(APART)
    for number in range(80):
        at = f"{number // 3}s"
        thinking.hears(at, fires(f"A{number % 5}", starts=at, host=f"h-{number % 7}", pod=f"p-{number}"))
    found = look(thinking)
    row = found.try_out(replace(episode(thinking, "A3"), fingerprint="new"))
    closed = {
        found.incident_of(each) for each in found.rows_in(lambda names: [True] * len(names)).tolist()[::4]
    }

    def takes(incidents: Sequence[str]) -> list[bool]:
        return [incident not in closed for incident in incidents]

    for answer in (takes, lambda incidents: [True] * len(incidents)):
        rows = found.rows_in(answer)
        near = found.columns.nearness(rows, np.full(len(rows), row))
        ranked = np.lexsort((found._marks[rows], -found.columns.at_s[rows], -near))
        assert sorted(found.partners(row, answer).tolist()) == sorted(rows[ranked[:10]].tolist())
    assert len(found.keys) == len(found) == 61


def test_an_alert_that_claims_a_start_it_had_already_does_not_break_the_window() -> None:
    """It fires on with the startsAt of an episode that is over: there are two rows of it, with keys of their own."""
    thinking = linked(APART, settings=replace(LINKER, reopen_within_s=5.0, close_after_s=5.0, dispute_s=1.0))
    thinking.hears("0s", shop("Errors", "0s"))
    thinking.hears("10s", ends("Errors", "10s", service="shop"))
    thinking.hears("30s", shop("Errors", "0s"))
    thinking.hears("50s", shop("Errors", "0s"))
    thinking.hears("20m", shop("Other", "20m"))
    thinking.hears("40m", shop("Another", "40m"))
    assert len(the_window(thinking)) == 1


def test_what_is_forgotten_leaves_the_window(tmp_path: Path) -> None:
    thinking = linked(APART, settings=replace(LINKER, reopen_within_s=10.0, close_after_s=5.0))
    thinking.hears("0s", shop("Errors", "0s"))
    thinking.hears("1s", pay("Latency", "1s"))
    thinking.hears("10s", ends("Errors", "10s", service="shop"))
    thinking.hears("2m", pay("Queue", "2m"))
    assert sorted(key for key in the_window(thinking).keys) == sorted(
        key for group in thinking.tenant.groups.values() for key in group.episodes
    )
    assert same(thinking, thinking.restarted(tmp_path))


def test_an_incident_that_never_ends_takes_in_what_is_linked_for_days_and_the_window_stays_small() -> None:
    thinking = linked(BY_RELATION)
    for hour in range(100):
        thinking.hears(f"{hour * 600}s", shop("Errors", "0s"), shop(f"Slow{hour}", f"{hour * 600}s"))
        assert len(the_window(thinking)) <= 4
    assert thinking.state.next_tick() is not None
    assert len(home(thinking, "Errors").episodes) == 101
    quiet = thinking.tenant.record.regroup_at
    thinking.clock("3d")
    assert thinking.tenant.record.regroup_at is None
    assert quiet is not None


def test_many_fingerprints_leave_bounded_windows_sightings_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand different alerts in ten minutes, each about something of its own; the bounds are as much smaller."""
    thinking = linked(APART)
    monkeypatch.setattr(window, "MAX_ROWS", 200)
    monkeypatch.setattr(window, "MAX_INCIDENTS", 300)
    monkeypatch.setattr(linkers_, "MAX_SIGHTINGS", 300)
    for number in range(50):
        at = f"{number * 12}s"
        thinking.hears(
            at, *(fires(f"A{number % 9}", starts=at, host=f"h-{number}-{each}") for each in range(20))
        )
        assert len(the_window(thinking)) <= 201
        assert len(the_window(thinking)._incidents) <= 301
        assert len(thinking.tenant.sightings) <= 300
    assert len(thinking.tenant.groups) == 1000


def test_a_verdict_is_read_from_the_row() -> None:
    thinking = linked(TOGETHER, shift=1.0, fit=4)
    assert thinking.tenant.link_fit is not None
    assert thinking.tenant.link_fit.verdict == Verdict(way="linker", shift=1.0, reason="so it was written")
    assert thinking.tenant.record.link_done == 4


def test_a_pair_is_weighed_once_whoever_was_away_when_the_other_came() -> None:
    """What closes is not clustered for a while; when it reopens, its links to those who came meanwhile count."""
    thinking = linked(TOGETHER)
    for number in range(4):
        thinking.hears(f"{number}s", shop(f"Slow{number}", f"{number}s"))
    asked: list[tuple[int, int]] = []

    def weigh(one: Ints, other: Ints) -> Ints:
        asked.extend(zip(one.tolist(), other.tolist(), strict=True))
        return one * 10 + other

    shown = look(thinking)
    for rows in ([0, 1], [2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [1, 3]):
        found = shown.links(np.array(rows), weigh)
        pairs = {
            (rows[a], rows[b]): weight
            for a, b, weight in zip(*(part.tolist() for part in found), strict=True)
        }
        assert pairs == {(a, b): a * 10 + b for a, b in combinations(rows, 2)}
    assert sorted(asked) == list(combinations(range(4), 2))
