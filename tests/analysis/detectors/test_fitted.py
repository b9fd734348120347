"""What is learned in the models' process is asked here: the same answers, without the libraries that learned it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from bridge.analysis.detectors import forest
from bridge.analysis.detectors.autoencoder import PARAMETERS, Autoencoder
from bridge.analysis.detectors.fitted import PATIENCE, FitAsk, FittedBank, ask_of
from bridge.analysis.detectors.forest import Forest
from bridge.analysis.detectors.surprise import FLAGGED, tail_of

BANKS = pytest.mark.parametrize("bank", [Forest, Autoencoder])
STEP, START = 300.0, 1.7e9


def daily(points: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    times = START + np.arange(points) * STEP
    noise = np.random.default_rng(seed).normal(size=points)
    return times, 10 + 3 * np.sin(times * 2 * np.pi / 86400) + 0.5 * noise


HISTORY = daily(2600)
FITS = {bank: bank.fit(ask_of("t", "s", 7, HISTORY)) for bank in (Forest, Autoencoder)}


def ready(bank: type[FittedBank], count: int = 1) -> Any:
    """Return a bank whose series have all been fitted and seen the end of the history."""
    made = bank(count)
    every = np.arange(count)
    for number in range(count):
        made.take(number, FITS[bank])
    for time_s, value in zip(HISTORY[0][-40:], HISTORY[1][-40:], strict=True):
        made.learn_many(every, np.full(count, time_s), np.full(count, value), np.full(count, np.nan))
    return made


@BANKS
def test_a_fit_depends_on_its_ask_and_nothing_else(bank: type[FittedBank]) -> None:
    assert bank.fit(ask_of("t", "s", 7, HISTORY)) == FITS[bank]
    for other in (ask_of("u", "s", 7, HISTORY), ask_of("t", "r", 7, HISTORY), ask_of("t", "s", 8, HISTORY)):
        assert bank.fit(other) != FITS[bank]


@BANKS
def test_too_short_a_history_is_no_fit(bank: type[FittedBank]) -> None:
    times, values = HISTORY
    assert bank.fit(ask_of("t", "s", 7, (times[: bank.LEAST - 1], values[: bank.LEAST - 1]))) is None
    holed = values.copy()
    holed[: len(values) - bank.LEAST + 1] = np.nan
    assert bank.fit(ask_of("t", "s", 7, (times, holed))) is None


@BANKS
def test_a_spike_is_stranger_than_anything_usual(bank: type[FittedBank]) -> None:
    times, values = daily(3200, seed=5)
    made, usual = ready(bank), []
    for time_s, value in zip(times[2600:], values[2600:], strict=True):
        usual.append(made.score_one(0, time_s, value))
        made.learn_one(0, time_s, value, usual[-1])
    assert made.score_one(0, times[-1] + STEP, 40.0) > max(usual)


@BANKS
def test_a_score_is_about_the_tail_probability_that_it_says(bank: type[FittedBank]) -> None:
    times, values = daily(5600, seed=6)
    made, scores = ready(bank), []
    for time_s, value in zip(times[2600:], values[2600:], strict=True):
        scores.append(made.score_one(0, time_s, value))
        made.learn_one(0, time_s, value, scores[-1])
    tails = tail_of(np.array(scores))
    assert 0.05 < np.mean(tails <= 0.1) < 0.2
    assert 0.003 < np.mean(tails <= 0.01) < 0.04


@BANKS
def test_many_series_at_once_are_scored_like_each_alone(bank: type[FittedBank]) -> None:
    made, every = ready(bank, 33), np.arange(33)
    dice = np.random.default_rng(3)
    for step in range(40):
        times = START + 1e6 + STEP * step + 60.0 * every
        values = np.where(dice.random(33) < 0.1, 1e308, dice.normal(10.0, 3.0, 33))
        whole = made.score_many(every, times, values)
        alone = [made.score_one(n, times[n], values[n]) for n in every]
        assert whole.tolist() == alone
        made.learn_many(every, times, values, whole)


@BANKS
def test_before_a_fit_and_before_the_window_is_full_nothing_is_said(bank: type[FittedBank]) -> None:
    made = bank(2)
    made.take(0, FITS[bank])
    for number in range(bank.WINDOW - 1):
        scores = made.score_many(np.arange(2), np.full(2, START + number), np.full(2, 1.0 * number))
        assert np.isnan(scores).all()
        made.learn_many(np.arange(2), np.full(2, START + number), np.full(2, 1.0 * number), scores)
    scores = made.score_many(np.arange(2), np.full(2, START), np.full(2, 1.0))
    assert np.isfinite(scores).tolist() == [True, False]


@BANKS
def test_what_is_flagged_stays_out_of_the_window_until_it_goes_on(bank: type[FittedBank]) -> None:
    made = ready(bank)
    before = made.row(0)
    window = made.recent[0].copy()
    for number in range(PATIENCE):
        made.learn_one(0, START + number, 99.0, FLAGGED)
        assert (made.recent[0] == window).all()
    made.learn_one(0, START, 99.0, 1.0)
    assert made.recent[0, -1] == 99.0
    made.put(0, before)
    made.learn_one(0, START, 99.0, FLAGGED - 0.01)
    assert made.recent[0, -1] == 99.0


@BANKS
def test_a_window_with_the_patience_spent_is_open_until_something_usual_comes(bank: type[FittedBank]) -> None:
    made = ready(bank)
    for number in range(PATIENCE + 3):
        made.learn_one(0, START, 99.0 + number, 1.0)
    assert made.recent[0, -3:].tolist() == [111.0, 112.0, 113.0]
    made.learn_one(0, START, 5.0, 0.0)
    made.learn_one(0, START, 500.0, 1.0)
    assert made.recent[0, -1] == 5.0


@BANKS
def test_a_new_fit_keeps_the_window(bank: type[FittedBank]) -> None:
    made = ready(bank)
    window = made.recent[0].copy()
    made.take(0, bank.fit(ask_of("t", "s", 8, daily(2400, seed=9))))
    assert (made.recent[0] == window).all()
    assert made.unit[0, 0] != ready(bank).unit[0, 0]


@BANKS
@pytest.mark.parametrize("values", [np.full(2600, 7.0), HISTORY[1] + 60.0], ids=["constant", "shifted"])
def test_what_a_new_fit_has_seen_is_usual(bank: type[FittedBank], values: np.ndarray) -> None:
    made = ready(bank)
    assert made.score_one(0, HISTORY[0][-1], values[-1] + 100.0) > 0.2
    made.take(0, bank.fit(ask_of("t", "s", 8, (HISTORY[0], values))))
    for time_s, value in zip(HISTORY[0][-300:], values[-300:], strict=True):
        score = made.score_one(0, time_s, value)
        made.learn_one(0, time_s, value, score)
    assert score < FLAGGED


@BANKS
def test_a_fit_of_another_length_is_refused(bank: type[FittedBank]) -> None:
    with pytest.raises(ValueError, match="bytes"):
        bank(1).take(0, FITS[bank][:-1])


@BANKS
def test_what_was_flagged_is_not_learned_unless_it_is_much(bank: type[FittedBank]) -> None:
    times, values = HISTORY
    spiked = values.copy()
    marks = np.zeros(len(values), np.bool_)
    marks[1000::100] = True
    spiked[marks] = 60.0
    fits = [bank.fit(ask_of("t", "s", 7, (times, spiked), flagged)) for flagged in (None, marks)]
    scores = []
    for fit in fits:
        made = ready(bank)
        made.take(0, fit)
        scores.append(made.score_one(0, times[-1], 60.0))
    assert scores[1] > scores[0]
    many = np.arange(len(values)) % 3 == 0
    assert bank.fit(ask_of("t", "s", 7, HISTORY, many)) == FITS[bank]


@BANKS
@pytest.mark.parametrize(
    "values",
    [
        np.zeros(2600),
        np.full(2600, 1e308),
        np.where(np.arange(2600) % 2 == 0, 1e308, -1e308),
        np.where(np.arange(2600) % 50 == 0, np.inf, 3.0),
        np.where(np.arange(2600) % 900 == 0, 5e-324, 0.0),
        np.arange(2600.0) ** 9,
    ],
    ids=["constant", "huge", "huge steps", "infinities", "almost nothing", "steep"],
)
def test_any_history_gives_scores_in_range(bank: type[FittedBank], values: np.ndarray) -> None:
    made = bank(1)
    with np.errstate(all="raise", under="ignore"):
        fit = bank.fit(ask_of("t", "s", 7, (HISTORY[0], values)))
        assert fit is not None
        made.take(0, fit)
        for number, value in enumerate([*values[:60], 1e308, -1e308, 0.0, np.nan, np.inf]):
            score = made.score_one(0, HISTORY[0][number], value)
            made.learn_one(0, HISTORY[0][number], value, score)
            assert np.isnan(score) or 0.0 <= score <= 1.0
        assert np.isfinite(made.score_one(0, HISTORY[0][-1], 1.0))


def test_paths_are_as_long_as_scikit_learn_says() -> None:
    dice = np.random.default_rng(4)
    rows = dice.normal(size=(900, forest.FEATURES)).astype(np.float32)
    rows[:, :4] = np.round(rows[:, :4])
    grown_of = np.concatenate((rows, forest.chance(rows, 11)))
    theirs = IsolationForest(n_estimators=forest.TREES, max_samples=forest.ROWS, random_state=11).fit(
        grown_of
    )
    mean = -np.log2(-theirs.score_samples(rows)) * forest._further(forest.ROWS)
    learned = [part[None] for part in forest.grown(rows, 11)]
    ours = forest.lengths(rows, np.zeros(len(rows), np.int64), *learned) / forest.TREES
    assert np.abs(ours - mean).max() < 0.5 / forest.FRACTION


def test_the_autoencoder_is_small() -> None:
    assert PARAMETERS < 20_000


def test_the_snapshot_must_fit_together() -> None:
    ask = ask_of("t", "s", 1, HISTORY)
    with pytest.raises(ValueError, match="as many"):
        FitAsk(tenant="t", series="s", tick=1, times_s=ask.times_s, values=ask.values, flagged=b"").read()


def test_scoring_loads_neither_torch_nor_scikit_learn(tmp_path: Any) -> None:
    for bank, fit in FITS.items():
        (tmp_path / bank.NAME).write_bytes(fit)
    script = f"""
import sys
from pathlib import Path
import numpy as np
from bridge.analysis.detectors.autoencoder import Autoencoder
from bridge.analysis.detectors.forest import Forest
for bank in (Forest, Autoencoder):
    made = bank(1)
    made.take(0, (Path({str(tmp_path)!r}) / bank.NAME).read_bytes())
    for number in range(50):
        made.learn_one(0, 1.7e9 + number, 10.0 + number % 3, float("nan"))
    assert made.score_one(0, 1.7e9, 500.0) > 0.1
assert not {{"torch", "sklearn", "scipy"}} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)
