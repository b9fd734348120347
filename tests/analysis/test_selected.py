"""For each series one detector speaks; all learn along, and everything survives."""

from __future__ import annotations

import pickle

import msgspec
import numpy as np
import pytest

from bridge.analysis.detectors.checked import Checked
from bridge.analysis.detectors.counts import CountsBank
from bridge.analysis.detectors.forest import Forest
from bridge.analysis.detectors.spot import SpotBank
from bridge.analysis.selected import HISTORY, NAMES, Review, Selected, reviewed
from bridge.analysis.selection import Standing

START, STEP = 1.7e9, 300.0


def counts(points: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.3, points).astype(float)


def play(bank: Selected, values: np.ndarray, first: int = 0) -> np.ndarray:
    """Score and learn values of slot 0."""
    found = []
    for number, value in enumerate(values, first):
        score = bank.score_one(0, START + STEP * number, value)
        bank.learn_one(0, START + STEP * number, value, score)
        found.append(score)
    return np.array(found)


def review(bank: Selected, model: str) -> Review:
    """Return the review that lets a model speak."""
    ask = bank.ask(0, tenant="t", name="s", tick=1)
    (found,) = reviewed([ask], with_trials=False)
    standing = Standing(model=model, reason="because", since_tick=1, is_won=True)
    kept = msgspec.structs.replace(found, standing=standing)
    fit = Forest.fit(ask.snapshot) if model == Forest.NAME else None
    return msgspec.structs.replace(kept, fits={model: fit}) if fit else kept


@pytest.mark.parametrize("model", [CountsBank, Forest])
def test_the_champion_alone_speaks_as_if_it_had_always_been_asked(model: type[CountsBank | Forest]) -> None:
    bank, alone, checked = Selected(1), model(1), Checked(1)
    values = counts(290)
    play(bank, values[:250])
    taken = review(bank, model.NAME)
    bank.take(0, taken)
    for number, value in enumerate(values[:250]):
        time_s = START + STEP * number
        score = alone.score_one(0, time_s, value)
        checked.learn_many(np.array([0]), np.array([score]))
        alone.learn_one(0, time_s, value, score)
    if isinstance(alone, Forest):
        alone.take(0, taken.fits[model.NAME])
    for number, value in enumerate(values[250:], 250):
        time_s = START + STEP * number
        raw = alone.score_one(0, time_s, value)
        told = bank.score_one(0, time_s, value)
        assert told == checked.score_many(np.array([0]), np.array([raw]))[0]
        alone.learn_one(0, time_s, value, raw)
        checked.learn_many(np.array([0]), np.array([raw]))
        bank.learn_one(0, time_s, value, told)


def test_spot_speaks_first_and_as_it_is() -> None:
    bank, alone = Selected(1), SpotBank(1)
    assert bank.model(0) == SpotBank.NAME
    for number, value in enumerate(counts(150)):
        score = alone.score_one(0, START + number, value)
        assert np.array_equal(bank.score_one(0, START + number, value), score, equal_nan=True)
        alone.learn_one(0, START + number, value, score)
        bank.learn_one(0, START + number, value, score)


def test_series_are_told_apart_in_one_call() -> None:
    bank = Selected(3)
    for number in range(200):
        every, times = np.arange(3), np.full(3, START + STEP * number)
        values = np.random.default_rng(number).poisson(0.3, 3).astype(float)
        bank.learn_many(every, times, values, bank.score_many(every, times, values))
    bank.past.champion[:] = [0, 1, 2]
    when = np.full(3, START + STEP * 200)
    whole = bank.score_many(np.array([2, 0, 1]), when, np.array([9.0, 9.0, 9.0]))
    assert whole.tolist() == [bank.score_one(number, when[0], 9.0) for number in (2, 0, 1)]
    assert len(set(whole.tolist())) == 3


def test_a_review_reads_the_newest_history_in_order() -> None:
    bank = Selected(1)
    values = np.arange(HISTORY + 100.0)
    bank.learn_one(0, START, np.nan, np.nan)
    for number, value in enumerate(values):  # what it learns beside is of no interest here
        told = np.array([0.9 if number % 2 else 0.0])
        bank.past.learn(np.array([0]), np.array([START + number]), np.array([value]), told)
    times_s, known, marks = bank.history(0)
    assert (known == values[-HISTORY:]).all()
    assert (times_s == START + np.arange(100, HISTORY + 100)).all()
    assert (marks == (known % 2 == 1)).all()


def test_a_review_is_a_pure_function_of_its_ask_and_tells_a_reason() -> None:
    bank = Selected(1)
    play(bank, counts(440))
    ask = bank.ask(0, tenant="t", name="s", tick=4)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(ask), type=type(ask))
    (first,), (second,) = reviewed([ask]), reviewed([again])
    assert first == second
    bank.take(0, first)
    assert bank.model(0) == CountsBank.NAME
    assert bank.standings[0] is not None
    assert "zero" in bank.standings[0].reason
    assert bank.standings[0].trials == 1


def test_what_people_say_stays_with_the_series() -> None:
    bank = Selected(2)
    bank.hear(1, useful=False)
    bank.hear(1, useful=True)
    standing = bank.standings[1]
    assert standing is not None
    assert (standing.useful, standing.false_alarms) == (1, 1)
    assert bank.standings[0] is None
    bank.drop(np.array([1]))
    assert bank.standings[1] is None


def test_what_people_say_while_a_review_is_made_is_not_lost() -> None:
    bank = Selected(1)
    play(bank, counts(440))
    bank.take(0, reviewed([bank.ask(0, tenant="t", name="s", tick=1)], with_trials=False)[0])
    asked = bank.ask(0, tenant="t", name="s", tick=2)
    bank.hear(0, useful=False)
    bank.take(0, reviewed([asked], with_trials=False)[0])
    standing = bank.standings[0]
    assert standing is not None
    assert standing.false_alarms == 1


def test_what_was_said_of_one_model_is_not_held_against_the_next() -> None:
    bank = Selected(1)
    play(bank, counts(440))
    spoke = bank.model(0)
    bank.hear(0, useful=False)
    assert bank.standings[0] is not None
    assert bank.standings[0].model == spoke
    bank.take(0, reviewed([bank.ask(0, tenant="t", name="s", tick=1)], with_trials=False)[0])
    assert bank.model(0) != spoke
    assert bank.standings[0].false_alarms == 0


@pytest.mark.parametrize("way", ["stored", "pickled", "moved"])
def test_everything_survives_a_restart(way: str) -> None:
    values = counts(320)
    bank = Selected(1)
    play(bank, values[:260])
    bank.take(0, review(bank, Forest.NAME))
    bank.hear(0, useful=True)
    play(bank, values[260:270], 260)
    if way == "stored":
        other = Selected.from_state(bank.state())
    elif way == "pickled":
        other = pickle.loads(pickle.dumps(bank))  # noqa: S301
    else:
        other = Selected(1)
        play(other, counts(40, seed=9))
        other.put(0, bank.row(0))
    assert np.array_equal(play(bank, values[270:], 270), play(other, values[270:], 270), equal_nan=True)
    assert other.state() == bank.state()
    assert other.standings == bank.standings


def test_scoring_changes_nothing_and_room_does_not_either() -> None:
    bank, wide = Selected(1), Selected(1)
    values = counts(120)
    for number, value in enumerate(values):
        if number == 50:
            wide.grow(4)
        play(bank, np.array([value]), number)
        play(wide, np.array([value]), number)
    before = bank.state()
    bank.score_one(0, START, 1e308)
    assert bank.state() == before
    assert wide.row(0) == bank.row(0)
    assert wide.row(3) == Selected(1).row(0)


def test_the_names_are_those_of_the_detectors() -> None:
    assert NAMES == ("spot", "counts", "shape", "isolation-forest", "autoencoder")
