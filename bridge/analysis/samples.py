"""Samples of configured Prometheus series: from the answers of `query_range` to inbox rows, and back.

Source: answers as Prometheus' HTTP API v1 documents them for a matrix.

Rules: a row holds finite numbers in the order of their times, and names what was left out. Series of a query go by
their labels, those of the configuration included; of too many the first by their labels stay, always the same ones.
Nothing here remembers anything: whether a sample is late or comes twice is decided by whoever knows what came before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

import msgspec

from bridge.analysis.prometheus import answer_of
from bridge.model import Word

#: Series that one query may give.
MAX_LINES = 200
#: Samples in one row: about half a megabyte.
MAX_POINTS = 20_000
#: Why samples were left out.
NOT_A_NUMBER, TOO_MANY, TOO_LONG, LATE = "not_a_number", "too_many", "too_long", "late"

#: When, in seconds since the epoch (of Prometheus' clock), and what.
Point = tuple[float, float]


class Line(Word, frozen=True, kw_only=True):
    """Samples of one series, oldest first."""

    labels: dict[str, str]
    points: tuple[Point, ...]


class Samples(Word, frozen=True, kw_only=True):
    """What one question found: the body of a row of kind `samples`, or one part of it."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]  # of the query, as configured
    step_s: Annotated[float, msgspec.Meta(gt=0, le=1e9)]
    lines: tuple[Line, ...] = ()
    refused: dict[str, Annotated[int, msgspec.Meta(ge=0)]] = msgspec.field(default_factory=dict)


class _Series(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]] = []


def matrix_of(body: bytes) -> list[Line]:
    """Return the series in the answer to a range query as they are, with numbers that are none.

    Raises:
        ValueError: It is no such answer, or tells of an error; the message is safe to log.
    """
    return [
        Line(labels=each.metric, points=tuple((at_s, _number(text)) for at_s, text in each.values))
        for each in answer_of(body, "matrix", _Series)
    ]


def parts_of(name: str, step_s: float, labels: Mapping[str, str], found: Iterable[Line]) -> list[Samples]:
    """Return what was found in parts of `MAX_POINTS` at most, oldest first; none where there is nothing.

    `labels` are the configured ones: they go before the series' own.
    """
    refused: dict[str, int] = {}
    owners: list[dict[str, str]] = []
    points: list[tuple[float, int, float]] = []  # when, whose, what
    for number, line in enumerate(sorted(found, key=lambda each: sorted(each.labels.items()))):
        good = [point for point in line.points if math.isfinite(point[0]) and math.isfinite(point[1])]
        _count(refused, NOT_A_NUMBER, len(line.points) - len(good))
        if number >= MAX_LINES:
            _count(refused, TOO_MANY, len(good))
            continue
        owners.append({**line.labels, **labels})
        points += [(at_s, number, value) for at_s, value in good]
    points.sort(key=lambda point: point[:2])
    cut = [points[start : start + MAX_POINTS] for start in range(0, len(points), MAX_POINTS)]
    if not cut and refused:
        cut = [[]]
    return [
        Samples(
            name=name, step_s=step_s, lines=tuple(_lines(part, owners)), refused={} if number else refused
        )
        for number, part in enumerate(cut)
    ]


def read(body: bytes) -> Samples:
    """Return the samples of a row. Times may go back in it, and numbers may be none; whoever uses them looks.

    Raises:
        ValueError: It is no such row.
    """
    try:
        return msgspec.json.decode(body, type=Samples)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not samples: {error}") from error


def _lines(points: Iterable[tuple[float, int, float]], owners: list[dict[str, str]]) -> Iterator[Line]:
    by_owner: dict[int, list[Point]] = {}
    for at_s, owner, value in points:
        by_owner.setdefault(owner, []).append((at_s, value))
    for owner, mine in sorted(by_owner.items()):
        yield Line(labels=owners[owner], points=tuple(mine))


def _count(refused: dict[str, int], why: str, number: int) -> None:
    if number:
        refused[why] = refused.get(why, 0) + number


def _number(text: str) -> float:
    """Return a value as Prometheus writes it; NaN for what is none at all."""
    try:
        return float(text)
    except ValueError:
        return math.nan
