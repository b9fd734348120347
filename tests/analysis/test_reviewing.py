"""A review is a pure function of its ask; a new champion comes warm, and one that goes on gets a fit."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from bridge.analysis import reviewing
from bridge.analysis.champions import Standing
from bridge.analysis.detectors.believed import Believed, BelievedCounts
from bridge.analysis.detectors.checked import Checked
from bridge.analysis.detectors.counts import CountsBank
from bridge.analysis.detectors.fitted import ask_of
from bridge.analysis.reviewing import DETECTORS, Review, ReviewAsk, Reviews, SeriesAsk, reviewed, warmed
from bridge.analysis.trials import CANDIDATES

SPOT = Standing(model="spot", reason="the usual one", since_tick=0)


def counts(points: int, rate: float = 0.3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(rate, points).astype(float)


def times(points: int) -> np.ndarray:
    return 1.7e9 + 300.0 * np.arange(points)


def ask(values: np.ndarray, standing: Standing = SPOT, name: str = "s") -> SeriesAsk:
    snapshot = ask_of("t", name, 7, (times(len(values)), values))
    return SeriesAsk(snapshot=snapshot, standing=standing, lived=len(values))


def test_all_that_is_tried_can_be_had_under_its_name() -> None:
    assert list(DETECTORS) == [candidate.NAME for candidate in CANDIDATES]
    assert [each.NAME for each in DETECTORS.values()] == list(DETECTORS)


@pytest.mark.parametrize("with_trials", [True, False])
def test_a_review_is_a_pure_function_of_its_ask_and_tells_a_reason(with_trials: bool) -> None:
    once = ask(counts(440))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(once), type=SeriesAsk)
    first, second = (reviewed([each], with_trials=with_trials) for each in (once, again))
    assert first == second
    (found,) = first
    assert (found.series, found.tick, found.lived) == ("s", 7, 440)
    assert (found.standing.model, found.standing.since_tick) == ("counts", 7)
    assert "zero" in found.standing.reason
    assert found.standing.trials == int(with_trials)
    assert (found.row, found.fit) == (warmed("counts", b"", times(440), counts(440)), b"")


def test_one_that_goes_on_needs_nothing_unless_it_is_fitted() -> None:
    values = np.random.default_rng(1).normal(size=300)
    won = replace(SPOT, model="isolation-forest", is_won=True)
    stays, goes_on = reviewed([ask(values), ask(values, won)], with_trials=False)
    assert (stays.standing, stays.row, stays.fit) == (SPOT, b"", b"")
    assert goes_on.standing == won
    assert goes_on.row == b""
    bank = DETECTORS["isolation-forest"](1)
    assert isinstance(bank, Believed)
    bank.take(0, goes_on.fit)


@pytest.mark.parametrize("model", list(DETECTORS))
def test_a_new_champion_is_as_if_it_had_lived_through_the_history(model: str) -> None:
    values = counts(2200, 4.0)
    snapshot = ask(values).snapshot
    fit = reviewing.fit_of(model, snapshot)
    bank = DETECTORS[model](3)
    if isinstance(bank, Believed) and fit:
        bank.take(1, fit)
    one = np.array([1])
    for time_s, value in zip(times(200), values[:200], strict=True):
        asked = (one, np.array([time_s]), np.array([value]))
        bank.learn_many(*asked, bank.score_many(*asked))
    assert warmed(model, fit, times(200), values[:200]) == bank.row(1)


def test_reviews_come_back_from_the_row_that_brings_them() -> None:
    answers = tuple(reviewed([ask(counts(300)), ask(counts(300), name="other")], with_trials=False))
    told = Reviews(fit=3, reviews=answers)
    assert reviewing.read(reviewing.told(told)) == told
    whole = ReviewAsk(tenant="t", fit=3, series=(ask(counts(440)),))
    assert [each.series for each in reviewing.answered(whole).reviews] == ["s"]
    large = replace(answers[0], row=b"\0" * 100)
    assert len(reviewing.told(Reviews(fit=3, reviews=(large,) * 2000))) < 100_000
    with pytest.raises(ValueError, match="no detector 'oracle'"):
        reviewing.read(
            reviewing.told(
                Reviews(
                    fit=1,
                    reviews=(
                        Review(series="s", tick=1, lived=1, standing=replace(SPOT, model="oracle")),
                    ),
                )
            )
        )  # fmt: skip


def test_what_is_believed_is_what_a_score_meant_so_far_and_the_detector_learns_as_alone() -> None:
    believed, alone, check, slot = BelievedCounts(1), CountsBank(1), Checked(1), np.array([0])
    at_once = BelievedCounts(1)
    for number, value in enumerate(counts(400, 0.2)):
        time_s = 1.7e9 + 300.0 * number
        raw = alone.score_one(0, time_s, value * (1 + number % 9))
        told = believed.score_one(0, time_s, value * (1 + number % 9))
        assert np.array_equal(told, check.score_many(slot, np.array([raw]))[0], equal_nan=True)
        believed.learn_one(0, time_s, value * (1 + number % 9), told)
        once = at_once.taken_in(slot, np.array([time_s]), np.array([value * (1 + number % 9)]))
        assert np.array_equal(once[0], told, equal_nan=True)
        alone.learn_one(0, time_s, value * (1 + number % 9), raw)
        check.learn_many(slot, np.array([raw]))
    assert believed.row(0) == at_once.row(0) == alone.row(0) + check.row(0)
    with pytest.raises(ValueError, match="not fitted"):
        believed.take(0, b"")
    with pytest.raises(ValueError, match="bytes"):
        believed.put(0, b"short")
