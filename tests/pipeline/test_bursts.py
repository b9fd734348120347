"""Time alone chooses the incident that an alert goes to, and after a silence the alert says where it belongs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from groups import episode as alarm
from linked import BURSTS, episode, home, pay, shop
from msgspec.structs import replace
from thinking import Thinking, ends, fires, same
from timeline import START

from bridge.analysis.settings import AnalysisSettings
from bridge.pipeline import arrivals
from bridge.pipeline.arrivals import Arrivals
from bridge.pipeline.surges import WHY
from bridge.webhooks.alertmanager import fingerprint_of


def running() -> Thinking:
    """Return one in which an incident takes in an alert now and then."""
    thinking = Thinking(BURSTS)
    for at_s in (0, 100):
        thinking.hears(f"{at_s}s", shop(f"Slow{at_s}", f"{at_s}s"))
    assert len(thinking.tenant.groups) == 1
    return thinking


def together(thinking: Thinking, *names: str) -> bool:
    """Say whether the newest episodes of these alerts are in one incident."""
    return len({episode(thinking, name).incident for name in names}) == 1


# ---- a surge ---------------------------------------------------------------------------------------------


def test_a_surge_founds_an_incident_and_takes_along_what_came_in_the_last_ten_seconds() -> None:
    thinking = running()
    assert (
        episode(thinking, "Slow100").why
        == "same service shop; 100 s after the newest alert, without a surge in between"
    )
    for number, at in enumerate(("185s", "194s", "196s", "198s", "200s", "200s")):
        thinking.hears(at, pay(f"Fast{number}", at))
    assert len(thinking.tenant.groups) == 2
    assert together(thinking, "Fast1", "Fast2", "Fast3", "Fast4", "Fast5")
    assert together(thinking, "Fast0", "Slow100"), "what came earlier stays"
    assert WHY in episode(thinking, "Fast1").why
    assert episode(thinking, "Fast5").why == (
        "first alert of this incident: 5 alerts in 10 s after 1 in the 60 s before"
    )


def test_after_a_surge_alerts_go_to_its_incident_whatever_they_share_with_another() -> None:
    thinking = running()
    thinking.hears("200s", ends("Slow100", "200s", starts="100s", service="shop"))
    for number in range(8):
        thinking.hears("200s", pay(f"Fast{number}", "200s"))
    thinking.hears("220s", shop("Late", "220s"), shop("Slow100", "220s"))
    assert len(thinking.tenant.groups) == 2, "one surge, one incident"
    assert together(thinking, "Fast7", "Late", "Slow100")


def test_a_critical_that_people_were_called_for_is_not_taken_along() -> None:
    thinking = running()
    thinking.hears("200s", fires("Down", starts="200s", service="pay", severity="critical"))
    for number in range(5):
        thinking.hears("201s", pay(f"Fast{number}", "201s"))
    assert together(thinking, *(f"Fast{number}" for number in range(5)))
    assert together(thinking, "Down", "Slow100")


def test_what_may_not_leave_does_not_let_a_surge_found_twice_or_end() -> None:
    """Criticals that people were called for, and the surge, in one second: here a critical counts as the newest."""
    thinking = running()
    hosts = sorted(
        (f"h-{number}" for number in range(60)),
        key=lambda host: fingerprint_of({"alertname": "Down", "host": host, "severity": "critical"}),
    )
    thinking.hears(
        "200s", *(fires("Down", starts="200s", host=host, severity="critical") for host in hosts[-3:])
    )
    thinking.hears("200s", *(pay(f"Fast{number}", "200s") for number in range(10)))
    assert len(thinking.tenant.groups) == 2
    assert together(thinking, *(f"Fast{number}" for number in range(10)))
    assert together(thinking, "Down", "Slow100")
    thinking.hears("220s", fires("After", starts="220s", host="a-1"))
    assert together(thinking, "Fast0", "After")


def test_many_that_may_not_leave_do_not_let_a_surge_found_again_and_again() -> None:
    """Where much is usual, many criticals come before it is a surge: more than are looked at for the youngest."""
    thinking = Thinking(BURSTS)
    for at_s in range(0, 190, 5):
        thinking.hears(f"{at_s}s", *(shop(f"Busy{at_s + each}", f"{at_s}s") for each in range(5)))
    hosts = sorted(
        (f"h-{number}" for number in range(40)),
        key=lambda host: fingerprint_of({"alertname": "Down", "host": host, "severity": "critical"}),
        reverse=True,
    )
    for some in (hosts[:1], hosts[1:]):  # people were called for the first
        thinking.hears(
            "200s", *(fires("Down", starts="200s", host=host, severity="critical") for host in some)
        )
    assert [len(group.episodes) for group in thinking.tenant.groups.values()] == [215, 15]


def test_nothing_is_taken_out_of_what_a_person_grouped() -> None:
    thinking = running()
    slow = episode(thinking, "Slow0")
    named = {"fingerprint": slow.fingerprint, "starts_at": slow.starts_at}
    thinking.says("181s", "act-1", "split", episodes=[named])
    assert len(thinking.tenant.groups) == 2
    for number in range(5):
        thinking.hears("201s", pay(f"Fast{number}", "201s"))
    assert len(thinking.tenant.groups) == 3
    assert together(thinking, "Fast3", "Fast4")
    assert together(thinking, "Fast0", "Fast1", "Fast2", "Slow100")


def test_a_surge_in_one_cluster_is_none_in_another() -> None:
    thinking = Thinking(BURSTS)
    thinking.hears("0s", shop("Errors", "0s", cluster="a"))
    thinking.hears("1s", pay("Latency", "1s", cluster="b"))
    assert len(thinking.tenant.groups) == 2
    for number in range(8):
        thinking.hears("100s", pay(f"Fast{number}", "100s", cluster="b"))
    thinking.hears("101s", shop("Slow", "101s", cluster="a"))
    assert together(thinking, "Slow", "Errors")
    assert not together(thinking, "Slow", "Fast7")


# ---- a silence -------------------------------------------------------------------------------------------


def test_after_two_minutes_of_silence_an_alert_goes_by_what_it_shares() -> None:
    thinking = Thinking(BURSTS)
    thinking.hears("0s", shop("Errors", "0s", host="s-1"))
    thinking.hears("121s", shop("Queue", "121s", host="s-1"))
    assert together(thinking, "Errors", "Queue")
    assert "same host s-1" in episode(thinking, "Queue").why
    thinking.hears("242s", fires("Cert", starts="242s", host="mail-1"))
    assert not together(thinking, "Errors", "Cert")
    assert episode(thinking, "Cert").why == "first alert of this incident"
    thinking.hears("361s", shop("Errors", "361s", host="s-2"))
    assert together(thinking, "Cert", "Errors"), "two minutes are no silence yet"


def test_what_flaps_alone_goes_home_and_draws_nobody_in() -> None:
    thinking = Thinking(BURSTS)
    for at_s in (0, 300, 600, 900):
        thinking.hears(f"{at_s}s", shop("Flap", f"{at_s}s"))
        thinking.hears(f"{at_s + 10}s", ends("Flap", f"{at_s + 10}s", starts=f"{at_s}s", service="shop"))
    assert len(thinking.tenant.groups) == 1
    assert episode(thinking, "Flap").why == "fires again"
    thinking.hears("930s", pay("Stranger", "930s"))
    assert len(thinking.tenant.groups) == 2
    assert len(home(thinking, "Stranger").episodes) == 2


def test_what_fires_again_after_a_silence_comes_along_when_something_else_follows() -> None:
    thinking = Thinking(BURSTS)
    thinking.hears("0s", shop("Errors", "0s"), shop("Queue", "0s"))
    thinking.hears("10s", ends("Errors", "10s", service="shop"))
    thinking.hears("300s", shop("Errors", "300s"))
    assert together(thinking, "Errors", "Queue")
    thinking.hears("315s", pay("Latency", "315s"))
    assert together(thinking, "Errors", "Latency")
    assert not together(thinking, "Errors", "Queue")
    assert len(home(thinking, "Queue").episodes) == 2, "the first time stays where it was"
    assert episode(thinking, "Latency").why == (
        "first alert of this incident: 15 s after an alert that fires again"
    )


def test_a_whole_group_that_recurs_goes_home_together() -> None:
    thinking = Thinking(BURSTS)
    names = [f"Slow{number}" for number in range(3)]
    thinking.hears("0s", *(shop(name, "0s") for name in names))
    thinking.hears("60s", *(ends(name, "60s", service="shop") for name in names))
    for number, name in enumerate(names):
        thinking.hears(f"{900 + number}s", shop(name, f"{900 + number}s"))
    assert len(thinking.tenant.groups) == 1


# ---- times that are told -----------------------------------------------------------------------------------


def test_an_alert_that_is_told_late_counts_when_it_began() -> None:
    thinking = Thinking(BURSTS)
    thinking.hears("0s", shop("Errors", "0s"))
    thinking.hears("200s", pay("Late", "100s"))
    assert together(thinking, "Errors", "Late")
    assert episode(thinking, "Late").why.startswith("100 s after the newest alert")
    thinking.hears("230s", fires("Cert", starts="230s", host="mail-1"))
    assert not together(thinking, "Late", "Cert"), "130 s after that one"


def test_a_surge_that_is_told_late_takes_along_what_began_after_it() -> None:
    """Alertmanager tells of what joins a group only with its next message: the order of starts is not that of words."""
    thinking = running()
    thinking.hears("205s", *(pay(f"Fast{number}", f"{200 + number}s") for number in range(3)))
    thinking.hears("230s", pay("After", "225s"))
    assert together(thinking, "After", "Slow100"), "three are no surge"
    thinking.hears("240s", pay("Told", "204s"), pay("Too", "205s"))
    assert together(thinking, "Fast0", "Fast1", "Fast2", "Told", "Too", "After")
    assert not together(thinking, "After", "Slow100")
    assert WHY in episode(thinking, "After").why
    thinking.hears("250s", pay("Early", "150s"))
    assert together(thinking, "Early", "Slow100"), "it began before the surge"


def test_what_is_told_late_shows_a_surge_with_what_began_after_it() -> None:
    thinking = running()
    thinking.hears("215s", *(pay(f"Fast{number}", f"{205 + number}s") for number in range(3)))
    assert together(thinking, "Fast0", "Slow100"), "three are no surge"
    thinking.hears("240s", pay("Told", "203s"))
    assert together(thinking, "Fast0", "Fast1", "Fast2", "Told")
    assert not together(thinking, "Told", "Slow100")


def test_two_surges_are_as_far_apart_as_they_began_and_not_as_they_were_told() -> None:
    thinking = running()
    thinking.hears("280s", *(pay(f"Fast{number}", "200s") for number in range(6)))
    thinking.hears("300s", *(shop(f"Next{number}", "295s") for number in range(8)))
    assert not together(thinking, "Fast0", "Next0"), "the first of them is 95 s older"


def test_it_counts_as_five_minutes_back_at_most() -> None:
    thinking = Thinking(BURSTS)
    thinking.hears("650s", shop("Errors", "650s"))
    thinking.hears("1000s", pay("Old", "0s"))
    assert episode(thinking, "Old").why.startswith("50 s after the newest alert")
    assert together(thinking, "Errors", "Old")


def test_a_start_in_the_future_counts_as_now() -> None:
    thinking = Thinking(BURSTS)
    thinking.hears("0s", shop("Errors", "6h"))
    thinking.hears("30s", pay("Latency", "30s"))
    assert episode(thinking, "Latency").why.startswith("30 s after the newest alert")


def test_own_troubles_neither_count_nor_join() -> None:
    thinking = Thinking(BURSTS)
    thinking.hears("0s", shop("Errors", "0s"))
    thinking.hears("100s", fires("TocsinDiskFull", starts="100s"), source="tocsin")
    thinking.hears("200s", fires("Cert", starts="200s", host="mail-1"))
    assert len(thinking.tenant.groups) == 3


# ---- restarts, memory, cost ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [BURSTS, replace(BURSTS, close_after_s=5.0, reopen_within_s=20.0, dispute_s=1.0)]
)
def test_a_restart_in_the_middle_changes_nothing(settings: AnalysisSettings, tmp_path: Path) -> None:
    """Also where incidents are forgotten so soon that their alerts could still be counted."""
    thinking = Thinking(settings)
    for at_s in range(0, 300, 20):
        thinking.hears(f"{at_s}s", shop(f"Slow{at_s}", f"{at_s}s"))
        thinking.hears(f"{at_s + 1}s", ends(f"Slow{at_s}", f"{at_s + 1}s", starts=f"{at_s}s", service="shop"))
    for number in range(6):
        thinking.hears(f"{320 + number}s", pay(f"Fast{number}", f"{320 + number}s"))
    thinking.hears("500s", shop("Slow280", "500s"))
    thinking.hears("510s", fires("Cert", starts="510s", host="mail-1"))
    assert same(thinking, thinking.restarted(tmp_path))


def test_what_is_over_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MOST_SECONDS", 60)
    thinking = Thinking(BURSTS)
    most = 0
    for at_s in range(0, 6000, 20):
        thinking.hears(f"{at_s}s", shop(f"Slow{at_s}", f"{at_s}s", cluster=f"c-{at_s % 100}"))
        assert thinking.tenant.arrivals is not None
        most = max(most, len(thinking.tenant.arrivals))
    assert most <= 63


def test_what_is_asked_of_a_storm_does_not_grow_with_it() -> None:
    counted = Arrivals()
    one = replace(alarm(), starts_at=START, seen_at=START)
    for number in range(5000):
        counted.add(replace(one, fingerprint=f"{number:016x}"))
    assert len(counted) == 5000
    assert counted.surge_of(one) == (int(START.timestamp()), 5001, 0)
    assert len(list(counted.back_from(one))) == arrivals.MOST_BACK
    before = next(counted.back_from(replace(one, starts_at=START + timedelta(seconds=9))))
    assert before[1][1] == f"{4999:016x}"


def test_what_goes_out_of_memory_is_no_longer_counted() -> None:
    counted = Arrivals()
    one = alarm("Errors")
    other = alarm("Latency", cluster="b")
    for each in (one, other):
        counted.add(each)
    counted.remove(one)
    assert len(counted) == 1
    assert not list(counted.back_from(one))
    assert len(list(counted.back_from(other))) == 1
    counted.remove(one)  # nothing of it is here any more
    counted.remove(other)
    assert len(counted) == 0


def test_what_is_forgotten_is_no_longer_counted() -> None:
    """A restart would not know of it."""
    thinking = Thinking(replace(BURSTS, close_after_s=5.0, reopen_within_s=20.0))
    thinking.hears("0s", shop("Errors", "0s"))
    thinking.hears("1s", ends("Errors", "1s", service="shop"))
    assert thinking.tenant.arrivals is not None
    assert len(thinking.tenant.arrivals) == 1
    thinking.clock("60s")
    assert len(thinking.tenant.arrivals) == 0


def test_many_clusters_are_not_looked_through_at_every_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    prune = Arrivals._prune

    def watched(self: Arrivals, now: object) -> None:
        looked.append(len(self))
        prune(self, now)  # type: ignore[arg-type]

    monkeypatch.setattr(Arrivals, "_prune", watched)
    monkeypatch.setattr(arrivals, "MOST_SECONDS", 100)
    counted = Arrivals()
    one = replace(alarm(), starts_at=START, seen_at=START)
    for number in range(5000):
        counted.add(replace(one, labels={"cluster": f"c-{number}"}))
    assert len(counted) == 5000
    assert sum(looked) <= 2 * 5000
