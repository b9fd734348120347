"""Outlooks: what is forecast at a tick, for whom, and what is remembered until the next one.

Rules: origins are multiples of the step, so that results do not depend on when somebody asks. A target that is new
learns from its own past first, as if forecasts had been made then; nothing of that was told to anybody. What was not
asked for, because nobody ran, is left out: a forecast that was not made earns nothing. The record is all there is to
store.

Decision: fits are made on the spot. They are sums of matrices of at most `MAX_LEARNED` rows without scikit-learn, a
tenth of a second once a day, and a forecast that waits for a child's answer would come from the day before.

Decision: only services and severities with a history of their own are targets, at most `MAX_SERVICES` services. To be
silent about a thousand services costs as much as to forecast them.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np
from msgspec.structs import replace

from bridge.analysis.forecast.forecaster import Forecaster, ForecasterState, Said
from bridge.analysis.forecast.occurrences import Occurrences, parts_of
from bridge.analysis.forecast.reasons import NO_SKILL
from bridge.analysis.forecast.targets import ANY, LEAST_EVENTS, Target
from bridge.model import Forecast, Word

MAX_SERVICES = 8
DAY_S = 86_400.0
LOOKED_BACK_S = 30 * DAY_S  # that a new target learns from
MAX_LEARNED = 3000  # origins that are remembered and learned from
STEPS_IN_HORIZON = 4
LEAST_STEP_S, MOST_STEP_S = 900.0, 3600.0


class Outlook(Word, frozen=True, kw_only=True):
    """One target as it is stored: what was learned, and the newest forecast."""

    target: Target
    forecaster: ForecasterState
    newest: Forecast


def step_of(horizon_s: float) -> float:
    """Return how far apart origins are, s: a quarter of the horizon, in whole quarters of an hour up to an hour."""
    step_s = horizon_s / STEPS_IN_HORIZON // LEAST_STEP_S * LEAST_STEP_S
    return min(MOST_STEP_S, max(LEAST_STEP_S, step_s))


def targets_of(events: Occurrences) -> tuple[Target, ...]:
    """Return what to forecast: anything, the severities and the busiest services that have a history."""
    severities = Counter(each.severity for each in events.events if each.severity)
    services = Counter(part for each in events.events for part in dict.fromkeys(parts_of(each.entity)))
    few = sorted(services.items(), key=lambda each: (-each[1], each[0]))[:MAX_SERVICES]
    return (
        ANY,
        *(Target("severity", name) for name, number in sorted(severities.items()) if number >= LEAST_EVENTS),
        *(Target("service", name) for name, number in few if number >= LEAST_EVENTS),
    )


def look_ahead(
    before: Outlook | None, target: Target, events: Occurrences, now: datetime, *, horizon_s: float
) -> Outlook | None:
    """Return the outlook at `now`, or None where the target has no event yet.

    Args:
        before: The one before; None: it is new, or the horizon is another one now.
        target: What it is about.
        events: All that happened up to now, of the last weeks at least.
        now: The tick, a multiple of the step; not before the one of the outlook before.
        horizon_s: How far ahead.
    """
    own, every = _narrowed(target, events)
    if not len(own):
        return None
    now_s = now.timestamp()
    if before is None or before.forecaster.reference.horizon_s != horizon_s:
        forecaster = _begun(own, every, now_s, horizon_s)
    else:
        forecaster = Forecaster.of(before.forecaster)
    said = next(iter(forecaster.forecasts(np.array([now_s]), own, every)))
    state = forecaster.state(MAX_LEARNED)
    return Outlook(target=target, forecaster=state, newest=_forecast(target, forecaster, said, own, every))


def acted(outlook: Outlook, at: datetime) -> Outlook:
    """Return the outlook after people acted on the forecast of `at`: it, and those around it, teach nothing."""
    forecaster = Forecaster.of(outlook.forecaster)
    forecaster.acted(at.timestamp())
    return replace(outlook, forecaster=forecaster.state())


def _narrowed(target: Target, events: Occurrences) -> tuple[Occurrences, Occurrences | None]:
    if target.aim == "any":
        return events, None
    named: dict[str, Any] = {"entity" if target.aim == "service" else "severity": target.name}
    return events.of(**named), events


def _begun(own: Occurrences, every: Occurrences | None, now_s: float, horizon_s: float) -> Forecaster:
    """Return a forecaster that has gone through the target's past."""
    step_s = step_of(horizon_s)
    since_s = max(float(own.starts[0]), now_s - LOOKED_BACK_S)
    forecaster = Forecaster(since_s=since_s, horizon_s=horizon_s, step_s=step_s)
    past = np.arange(np.ceil(since_s / step_s) * step_s, now_s - step_s / 2, step_s)
    for _ in forecaster.forecasts(past, own, every):
        pass
    return forecaster


def _forecast(
    target: Target, forecaster: Forecaster, said: Said, own: Occurrences, every: Occurrences | None
) -> Forecast:
    mean, low, high = forecaster.reference.expected()
    scope = {
        "any": "incidents",
        "severity": f"{target.name} incidents",
        "service": f"incidents of {target.name}",
    }
    scopes = (scope[target.aim],) if every is None else (scope[target.aim], "incidents of any kind")
    why = forecaster.reasons(said.origin_s, own, every, scopes=scopes) if said.published else ()
    return Forecast(
        aim=target.aim, name=target.name, at=datetime.fromtimestamp(said.origin_s, UTC),
        until=datetime.fromtimestamp(said.origin_s + forecaster.horizon_s, UTC), probability=said.probability,
        published=said.published, reference=said.reference, expected=mean, expected_low=low, expected_high=high,
        reasons=tuple(each.text for each in why), why_silent="" if said.published else NO_SKILL,
    )  # fmt: skip
