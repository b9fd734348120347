"""What was not used for long is forgotten, and nothing that is still needed is."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from thinking import SHARING, Thinking, ends, fires, same

from bridge.analysis.settings import Keeping
from bridge.pipeline import tidying

KEPT_10_DAYS = replace(SHARING, history_s=10 * 86400.0)


def over(thinking: Thinking, at: str, name: str) -> None:
    """Let an alert with a text of its own come and go."""
    thinking.hears(at, ends(name, at, starts=at))


def texts(thinking: Thinking) -> set[str]:
    return {record.text.split(":")[0] for record in thinking.tenant.templates.values()}


def test_a_kind_of_alert_that_never_came_again_is_forgotten_with_what_was_usual_for_it(
    tmp_path: Path,
) -> None:
    thinking = Thinking(KEPT_10_DAYS)
    over(thinking, "0s", "Once")
    over(thinking, "9d", "Later")
    assert texts(thinking) == {"Once", "Later"}
    over(thinking, "11d", "Later")
    assert texts(thinking) == {"Later"}
    assert len(thinking.tenant.habits) == 1
    assert same(thinking, thinking.restarted(tmp_path))


def test_what_an_incident_still_holds_is_kept(tmp_path: Path) -> None:
    thinking = Thinking(KEPT_10_DAYS)
    for hour in range(0, 20 * 24, 4):
        thinking.hears(f"{hour}h", fires("Lasting", host="a"))
    thinking.hears("20d", fires("Other", starts="20d", host="a"))
    assert texts(thinking) == {"Lasting", "Other"}
    assert same(thinking, thinking.restarted(tmp_path))


def test_of_too_many_kinds_those_used_least_lately_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "MAX_TEMPLATES", 3)
    thinking = Thinking(KEPT_10_DAYS)
    for day, name in enumerate(("Alpha", "Bravo", "Charlie", "Delta", "Alpha")):
        over(thinking, f"{day}d", name)
    over(thinking, "5d", "Echo")
    assert texts(thinking) == {"Charlie", "Delta", "Alpha", "Echo"}
    assert same(thinking, thinking.restarted(tmp_path))


def test_what_people_said_and_what_is_learned_from_goes_with_the_incidents_of_its_time(
    tmp_path: Path,
) -> None:
    own = Keeping(tenant="default", incidents_s=10 * 86400.0)
    thinking = Thinking(replace(SHARING, keeping=(own,)))
    thinking.hears("0s", fires("Over", host="a-1"))
    incident = thinking.group.head.id
    thinking.says("1s", "act-1", "useful", incident=incident)
    thinking.hears("2s", ends("Over", "2s", host="a-1"))
    thinking.clock("9d")
    tenant = thinking.tenant
    assert (len(tenant.actions), len(tenant.lessons), len(tenant.sightings)) == (1, 1, 1)
    thinking.clock("11d")
    assert (tenant.actions, tenant.lessons, tenant.sightings) == ({}, {}, {})
    assert same(thinking.restarted(tmp_path), thinking)
