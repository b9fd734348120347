"""Selection: which detector speaks for a series, and why.

Theory: no detector is best on all series (on TSB-AD the best one of each series is worth nearly twice the best one of
all; Liu and Paparrizos, NeurIPS 2024). Two things are known without labels: what kind of series it is, and what each
detector would have found in it (`analysis.trials`). The kind gives the first champion. A challenger that is worth more
in a trial, by `MARGIN`, in `WINS` trials in a row takes its place. What people say of alarms counts against the
champion: `judged` takes the share of false alarms off its worth.

Rules: the champion alone speaks. Scores of several detectors are never averaged: a mean says yes where nobody is sure
and no where one is. Choice and reason are values, stored with the series, told in words. Everything here is pure.

Decision: a champion stays until it is beaten again and again, rather than the best of the last trial. A trial has
fifteen anomalies, so two equal detectors differ by chance, and each change makes scores jump for no reason that a
person could see. For the same reason the margin is wide: on half of NAB's series, reviewed each few days, the class
alone had 70, trials with a margin of 0.08 had 61 to 65, of 0.25 67 to 69. Injected anomalies are not the real ones.

Decision: the classes are few, and their order says what goes first.
"""

from __future__ import annotations

from msgspec.structs import replace

from bridge.analysis.champions import Standing, word_against
from bridge.analysis.characteristics import Characteristics
from bridge.analysis.detectors.counts import CountsBank
from bridge.analysis.detectors.shape import ShapeBank
from bridge.analysis.detectors.spot import SpotBank
from bridge.analysis.detectors.surprise import threshold_for
from bridge.analysis.trials import WHOLE, Trial
from bridge.model import Word

COUNTS, SHAPE, SPOT = CountsBank.NAME, ShapeBank.NAME, SpotBank.NAME

#: Fewer points say too little about a series.
SHORT = 200
#: Zeros from which on a series is mostly silence.
SPARSE = 0.8
#: Zeros from which on counts are small; larger ones are as good as measured.
SMALL = 0.3
#: Autocorrelations and shares that are spoken of.
REPEATS, WANDERS = 0.4, 0.5
CLEARLY = 0.1  # by which one autocorrelation is more than another
#: The longest shape that `detectors.shape` has a window for.
SHAPE_STEPS = 24

MARGIN, WINS = 0.25, 3


class Choice(Word, frozen=True, kw_only=True):
    """The detector that a class of series begins with."""

    model: str
    reason: str


def classed(series: Characteristics) -> Choice:
    """Return what a series of this kind begins with, and why."""
    if series.points < SHORT:
        return Choice(model=COUNTS if series.whole > WHOLE else SPOT, reason=f"{series.points} points so far")
    if series.zeros >= SPARSE and series.whole > WHOLE:
        return Choice(model=COUNTS, reason=f"counts, {series.zeros:.0%} of them zero")
    if series.commonest > SPARSE:
        return Choice(model=SPOT, reason=f"one value {series.commonest:.0%} of the time")
    if series.cycle >= max(REPEATS, series.day + CLEARLY) and series.cycle_s <= SHAPE_STEPS * series.step_s:
        return Choice(
            model=SHAPE,
            reason=f"the same shape every {_span(series.cycle_s)} (autocorrelation {series.cycle:.2f})",
        )
    if max(series.day, series.week) >= REPEATS:
        name, much = ("week", series.week) if series.week > series.day + CLEARLY else ("day", series.day)
        return Choice(model=SPOT, reason=f"each {name} is like the last (autocorrelation {much:.2f})")
    if series.whole > WHOLE and series.zeros >= SMALL:
        return Choice(model=COUNTS, reason=f"small counts, {series.zeros:.0%} of them zero")
    if series.wander >= WANDERS:
        return Choice(model=SPOT, reason=f"its level moves ({series.wander:.0%} of the variance)")
    return Choice(model=SPOT, reason="its level holds")


def _span(seconds: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def begun(series: Characteristics, tick: int) -> Standing:
    """Return the standing of a series that has none: its class decides."""
    choice = classed(series)
    return Standing(model=choice.model, reason=choice.reason, since_tick=tick)


def refreshed(standing: Standing, series: Characteristics, tick: int) -> Standing:
    """Return the standing of a series that is known better now: its class decides until a trial was won."""
    choice = classed(series)
    if standing.is_won or choice.model == standing.model:
        return standing
    return Standing(
        model=choice.model, reason=choice.reason, since_tick=tick, trials=standing.trials
    )  # what was said of the other is not held against it


def judged(standing: Standing, trial: Trial) -> Standing:
    """Return the standing after one more trial."""
    others = [one for one in trial.tried if one.model != standing.model]
    if not others:
        return standing
    own = trial.worth(standing.model) - word_against(standing)
    best = max(others, key=lambda one: one.worth)  # of equals the first in the order of the candidates
    after = replace(standing, trials=standing.trials + 1)
    if best.worth < own + MARGIN:
        return replace(after, challenger="", wins=0)
    wins = standing.wins + 1 if best.model == standing.challenger else 1
    if wins < WINS:
        return replace(after, challenger=best.model, wins=wins)
    reason = (
        f"won {wins} trials in a row against {standing.model}: worth {best.worth:.2f} of 1 "
        f"in the last, {max(0.0, own):.2f} the other; {found_words(trial, best.model)}"
    )
    return Standing(
        model=best.model, reason=reason, since_tick=trial.tick, is_won=True, trials=after.trials
    )  # what was said of the other is not held against it


def found_words(trial: Trial, model: str) -> str:
    """Return what a model found in a trial, in words."""
    found = next((one.found for one in trial.tried if one.model == model), {})
    return "found " + ", ".join(f"{share:.0%} of {kind}s" for kind, share in found.items())


def threshold(false_alarms_per_week: float, points_per_week: float, series: int = 1) -> float:
    """Return the score from which on a value is an alarm.

    Args:
        false_alarms_per_week: Wished, of all watched series together, > 0.
        points_per_week: Of one series, > 0.
        series: How many are watched, >= 1.

    Theory: the expected number of false alarms is the sum over all values of their tail probability at the threshold,
    whether or not they depend on each other (linearity of expectation; Bonferroni's correction read as a rate).
    """
    return threshold_for(false_alarms_per_week, points_per_week * max(1, series))
