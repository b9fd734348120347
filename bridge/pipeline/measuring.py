"""Measuring: samples of configured series, as rows bring them, and whether they are strange.

Rules: samples are taken in by the order of their times, whatever the order in a row is. What is late, comes twice or is
no number changes nothing and is counted; a row that makes no sense goes to quarantine as a whole. Every sample is asked
about before it teaches; one that is old when its row comes only teaches, since nobody is helped by hearing of
yesterday.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from bridge.analysis import samples
from bridge.analysis.champions import Standing
from bridge.analysis.characteristics import characteristics
from bridge.analysis.detectors.spot import SpotBank
from bridge.analysis.detectors.surprise import FLAGGED, tail_of
from bridge.analysis.samples import Line, Samples
from bridge.analysis.selection import begun
from bridge.analysis.watching import (
    LONGEST_NAME,
    MAX_MEASURED,
    WEEK_S,
    Alarm,
    Measured,
    alarm_of,
    by_chance,
    crossed,
    is_far,
    name_of,
    often,
)
from bridge.model import Fault, InboxRow
from bridge.pipeline.banks import WHOLE_EVERY
from bridge.pipeline.counts import SHARE, keys_of
from bridge.pipeline.desk import Desk
from bridge.pipeline.histories import History, Sample
from bridge.pipeline.reviews import MAX_BUSY, Reviews
from bridge.pipeline.series import Series
from bridge.pipeline.state import Tenant, tick_at
from bridge.pipeline.trace import Sampled
from bridge.pipeline.unusual import Unusual, surprise_of

#: The detector of a series of which nothing was seen, and why.
USUAL, WHY_USUAL = SpotBank.NAME, "the usual one, until more was seen"
#: After so many values a series is known well enough to choose its detector by what it is like.
SETTLED = 200
#: Newest values that a detector which is chosen then begins with.
WARM = 256
#: A sample is old that many steps, and that many seconds, after its time.
OLD_STEPS, OLD_S = 5.0, 600.0
#: An anomaly is over when nothing strange came for so many steps, and so many seconds.
HOLD_STEPS, HOLD_S = 5.0, 300.0
#: For so many steps after an anomaly what is as usual as before it is the way back, whatever a detector got used to.
BACK_STEPS = 120.0
#: Weight of a value in what is said to be usual lately.
LATELY = 0.02


class _Sample(NamedTuple):
    at_s: float
    name: str
    value: float


class _Strange(NamedTuple):
    """The strangest of a series' samples that are not old."""

    score: float
    value: float


class Measuring:
    """Takes samples in."""

    def __init__(self, desk: Desk, unusual: Unusual, reviews: Reviews, step: Callable[[], None]) -> None:
        self._desk = desk
        self._series = Series(desk)
        self._unusual = unusual
        self._reviews = reviews
        self._step = step

    def samples(self, row: InboxRow) -> None:
        """Take in the samples of a row."""
        try:
            told = samples.read(row.body)
        except ValueError as error:
            self._desk.quarantine(row, "body", Fault(reason=str(error), body=row.body))
            return
        tenant = self._desk.tenant(row.tenant)
        for why, number in sorted(told.refused.items()):
            self._refuse(why, number)
        fresh = [sample for line in told.lines for sample in self._fresh(tenant, told, line)]
        fresh.sort(key=lambda sample: sample[:2])
        strange: dict[str, _Strange] = {}
        for at_s, together in groupby(fresh, key=lambda sample: sample.at_s):
            self._step()
            self._take(tenant, at_s, list(together), strange)
        names = list(dict.fromkeys(sample.name for sample in fresh))
        settled = self._settle(tenant, names)
        for name in names:
            self._store(tenant, name, is_settled=name in settled)
        for name in sorted({sample.name for sample in fresh}):
            self._look(tenant, name, strange.get(name))
        self._evict(tenant)
        self._reviews.plan(tenant)

    def _fresh(self, tenant: Tenant, told: Samples, line: Line) -> list[_Sample]:
        """Return what is new of a series, each of its times once; a series that is new begins with it."""
        name = name_of(told.name, line.labels)
        good = sorted(point for point in line.points if math.isfinite(point[0]) and math.isfinite(point[1]))
        self._refuse(samples.NOT_A_NUMBER, len(line.points) - len(good))
        if len(name) > LONGEST_NAME:
            self._refuse(samples.TOO_LONG, len(good))
            return []
        known = tenant.measured.get(name)
        newest_s = float("-inf") if known is None else known.newest_s
        fresh: list[_Sample] = []
        for at_s, value in good:
            if at_s > newest_s:
                newest_s = at_s
                fresh.append(_Sample(at_s, name, value))
        self._refuse(samples.LATE, len(good) - len(fresh))
        if fresh:
            now = self._desk.now
            if known is None:
                watched = sum(len(each.measured) for each in self._desk.state.tenants.values())
                known = Measured(
                    query=told.name, labels=line.labels, step_s=told.step_s, since=now, heard_at=now,
                    newest_s=newest_s, is_busy=watched < MAX_BUSY,
                    standing=Standing(model=USUAL, reason=WHY_USUAL, since_tick=tick_at(now)),
                )  # fmt: skip
                tenant.histories[name] = History()
            tenant.measured[name] = replace(known, step_s=told.step_s, heard_at=now, newest_s=newest_s)
        self._desk.out.count("samples", len(fresh))
        return fresh

    def _take(
        self, tenant: Tenant, at_s: float, together: list[_Sample], strange: dict[str, _Strange]
    ) -> None:
        """Ask about samples of one time, and learn from them."""
        asked = [(sample.name, tenant.measured[sample.name].standing.model) for sample in together]
        scores = tenant.banks.learn(asked, [at_s] * len(asked), [sample.value for sample in together])
        for sample, score in zip(together, scores, strict=True):
            if self._desk.out.trace is not None:
                told = Sampled(tenant.name, sample.name, sample.at_s, sample.value, score)
                self._desk.out.trace.samples.append(told)
            is_strange = score is not None and score >= FLAGGED
            self._note(tenant, sample, score, is_strange=is_strange)
            if score is not None and is_strange and self._is_news(tenant, sample):
                worst = strange.get(sample.name)
                if worst is None or score > worst.score:
                    strange[sample.name] = _Strange(score, sample.value)

    def _note(self, tenant: Tenant, sample: _Sample, score: float | None, *, is_strange: bool) -> None:
        """Remember a sample, and what is usual unless it is strange."""
        known = tenant.measured[sample.name]
        lately = sample.value if known.lately is None else known.lately
        alarm = tenant.alarms.get(alarm_of(sample.name))
        if alarm is not None:
            known = replace(known, last_alarm=alarm, last_alarm_s=sample.at_s)
        elif not is_strange:
            lately += LATELY * (max(-1e150, min(1e150, sample.value)) - lately)
        learned = known.learned
        if len(learned) < WHOLE_EVERY:  # from there on it is stored as a whole
            learned = (*learned, (sample.at_s, sample.value, is_strange))
        if sample.name in tenant.histories:
            tenant.histories[sample.name].open.append((sample.at_s, sample.value, is_strange))
        tenant.measured[sample.name] = replace(
            known,
            values=known.values + 1,
            newest=sample.value,
            score=score,
            lately=lately,
            learned=learned,
        )

    def _is_news(self, tenant: Tenant, sample: _Sample) -> bool:
        """Say whether a strange sample is worth a word: it is not old, and not the way back to what is usual."""
        age_s = self._desk.now.timestamp() - sample.at_s
        known = tenant.measured[sample.name]
        alarm = known.last_alarm
        is_soon = sample.at_s - known.last_alarm_s <= BACK_STEPS * known.step_s
        is_back = alarm is not None and is_soon and is_far(alarm, sample.value) is False
        return not is_back and age_s <= max(OLD_S, OLD_STEPS * known.step_s)

    def _look(self, tenant: Tenant, name: str, worst: _Strange | None) -> None:
        """Speak of what is strange beyond the budget of false alarms, and of what still is as strange."""
        alarm, newest = tenant.alarms.get(alarm_of(name)), tenant.measured[name].newest
        if alarm is not None and newest is not None and is_far(alarm, newest):
            self._unusual.goes_on(tenant, alarm_of(name))
        if worst is not None:
            self._speak(tenant, name, worst)

    def _speak(self, tenant: Tenant, name: str, worst: _Strange) -> None:
        """Let it be known that a series is strange, if that is beyond the budget and not its way."""
        budget, now = self._desk.settings.false_alarms_a_week, self._desk.now
        # Exact, since the order of series is another one after a restart.
        a_week = math.fsum(WEEK_S / each.step_s for each in tenant.measured.values())
        tail = float(tail_of(np.array(worst.score)))
        expected, surprise = by_chance(tail, a_week), surprise_of(tail)
        if expected > SHARE * budget:
            return
        known = tenant.measured[name]
        if alarm_of(name) not in tenant.alarms:
            before = often(known, surprise, now.timestamp())
            self._series.keep(tenant, name, crossed(known, surprise, now.timestamp()))
            if before > budget:
                self._desk.out.count("anomaly:often")
                return
            expected = max(expected, before)
        labels = {"alertname": "UnusualValue", "series": known.query, **known.labels, "severity": "warning"}
        lately = f", lately {known.lately:.4g}" if known.lately is not None else ""
        self._unusual.seen(tenant, alarm_of(name), Alarm(
            labels=labels, since=now, last_at=now, hold_s=max(HOLD_S, HOLD_STEPS * known.step_s),
            surprise=surprise, why=f"{name} is {worst.value:.4g}{lately}", by_chance=expected,
            keys=keys_of(labels), usual=known.lately, strangest=worst.value,
        ))  # fmt: skip

    # ---- keeping -------------------------------------------------------------------------------------------

    def _store(self, tenant: Tenant, name: str, *, is_settled: bool) -> None:
        """Have a series stored: what its detector knows now and then, else what it learned since."""
        known = tenant.measured[name]
        if is_settled or len(known.learned) >= WHOLE_EVERY:
            self._series.whole(tenant, name, known)
        else:
            self._series.keep(tenant, name, known)

    def _settle(self, tenant: Tenant, names: Sequence[str]) -> set[str]:
        """Let what series are like choose their detectors, once they have enough values; return which have now.

        Another one begins with the newest `WARM` values.
        """
        settled: set[str] = set()
        anew: list[tuple[str, str, list[Sample]]] = []
        for name in names:
            known = tenant.measured[name]
            if known.is_settled or known.values < SETTLED:
                continue
            times_s, values, marks = tenant.histories[name].read()
            standing = begun(characteristics(times_s, values), tick_at(self._desk.now))
            if standing.model == known.standing.model:
                standing = replace(known.standing, reason=standing.reason)
            else:
                newest = zip(
                    times_s[-WARM:].tolist(), values[-WARM:].tolist(), marks[-WARM:].tolist(), strict=True
                )
                anew.append((name, standing.model, list(newest)))
            tenant.measured[name] = replace(known, is_settled=True, standing=standing)
            settled.add(name)
        tenant.banks.learn_again(anew)
        return settled

    def _evict(self, tenant: Tenant) -> None:
        """Let go of the series that were measured least lately, if there are too many."""
        surplus = len(tenant.measured) - MAX_MEASURED
        if surplus > 0:
            by_use = sorted(tenant.measured.items(), key=lambda item: (item[1].heard_at, item[0]))
            for name, _ in by_use[:surplus]:
                self._series.drop(tenant, name)

    def _refuse(self, why: str, number: int) -> None:
        if number:
            self._desk.out.count(f"refused:{why}", number)
