"""Anomalies are put into a series' own past, and detectors are compared at an equal number of false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from typing_extensions import override

from bridge.analysis.characteristics import characteristics
from bridge.analysis.detectors import Bank
from bridge.analysis.detectors.bank import Floats
from bridge.analysis.detectors.counts import CountsBank
from bridge.analysis.detectors.fitted import FitAsk, ask_of
from bridge.analysis.detectors.forest import Forest
from bridge.analysis.detectors.slots import Ints
from bridge.analysis.detectors.spot import SpotBank
from bridge.analysis.trials import ALLOWED, EPISODE, REPEATS, Kind, Trial, cases, peaks, trials

POINTS = 720
TIMES = 1.7e9 + np.arange(POINTS) * 300.0


def calm(seed: int = 0) -> np.ndarray:
    return 50.0 + np.random.default_rng(seed).normal(size=POINTS)


def counts(seed: int = 0, rate: float = 0.2) -> np.ndarray:
    return np.random.default_rng(seed).poisson(rate, POINTS).astype(float)


def ask(values: np.ndarray, name: str = "s", tick: int = 1) -> FitAsk:
    return ask_of("t", name, tick, (TIMES[: len(values)], values))


class Blind(Bank):
    """Sees nothing."""

    NAME = "blind"

    @override
    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        return np.zeros(len(series))

    @override
    def learn_many(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        pass


class Nervous(Blind):
    """Cries at all there is."""

    NAME = "nervous"

    @override
    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        return np.ones(len(series))


class Simple(Blind):
    """Says how far a value is from 50, as if ten were one in a million."""

    NAME = "simple"
    SHARE = 0.08

    @override
    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        return np.minimum(1.0, np.abs(values - 50.0) * self.SHARE)


class Shy(Simple):
    """Says the same with a thousandth of the voice: its tail probabilities are all wrong."""

    NAME = "shy"
    SHARE = 0.00005


def worth(trial: Trial) -> dict[str, float]:
    return {one.model: one.worth for one in trial.tried}


def test_who_sees_nothing_and_who_cries_at_all_are_worth_nothing() -> None:
    (trial,) = trials([ask(calm())], (Blind, Nervous, Simple))
    found = worth(trial)
    assert found["blind"] == found["nervous"] == 0.0
    assert found["simple"] > 0.3


def test_who_does_not_reach_the_wished_rate_of_alarms_finds_nothing() -> None:
    (trial,) = trials([ask(calm())], (Simple, Shy))
    assert worth(trial)["shy"] == 0.0


def test_what_is_found_is_told_by_kind() -> None:
    (trial,) = trials([ask(calm())], (Simple,))
    found = trial.tried[0].found
    assert found[Kind.SPIKE] == 1.0
    assert found[Kind.FLAT] == 0.0
    assert Kind.SEASON not in found  # there is no day in it


def test_counts_are_better_watched_as_counts() -> None:
    found = worth(trials([ask(counts(rate=0.05))], (SpotBank, CountsBank))[0])
    assert found["counts"] > found["spot"] + 0.1


def test_a_trial_does_not_depend_on_what_is_tried_beside_it() -> None:
    asks = [ask(calm(1), "a"), ask(counts(2), "b"), ask(calm(3)[:510], "c"), ask(calm(4)[:100], "d")]
    candidates = (SpotBank, Forest)
    together = trials(asks, candidates)
    assert together == [trials([one], candidates)[0] for one in asks]
    assert trials(asks[::-1], candidates) == together[::-1]
    assert together != trials([ask(calm(1), "a", tick=2)], candidates) + together[1:]


def test_a_short_history_is_not_tried() -> None:
    (trial,) = trials([ask(calm()[:431])], (Simple,))
    assert trial == Trial(series="s", tick=1)


def test_who_needs_more_history_does_not_take_part() -> None:
    (trial,) = trials([ask(calm()[:432])], (Simple, Forest))
    assert [one.model for one in trial.tried] == ["simple", "isolation-forest"]
    late = type("Late", (Forest,), {"NAME": "late", "LEAST": 300})
    (trial,) = trials([ask(calm()[:432])], (Simple, late))
    assert [one.model for one in trial.tried] == ["simple"]


@pytest.mark.parametrize(
    "values", [calm(), counts(), np.full(POINTS, 3.0), np.tile([0.0, 9.0, 2.0], POINTS // 3)]
)
def test_each_case_is_the_history_but_for_one_anomaly(values: np.ndarray) -> None:
    learned = 432
    found = cases(TIMES, values, learned, characteristics(TIMES, values), np.random.default_rng(1))
    rest = values[learned:]
    assert {kind: sum(case.kind is kind for case in found) for kind in (Kind.SPIKE, Kind.SHIFT, Kind.DRIFT)} == {
        Kind.SPIKE: REPEATS, Kind.SHIFT: REPEATS, Kind.DRIFT: REPEATS,
    }  # fmt: skip
    for case in found:
        outside = np.ones(len(rest), bool)
        outside[case.first : case.after] = False
        assert (case.values[outside] == rest[outside]).all()
        if case.kind is not Kind.FLAT:
            assert (case.values[~outside] != rest[~outside]).any()
        assert case.values.min() >= min(0.0, values.min())
        if characteristics(TIMES, values).whole == 1.0:
            assert (case.values == np.floor(case.values)).all()


def test_a_day_can_be_missed_only_where_there_is_one() -> None:
    long = np.arange(2000)
    times, daily = 1.7e9 + long * 300.0, np.sin(long * 2 * np.pi / 288)
    found = cases(times, daily, 1200, characteristics(times, daily), np.random.default_rng(1))
    assert sum(case.kind is Kind.SEASON for case in found) == REPEATS


def test_crossings_that_lie_together_are_one_false_alarm() -> None:
    scores = np.zeros(600)
    scores[100:130] = 0.9
    scores[500] = 0.4
    assert peaks(scores) == [0.9, 0.4]
    scores[100 + EPISODE + 30] = 0.5
    assert peaks(scores)[ALLOWED] == 0.5
