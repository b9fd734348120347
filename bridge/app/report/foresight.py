"""Foresight: whether forecasts deserve trust, as a report shows it.

Rules: pure. Only forecasts that were made are shown, with what came of them as they learned it themselves; what a new
target goes through of its past was told to nobody and is left out.

Theory. A probability means what it says if of all times at which p was said the event came in a share of p: the
reliability diagram (Murphy and Winkler, Applied Statistics 1977), here in tenths. Horizons overlap, so neighbours share
their outcome; the intervals (Wilson's, 95 %) count so many forecasts as there were horizons without overlap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from bridge.analysis.forecast.targets import Target
from bridge.analysis.forecast.trust import EARNED
from bridge.app.report import drawing
from bridge.app.report.drawing import Dot, Line
from bridge.app.report.markup import aside, escaped, figure, folded, said, table
from bridge.app.report.recorder import Ahead, Prospect
from bridge.app.screen import count, span
from bridge.model import Forecast

BINS = 10
Z = 1.96  # of a normal's middle 95 %


def forecasts(prospects: Mapping[Target, Prospect], lacking: str | None) -> Iterator[str]:
    """Yield the forecasts of a tenant: of any incident at once, of the others when they are asked for."""
    yield "<h3>What is forecast</h3>"
    if not prospects:
        yield aside(f"Nothing: {lacking}." if lacking else "Nothing was forecast.")
        return
    for target in sorted(prospects):
        inside = "".join(_prospect(prospects[target]))
        name = _named(target)
        if target.aim == "any":
            yield f"<h3>{escaped(name)}</h3>{inside}"
        else:
            yield folded(name, inside)


def _named(target: Target) -> str:
    return {
        "any": "Any incident", "severity": f"Severity {target.name}", "service": f"Service {target.name}",
    }[target.aim]  # fmt: skip


def _prospect(prospect: Prospect) -> Iterator[str]:
    made, outlook = prospect.made, prospect.newest
    if outlook is None:
        return
    horizon_s, step_s = outlook.forecaster.reference.horizon_s, outlook.forecaster.step_s
    span_s = (made[0].at_s, made[-1].at_s)
    published = sum(each.published for each in made)
    known = [each for each in made if each.happened is not None]
    yield said(
        f"{count(len(made), 'forecast')} of the next {span(horizon_s)}, every {span(step_s)}; published"
        f" {published / len(made):.0%} of the time."
    )
    yield from _newest(outlook.newest)
    gap_s = 4.0 * step_s * max(1, -(-len(made) // drawing.MOST_POINTS))
    usual = Line("usual", [(each.at_s, each.reference) for each in made], gap_s)
    given = Line("given", [(each.at_s, each.probability) for each in made if each.published], gap_s)
    came = [each.at_s for each in known if each.happened]
    yield figure(
        drawing.lines("Probability over time", [usual, given], span_s, between=(0.0, 1.0), rug=came),
        "Grey: how often it comes at such hours. Blue: what was published, where that was earned. Red at the foot:"
        " forecasts within whose horizon it came.",
    )
    yield figure(
        drawing.logarithmic(
            "Evidence over time", [(each.at_s, each.e_value) for each in made], span_s, level=EARNED
        ),
        f"The right to publish: how much evidence (an e-value) the models have earned against the adaptive rate; above"
        f" {EARNED:g} they publish. Where the rate is as right as it can be, 1 in {EARNED:g} ever gets there.",
    )
    yield from _quality(known, min(1.0, step_s / horizon_s))


def _newest(newest: Forecast) -> Iterator[str]:
    if newest.published:
        why = "; ".join(newest.reasons) or "nothing in particular"
        yield said(
            f"The last one: {newest.probability:.0%}, {newest.reference:.0%} is usual then. What moved it: {why}."
        )
    else:
        yield said(f"The last one is silent: {newest.why_silent}. {newest.reference:.0%} is usual then.")


def _quality(known: Sequence[Ahead], share: float) -> Iterator[str]:
    """Yield how good forecasts were whose outcome is known; `share` of each horizon is its own."""
    if not known:
        yield aside("What came of them is not known yet.")
        return
    rows = [_scored("all", known)]
    published = [each for each in known if each.published]
    if published and len(published) < len(known):
        rows.append(_scored("published", published))
    heads = ("forecasts", "number#", "it came#", "Brier score#", "of the adaptive rate#", "skill#")
    yield table(heads, rows)
    dots = [_dot(each, share) for each in _bins(known)]
    yield figure(
        drawing.reliability("Reliability", dots),
        "What was given against how often it came, in tenths; the larger, the more. On the dashed line a probability"
        " means what it says; the strokes are 95 % intervals.",
    )
    yield table(
        ("said#", "forecasts#", "it came#", "95 % interval#"),
        [(f"{dot.said:.1%}", f"{dot.number:,}", f"{dot.came:.1%}", f"{dot.low:.0%} to {dot.high:.0%}") for dot in dots],
    )  # fmt: skip


def _scored(name: str, made: Sequence[Ahead]) -> tuple[str, ...]:
    came = sum(bool(each.happened) for each in made) / len(made)
    own = math.fsum((each.probability - bool(each.happened)) ** 2 for each in made) / len(made)
    usual = math.fsum((each.reference - bool(each.happened)) ** 2 for each in made) / len(made)
    skill = f"{1.0 - own / usual:+.3f}" if usual > 0.0 else "none"
    return name, f"{len(made):,}", f"{came:.1%}", f"{own:.4f}", f"{usual:.4f}", skill


def _bins(known: Sequence[Ahead]) -> list[list[Ahead]]:
    found: dict[int, list[Ahead]] = {}
    for each in known:
        found.setdefault(min(BINS - 1, int(each.probability * BINS)), []).append(each)
    return [found[place] for place in sorted(found)]


def _dot(made: Sequence[Ahead], share: float) -> Dot:
    came = sum(bool(each.happened) for each in made) / len(made)
    low, high = _interval(came, max(1.0, len(made) * share))
    return Dot(
        said=math.fsum(each.probability for each in made) / len(made), came=came, low=low, high=high,
        number=len(made),
    )  # fmt: skip


def _interval(share: float, number: float) -> tuple[float, float]:
    """Return Wilson's interval of a share that was seen in so many."""
    scale = 1.0 + Z * Z / number
    middle = (share + Z * Z / (2.0 * number)) / scale
    half = Z / scale * math.sqrt(share * (1.0 - share) / number + Z * Z / (4.0 * number * number))
    return max(0.0, middle - half), min(1.0, middle + half)
