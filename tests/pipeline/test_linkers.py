"""What links are learned from, when a linker is asked for, and what becomes of the answer."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import msgspec
import pytest
import zstandard
from linked import pay, shop
from linkers import BY_RELATION, TOGETHER, fitted
from msgspec.structs import replace
from thinking import Thinking, fires, same
from timeline import after

from bridge.analysis.gate import LinkAsk, linker_row
from bridge.analysis.learning import Table
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.topology import Call, Chart, Service
from bridge.analysis.trees import Grown
from bridge.model import RowKind
from bridge.pipeline import linkers, outstanding

AUTO = AnalysisSettings()  # with a way that nobody may learn, nothing is learned
CHART = Chart(origin="file", services=(Service(name="shop"), Service(name="db")), calls=(Call(0, 1),))


def asks(thinking: Thinking) -> list[LinkAsk]:
    return [ask for ask in thinking.asks if isinstance(ask, LinkAsk)]


def sees(thinking: Thinking, number: int, *, begin_s: int = 0, every_s: int = 5, name: str = "Slow") -> int:
    """Let alerts come one at a time; return when the last one did."""
    for each in range(number):
        at = f"{begin_s + each * every_s}s"
        thinking.hears(at, fires(f"{name}{each % 7}", starts=at, service="shop", host=f"{name}-{each}"))
    return begin_s + (number - 1) * every_s


@pytest.fixture(autouse=True)
def little_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty alerts are enough for a linker, and twenty more are news."""
    monkeypatch.setattr(linkers, "LEAST_SIGHTINGS", 30)
    monkeypatch.setattr(linkers, "LEAST_NEWS", 20)


def test_the_first_linker_is_asked_for_on_a_full_ten_minutes() -> None:
    thinking = Thinking(AUTO)
    sees(thinking, 29)
    assert thinking.tenant.record.learn_at is None
    sees(thinking, 1, begin_s=301, name="Last")
    assert thinking.tenant.record.learn_at == after("600s")
    thinking.clock("599s")
    assert asks(thinking) == []
    thinking.clock("601s")
    (ask,) = asks(thinking)
    assert (ask.tenant, ask.fit, len(ask.sightings)) == ("default", 1, 30)
    thinking.clock("1h")
    assert len(asks(thinking)) == 1, "it knows all there is"


def test_a_real_tenant_needs_three_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert (linkers.LEAST_SIGHTINGS, linkers.MAX_SIGHTINGS) == (300, 8000)
    thinking = Thinking(AUTO)
    for number in range(6):
        thinking.hears(
            f"{number * 5 + 1}s",
            *(shop(f"A{each}", "0s", host=f"{number}-{each}") for each in range(49 if number else 54)),
        )
    assert len(thinking.tenant.sightings) == 299
    thinking.clock("601s")
    thinking.hears("602s", pay("Last", "602s"))
    thinking.clock("1201s")
    assert [len(ask.sightings) for ask in asks(thinking)] == [300]


def test_the_next_is_asked_for_when_there_is_much_more_to_learn_from() -> None:
    thinking = Thinking(AUTO)
    sees(thinking, 100)
    thinking.clock("601s")
    sees(thinking, 34, begin_s=700, name="More")
    thinking.clock("1201s")
    assert len(asks(thinking)) == 1, "a third is not enough"
    sees(thinking, 1, begin_s=1300, name="Last")
    thinking.clock("1801s")
    assert [len(ask.sightings) for ask in asks(thinking)] == [100, 135]
    assert [ask.fit for ask in asks(thinking)] == [1, 2]


def test_after_a_day_some_news_is_enough() -> None:
    thinking = Thinking(AUTO)
    sees(thinking, 100)
    thinking.clock("601s")
    sees(thinking, 20, begin_s=86_000, name="More")
    thinking.clock("86401s")
    assert len(asks(thinking)) == 1
    sees(thinking, 1, begin_s=87_100, name="Last")
    thinking.clock("87601s")
    assert len(asks(thinking)) == 2


@pytest.mark.parametrize(("grouping", "number"), [("auto", 1), ("linker", 1), ("entities", 0), ("bursts", 0)])
def test_nobody_learns_what_the_settings_do_not_use(grouping: str, number: int) -> None:
    thinking = Thinking(AnalysisSettings(grouping=grouping))  # type: ignore[arg-type]
    sees(thinking, 40)
    thinking.clock("1h")
    assert len(asks(thinking)) == number
    assert len(thinking.tenant.sightings) == 40, "but it is kept, for when they do"


# ---- lessons ---------------------------------------------------------------------------------------------


def confirms(thinking: Thinking, at: str, action: str) -> None:
    incident = min(thinking.tenant.groups)
    thinking.says(at, action, "useful", incident=incident, confirm=True)
    assert action in thinking.tenant.lessons


def test_a_new_lesson_waits_some_hours_and_one_that_was_taken_back_does_not() -> None:
    thinking = Thinking(AUTO)
    sees(thinking, 40)
    thinking.clock("601s")
    confirms(thinking, "700s", "act-1")
    thinking.clock("2h")
    assert len(asks(thinking)) == 1
    thinking.hears("7h", pay("Errors", "7h"))
    thinking.clock("8h")
    assert [len(ask.taught) for ask in asks(thinking)] == [0, 1]
    thinking.says("29000s", "act-2", "undo", undoes="act-1")
    thinking.clock("29401s")
    assert [len(ask.taught) for ask in asks(thinking)] == [0, 1, 0]


def test_an_ask_holds_what_a_fit_needs() -> None:
    thinking = Thinking(AnalysisSettings(sensitivity=0.7, window_s=600.0))
    thinking.topology("0s", CHART)
    sees(thinking, 40)
    templates = sorted(thinking.tenant.templates)
    thinking.vectors("250s", {templates[0]: b"\x00\x3c\x00\x00"})
    thinking.families("251s", {templates[1]: "f:1.1"})
    confirms(thinking, "252s", "act-1")
    thinking.clock("601s")
    (ask,) = asks(thinking)
    assert sorted(ask.families) == templates
    assert ask.families[templates[1]] == "f:1.1"
    assert ask.families[templates[0]] == f"t:{templates[0]}"
    assert ask.vectors == {templates[0]: b"\x00\x3c\x00\x00"}
    assert (ask.charts, ask.label) == ((CHART,), "service")
    assert (ask.sensitivity, ask.window_s) == (0.7, 600.0)
    (taught,) = ask.taught
    assert taught.incident == min(thinking.tenant.groups)
    assert [len(group) for group in taught.groups] == [
        len(thinking.tenant.groups[min(thinking.tenant.groups)].episodes)
    ]
    first = ask.sightings[0]
    assert (first.source, first.starts_at, first.labels["host"]) == ("default", after("0s"), "Slow-0")
    assert set(taught.groups[0]) <= {each.key for each in ask.sightings}


def test_without_models_an_ask_holds_no_vectors() -> None:
    thinking = Thinking(AUTO)
    sees(thinking, 40)
    thinking.vectors("250s", {min(thinking.tenant.templates): b"\x00\x3c\x00\x00"})
    thinking.mode("300s", model_free=True)
    thinking.clock("601s")
    assert [ask.vectors for ask in asks(thinking)] == [{}]


# ---- the answer ------------------------------------------------------------------------------------------


def test_a_linker_that_was_asked_for_before_the_one_in_force_comes_too_late(tmp_path: Path) -> None:
    thinking = Thinking()
    thinking.linker("0s", fitted(BY_RELATION, fit=4))
    thinking.linker("1s", fitted(TOGETHER, fit=3))
    assert thinking.tenant.link_fit == fitted(BY_RELATION, fit=4)
    assert thinking.tenant.record.link_since == after("0s")
    assert same(thinking, thinking.restarted(tmp_path))
    thinking.linker("2s", fitted(TOGETHER, fit=5))
    assert thinking.tenant.link_fit == fitted(TOGETHER, fit=5)
    assert thinking.tenant.record.link_done == 5


# ---- bounds ----------------------------------------------------------------------------------------------


def test_of_one_tick_so_many_alerts_are_kept() -> None:
    thinking = Thinking(AUTO)
    thinking.hears("1s", *(shop("Slow", "0s", host=f"h-{number}") for number in range(70)))
    thinking.hears("4s", pay("Errors", "4s"))
    assert len(thinking.tenant.sightings) == linkers.MAX_IN_TICK
    thinking.hears("6s", pay("Latency", "6s"))
    assert len(thinking.tenant.sightings) == linkers.MAX_IN_TICK + 1


def test_of_all_the_newest_are_kept_in_memory_and_in_the_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(linkers, "MAX_SIGHTINGS", 12)
    thinking = Thinking(AUTO)
    sees(thinking, 40)
    assert list(thinking.tenant.sightings) == list(range(29, 41))
    loaded = thinking.restarted(tmp_path)
    assert same(thinking, loaded)
    assert list(loaded.tenant.sightings) == list(range(29, 41))


def test_an_alert_of_a_hundred_labels_is_not_learned_from() -> None:
    thinking = Thinking(AUTO)
    thinking.hears("0s", fires("Huge", **{f"label_{number}": "x" for number in range(100)}))
    assert thinking.tenant.sightings == {}


def test_own_troubles_are_not_learned_from() -> None:
    thinking = Thinking(AUTO)
    thinking.hears("0s", fires("TocsinDiskFull"), source="tocsin")
    assert thinking.tenant.sightings == {}


# ---- answers ---------------------------------------------------------------------------------------------


def changed(**fields: object) -> bytes:
    fit = fitted(BY_RELATION)
    return linker_row(replace(fit, linker=replace(fit.linker, **fields)))


GOOD = fitted(TOGETHER)
BAD: dict[str, bytes] = {
    "no JSON": b"{",
    "a list": b"[]",
    "nothing in it": b"{}",
    "no base64": b'{"linker": "???"}',
    "a number": b'{"linker": 7}',
    "not packed": json.dumps({"linker": base64.b64encode(b"hello").decode()}).encode(),
    "something else": json.dumps(
        {"linker": base64.b64encode(zstandard.compress(msgspec.msgpack.encode({"fit": "x"}))).decode()}
    ).encode(),
    "cut short": linker_row(GOOD)[:-40] + b'"}',
    "half a cell": changed(table=Table(families=("a",), cells=b"\x00\x00")),
    "cells without lifts": changed(table=Table(families=("a",), cells=b"\x00" * 8)),
    "families without company": changed(table=Table(families=("a", "b"))),
    "trees without leaves": changed(
        unlabelled=Grown(trees=3, base=0.0, tree=b"", feature=b"", threshold=b"", remain=b"", leaves=b"")
    ),
    "tests of no tree": changed(
        unlabelled=Grown(
            trees=0, base=0.0, tree=b"\x00\x00", feature=b"\x00", threshold=b"\x00" * 4, remain=b"\x00" * 4, leaves=b""
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_linker_is_set_aside_and_the_one_before_goes_on(what: str) -> None:
    thinking = Thinking(AUTO)
    thinking.linker("0s", GOOD)
    outcome = thinking.row("1s", RowKind.LINKER, BAD[what])
    assert [each.reason.split(":")[0] for each in outcome.quarantined] == ["not a linker"]
    assert thinking.tenant.link_fit == GOOD
    thinking.hears("2s", shop("Errors", "2s"))
    thinking.hears("3s", pay("Latency", "3s"))
    assert len(thinking.tenant.groups) == 1


def test_a_linker_acts_from_the_row_that_brings_it_and_survives_a_restart(tmp_path: Path) -> None:
    thinking = Thinking(AUTO)
    thinking.hears("0s", shop("Errors", "0s", cluster="a"))
    thinking.hears("1s", fires("Cert", starts="1s", host="mail-1", cluster="b"))
    assert len(thinking.tenant.groups) == 2
    thinking.linker("2s", GOOD)
    thinking.hears("3s", pay("Latency", "3s"))
    assert len(thinking.tenant.groups) == 2
    other = thinking.restarted(tmp_path)
    assert other.tenant.link_fit == GOOD
    assert same(thinking, other)


def test_an_ask_without_an_answer_is_asked_again_after_a_restart(tmp_path: Path) -> None:
    thinking = Thinking(AUTO)
    sees(thinking, 40)
    thinking.clock("601s")
    (ask,) = asks(thinking)
    loaded = thinking.restarted(tmp_path).state
    assert [each for each in outstanding(loaded) if isinstance(each, LinkAsk)] == [ask]
    thinking.linker("700s", fitted(fit=1))
    assert not [each for each in outstanding(thinking.state) if isinstance(each, LinkAsk)]


def test_a_late_answer_does_not_hide_that_a_newer_one_is_outstanding() -> None:
    thinking = Thinking(AUTO)
    sees(thinking, 40)
    thinking.clock("601s")
    sees(thinking, 40, begin_s=700, name="More")
    thinking.clock("1201s")
    assert [ask.fit for ask in asks(thinking)] == [1, 2]
    thinking.linker("1300s", fitted(fit=1))
    assert [each.fit for each in outstanding(thinking.state) if isinstance(each, LinkAsk)] == [2]
