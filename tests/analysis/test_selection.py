"""Who speaks for a series follows from what it is like and from trials, and can be told in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

from bridge.analysis.champions import WORST_WORD, Standing, heard, word_against
from bridge.analysis.characteristics import UNSEEN, Characteristics, characteristics
from bridge.analysis.selection import (
    MARGIN,
    WINS,
    begun,
    classed,
    judged,
    refreshed,
    threshold,
)
from bridge.analysis.trials import Trial, Tried

TIMES = 1.7e9 + np.arange(2880) * 300.0
DICE = np.random.default_rng(0)
DAY = np.sin(TIMES * 2 * math.pi / 86400)

SERIES = {
    "rare": (DICE.poisson(0.05, 2880), "counts", "zero"),
    "few": (DICE.poisson(1.0, 2880), "counts", "small counts"),
    "daily": (DAY + 0.2 * DICE.normal(size=2880), "spot", "each day"),
    "patterned": (np.tile([0, 0, 1, 5, 9, 4, 1.5, 0, 0, 0.5], 288) + 0.2 * DICE.normal(size=2880), "shape", "same shape"),
    "walking": (np.cumsum(DICE.normal(size=2880)), "spot", "level moves"),
    "calm": (DICE.normal(size=2880), "spot", "level holds"),
    "flat": (np.full(2880, 0.5), "spot", "one value"),
}  # fmt: skip


def seen(name: str) -> Characteristics:
    return characteristics(TIMES, SERIES[name][0].astype(float))


def trial(tick: int = 1, **worths: float) -> Trial:
    tried = tuple(Tried(model=model, worth=worth, found={"spike": 1.0}) for model, worth in worths.items())
    return Trial(series="s", tick=tick, tried=tried)


STANDING = Standing(model="spot", reason="its level holds", since_tick=0)


@pytest.mark.parametrize("name", SERIES)
def test_the_class_of_a_series_chooses_and_says_why(name: str) -> None:
    _, model, words = SERIES[name]
    choice = classed(seen(name))
    assert choice.model == model
    assert words in choice.reason


def test_a_young_series_is_told_by_its_values() -> None:
    assert classed(replace(UNSEEN, points=50, whole=1.0)).model == "counts"
    assert classed(replace(UNSEEN, points=50, whole=0.2)).model == "spot"


def test_a_challenger_replaces_the_champion_only_after_winning_again_and_again() -> None:
    standing = STANDING
    for number in range(1, WINS):
        standing = judged(standing, trial(spot=0.5, forest=0.51 + MARGIN))
        assert (standing.model, standing.challenger, standing.wins) == ("spot", "forest", number)
    after = judged(standing, trial(tick=9, spot=0.5, forest=0.9))
    assert (after.model, after.since_tick, after.is_won, after.wins) == ("forest", 9, True, 0)
    assert "won 3 trials" in after.reason
    assert "100% of spikes" in after.reason


@pytest.mark.parametrize(
    "between",
    [trial(spot=0.5, forest=0.5 + MARGIN / 2), trial(spot=0.5, shape=0.9), trial(spot=0.9, forest=0.1)],
)
def test_a_row_of_wins_that_is_broken_begins_anew(between: Trial) -> None:
    win = trial(spot=0.5, forest=0.51 + MARGIN)
    standing = judged(judged(judged(STANDING, win), win), between)
    standing = judged(standing, win)
    assert standing.model == "spot"
    assert standing.wins == 1


def test_a_history_that_was_too_short_changes_nothing() -> None:
    assert judged(STANDING, Trial(series="s", tick=3)) == STANDING


def test_false_alarms_count_against_the_champion_and_useful_ones_for_it() -> None:
    blamed = STANDING
    for _ in range(12):
        blamed = heard(blamed, useful=False)
    assert 0.0 < word_against(blamed) < WORST_WORD
    close = trial(spot=0.6, forest=0.5 + MARGIN)
    assert judged(blamed, close).challenger == "forest"
    assert judged(STANDING, close).challenger == ""
    praised = blamed
    for _ in range(40):
        praised = heard(praised, useful=True)
    assert judged(praised, close).challenger == ""
    won = judged(replace(blamed, challenger="forest", wins=WINS - 1), close)
    assert (won.model, won.false_alarms) == ("forest", 0)


def test_the_class_is_asked_again_until_a_trial_was_won() -> None:
    young = begun(replace(UNSEEN, points=50), 1)
    assert (young.model, young.reason) == ("spot", "50 points so far")
    grown = refreshed(young, seen("rare"), 2)
    assert (grown.model, grown.since_tick) == ("counts", 2)
    assert refreshed(replace(young, is_won=True), seen("rare"), 2).model == "spot"
    assert refreshed(grown, seen("few"), 3).since_tick == 2


def test_the_threshold_is_the_wished_number_of_false_alarms() -> None:
    dice = np.random.default_rng(3)
    scores = -np.log10(dice.random((50, 20_160))) / 12
    assert np.sum(scores >= threshold(100.0, 20_160, series=50)) == pytest.approx(100, abs=30)


def test_the_more_is_watched_the_stranger_an_alarm_must_be() -> None:
    assert threshold(1.0, 2016) < threshold(1.0, 2016, series=10) < threshold(1.0, 10_080, series=10)
    assert threshold(1.0, 2016, series=0) == threshold(1.0, 2016)
