"""Whose detectors are reviewed and when, what becomes of the answer, and what people say of an anomaly."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
import reviewed
import timeline
from msgspec.structs import replace
from thinking import Thinking, same

from bridge.analysis import reviewing
from bridge.analysis.reviewing import ReviewAsk
from bridge.analysis.samples import Line, Samples
from bridge.model import RowKind
from bridge.pipeline import histories, outstanding, reviews

#: It is three in the morning at the beginning of a timeline; until the next midnight it is so long.
MIDNIGHT_S = 21 * 3600
BEGIN_S = timeline.START.timestamp()


def comes(
    thinking: Thinking, names: Iterable[str], first: int, number: int, *, step_s: float = 300.0, at_s: float | None = None,
    extra: float = 0.0, tenant: str = "default",
) -> None:  # fmt: skip
    """Let values come for some series, all in one row."""
    lines = tuple(
        Line(labels={}, points=tuple(
            (BEGIN_S + step_s * each, random.Random(f"{name}{each}").gauss(10.0, 1.0) + extra)
            for each in range(first, first + number)
        ))
        for name in names
    )  # fmt: skip
    for name, line in zip(names, lines, strict=True):
        row = Samples(name=name, step_s=step_s, lines=(line,))
        at = at_s if at_s is not None else step_s * (first + number)
        thinking.row(f"{at}s", RowKind.SAMPLES, msgspec.json.encode(row), tenant=tenant)


def asks(thinking: Thinking) -> list[ReviewAsk]:
    return [ask for ask in thinking.asks if isinstance(ask, ReviewAsk)]


def takes(thinking: Thinking, at: str, *answers: reviewing.Review, fit: int = 1) -> None:
    thinking.row(at, RowKind.REVIEWS, reviewed.told(*answers, fit=fit))


def models(thinking: Thinking) -> dict[str, str]:
    return {name: known.standing.model for name, known in sorted(thinking.tenant.measured.items())}


# ---- asking ----------------------------------------------------------------------------------------------


def test_series_are_reviewed_at_midnight_with_their_past_and_once_a_night(tmp_path: Path) -> None:
    thinking = Thinking()
    comes(thinking, ["a", "b"], 0, 220)
    comes(thinking, ["young"], 0, 100)
    thinking.clock(f"{MIDNIGHT_S - 1}s")
    assert asks(thinking) == []
    thinking.clock(f"{MIDNIGHT_S + 3600}s")
    (ask,) = asks(thinking)
    assert (ask.tenant, ask.fit) == ("default", 1)
    assert [each.snapshot.series for each in ask.series] == ["a", "b"]
    times_s, values, _ = ask.series[0].snapshot.read()
    assert (len(values), times_s[0], ask.series[0].lived) == (220, BEGIN_S, 220)
    assert outstanding(thinking.state)[-1] == ask
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_night_has_portions_and_none_while_one_is_being_reviewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "PORTION", 2)
    thinking = Thinking()
    comes(thinking, "abcde", 0, 210)
    thinking.clock(f"{MIDNIGHT_S + 1500}s")
    assert [each.snapshot.series for ask in asks(thinking) for each in ask.series] == ["a", "b"]
    takes(thinking, f"{MIDNIGHT_S + 1501}s", fit=1)
    thinking.clock(f"{MIDNIGHT_S + 3000}s")
    takes(thinking, f"{MIDNIGHT_S + 3001}s", fit=2)
    thinking.clock(f"{MIDNIGHT_S + 9000}s")
    assert [each.snapshot.series for ask in asks(thinking) for each in ask.series] == [*"abcde"]
    thinking.clock(f"{MIDNIGHT_S + 80_000}s")
    assert len(asks(thinking)) == 3, "the night is over, and so is who is due"
    thinking.clock(f"{MIDNIGHT_S + 87_000}s")
    assert [each.snapshot.series for each in asks(thinking)[-1].series] == ["a", "b"], "the next night"


def test_a_night_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "PORTION", 1)
    monkeypatch.setattr(reviews, "NIGHT_S", 900.0)
    thinking = Thinking()
    comes(thinking, "abcde", 0, 210)
    for slot in range(20):
        thinking.clock(f"{MIDNIGHT_S + 300 * slot + 1}s")
        takes(thinking, f"{MIDNIGHT_S + 300 * slot + 2}s", fit=slot + 1)
    assert len(asks(thinking)) == 3


def test_without_models_nobody_is_asked() -> None:
    thinking = Thinking()
    thinking.mode("0s", model_free=True)
    comes(thinking, "ab", 0, 210)
    thinking.clock(f"{MIDNIGHT_S + 3600}s")
    assert asks(thinking) == []
    thinking.mode(f"{MIDNIGHT_S + 3601}s", model_free=False)
    thinking.clock(f"{MIDNIGHT_S + 90_000}s")
    assert len(asks(thinking)) == 1


def test_an_answer_that_never_comes_costs_one_night() -> None:
    thinking = Thinking()
    comes(thinking, "a", 0, 210)
    thinking.clock(f"{MIDNIGHT_S + 90_000}s")
    assert [ask.fit for ask in asks(thinking)] == [1, 2]


def test_of_too_many_the_busiest_are_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for room in ("measuring", "reviews"):
        monkeypatch.setattr(f"bridge.pipeline.{room}.MAX_BUSY", 2)
    monkeypatch.setattr(histories, "BLOCK", 64)
    thinking = Thinking()
    comes(thinking, ["slow", "quick"], 0, 210)
    comes(thinking, ["quicker"], 0, 210, step_s=60.0, at_s=63_000.0)
    assert set(thinking.tenant.histories) == {"slow", "quick"}, "those that came first, until midnight"
    assert models(thinking) == dict.fromkeys(("quick", "quicker", "slow"), "spot"), (
        "all have one for their kind"
    )
    thinking.clock(f"{MIDNIGHT_S + 1}s")
    assert set(thinking.tenant.histories) == {"quick", "quicker"}
    comes(thinking, ["quicker"], 210, 40, step_s=60.0, at_s=MIDNIGHT_S + 10.0)
    assert len(thinking.tenant.histories["quicker"].read()[1]) == 40, "from then on"
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_tenant_with_many_series_leaves_others_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("measuring", "reviews"):
        monkeypatch.setattr(f"bridge.pipeline.{room}.MAX_BUSY", 3)
    thinking = Thinking()
    comes(thinking, ["a", "b", "c", "d"], 0, 210, step_s=60.0, at_s=63_000.0)
    comes(thinking, ["slow", "slower"], 0, 210, at_s=63_000.0, tenant="other")
    thinking.clock(f"{MIDNIGHT_S + 1}s")
    busy = {
        name: [series for series, known in sorted(tenant.measured.items()) if known.is_busy]
        for name, tenant in thinking.state.tenants.items()
    }
    assert busy == {"default": ["a", "b"], "other": ["slow"]}


# ---- answers ---------------------------------------------------------------------------------------------


def asked(number: int = 210) -> Thinking:
    """Return the thinking of a night in which series `a` is being reviewed."""
    thinking = Thinking()
    comes(thinking, "a", 0, number)
    thinking.clock(f"{MIDNIGHT_S + 1}s")
    return thinking


@pytest.mark.parametrize("model", ["counts", "shape", "isolation-forest", "autoencoder"])
def test_a_new_champion_speaks_as_if_it_had_learned_all_along(model: str, tmp_path: Path) -> None:
    thinking = asked()
    (ask,) = asks(thinking)
    (series,) = ask.series
    comes(thinking, "a", 210, 40, at_s=MIDNIGHT_S + 2.0)
    times_s, values, _ = series.snapshot.read()
    fit = reviewed.FITS[model]
    row = reviewing.warmed(model, fit, times_s, values)
    answer = reviewed.review("a", model, lived=series.lived, tick=series.snapshot.tick)
    takes(thinking, f"{MIDNIGHT_S + 60}s", replace(answer, row=row))
    assert models(thinking) == {"a": model}
    past_s, past, _ = thinking.tenant.histories["a"].read()
    assert thinking.tenant.banks.row("a", model) == reviewing.warmed(model, fit, past_s, past)
    assert (thinking.tenant.record.review_done, outstanding(thinking.state)) == (1, [])
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_champion_that_goes_on_gets_its_new_fit(tmp_path: Path) -> None:
    thinking = asked()
    tick = asks(thinking)[0].series[0].snapshot.tick
    takes(thinking, f"{MIDNIGHT_S + 60}s", reviewed.review("a", "isolation-forest", lived=210, tick=tick))
    before = thinking.tenant.banks.row("a", "isolation-forest")
    other = reviewed.review("a", "isolation-forest", lived=210, tick=tick, is_new=False)
    fit = bytearray(other.fit)
    fit[0:8] = b"\0" * 8  # the middle of its unit
    takes(thinking, f"{MIDNIGHT_S + 70}s", replace(other, fit=bytes(fit)), fit=2)
    after = thinking.tenant.banks.row("a", "isolation-forest")
    assert after != before
    assert len(after) == len(before)
    assert same(thinking, thinking.restarted(tmp_path))


@pytest.mark.parametrize(
    "what", ["is unknown", "is too old", "is of another of that name", "comes twice", "has no row"]
)
def test_a_review_that_fits_nobody_changes_nothing(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    thinking = asked()
    tick = asks(thinking)[0].series[0].snapshot.tick
    answer = reviewed.review("a", "shape", lived=210, tick=tick)
    if what == "is unknown":
        answer = replace(answer, series="b")
    elif what == "is too old":
        monkeypatch.setattr(reviews, "LATE", 3)
        answer = replace(answer, lived=206)
    elif what == "is of another of that name":
        answer = replace(answer, tick=int(BEGIN_S))
    elif what == "comes twice":
        takes(thinking, f"{MIDNIGHT_S + 60}s", fit=1)
    else:
        answer = replace(answer, row=b"")
    takes(thinking, f"{MIDNIGHT_S + 61}s", answer)
    assert models(thinking) == {"a": "spot"}
    assert thinking.tenant.record.review_done == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"fit":1,"reviews":"?"}', b'{"fit":1,"reviews":"AAAA"}', reviewed.told(
        replace(reviewed.review("a", "shape", lived=1, tick=1), standing=replace(
            reviewed.review("a", "shape", lived=1, tick=1).standing, model="oracle")), fit=1)],
)  # fmt: skip
def test_nonsense_goes_to_quarantine(body: bytes) -> None:
    thinking = asked()
    outcome = thinking.row(f"{MIDNIGHT_S + 60}s", RowKind.REVIEWS, body)
    assert [each.reason[:10] for each in outcome.quarantined] == ["no reviews"]
    assert models(thinking) == {"a": "spot"}


def test_a_row_of_another_release_begins_anew() -> None:
    thinking = asked()
    tick = asks(thinking)[0].series[0].snapshot.tick
    answer = replace(reviewed.review("a", "shape", lived=210, tick=tick), row=b"short")
    takes(thinking, f"{MIDNIGHT_S + 60}s", answer)
    assert models(thinking) == {"a": "shape"}


# ---- what people say -------------------------------------------------------------------------------------


def alarmed() -> tuple[Thinking, str]:
    """Return a thinking with an incident that series `a` opened."""
    thinking = Thinking()
    comes(thinking, "ab", 0, 300, at_s=300.0 * 299 + 10)
    comes(thinking, "a", 300, 3, at_s=300.0 * 302 + 10, extra=60.0)
    (group,) = thinking.tenant.groups.values()
    assert group.head.origin == "anomaly"
    return thinking, group.head.id


def words(thinking: Thinking, name: str = "a") -> tuple[int, int]:
    standing = thinking.tenant.measured[name].standing
    return standing.useful, standing.false_alarms


def test_a_word_reaches_the_series_that_spoke_once_and_is_taken_back(tmp_path: Path) -> None:
    thinking, incident = alarmed()
    thinking.says("91000s", "one", "false_alarm", incident=incident)
    assert (words(thinking), words(thinking, "b")) == ((0, 1), (0, 0))
    thinking.says("91001s", "two", "false_alarm", incident=incident)
    assert words(thinking) == (0, 1), "of one alarm one word counts"
    thinking.says("91002s", "three", "useful", incident=incident)
    assert words(thinking) == (1, 0)
    thinking.says("91003s", "four", "undo", undoes="three")
    assert words(thinking) == (0, 1)
    thinking.says("91004s", "five", "undo", undoes="two")
    thinking.says("91005s", "six", "undo", undoes="one")
    assert words(thinking) == (0, 0)
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_word_while_a_review_is_made_stays_and_one_of_another_model_does_not_count() -> None:
    thinking, incident = alarmed()
    thinking.says("91000s", "one", "false_alarm", incident=incident)
    tick = int(BEGIN_S) + 91_000
    lived = thinking.tenant.measured["a"].values
    same_one = reviewed.review("a", "spot", lived=lived, tick=tick, is_new=False)
    takes(thinking, "91060s", same_one, fit=1)
    assert words(thinking) == (0, 1)
    takes(thinking, "91070s", reviewed.review("a", "shape", lived=lived, tick=tick), fit=2)
    assert words(thinking) == (0, 0), "they were of the one that spoke"
    thinking.says("91080s", "two", "useful", incident=incident)
    assert words(thinking) == (0, 0)
    thinking.says("91090s", "three", "undo", undoes="two")
    assert words(thinking) == (0, 0)
