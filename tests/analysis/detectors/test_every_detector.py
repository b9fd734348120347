"""The contract of `bridge.analysis.detectors`, kept by every detector: add a new one to `DETECTORS`."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from fitted_banks import ReadyAutoencoder, ReadyForest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.analysis.detectors import Bank
from bridge.analysis.detectors.believed import BelievedCounts
from bridge.analysis.detectors.counts import CountsBank
from bridge.analysis.detectors.shape import ShapeBank
from bridge.analysis.detectors.spot import SpotBank
from bridge.analysis.detectors.surprise import is_flagged, threshold_for

LEARNERS: list[type[Bank]] = [CountsBank, SpotBank, ShapeBank, BelievedCounts]
#: A fitted detector takes a new level for usual with its next fit: see `test_fitted`.
DETECTORS = [*LEARNERS, ReadyForest, ReadyAutoencoder]

STEP_S = 300.0
ROWS = 360


@pytest.fixture(params=LEARNERS, ids=lambda detector: detector.__name__)
def learner(request) -> type[Bank]:
    return request.param


@pytest.fixture(params=DETECTORS, ids=lambda detector: detector.__name__)
def detector(request) -> type[Bank]:
    return request.param


def usual(seed: int = 0, rows: int = ROWS) -> np.ndarray:
    """Return counts of a busy series: what any detector can live with."""
    hours = np.arange(rows) * STEP_S / 3600
    return np.random.default_rng(seed).poisson(6 + 3 * np.sin(hours * np.pi / 12)).astype(float)


def times(rows: int = ROWS) -> np.ndarray:
    return 1_700_000_000 + STEP_S * np.arange(rows)


def play(bank: Bank, values, when=None, slot: int = 0) -> np.ndarray:
    """Score and learn one value after the other; return the scores."""
    found = []
    for time_s, value in zip(times(len(values)) if when is None else when, values, strict=True):
        score = bank.score_one(slot, time_s, value)
        bank.learn_one(slot, time_s, value, score)
        found.append(score)
    return np.array(found)


def same(first, second) -> bool:
    return np.array_equal(first, second, equal_nan=True)


# ---- what a score is -----------------------------------------------------------------------------------


def test_scores_are_between_0_and_1_after_a_warm_up_without_any(detector):
    scores = play(detector(1), usual())
    warm = int(np.flatnonzero(~np.isnan(scores))[0])
    assert 2 <= warm <= 400
    assert not np.isnan(scores[warm:]).any()
    assert (scores[warm:] >= 0).all()
    assert (scores[warm:] <= 1).all()


def test_what_is_usual_is_seldom_flagged_and_what_is_wild_is(detector):
    values = usual()
    values[-1] = 500.0
    scores = play(detector(1), values)
    assert is_flagged(scores[:-1]).mean() < 0.01
    assert is_flagged(scores[-1:])
    assert scores[-1] == np.nanmax(scores)


def test_the_threshold_of_a_wish_keeps_the_wish_on_quiet_series(detector):
    """Scores mean tail probabilities: on independent values there are not more alarms than were wished for."""
    rows, series = 1300, 12
    values = np.column_stack([usual(seed, rows) for seed in range(series)])
    scores = play_many(detector(series), values)[900:]
    wished = 20.0
    alarms = (scores >= threshold_for(wished, 7 * 86400 / STEP_S)).sum()
    weeks = scores.size * STEP_S / (7 * 86400)
    assert alarms / weeks <= 2 * wished


def play_many(bank: Bank, values: np.ndarray) -> np.ndarray:
    series = np.arange(values.shape[1])
    found = []
    for time_s, row in zip(times(len(values)), values, strict=True):
        when = np.full(len(series), time_s)
        score = bank.score_many(series, when, row)
        bank.learn_many(series, when, row, score)
        found.append(score)
    return np.array(found)


# ---- purity and determinism ----------------------------------------------------------------------------


def test_scoring_changes_nothing_and_neither_verb_changes_its_input(detector):
    bank = detector(2)
    play(bank, usual())
    before = bank.state()
    series, when, values = np.array([1, 0]), np.array([1.7e9, 1.8e9]), np.array([3.0, np.nan])
    kept = series.copy(), when.copy(), values.copy()
    scores = bank.score_many(series, when, values)
    assert bank.state() == before
    learned = scores.copy()
    bank.learn_many(series, when, values, scores)
    assert all(map(same, kept, (series, when, values)))
    assert same(learned, scores)


def test_the_same_history_gives_the_same_scores_and_the_same_bytes(detector):
    first, second = detector(1), detector(1)
    assert same(play(first, usual()), play(second, usual()))
    assert first.state() == second.state()


def test_a_series_does_not_depend_on_its_neighbours_nor_on_its_slot(detector):
    wide = detector(40)
    values = np.column_stack([usual(seed, 250) * (1 + seed) for seed in range(40)])
    scores = play_many(wide, values)
    for number in (0, 17, 39):
        alone = detector(3)
        assert same(play(alone, values[:, number], slot=2), scores[:, number])
        assert alone.row(2) == wide.row(number)


def test_a_row_depends_on_the_rows_up_to_it_only(detector):
    values = usual()
    whole = play(detector(1), values)
    assert same(play(detector(1), values[:250]), whole[:250])


def test_learning_what_was_not_scored_just_before_gives_the_same(detector):
    """Scores may be asked for between, of other values, of other series, or not at all."""
    values = usual(rows=200)
    calm, asked = detector(2), detector(2)
    scores = play(calm, values)
    for time_s, value, score in zip(times(200), values, scores, strict=True):
        asked.score_one(0, time_s + 7, value + 5)
        asked.score_one(1, time_s, value)
        asked.learn_one(0, time_s, value, score)
    assert asked.state() == calm.state()


# ---- memory --------------------------------------------------------------------------------------------


def stored(bank: Bank) -> Bank:
    return type(bank).from_state(bank.state())


def pickled(bank: Bank) -> Bank:
    return pickle.loads(pickle.dumps(bank))  # noqa: S301  # ours


def moved(bank: Bank) -> Bank:
    other = type(bank)(5)
    other.score_one(0, 0.0, 0.0)
    other.put(0, bank.row(0))
    return other


@pytest.mark.parametrize("again", [stored, pickled, moved])
@pytest.mark.parametrize("cut", [1, 300])
def test_learning_survives_a_restart_in_the_middle(detector, again, cut):
    values = usual()
    values[330] = 90.0
    whole = detector(1)
    expected = play(whole, values)
    bank = detector(1)
    play(bank, values[:cut])
    bank.score_one(0, 0.0, 1e9)
    bank = again(bank)
    assert same(play(bank, values[cut:], times()[cut:]), expected[cut:])
    assert bank.row(0) == whole.row(0)


def test_a_dropped_slot_is_a_new_series(detector):
    bank = detector(2)
    play(bank, usual(1), slot=1)
    expected = play(bank, usual(2), slot=0)
    bank.score_one(1, 0.0, 1e9)
    bank.drop(np.array([1]))
    assert same(play(bank, usual(2), slot=1), expected)


def test_series_that_come_later_are_as_if_they_had_room_before(detector):
    bank = detector(0)
    for slot in range(4):
        bank.grow(slot + 1)
        play(bank, usual(slot, 80), slot=slot)
    whole = detector(4)
    for slot in range(4):
        play(whole, usual(slot, 80), slot=slot)
    assert bank.state() == whole.state()


def test_memory_is_bounded_whatever_comes(detector):
    bank = detector(1)
    play(bank, usual(rows=50))
    size = len(bank.state())
    play(bank, usual(3))
    assert len(bank.row(0)) == detector.bytes_per_series() <= 32_768
    assert len(bank.state()) == size


# ---- bad input -----------------------------------------------------------------------------------------

WILD = [np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.0, -1.0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_has_no_score_and_teaches_nothing(detector, value):
    bank = detector(1)
    play(bank, usual())
    before = bank.state()
    assert np.isnan(play(bank, [value], [times()[-1] + STEP_S]))
    assert bank.state() == before


def test_a_call_with_nothing_usable_or_nothing_at_all_is_survived(detector):
    bank = detector(3)
    bank.learn_many(np.array([], int), np.array([]), np.array([]), np.array([]))
    assert len(bank.score_many(np.array([], int), np.array([]), np.array([]))) == 0
    bank.learn_many(np.array([1, 2]), np.zeros(2), np.full(2, np.nan), np.full(2, np.nan))
    assert bank.state() == detector(3).state()


@pytest.mark.parametrize("value", [1e308, -1e308])
def test_what_is_enormous_does_not_spoil_the_scores_after_it(detector, value):
    values = usual()
    values[240] = value
    scores = play(detector(1), values)
    if value > 0:
        assert is_flagged(scores[240])
    assert not np.isnan(scores[240:]).any()
    # A window that holds it is strange as long as it does.
    assert is_flagged(scores[280:]).mean() < 0.05


@pytest.mark.parametrize("level", [0.0, 7.0, 0.1, 1e9, 1e308])
def test_a_constant_is_usual(learner, level):
    scores = play(learner(1), [level] * 250)
    assert not is_flagged(scores).any()


@pytest.mark.parametrize("values", [[], [3.0], [3.0, 4.0]])
def test_a_series_of_two_points_is_too_short_to_say_anything(detector, values):
    assert np.isnan(play(detector(1), values)).all()


def test_times_may_stand_still_go_back_and_have_gaps(detector):
    when = times()
    when[100:120] = when[100]
    when[200:] -= 2 * 86400
    when[300:] += 90 * 86400
    when[340] = -1e12
    scores = play(detector(1), usual(), when)
    assert is_flagged(scores).mean() < 0.03


@given(
    values=st.lists(st.sampled_from(WILD) | st.floats(width=64), min_size=1, max_size=60),
    jumps=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5),
)
@settings(max_examples=6, deadline=None)
@pytest.mark.parametrize("kind", DETECTORS, ids=lambda each: each.NAME)
def test_anything_a_float_can_be_is_survived(kind, values, jumps):
    bank = kind(1)
    play(bank, usual(rows=160))
    steps = itertools.islice(itertools.cycle([STEP_S, *jumps]), len(values))
    when = times(161)[-1] + np.cumsum(list(steps))
    scores = play(bank, values, when)
    assert same(np.isnan(scores), ~np.isfinite(values))
    assert ((scores >= 0) & (scores <= 1))[~np.isnan(scores)].all()
    assert same(play(stored(bank), [1.0], [0.0]), play(bank, [1.0], [0.0]))


# ---- learning ------------------------------------------------------------------------------------------


def test_it_does_not_learn_from_what_it_flags(detector):
    """The second of two equal spikes, a day apart, is flagged like the first."""
    values = usual(rows=640)
    values[300] = values[600] = 120.0
    scores = play(detector(1), values)
    assert is_flagged(scores[[300, 600]]).all()
    assert scores[600] > 0.6 * scores[300]


def test_a_lasting_shift_is_news_first_and_usual_later(learner):
    values = usual(rows=1300)
    values[300:] += 60.0
    scores = play(learner(1), values)
    assert is_flagged(scores[300:324]).any()
    assert is_flagged(scores[-200:]).mean() < 0.02
