"""Samples: what Prometheus answers, what becomes of it in rows, and what no answer is."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis import samples
from bridge.analysis.samples import Line, matrix_of, parts_of, read


def matrix(*series: tuple[dict[str, str], list[tuple[float, str]]]) -> bytes:
    result = [{"metric": labels, "values": values} for labels, values in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


def test_an_answer_becomes_rows_without_what_is_no_number():
    body = matrix(
        ({"job": "b"}, [(60, "1.5"), (120, "NaN"), (180, "+Inf")]),
        ({"job": "a"}, [(60, "-2e3"), (120, "0")]),
    )
    [part] = parts_of("load", 60.0, {"team": "db"}, matrix_of(body))
    assert part.lines == (
        Line(labels={"job": "a", "team": "db"}, points=((60.0, -2000.0), (120.0, 0.0))),
        Line(labels={"job": "b", "team": "db"}, points=((60.0, 1.5),)),
    )
    assert part.refused == {"not_a_number": 2}
    assert read(msgspec.json.encode(part)) == part


def test_configured_labels_go_before_the_series_own():
    [part] = parts_of("load", 60.0, {"job": "mine"}, [Line(labels={"job": "a"}, points=((1.0, 1.0),))])
    assert part.lines[0].labels == {"job": "mine"}


def test_nothing_gives_no_row_and_only_gaps_say_so():
    assert parts_of("load", 60.0, {}, matrix_of(matrix())) == []
    [part] = parts_of("load", 60.0, {}, matrix_of(matrix(({}, [(60, "NaN")]))))
    assert (part.lines, part.refused) == ((), {"not_a_number": 1})


def test_of_too_many_series_the_same_ones_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(samples, "MAX_LINES", 2)
    lines = [Line(labels={"pod": name}, points=((1.0, 1.0), (2.0, 1.0))) for name in "dbca"]
    [part] = parts_of("load", 1.0, {}, lines)
    assert [line.labels["pod"] for line in part.lines] == ["a", "b"]
    assert part.refused == {"too_many": 4}


def test_many_samples_are_cut_by_time_and_refusals_are_told_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(samples, "MAX_POINTS", 4)
    lines = [
        Line(labels={"pod": pod}, points=tuple((float(at), math.nan if at == 0 else 1.0) for at in range(4)))
        for pod in "ab"
    ]
    parts = parts_of("load", 1.0, {}, lines)
    assert [[at for line in part.lines for at, _ in line.points] for part in parts] == [[1, 2, 1, 2], [3, 3]]
    assert [part.refused for part in parts] == [{"not_a_number": 2}, {}]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>", "does not answer as Prometheus"),
        (b"\xff", "does not answer as Prometheus"),
        (b'{"status":"error","error":"bad_data: parse error"}', "it says: bad_data: parse error"),
        (b'{"status":"success","data":{"resultType":"vector","result":[]}}', "something else than a matrix"),
        (matrix(({}, [])).replace(b"[]}", b"7}"), "does not answer as Prometheus"),
        (b"[" * 100_000, "does not answer as Prometheus"),
    ],
)
def test_what_is_no_answer_is_said(body: bytes, why: str):
    with pytest.raises(ValueError, match=why):
        matrix_of(body)


@given(st.lists(st.text(max_size=6), max_size=4))
def test_no_value_breaks_the_reader(values: list[str]):
    body = matrix(({}, [(60.0 * number, value) for number, value in enumerate(values)]))
    parts = parts_of("x", 60.0, {}, matrix_of(body))
    points = [point for part in parts for line in part.lines for point in line.points]
    assert all(math.isfinite(value) for _, value in points)
    assert len(points) + sum(sum(part.refused.values()) for part in parts) == len(values)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"\xff", b"{}", b'{"name":"","step_s":1}', b'{"name":"x","step_s":0}',
     b'{"name":"x","step_s":60,"lines":[{"labels":{},"points":[[1,"2"]]}]}',
     b'{"name":"x","step_s":60,"refused":{"late":-1}}'],
)  # fmt: skip
def test_what_is_no_row_is_said(body: bytes):
    with pytest.raises(ValueError, match="not samples"):
        read(body)
