"""Every half minute the open window is clustered anew, and what two rounds agree on is done."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from linked import BURSTS, LINKER, home, linked, pay, shop, the_window
from linkers import APART, BY_RELATION, TOGETHER, fitted, grown
from msgspec.structs import replace
from thinking import Thinking, ends, fires, same

from bridge.analysis.gate import LinkFit
from bridge.model import EventKind
from bridge.pipeline import reclustering

#: Log odds of alerts of two services and of one: a linker that was wrong is followed by one that knows.
KNOWS = fitted(BY_RELATION, fit=2)
ALL = fitted(TOGETHER, fit=2)


def kinds(thinking: Thinking, kind: EventKind) -> int:
    return sum(event.kind is kind for event in thinking.events)


def regroups(thinking: Thinking) -> dict[str, int]:
    return {name: number for name, number in thinking.counts.items() if name.startswith("regroup:")}


def sizes(thinking: Thinking) -> list[int]:
    return sorted(len(group.episodes) for group in thinking.tenant.groups.values() if group.episodes)


def two_that_are_one(settings=LINKER, **labels: str) -> Thinking:
    """Two incidents of three and two alerts, which nothing linked when they came."""
    thinking = linked(APART, settings=settings)
    founders = [shop("Errors", "0s", **labels), pay("Latency", "1s")]
    for number, founder in enumerate(founders):
        thinking.hears(f"{number}s", founder)
    return thinking


def one_that_is_two(settings=LINKER, severity: str = "warning", leaving: str = "warning") -> Thinking:
    """An incident of three alerts of one service and two of another."""
    thinking = linked(TOGETHER, settings=settings)
    for number in range(3):
        thinking.hears(f"{number}s", shop(f"Shop{number}", f"{number}s", severity=severity))
    for number in range(2):
        thinking.hears(f"{number + 3}s", pay(f"Pay{number}", f"{number + 3}s", severity=leaving))
    assert sizes(thinking) == [5]
    return thinking


# ---- merges ----------------------------------------------------------------------------------------------


def test_a_merge_needs_two_rounds_that_agree() -> None:
    thinking = two_that_are_one()
    thinking.linker("5s", ALL)
    thinking.clock("31s")
    assert sizes(thinking) == [1, 1]
    assert len(thinking.tenant.record.regroup_wishes) == 1
    thinking.clock("61s")
    assert sizes(thinking) == [2]
    assert regroups(thinking) == {"regroup:merged": 1}
    assert kinds(thinking, EventKind.MERGED) == 1
    assert thinking.tenant.record.regroup_wishes == ()
    why = home(thinking, "Latency").episodes
    assert next(one.why for one in why.values() if one.name == "Latency").endswith(
        "merged by how all alerts of the last quarter of an hour hang together"
    )


def test_a_round_that_does_not_agree_stops_a_merge() -> None:
    thinking = two_that_are_one()
    thinking.linker("5s", ALL)
    thinking.clock("31s")
    thinking.linker("40s", fitted(APART, fit=3))
    thinking.clock("5m")
    assert sizes(thinking) == [1, 1]
    assert regroups(thinking) == {}


def test_rounds_end_when_no_alert_comes_and_nothing_is_wished() -> None:
    thinking = linked(TOGETHER)
    thinking.hears("0s", shop("Errors", "0s"))
    assert thinking.tenant.record.regroup_at is not None
    thinking.clock("31s")
    assert thinking.tenant.record.regroup_at is None


def test_nothing_is_merged_into_what_is_open_for_more_than_half_an_hour() -> None:
    thinking = linked(APART)
    thinking.hears("0s", shop("Errors", "0s"))
    thinking.hears("35m", shop("Slow", "35m"))
    assert sizes(thinking) == [1, 1]
    thinking.hears("36m", shop("Errors", "36m", pod="x"))
    thinking.linker("37m", ALL)
    first = thinking.tenant.groups[
        min(thinking.tenant.groups, key=lambda each: thinking.tenant.groups[each].head.opened_at)
    ]
    thinking.clock("40m")
    assert len(first.episodes) == 1, "what is long open is left alone"
    assert sizes(thinking) == [1, 2]


def test_what_a_person_grouped_is_left_as_it_is() -> None:
    thinking = two_that_are_one()
    (one, other) = sorted(thinking.tenant.groups)
    for number, name in enumerate((one, other)):
        group = thinking.tenant.groups[name]
        group.progress = replace(group.progress, by_hand=number == 0)
    thinking.linker("5s", ALL)
    thinking.clock("5m")
    assert sizes(thinking) == [1, 1]


def test_a_split_that_a_person_asked_for_is_not_merged_again() -> None:
    thinking = linked(TOGETHER)
    thinking.hears("0s", shop("Errors", "0s"))
    thinking.hears("1s", pay("Latency", "1s"))
    (group,) = thinking.tenant.groups.values()
    leaving = next(one for one in group.episodes.values() if one.name == "Latency")
    named = {"fingerprint": leaving.fingerprint, "starts_at": leaving.starts_at.isoformat()}
    action = thinking.says("10s", "act-1", "split", episodes=[named])
    assert sizes(thinking) == [1, 1], action
    thinking.hears("20s", shop("Queue", "20s"))
    thinking.clock("5m")
    assert len([size for size in sizes(thinking) if size]) >= 2
    assert regroups(thinking) == {}


# ---- splits and moves ------------------------------------------------------------------------------------


def test_the_smaller_part_leaves_and_the_larger_keeps_the_name() -> None:
    thinking = one_that_is_two()
    before = home(thinking, "Shop0").head.id
    thinking.linker("10s", KNOWS)
    thinking.clock("31s")
    assert sizes(thinking) == [5]
    thinking.clock("61s")
    assert sizes(thinking) == [2, 3]
    assert home(thinking, "Shop0").head.id == before
    assert home(thinking, "Pay0").head.split_from == before
    assert regroups(thinking) == {"regroup:split": 1}
    assert kinds(thinking, EventKind.SPLIT) == 2, "both sides say so"
    assert {one.why for one in home(thinking, "Pay0").episodes.values()} == {
        f"split from {before}: by how all alerts of the last quarter of an hour hang together"
    }


@pytest.mark.parametrize(("leaving", "then"), [("critical", [5]), ("warning", [2, 3])])
def test_what_people_were_called_for_does_not_leave_the_incident_they_know(
    leaving: str, then: list[int]
) -> None:
    thinking = one_that_is_two(severity="critical", leaving=leaving)
    thinking.clock("20s")
    assert home(thinking, "Shop0").progress.rung_at is not None
    thinking.linker("25s", KNOWS)
    thinking.clock("5m")
    assert sizes(thinking) == then
    assert set(regroups(thinking)) == {"regroup:advice" if then == [5] else "regroup:split"}


def test_what_is_left_undone_is_counted_once_however_many_rounds_wish_it(tmp_path: Path) -> None:
    thinking = one_that_is_two(severity="critical", leaving="critical")
    thinking.clock("20s")
    thinking.linker("25s", KNOWS)
    for minute in range(1, 9):  # each lets another round come
        thinking.hears(f"{minute * 60}s", fires("Cert", starts=f"{minute * 60}s", host=f"mail-{minute}"))
    assert regroups(thinking) == {"regroup:advice": 1}
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_part_moves_to_the_incident_that_has_the_rest_of_its_cluster() -> None:
    thinking = one_that_is_two()
    thinking.linker("6s", fitted(APART, fit=5))
    thinking.hears("7s", pay("Pay7", "7s"))
    thinking.hears("7s", pay("Pay8", "7s"))
    thinking.linker("8s", fitted(grown(("related", 0.5, -8.0, 2.0)), fit=6))
    thinking.clock("3m")
    assert sizes(thinking) == [3, 4]
    assert home(thinking, "Pay0").head.id == home(thinking, "Pay7").head.id
    assert "regroup:moved" in regroups(thinking) or "regroup:split" in regroups(thinking)


def test_hdbscan_takes_the_same_plain_groups_apart() -> None:
    thinking = one_that_is_two(settings=replace(LINKER, reclustering="hdbscan"))
    thinking.linker("10s", fitted(grown(("related", 0.5, -8.0, 4.0)), fit=2))
    thinking.clock("61s")
    assert sizes(thinking) == [2, 3]


def test_bursts_are_parted_and_joined_by_the_window_as_a_whole() -> None:
    thinking = linked(TOGETHER)
    thinking.hears("0s", shop("Slow", "0s"))
    for number in range(8):
        thinking.hears("200s", pay(f"Fast{number}", "200s"))
    assert sizes(thinking) == [9]
    thinking.settings("201s", BURSTS)
    thinking.hears("202s", pay("Late", "202s"))
    thinking.clock("5m")
    assert sizes(thinking) == [1, 9]


# ---- too much, and restarts ------------------------------------------------------------------------------


def test_of_a_storm_the_newest_are_clustered(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    contract = reclustering.correlation.contract

    def watched(number: int, links: list) -> list[int]:
        looked_at.append(number)
        return contract(number, links)

    monkeypatch.setattr(reclustering.correlation, "contract", watched)
    thinking = linked(BY_RELATION)
    thinking.hears("0s", *(shop(f"Slow{number % 9}", "0s", host=f"h-{number}") for number in range(500)))
    thinking.clock("31s")
    assert looked_at == [reclustering.MOST_NODES]


@pytest.mark.parametrize("fit", [ALL, KNOWS, fitted(way="bursts", fit=2)])
def test_a_restart_between_two_rounds_changes_nothing(tmp_path: Path, fit: LinkFit) -> None:
    thinking = one_that_is_two(settings=replace(LINKER, grouping="auto"))
    thinking.linker("10s", fit)
    thinking.hears("20s", fires("Cert", starts="20s", host="mail-1"))
    for at in ("31s", "45s", "61s", "91s"):
        thinking.clock(at)
    thinking.hears("95s", ends("Cert", "95s", starts="20s", host="mail-1"))
    assert same(thinking, thinking.restarted(tmp_path))


def test_every_alert_is_in_one_incident_after_many_rounds() -> None:
    thinking = linked(TOGETHER)
    fits = [KNOWS, ALL, fitted(APART, fit=3)]
    for number in range(40):
        thinking.hears(f"{number * 20}s", (shop, pay)[number % 2](f"A{number}", f"{number * 20}s"))
        if number % 8 == 0:
            thinking.linker(f"{number * 20 + 5}s", fits[number // 8 % 3])
    held = Counter(key for group in thinking.tenant.groups.values() for key in group.episodes)
    assert len(held) == 40
    assert set(held.values()) == {1}
    for key, incident in the_window(thinking).homes().items():
        assert key in thinking.tenant.groups[incident].episodes
