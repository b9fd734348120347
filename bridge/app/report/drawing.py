"""Drawing: plots as SVG, for a page that loads nothing and runs nothing.

Rules: pure; the same numbers give the same text. Colours are classes, which the page defines for light and dark; every
plot has a name for those who cannot see it. Numbers of any size are drawn: they are finite, and clamped to +-1e150.

Decision: written here rather than with a plotting library. Bars, lines and a few dots take two hundred lines; a library
that draws SVG brings tens of megabytes, and bytes that change with its release.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from bridge.app.report.markup import escaped

WIDTH, HEIGHT = 720.0, 170.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 12.0, 10.0, 24.0
MOST_POINTS = 480  # of a line; more are thinned
LEAST, MOST = -1e150, 1e150
DAY_S = 86_400.0
#: Between two marks on the axis of time, s.
STEPS_S = (
    60.0, 300.0, 900.0, 3600.0, 10_800.0, 21_600.0, 43_200.0, DAY_S, 2 * DAY_S, 7 * DAY_S, 14 * DAY_S, 28 * DAY_S,
    91 * DAY_S, 182 * DAY_S, 364 * DAY_S, 1820 * DAY_S, 7280 * DAY_S,
)  # fmt: skip
MARKS = 7

Points = Sequence[tuple[float, float]]


class Bar(NamedTuple):
    """One column: when it begins, and its parts from below, each with its class."""

    since_s: float
    parts: tuple[tuple[str, float], ...]


class Line(NamedTuple):
    """One line, by its class; it is broken where more than `gap_s` lie between two points."""

    style: str
    points: Points
    gap_s: float = math.inf


class Dot(NamedTuple):
    """One dot of a reliability plot: what was said, what came, with its interval, and how many there were."""

    said: float
    came: float
    low: float
    high: float
    number: int


class Axis(NamedTuple):
    """What is shown of one dimension, and where."""

    low: float
    high: float
    begins: float  # px
    ends: float

    def at(self, value: float) -> float:
        """Return the place of a value, px; halved first, so that no difference is infinite."""
        whole = self.high / 2.0 - self.low / 2.0
        share = (value / 2.0 - self.low / 2.0) / whole if whole > 0.0 else 0.5
        return self.begins + (self.ends - self.begins) * min(1.0, max(0.0, share))


def bars(name: str, columns: Sequence[Bar], width_s: float, span_s: tuple[float, float]) -> str:
    """Return columns over time, each `width_s` wide."""
    most = max((sum(part for _, part in each.parts) for each in columns), default=0.0)
    across, up = _across(span_s), _up(0.0, _nice_above(most))
    parts = [*_grid(up, _marks_up(up)), *_dates(across)]
    for each in columns:
        left, right = across.at(each.since_s), across.at(each.since_s + width_s)
        below = 0.0
        for style, number in each.parts:
            if number > 0.0:
                top, foot = up.at(below + number), up.at(below)
                parts.append(
                    f'<rect class="{style}" x="{left:.1f}" y="{top:.1f}"'
                    f' width="{max(0.8, right - left - 0.6):.1f}" height="{foot - top:.1f}"/>'
                )
            below += number
    return _svg(name, parts)


def lines(
    name: str,
    drawn: Sequence[Line],
    span_s: tuple[float, float],
    *,
    between: tuple[float, float] | None = None,
    level: float | None = None,
    rug: Sequence[float] = (),
    band: Sequence[tuple[float, float, float]] = (),
) -> str:
    """Return lines over time.

    Args:
        name: For those who cannot see it.
        drawn: The lines.
        span_s: What is shown of time, epoch s.
        between: What is shown of values; None: what there is.
        level: A value that is marked.
        rug: Times that are marked at the foot.
        band: (time, least, largest) behind the lines.
    """
    values = [value for line in drawn for _, value in line.points] + [
        each for part in band for each in part[1:]
    ]
    low, high = between or _around(values)
    across, up = _across(span_s), _up(low, high)
    parts = [*_grid(up, _marks_up(up)), *_dates(across)]
    if band:
        parts.append(_area(band, across, up))
    if level is not None:
        y = up.at(level)
        parts.append(
            f'<line class="level" x1="{LEFT:.1f}" y1="{y:.1f}" x2="{WIDTH - RIGHT:.1f}" y2="{y:.1f}"/>'
        )
    parts += [_path(line, across, up) for line in drawn if line.points]
    marks = dict.fromkeys(f"{across.at(at_s):.0f}" for at_s in rug)
    if marks:
        parts.append(f'<path class="rug" d="{"".join(f"M{x} {HEIGHT - BOTTOM:.0f}v-7" for x in marks)}"/>')
    return _svg(name, parts)


def logarithmic(name: str, points: Points, span_s: tuple[float, float], *, level: float) -> str:
    """Return a line of positive numbers over time, by their powers of ten, with a level that is marked."""
    logs = [(at_s, math.log10(max(1e-6, value))) for at_s, value in points]
    low = math.floor(min([0.0, *(value for _, value in logs)]))
    high = math.ceil(max([math.log10(level) + 0.3, *(value for _, value in logs)]))
    across, up = _across(span_s), _up(float(low), float(high))
    powers = range(low, high + 1, max(1, (high - low) // 4))
    marks = [(float(power), f"{10.0**power:g}") for power in powers]
    y = up.at(math.log10(level))
    parts = [
        *_grid(up, marks),
        *_dates(across),
        f'<line class="level" x1="{LEFT:.1f}" y1="{y:.1f}" x2="{WIDTH - RIGHT:.1f}" y2="{y:.1f}"/>',
    ]
    if logs:
        parts.append(_path(Line("evidence", logs), across, up))
    return _svg(name, parts)


def reliability(name: str, dots: Sequence[Dot]) -> str:
    """Return how often it came where so much was said; on the diagonal a probability means what it says."""
    size = 300.0
    across = Axis(0.0, 1.0, LEFT, size - RIGHT)
    up = Axis(0.0, 1.0, size - 36.0, TOP)
    parts = []
    for fifth in range(6):
        share = fifth / 5.0
        x, y = across.at(share), up.at(share)
        parts += [
            f'<line class="grid" x1="{across.begins:.1f}" y1="{y:.1f}" x2="{across.ends:.1f}" y2="{y:.1f}"/>',
            f'<text x="{across.begins - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>',
            f'<text x="{x:.1f}" y="{up.begins + 15:.1f}" text-anchor="middle">{share:.0%}</text>',
        ]
    parts.append(
        f'<line class="level" x1="{across.begins:.1f}" y1="{up.begins:.1f}"'
        f' x2="{across.ends:.1f}" y2="{up.ends:.1f}"/>'
    )
    most = max((each.number for each in dots), default=1)
    for each in dots:
        x, radius = across.at(each.said), 3.0 + 6.0 * math.sqrt(each.number / most)
        low, high = up.at(each.low), up.at(each.high)
        parts += [
            f'<line class="whisker" x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}"/>',
            f'<circle class="said" cx="{x:.1f}" cy="{up.at(each.came):.1f}" r="{radius:.1f}"/>',
        ]
    parts.append(
        f'<text x="{(across.begins + across.ends) / 2:.1f}" y="{size - 5:.1f}" text-anchor="middle">said</text>'
    )
    return _svg(name, parts, width=size, height=size)


def stretches(
    first_s: float, last_s: float, most: int, least_s: float = 3600.0
) -> tuple[float, Callable[[float], float]]:
    """Return how wide columns are of which at most `most` fit in, s, and what gives the beginning of one by a time."""
    steps = [step_s for step_s in STEPS_S if step_s >= least_s]
    width_s = next((step_s for step_s in steps if (last_s - first_s) / step_s < most - 1), steps[-1])
    while (last_s - first_s) / width_s >= most - 1:
        width_s *= 2.0
    return width_s, lambda at_s: at_s // width_s * width_s


# ---- what plots are made of ------------------------------------------------------------------------------


def _svg(name: str, parts: Iterable[str], *, width: float = WIDTH, height: float = HEIGHT) -> str:
    inside = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" role="img"><title>{escaped(name)}</title>{inside}</svg>'
    )


def _across(span_s: tuple[float, float]) -> Axis:
    first_s, last_s = span_s
    return Axis(first_s, max(last_s, first_s + 60.0), LEFT, WIDTH - RIGHT)


def _up(low: float, high: float) -> Axis:
    return Axis(low, high, HEIGHT - BOTTOM, TOP)


def _grid(up: Axis, marks: Iterable[tuple[float, str]]) -> Iterator[str]:
    for value, said in marks:
        y = up.at(value)
        yield f'<line class="grid" x1="{LEFT:.1f}" y1="{y:.1f}" x2="{WIDTH - RIGHT:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{said}</text>'


def _marks_up(up: Axis) -> list[tuple[float, str]]:
    quarters = [up.low + (up.high / 4.0 - up.low / 4.0) * number for number in range(5)]
    return [(value, f"{value:.4g}") for value in quarters]


def _dates(across: Axis) -> Iterator[str]:
    """Yield the marks of time, all in UTC."""
    span_s = across.high - across.low
    step_s = next((step_s for step_s in STEPS_S if span_s / step_s < MARKS), span_s / MARKS)
    form = "%m-%d %H:%M" if step_s < DAY_S else "%Y-%m-%d"
    first = math.ceil(across.low / step_s)
    for number in range(first, math.floor(across.high / step_s) + 1):
        x = across.at(number * step_s)
        said = datetime.fromtimestamp(number * step_s, UTC).strftime(form)
        anchor = "start" if x < LEFT + 30.0 else "end" if x > WIDTH - 40.0 else "middle"
        yield f'<text x="{x:.1f}" y="{HEIGHT - 7:.1f}" text-anchor="{anchor}">{said}</text>'


def _path(line: Line, across: Axis, up: Axis) -> str:
    steps, before_s = [], None
    for at_s, value in _thinned(line.points):
        is_broken = before_s is None or at_s - before_s > line.gap_s
        # A point of its own is seen as a short stroke.
        steps.append(
            f"{'M' if is_broken else 'L'}{across.at(at_s):.1f} {up.at(value):.1f}{'h0.1' * is_broken}"
        )
        before_s = at_s
    return f'<path class="{line.style}" d="{"".join(steps)}"/>'


def _area(band: Sequence[tuple[float, float, float]], across: Axis, up: Axis) -> str:
    there = [f"{across.at(at_s):.1f} {up.at(high):.1f}" for at_s, _, high in band]
    back = [f"{across.at(at_s):.1f} {up.at(low):.1f}" for at_s, low, _ in reversed(band)]
    return f'<path class="band" d="M{"L".join([*there, *back])}Z"/>'


def _thinned(points: Points) -> Points:
    """Return at most `MOST_POINTS` points: means of neighbours."""
    together = -(-len(points) // MOST_POINTS)
    if together <= 1:
        return points
    parts = [points[first : first + together] for first in range(0, len(points), together)]
    return [
        (math.fsum(at_s for at_s, _ in part) / len(part), math.fsum(value for _, value in part) / len(part))
        for part in parts
    ]


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Return an interval in which values lie, none of them at its edge."""
    low = min(MOST, max(LEAST, min(values, default=0.0)))
    high = min(MOST, max(LEAST, max(values, default=1.0)))
    room = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    return low - room, high + room


def _nice_above(value: float) -> float:
    """Return a number that is not below `value` and whose quarters are easily read."""
    if value <= 4.0:  # noqa: PLR2004 - whole quarters
        return 4.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(each * power for each in (1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0) if each * power >= value)
