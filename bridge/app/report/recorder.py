"""The recorder: what a report shows of a replay that is not in its store at the end.

Rules: pure; it is told what was committed, in that order, and how that was cut into batches changes nothing. Bounded:
hours with alerts, forecasts and series that were ever seen, each series thinned to `Curve.MOST` stretches of time.

Decision: thinned on the way rather than kept whole and thinned at the end. A year of a thousand series is half a
billion samples, of which a plot shows some hundred.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import numpy as np

from bridge.analysis.feedback import Action
from bridge.analysis.forecast.kept import HAPPENED, KeptState
from bridge.analysis.forecast.outlooks import Outlook
from bridge.analysis.forecast.targets import Target
from bridge.analysis.forecast.trust import Trust
from bridge.analysis.watching import Alarm
from bridge.app.recordings import Recorded
from bridge.model import WEBHOOK_KINDS, Event, EventKind
from bridge.pipeline import Outcome, Sampled

HOUR_S = 3600
#: Somebody on call hears of these, where the incident is critical.
CALLS = frozenset({EventKind.OPENED, EventKind.ESCALATED, EventKind.REOPENED})
MAX_CURVES = 4_000
MAX_ALARMS = 2_000
#: Of one target; the oldest go.
MAX_FORECASTS = 40_000


class Curve:
    """One series over time: in stretches of equal length the least and the largest value, and the highest score."""

    MOST = 240
    LEAST_WIDTH_S = 60.0

    def __init__(self) -> None:
        self.width_s = self.LEAST_WIDTH_S
        self.values = 0
        self.peak: float | None = None  # the highest score; None: its detector never spoke
        self.peak_s = 0.0
        self.peak_value = 0.0
        self._places = array("q")  # of the stretches, in widths since 1970
        self._low, self._high, self._score = array("d"), array("d"), array("d")  # a score of -1: none

    def add(self, at_s: float, value: float, score: float | None) -> None:
        """Take in a sample, newer than all others."""
        self.values += 1
        if score is not None and (self.peak is None or score > self.peak):
            self.peak, self.peak_s, self.peak_value = score, at_s, value
        self._put(int(at_s // self.width_s), value, value, -1.0 if score is None else score)
        while len(self._places) > self.MOST:
            self._widen()

    def _put(self, place: int, low: float, high: float, score: float) -> None:
        if self._places and self._places[-1] == place:
            self._low[-1] = min(self._low[-1], low)
            self._high[-1] = max(self._high[-1], high)
            self._score[-1] = max(self._score[-1], score)
            return
        for column, each in ((self._low, low), (self._high, high), (self._score, score)):
            column.append(each)
        self._places.append(place)

    def _widen(self) -> None:
        """Let two stretches be one."""
        before = zip(self._places, self._low, self._high, self._score, strict=True)
        self.width_s *= 2.0
        self._places = array("q")
        self._low, self._high, self._score = array("d"), array("d"), array("d")
        for place, low, high, score in before:
            self._put(place // 2, low, high, score)

    def band(self) -> list[tuple[float, float, float]]:
        """Return (middle of a stretch in epoch s, least value, largest value), oldest first."""
        middles = [(place + 0.5) * self.width_s for place in self._places]
        return list(zip(middles, self._low, self._high, strict=True))

    def scores(self) -> list[tuple[float, float]]:
        """Return (middle of a stretch in epoch s, highest score) where there is one, oldest first."""
        pairs = zip(self._places, self._score, strict=True)
        return [((place + 0.5) * self.width_s, score) for place, score in pairs if score >= 0.0]


class Ahead(NamedTuple):
    """One forecast, and what came of it."""

    at_s: float
    probability: float
    reference: float
    published: bool
    e_value: float
    happened: bool | None  # None: nobody knows yet


class Prospect:
    """The forecasts of one target."""

    def __init__(self) -> None:
        self.newest: Outlook | None = None
        self.made: list[Ahead] = []

    def add(self, outlook: Outlook) -> None:
        """Take in a forecast, newer than all others, and what it knows of those before."""
        newest = outlook.newest
        came = _outcomes(outlook.forecaster.kept, self._waiting_s())
        for number in range(len(self.made) - 1, -1, -1):
            each = self.made[number]
            if each.happened is not None:
                break
            self.made[number] = each._replace(happened=came.get(each.at_s))
        self.made.append(
            Ahead(
                at_s=newest.at.timestamp(), probability=newest.probability, reference=newest.reference,
                published=newest.published, e_value=Trust(outlook.forecaster.trust).e_value, happened=None,
            )
        )  # fmt: skip
        if len(self.made) > MAX_FORECASTS:
            del self.made[: -MAX_FORECASTS // 2]
        self.newest = outlook

    def _waiting_s(self) -> float:
        """Return the oldest origin of which nobody knows what came of it."""
        oldest = float("inf")
        for each in reversed(self.made):
            if each.happened is not None:
                break
            oldest = each.at_s
        return oldest


class Recorder:
    """All that was gathered in one replay."""

    def __init__(self) -> None:
        self.tenants: set[str] = set()
        self.webhooks: Counter[int] = Counter()  # by hour since 1970, as all that follows
        self.alerts: Counter[int] = Counter()
        self.counts: Counter[str] = Counter()  # as `Outcome.counts`
        self.kinds: Counter[str] = Counter()  # events
        self.called: Counter[str] = Counter()  # by kind of event: of critical incidents
        self.curves: dict[tuple[str, str], Curve] = {}  # tenant, series
        self.alarms: list[tuple[str, str, Alarm]] = []  # tenant, name; as each began
        self.alarmed: Counter[tuple[str, str]] = Counter()
        self.prospects: defaultdict[str, dict[Target, Prospect]] = defaultdict(dict)  # by tenant
        self.actions: dict[tuple[str, str], Action] = {}

    def heard(self, lines: Iterable[Recorded]) -> None:
        """Take in what was received."""
        for line in lines:
            if line.tenant:
                self.tenants.add(line.tenant)
            if line.kind in WEBHOOK_KINDS:
                hour = hour_of(line.received_at)
                self.webhooks[hour] += 1
                self.alerts[hour] += line.alerts

    def thought(self, outcome: Outcome) -> None:
        """Take in what came of it."""
        self.counts.update(outcome.counts)
        for event in outcome.events:
            self._said(event)
        for key, action in outcome.actions.items():
            if action is not None:  # one that is deleted for its age was said all the same
                self.actions[key] = action
        if outcome.trace is None:
            return
        for tenant, outlook in outcome.trace.outlooks:
            self.prospects[tenant].setdefault(outlook.target, Prospect()).add(outlook)
        for sample in outcome.trace.samples:
            self._sampled(sample)
        for tenant, name, alarm in outcome.trace.alarms:
            self.alarmed[tenant, name] += 1
            if len(self.alarms) < MAX_ALARMS:
                self.alarms.append((tenant, name, alarm))

    def _said(self, event: Event) -> None:
        self.kinds[event.kind.value] += 1
        if event.kind in CALLS and event.incident.severity == "critical":
            self.called[event.kind.value] += 1

    def _sampled(self, sample: Sampled) -> None:
        key = (sample.tenant, sample.series)
        curve = self.curves.get(key)
        if curve is None:
            if len(self.curves) >= MAX_CURVES:
                return
            curve = self.curves[key] = Curve()
        curve.add(sample.at_s, sample.value, sample.score)


def hour_of(moment: datetime) -> int:
    """Return the hours since 1970."""
    return int(moment.timestamp() // HOUR_S)


def _outcomes(kept: KeptState, since_s: float) -> dict[float, bool]:
    """Return what came of the forecasts from `since_s` on whose horizon has passed, by origin."""
    origins = np.frombuffer(kept.origins, "<f8")
    first = int(np.searchsorted(origins, since_s))
    flags = np.frombuffer(kept.flags, np.uint8)[first:]
    return {
        at: bool(flag & HAPPENED) for at, flag in zip(origins[first:].tolist(), flags.tolist(), strict=True)
    }
