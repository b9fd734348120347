"""What the models told acts from the row that brings it; without them thinking goes on, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import timeline
from msgspec.structs import replace
from thinking import SHARING, Thinking, ends, fires, same

from bridge.analysis.families import EncodeAsk, FitAsk
from bridge.model import EventKind
from bridge.pipeline import outstanding


def vector(angle: float) -> bytes:
    return np.array([np.cos(angle), np.sin(angle)], dtype="<f2").tobytes()


@pytest.fixture
def thinking() -> Thinking:
    return Thinking()


@pytest.fixture
def fits_of_three() -> Iterator[None]:
    with patch("bridge.pipeline.fits.MIN_TEMPLATES", 3):
        yield


KINDS = ("Alpha", "Bravo", "Charlie", "Delta")


def hear_kinds(thinking: Thinking, at: str = "0s") -> dict[str, str]:
    """Let an alert of each kind in, on hosts of their own; return the template of each."""
    for number, kind in enumerate(KINDS):
        thinking.hears(at, fires(kind, starts=at, host=f"node-{number}", note=f"{kind} is wrong"))
    found = {
        text.split(":")[0]: name
        for name, text in ((r.id, r.text) for r in thinking.tenant.templates.values())
    }
    return {kind: found[kind] for kind in KINDS}


# ---- asking ----------------------------------------------------------------------------------------------


def test_a_template_is_asked_about_once(thinking: Thinking) -> None:
    hear_kinds(thinking)
    hear_kinds(thinking, "10s")
    assert [
        ask.templates[0].text.split(":")[0] for ask in thinking.asks if isinstance(ask, EncodeAsk)
    ] == list(KINDS)


@pytest.mark.usefixtures("fits_of_three")
def test_what_is_owed_is_asked_again_after_a_restart(thinking: Thinking) -> None:
    templates = hear_kinds(thinking)
    (owed,) = outstanding(thinking.state)
    assert isinstance(owed, EncodeAsk)
    assert {template.id for template in owed.templates} == set(templates.values())
    thinking.vectors("1s", {name: vector(0.1) for name in templates.values()})
    assert outstanding(thinking.state) == []
    thinking.clock("11m")
    (fit,) = outstanding(thinking.state)
    assert isinstance(fit, FitAsk)
    thinking.families("12m", {})
    assert outstanding(thinking.state) == []


@pytest.mark.usefixtures("fits_of_three")
def test_a_fit_is_asked_for_on_the_full_ten_minutes_with_what_is_known_then(thinking: Thinking) -> None:
    templates = hear_kinds(thinking)
    few = dict.fromkeys(sorted(templates.values())[:2], vector(0.0))
    thinking.vectors("1m", few)
    thinking.clock("11m")
    assert not [ask for ask in thinking.asks if isinstance(ask, FitAsk)], "two are too few"
    thinking.vectors("12m", {sorted(templates.values())[2]: vector(0.1)})
    thinking.vectors("19m", {sorted(templates.values())[3]: vector(0.2)})
    thinking.clock("20m")
    (fit,) = [ask for ask in thinking.asks if isinstance(ask, FitAsk)]
    assert fit.fit == 1
    assert [name for name, _, _ in fit.templates] == sorted(templates.values())
    thinking.clock("2h")
    assert len([ask for ask in thinking.asks if isinstance(ask, FitAsk)]) == 1, "nothing new to fit"


@pytest.mark.usefixtures("fits_of_three")
def test_a_fit_that_was_due_without_models_comes_when_they_are_back(
    thinking: Thinking, tmp_path: Path
) -> None:
    templates = hear_kinds(thinking)
    thinking.vectors("1m", dict.fromkeys(templates.values(), vector(0.0)))
    thinking.mode("2m", model_free=True)
    thinking.clock("25m")
    thinking.mode("26m", model_free=False)
    thinking.clock("35m")
    assert [ask.fit for ask in thinking.asks if isinstance(ask, FitAsk)] == [1]
    restarted = thinking.restarted(tmp_path)
    assert same(thinking, restarted)
    assert restarted.asks == thinking.asks


@pytest.mark.usefixtures("fits_of_three")
def test_models_that_join_anew_are_asked_for_a_fit_though_nothing_grew(
    thinking: Thinking, tmp_path: Path
) -> None:
    """They have none to predict from: a new text would get no family until the templates had grown by a share."""
    templates = hear_kinds(thinking)
    thinking.vectors("1m", dict.fromkeys(templates.values(), vector(0.0)))
    thinking.clock("11m")
    thinking.families("12m", {})
    thinking.mode("13m", model_free=True)
    thinking.mode("14m", model_free=False)
    thinking.clock("25m")
    assert [ask.fit for ask in thinking.asks if isinstance(ask, FitAsk)] == [1, 2]
    assert same(thinking, thinking.restarted(tmp_path))


@pytest.mark.usefixtures("fits_of_three")
def test_a_fit_that_was_never_answered_is_not_followed_by_another_of_the_same(thinking: Thinking) -> None:
    """It may be what takes the models down, again and again."""
    templates = hear_kinds(thinking)
    thinking.vectors("1m", dict.fromkeys(templates.values(), vector(0.0)))
    thinking.clock("11m")
    for minute in range(12, 60, 2):
        thinking.mode(f"{minute}m", model_free=True)
        thinking.mode(f"{minute + 1}m", model_free=False)
    thinking.clock("2h")
    assert [ask.fit for ask in thinking.asks if isinstance(ask, FitAsk)] == [1]


# ---- acting ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("angle", "incidents"), [(0.1, 1), (1.5, 2)])
def test_alike_texts_join_what_would_stay_apart(thinking: Thinking, angle: float, incidents: int) -> None:
    templates = hear_kinds(thinking)
    thinking.vectors("1s", {templates["Alpha"]: vector(0.0), templates["Bravo"]: vector(angle)})
    thinking.hears("2000s", fires("Alpha", starts="2000s", namespace="x", host="a", note="Alpha is wrong"))
    thinking.hears("2100s", fires("Bravo", starts="2100s", namespace="x", host="b", note="Bravo is wrong"))
    late = [
        group for group in thinking.tenant.groups.values() if group.head.active_at > timeline.after("30m")
    ]
    assert len(late) == incidents
    whys = [episode.why for group in late for episode in group.episodes.values()]
    assert any("similar text (" in why for why in whys) is (incidents == 1)


def test_vectors_of_another_model_are_not_compared(thinking: Thinking) -> None:
    templates = hear_kinds(thinking)
    thinking.vectors("1s", {templates["Alpha"]: vector(0.0), templates["Bravo"]: vector(0.0) * 2})
    thinking.hears("5s", fires("Bravo", starts="5s", host="node-0", note="Bravo is wrong"))
    assert "similar text" not in thinking.events[-1].incident.episodes[-1].why


def test_vectors_and_families_of_unknown_templates_and_tenants_change_nothing(
    thinking: Thinking, tmp_path: Path
) -> None:
    thinking.vectors("0s", {"0" * 16: vector(0.0)}, tenant="nobody")
    thinking.families("1s", {"0" * 16: "f:1.1"}, tenant="nobody")
    assert thinking.state.tenants["nobody"].templates == {}
    assert same(thinking, thinking.restarted(tmp_path))


def test_families_act_on_incidents_that_are_open(thinking: Thinking, tmp_path: Path) -> None:
    templates = hear_kinds(thinking)
    thinking.families("1s", {templates["Alpha"]: "f:1.1", templates["Bravo"]: "f:1.1"})
    group = next(g for g in thinking.tenant.groups.values() if templates["Alpha"] in g.templates)
    assert "\0family f:1.1" in group.held
    assert group.head.id in thinking.tenant.index.newest("\0family f:1.1")
    assert thinking.tenant.index.newest(f"\0family t:{templates['Alpha']}") == []
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_kind_that_a_fit_renames_stays_as_usual_as_it_was(thinking: Thinking) -> None:
    """Two weeks of one kind every hour; then a fit calls it by another name."""
    beat = {"note": "Alpha is wrong", "host": "h"}
    for hour in range(14 * 24):
        thinking.hears(f"{hour}h", fires("Alpha", starts=f"{hour}h", **beat))
        thinking.hears(f"{hour * 60 + 5}m", ends("Alpha", f"{hour * 60 + 5}m", starts=f"{hour}h", host="h"))
    before = thinking.events[-1].incident.anomaly
    (template,) = thinking.tenant.templates
    thinking.families("336h", {template: "f:1.1"})
    thinking.hears("337h", fires("Alpha", starts="337h", **beat))
    after = thinking.events[-1].incident.anomaly
    assert before is not None
    assert after is not None
    assert abs(after - before) < 0.1
    thinking.mode("338h", model_free=True)
    thinking.hears("339h", fires("Alpha", starts="339h", **beat))
    freely = thinking.events[-1].incident.anomaly
    assert freely is not None
    assert abs(freely - before) < 0.1


# ---- without -----------------------------------------------------------------------------------------------


def test_without_models_it_thinks_on_and_says_so(thinking: Thinking) -> None:
    thinking.mode("0s", model_free=True)
    thinking.hears("1s", fires("A", instance="h:1", starts="1s"))
    thinking.hears("2s", fires("B", node="h", starts="2s"))
    assert len(thinking.group.episodes) == 2
    assert thinking.events[0].degraded
    thinking.mode("1m", model_free=False)
    thinking.hears("2m", fires("C", host="other", starts="2m"))
    opened = [event for event in thinking.events if event.kind is EventKind.OPENED]
    assert [event.degraded for event in opened] == [True, False]


def test_an_incident_begun_without_models_stays_marked(thinking: Thinking) -> None:
    thinking.mode("0s", model_free=True)
    thinking.hears("1s", fires("A", starts="1s"))
    thinking.mode("2s", model_free=False)
    thinking.hears("50s", ends("A", "50s", starts="1s"))
    thinking.clock("10m")
    assert [event.degraded for event in thinking.events] == [True, True, True]


def test_settings_can_switch_models_off(thinking: Thinking) -> None:
    thinking.settings("0s", replace(SHARING, models=False))
    thinking.hears("1s", fires("A", starts="1s"))
    assert thinking.events[0].degraded


def test_the_same_mode_again_changes_nothing(thinking: Thinking) -> None:
    thinking.hears("0s", fires("A"))
    before = thinking.state.picture()
    thinking.mode("0s", model_free=False)
    assert thinking.state.picture() == before
    assert thinking.state.common.clock == timeline.START
