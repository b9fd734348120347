"""Trials: what each detector would have found in a series, had something been wrong with it.

Theory: without labels a detector is judged by anomalies that are put into the series' own past (Goswami et al.,
"Unsupervised model selection for time-series anomaly detection", ICLR 2023, where they are one of the signs that rank
detectors without labels). Five kinds: a spike, a shift of the level, a flat line, a drift, a day that does not
come. Each candidate learns from the first part of the history as it was, and then lives through the rest of it once as
it was and once for each anomaly. Its threshold is the one under which it raises one false alarm in the rest as it was:
so all are compared at an equal number of them. Only it is never below the threshold for one alarm a day, or a detector
that whispers would win with scores that nobody hears.

Rules: a pure function of a snapshot, seeded like a fit; runs in the models' process. What comes out for a series does
not depend on the others it was asked with. Anomalies already in the history count as usual for all candidates alike.

Cost: one series with a week of history 7 s alone, nearly all of it for single calls; 28 series together (NAB's) less
than a minute on a busy machine, so they should come in portions of many. The autoencoder adds a fit of a second or two
each, where there is enough history before the rest.

Decision: one anomaly in each run. With several in a row what a detector made of the first would grade it on the next.
Decision: half of what an anomaly is worth is that it was found, half that it was found at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.characteristics import Characteristics, characteristics
from bridge.analysis.detectors import Bank
from bridge.analysis.detectors.autoencoder import Autoencoder
from bridge.analysis.detectors.bank import Floats
from bridge.analysis.detectors.counts import CountsBank
from bridge.analysis.detectors.fitted import FitAsk, FittedBank, ask_of, unit_of
from bridge.analysis.detectors.forest import Forest
from bridge.analysis.detectors.shape import ShapeBank
from bridge.analysis.detectors.spot import SpotBank
from bridge.analysis.detectors.surprise import threshold_for
from bridge.model import Word

#: All that may be chosen, and that takes part in a trial.
CANDIDATES: tuple[type[Bank], ...] = (SpotBank, CountsBank, ShapeBank, Forest, Autoencoder)

#: A trial looks at the newest of a history, and needs so many usable values.
MOST_POINTS, LEAST_POINTS = 4032, 432
#: Histories are cut to a multiple of this, so that series can be tried together.
GRAIN = 72
#: What is lived through: this share of the history, but no more values than three days have of five minutes.
REST_SHARE, MOST_REST = 0.4, 864
#: Anomalies of each kind.
REPEATS = 3
SHORTEST, LONGEST = 12, 72  # values that an anomaly lasts
WEEK_S = 604_800.0
#: Clean values within which crossings are one alarm.
EPISODE = 60
ALLOWED = 1
#: Where the commonest value is as common as this, a flat line is nothing strange.
FLAT_ALREADY = 0.3
#: From this autocorrelation on a day can be missed.
DAILY = 0.3
#: Counts, but for a few values.
WHOLE = 0.99


class Kind(StrEnum):
    """What is put into a series."""

    SPIKE = "spike"
    SHIFT = "level shift"
    FLAT = "flat line"
    DRIFT = "drift"
    SEASON = "missing season"


class Tried(Word, frozen=True, kw_only=True):
    """How one candidate did on one series."""

    model: str
    worth: float  # 0..1: 1 found all at once
    found: dict[str, float]  # kind -> share of them found, for the kinds that were tried


class Trial(Word, frozen=True, kw_only=True):
    """How all candidates did on one series; `tried` is empty where the history was too short."""

    series: str
    tick: int
    tried: tuple[Tried, ...] = ()

    def worth(self, model: str) -> float:
        """Return what a model was worth, 0 if it did not take part."""
        return next((one.worth for one in self.tried if one.model == model), 0.0)


class Case(NamedTuple):
    """The rest of a history with one anomaly in it."""

    kind: Kind
    first: int  # place in `values`
    after: int
    values: Floats


class _Prepared(NamedTuple):
    """One series, ready to be tried."""

    ask: FitAsk
    times_s: Floats
    values: Floats
    learned: int  # values that are learned from
    cases: list[Case]
    least: float  # no threshold is below


def trials(asks: Sequence[FitAsk], candidates: Sequence[type[Bank]] = CANDIDATES) -> list[Trial]:
    """Try candidates on the histories of series, and return one trial for each, in the order of the asks."""
    prepared = [_prepare(ask) for ask in asks]
    tried: list[list[Tried]] = [[] for _ in asks]
    lengths = sorted({len(one.values) for one in prepared if one is not None})
    for length in lengths:
        together = [
            (place, one)
            for place, one in enumerate(prepared)
            if one is not None and len(one.values) == length
        ]
        for candidate in candidates:
            results = _tried(candidate, [one for _, one in together])
            for (place, _), result in zip(together, results, strict=True):
                if result is not None:
                    tried[place].append(result)
    return [
        Trial(series=ask.series, tick=ask.tick, tried=tuple(found))
        for ask, found in zip(asks, tried, strict=True)
    ]


def _prepare(ask: FitAsk) -> _Prepared | None:
    times_s, values, _ = ask.read()
    length = min(MOST_POINTS, len(values)) // GRAIN * GRAIN
    if length < LEAST_POINTS:
        return None
    times_s, values = times_s[-length:], values[-length:]
    learned = length - min(MOST_REST, round(length * REST_SHARE))
    series = characteristics(times_s, values)
    dice = np.random.default_rng(ask.seed("trial"))
    found = cases(times_s, values, learned, series, dice)
    least = threshold_for(7.0, max(7.0, WEEK_S / series.step_s)) if series.step_s > 0.0 else 0.0
    return _Prepared(ask, times_s, values, learned, found, least)


def cases(
    times_s: Floats, values: Floats, learned: int, series: Characteristics, dice: np.random.Generator
) -> list[Case]:
    """Return the rest of the history, from `learned` on, with one anomaly each."""
    rest, length = values[learned:], min(LONGEST, max(SHORTEST, len(values[learned:]) // 8))
    unit = unit_of(times_s, values).spread
    if series.whole > WHOLE:  # half an alert more is nothing
        unit = max(1.0, unit)
    found = []
    for kind in Kind:
        for _ in range(REPEATS):
            first = int(dice.integers(length // 2, len(rest) - length))
            size = float(dice.uniform(1.0, 2.0)) * unit * (1.0 if dice.random() < 0.5 else -1.0)  # noqa: PLR2004
            if kind is Kind.FLAT and series.commonest > FLAT_ALREADY:
                continue
            if kind is Kind.SEASON and series.day < DAILY:
                continue
            after = first + (max(1, length // 24) if kind is Kind.SPIKE else length)
            inside = rest[first:after]
            other = _changed(kind, inside, size, float(np.median(values)))
            if values.min() >= 0.0:
                # What cannot fall rises instead: a count below zero would give itself away.
                other = np.where(other < 0.0, inside + abs(size), other)
            changed = rest.copy()
            changed[first:after] = np.rint(other) if series.whole > WHOLE else other
            found.append(Case(kind, first, after, changed))
    return found


def _changed(kind: Kind, values: Floats, size: float, middle: float) -> Floats:
    match kind:
        case Kind.SPIKE:
            return values + 4.0 * size
        case Kind.SHIFT:
            return values + 2.0 * size
        case Kind.FLAT:
            return np.full(len(values), values[0])
        case Kind.DRIFT:
            return values + 3.0 * size * np.linspace(0.0, 1.0, len(values))
        case Kind.SEASON:
            return middle + 0.1 * (values - middle)


def _tried(candidate: type[Bank], together: Sequence[_Prepared]) -> list[Tried | None]:
    """Return how a candidate does on series with histories of one length; None where it cannot be fitted."""
    scores = played(candidate, together)
    return [
        None if found is None else _graded(candidate.NAME, one, found)
        for one, found in zip(together, scores, strict=True)
    ]


def played(candidate: type[Bank], together: Sequence[_Prepared]) -> list[Floats | None]:
    """Return the scores of each series' rest, as it was and then for each case, shape (1 + cases, values)."""
    bank, able = candidate(len(together)), np.ones(len(together), np.bool_)
    if issubclass(candidate, FittedBank) and isinstance(bank, FittedBank):
        for place, one in enumerate(together):
            # It is fitted from what comes before the rest, like the others.
            past = ask_of(one.ask.tenant, one.ask.series, one.ask.tick, _past(one))
            fit = candidate.fit(past)
            if fit is None:
                able[place] = False
            else:
                bank.take(place, fit)
    if not able.any():
        return [None] * len(together)
    known, times_s = np.stack([one.values for one in together]), np.stack([one.times_s for one in together])
    every, learned = np.arange(len(together)), together[0].learned
    for at in range(learned):
        scores = bank.score_many(every, times_s[:, at], known[:, at])
        bank.learn_many(every, times_s[:, at], known[:, at], scores)
    return _lived(candidate, bank, together, able)


def _past(one: _Prepared) -> tuple[Floats, Floats]:
    return one.times_s[: one.learned], one.values[: one.learned]


def _lived(
    candidate: type[Bank], bank: Bank, together: Sequence[_Prepared], able: NDArray[np.bool_]
) -> list[Floats | None]:
    """Go on from what was learned, in as many lives as a series has cases and one more."""
    whose = [place for place, one in enumerate(together) if able[place] for _ in range(len(one.cases) + 1)]
    lives = candidate(len(whose))
    rows = {place: bank.row(place) for place in sorted(set(whose))}
    for life, place in enumerate(whose):
        lives.put(life, rows[place])
    values = np.stack(
        [
            part
            for place, one in enumerate(together)
            if able[place]
            for part in (one.values[one.learned :], *(case.values for case in one.cases))
        ]
    )
    times_s = np.stack([together[place].times_s[together[place].learned :] for place in whose])
    found, every = np.empty(values.shape), np.arange(len(whose))
    for at in range(values.shape[1]):
        found[:, at] = lives.score_many(every, times_s[:, at], values[:, at])
        lives.learn_many(every, times_s[:, at], values[:, at], found[:, at])
    scores: list[Floats | None] = [None] * len(together)
    at = 0
    for place, one in enumerate(together):
        if able[place]:
            scores[place] = found[at : at + len(one.cases) + 1]
            at += len(one.cases) + 1
    return scores


def _graded(model: str, one: _Prepared, scores: Floats) -> Tried:
    """Return what scores are worth under the threshold that gives `ALLOWED` false alarms."""
    scores = np.nan_to_num(scores, nan=0.0)
    threshold = max(one.least, peaks(scores[0])[ALLOWED])
    found: dict[str, list[float]] = {}
    worth: dict[str, list[float]] = {}
    for case, own in zip(one.cases, scores[1:], strict=True):
        crossed = np.flatnonzero(own[case.first : case.after] > threshold)
        seen = bool(len(crossed))
        late = float(crossed[0]) / (case.after - case.first) if seen else 1.0
        found.setdefault(case.kind, []).append(float(seen))
        worth.setdefault(case.kind, []).append(0.5 * seen + 0.5 * (1.0 - late))
    kinds = [sum(parts) / len(parts) for parts in worth.values()]
    return Tried(
        model=model, worth=round(sum(kinds) / len(kinds), 4),
        found={kind: round(sum(parts) / len(parts), 4) for kind, parts in found.items()},
    )  # fmt: skip


def peaks(scores: Floats) -> list[float]:
    """Return the highest scores of the `ALLOWED` + 1 strangest episodes, 0 where there are fewer."""
    left, found = scores.copy(), []
    for _ in range(ALLOWED + 1):
        top = int(np.argmax(left))
        found.append(float(left[top]))
        left[max(0, top - EPISODE) : top + EPISODE] = 0.0
    return found
