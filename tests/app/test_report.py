"""The model report: what it says, that it runs and loads nothing, and that it is the same every time."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest.mock import patch
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from timeline import START, alert, row, stamp, webhook

from bridge import pipeline
from bridge.analysis.detectors.surprise import FLAGGED
from bridge.analysis.forecast.outlooks import look_ahead
from bridge.analysis.samples import Line, Samples
from bridge.app import report
from bridge.app.replay import Wishes, replay
from bridge.app.report import drawing
from bridge.app.report.foresight import _interval
from bridge.app.report.markup import LONGEST_TEXT, escaped
from bridge.app.report.recorder import Curve
from bridge.errors import StorageError
from bridge.pipeline import forecasts
from bridge.webhooks.alertmanager import fingerprint_of

HOURS = 30
#: What a sender may write into a label.
HOSTILE = '<img src=x onerror="alert(1)">]]>&amp;\x1b[31m\u202e\ufffe'
STRANGE = 280  # number of the sample that is


@pytest.fixture(autouse=True)
def few() -> Iterator[None]:
    """Let three incidents be enough to forecast."""
    with (
        patch.object(forecasts, "LEAST_EVENTS", 3),
        patch("bridge.analysis.forecast.outlooks.LEAST_EVENTS", 3),
    ):
        yield


@pytest.fixture
def earned() -> Iterator[None]:
    """Let every forecast be one that was earned."""

    def published(*told: Any, **more: Any) -> Any:
        outlook = look_ahead(*told, **more)
        said = {"published": True, "probability": 0.8, "reasons": (HOSTILE,)}
        return outlook and replace(outlook, newest=replace(outlook.newest, **said))

    with patch.object(forecasts, "look_ahead", published):
        yield


def history(path: Path) -> Path:
    """Write a recording: an incident an hour, and a series that leaps once."""
    lines: list[tuple[Any, dict[str, Any]]] = []
    for hour in range(HOURS):
        at = START + timedelta(hours=hour, minutes=7 * (hour % 5))
        labels = {"alertname": "Slow", "service": HOSTILE if hour % 3 else "shop", "severity": "critical"}
        for ends in (None, at + timedelta(minutes=1)):
            heard = ends or at
            body = json.loads(webhook([alert(labels, starts=at, ends=ends)], group=f"g{hour}"))
            lines.append((heard, {"received_at": stamp(heard), "body": body}))
    for number in range(300):
        at = START + timedelta(minutes=5 * number)
        value = 5000.0 if number == STRANGE else 10.0 + math.sin(number / 9.0) + number % 3
        point = Line(labels={"job": HOSTILE}, points=((at.timestamp(), value),))
        told = msgspec.to_builtins(Samples(name="load", step_s=300.0, lines=(point,)))
        lines.append((at, {"received_at": stamp(at), "tenant": "default", "kind": "samples", "body": told}))
    lines.sort(key=lambda line: line[0])
    path.write_text("".join(json.dumps(line) + "\n" for _, line in lines))
    return path


def made(tmp_path: Path, name: str = "report.html", **wishes: Any) -> bytes:
    """Return the report of the history."""
    out = tmp_path / name
    recording = history(tmp_path / "history.jsonl")
    replay(
        [str(recording)],
        Wishes(report=out, **{"no_models": True} | wishes),
        say=pytest.fail,
    )
    return out.read_bytes()


def texts(content: bytes) -> str:
    """Return what a person reads of a page, one element a line."""
    tree = ET.fromstring(content.partition(b"\n")[2])  # noqa: S314 - our own
    return "\n".join("".join(each.itertext()) for each in tree.iter() if not list(each))


class Seen(HTMLParser):
    """All elements and attributes, as a browser finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.policies: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policies.append(dict(attrs)["content"] or "")


@pytest.mark.usefixtures("earned")
def test_a_page_runs_nothing_loads_nothing_and_shows_hostile_text_as_text(tmp_path: Path):
    content = made(tmp_path)
    seen = Seen()
    seen.feed(content.decode())
    assert not seen.tags & {"script", "img", "link", "iframe", "object", "embed", "a", "form", "image", "use"}
    assert not {name for name in seen.attributes if name.startswith("on")}
    assert not seen.attributes & {"src", "href", "style", "xlink:href"}
    assert seen.policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    addresses = set(re.findall(rb"https?://[^\"'< ]+", content))
    assert addresses == {b"http://www.w3.org/1999/xhtml", b"http://www.w3.org/2000/svg"}
    assert b"url(" not in content
    assert b"@import" not in content
    shown = '<img src=x onerror="alert(1)">]]>&amp;[31m'
    assert shown in texts(content), "as it was sent, but for what a person cannot see"
    assert content.count(b"prefers-color-scheme: dark") == 1


def test_the_same_history_gives_the_same_bytes_however_it_is_batched(tmp_path: Path):
    assert len({made(tmp_path, batch=batch) for batch in (1, 7, 256)}) == 1


def test_a_page_says_what_came_in_and_what_went_out(tmp_path: Path):
    told = texts(made(tmp_path))
    assert "webhooks\n60\n" in told
    assert "incidents\n31 (alerts 30, anomaly 1)\n" in told
    assert "began to fire\n2\n" in told
    assert "fired again after its end\n28\n" in told
    assert "calls for critical incidents\n30 (opened 30)\n" in told
    assert "calls for each critical incident\n1.00\n" in told
    assert (
        "Incidents that began, each day: critical 30, warning 1, info 0 in all, the worst from below." in told
    )
    assert "late copies" not in told


def test_a_page_says_which_way_groups_and_which_detectors_watch(tmp_path: Path):
    told = texts(made(tmp_path))
    assert "By time alone: 30 of 300 alerts to learn from." in told
    assert "There was no exam: no other way was learned yet." in told
    assert "1 series of samples" in told
    assert f"reaches {FLAGGED:.2f}" in told
    assert "spot" in told
    assert "1 alarm\n" in told
    at = (START + timedelta(minutes=5 * STRANGE)).strftime("%Y-%m-%d %H:%M:%SZ")
    assert f"The strangest value was 5000 at {at}: 1.00." in told


@pytest.mark.usefixtures("earned")
def test_a_page_compares_what_was_forecast_with_what_came(tmp_path: Path):
    told = texts(made(tmp_path))
    any_incident = told.partition("Any incident\n")[2].partition("Service")[0]
    number = HOURS - 3  # from the third incident on, at each full hour
    assert f"{number} forecasts of the next 4 h, every 1 h; published 100% of the time." in any_incident
    # Of the last four horizons nobody knows yet what came.
    assert f"all\n{number - 4}\n100.0%\n0.0400\n" in any_incident
    assert f"80.0%\n{number - 4}\n100.0%\n" in any_incident
    assert f"What moved it: {HOSTILE[:15]}" in any_incident
    assert "Severity critical\n" in told


def test_a_silent_forecast_says_why(tmp_path: Path):
    assert "The last one is silent: no skill here" in texts(made(tmp_path))


def test_a_page_ranks_the_strangest_incidents_with_their_reasons(tmp_path: Path):
    told = texts(made(tmp_path)).partition("The strangest incidents\n")[2]
    first = told.partition("people say\n")[2].splitlines()
    assert float(first[0]) > 0.9
    assert "anomaly" in first
    assert any("by chance: load" in line for line in first)


def test_a_page_counts_what_people_said(tmp_path: Path):
    named = {"alertname": "Slow", "service": "shop", "severity": "critical"}
    at = START + timedelta(minutes=5)
    said = tmp_path / "said.jsonl"
    episode = {"fingerprint": fingerprint_of(named), "starts_at": stamp(START)}
    lines = [
        {
            "at": stamp(at + timedelta(seconds=number)),
            "kind": kind,
            "episodes": [episode],
            "text": HOSTILE[:20],
        }
        for number, kind in enumerate(("false_alarm", "note", "note"))
    ]
    said.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = texts(made(tmp_path, feedback=said))
    assert "note\n2\n0\n0\n" in told
    assert "0 stand as useful, 1 as false alarms." in told
    assert "Nobody said anything" in texts(made(tmp_path))


def test_an_empty_history_gives_a_page_that_says_so(tmp_path: Path):
    recording, out = tmp_path / "empty.jsonl", tmp_path / "report.html"
    recording.write_text("")
    replay([str(recording)], Wishes(report=out), say=pytest.fail)
    assert "There was nothing to replay" in texts(out.read_bytes())


def test_a_history_without_alerts_gives_a_page(tmp_path: Path):
    recording, out = tmp_path / "quiet.jsonl", tmp_path / "report.html"
    recording.write_text(json.dumps({"received_at": stamp(START), "body": json.loads(webhook([]))}) + "\n")
    replay([str(recording)], Wishes(report=out, no_models=True), say=pytest.fail)
    told = texts(out.read_bytes())
    assert "No incident has a score" in told
    assert "0 of 3 incidents to learn from" in told or "Nothing: 0 of" in told


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    with pytest.raises(StorageError, match="cannot write"):
        report.save(b"x", tmp_path / "none" / "report.html")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(StorageError):
        report.save(b"x", tmp_path / "report.html")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_nothing_is_gathered_unless_it_is_asked_for():
    one = row(1, START, webhook([alert({"alertname": "Slow"})]))
    assert pipeline.advance(pipeline.State(), [one]).trace is None


# ---- what it is made of ------------------------------------------------------------------------------------

_numbers = st.floats(allow_nan=False, allow_infinity=False)
_scores = st.one_of(st.none(), st.floats(0.0, 1.0))


@given(st.lists(st.tuples(st.floats(0.1, 1e6), _numbers, _scores), min_size=1, max_size=600))
def test_a_thinned_series_keeps_its_extremes_and_its_strangest(
    steps: list[tuple[float, float, float | None]],
):
    curve, at_s = Curve(), 1.7e9
    for step_s, value, score in steps:
        at_s += step_s
        curve.add(at_s, value, score)
    band = curve.band()
    assert len(band) <= Curve.MOST
    assert min(low for _, low, _ in band) == min(value for _, value, _ in steps)
    assert max(high for _, _, high in band) == max(value for _, value, _ in steps)
    scores = [score for _, _, score in steps if score is not None]
    assert curve.peak == max(scores, default=None)
    assert max((score for _, score in curve.scores()), default=None) == max(scores, default=None)
    assert [at for at, _, _ in band] == sorted(at for at, _, _ in band)


@given(st.lists(_numbers, max_size=40), st.floats(0.0, 1e7), st.one_of(st.none(), _numbers))
def test_plots_of_any_numbers_are_well_formed_and_stay_inside(
    values: list[float], step_s: float, level: float | None
):
    points = [(1.7e9 + number * step_s, value) for number, value in enumerate(values)]
    span_s = (1.7e9, 1.7e9 + len(values) * step_s)
    band = [(at_s, min(0.0, value), max(0.0, value)) for at_s, value in points]
    line = drawing.Line("value", points, 2 * step_s)
    rug = [at_s for at_s, _ in points]
    plots = [
        drawing.lines('A "name" <b>', [line], span_s, band=band, level=level, rug=rug),
        drawing.logarithmic("Log", [(at, abs(value)) for at, value in points], span_s, level=20.0),
        drawing.bars(
            "Bars", [drawing.Bar(at, (("info", abs(value)),)) for at, value in points], 60.0, span_s
        ),
    ]
    for plot in plots:
        tree = ET.fromstring(plot)  # noqa: S314 - our own
        places = [
            float(each)
            for element in tree.iter()
            for name in ("d", "x", "y", "x1", "y1", "x2", "y2", "width", "height")
            for each in re.findall(r"-?[\d.]+(?:e[+-]\d+)?|nan|inf", element.get(name, ""))
        ]
        assert all(-8.0 <= place <= drawing.WIDTH for place in places)


def test_a_long_line_is_thinned_to_its_means():
    points = [(float(number), float(number % 2)) for number in range(10 * drawing.MOST_POINTS)]
    svg = drawing.lines("Long", [drawing.Line("value", points)], (0.0, points[-1][0]))
    assert len(re.findall(r"[ML]\d", svg)) == drawing.MOST_POINTS


def test_a_line_is_broken_where_nothing_was_known():
    points = [(0.0, 1.0), (60.0, 1.0), (600.0, 1.0), (660.0, 1.0)]
    svg = drawing.lines("Broken", [drawing.Line("value", points, 120.0)], (0.0, 660.0))
    assert len(re.findall(r"M\d", svg)) == 2


@pytest.mark.parametrize(("share", "number"), [(0.0, 1.0), (0.5, 4.0), (1.0, 1000.0)])
def test_an_interval_holds_what_was_seen_and_shrinks_with_what_was_seen(share: float, number: float):
    low, high = _interval(share, number)
    assert 0.0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1.0
    wider = _interval(share, number / 2.0)
    assert wider[1] - wider[0] > high - low


def test_what_was_seen_half_of_the_time_has_wilsons_interval():
    assert _interval(0.5, 100.0) == pytest.approx((0.4038, 0.5962), abs=1e-4)


@given(st.text(st.characters(), max_size=600))
def test_any_text_stands_in_a_page_as_text(text: str):
    tree = ET.fromstring(f'<p title="{escaped(text)}">{escaped(text)}</p>')  # noqa: S314 - our own
    assert len(tree.text or "") <= LONGEST_TEXT
    assert not list(tree)
