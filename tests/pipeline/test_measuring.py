"""Samples in the pipeline: whatever comes late, twice, in disorder or as no number changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from thinking import Thinking, same

from bridge.analysis.samples import Line, Samples
from bridge.model import RowKind
from bridge.pipeline import measuring

DB = {"job": "db"}


def told(
    thinking: Thinking, at: str, points: list[tuple[float, float]], *, name: str = "load",
    labels: dict[str, str] = DB, **more: Any,
) -> None:  # fmt: skip
    row = Samples(name=name, step_s=60.0, lines=(Line(labels=labels, points=tuple(points)),), **more)
    thinking.row(at, RowKind.SAMPLES, msgspec.json.encode(row))


@pytest.fixture
def thinking() -> Thinking:
    return Thinking()


def test_a_series_knows_what_it_has(thinking: Thinking, tmp_path: Path):
    told(thinking, "1m", [(60.0, 1.0), (120.0, 2.0)])
    told(thinking, "2m", [(180.0, 3.0)], refused={"not_a_number": 2})
    [(name, series)] = thinking.tenant.measured.items()
    assert name == 'load{job="db"}'
    assert (series.values, series.newest_s, series.newest) == (3, 180.0, 3.0)
    assert thinking.counts == {"samples": 3, "refused:not_a_number": 2}
    assert same(thinking, thinking.restarted(tmp_path))


def test_what_is_late_or_comes_twice_is_refused(thinking: Thinking):
    told(thinking, "1m", [(120.0, 1.0), (60.0, 2.0), (120.0, 9.0)])
    told(thinking, "2m", [(60.0, 5.0), (90.0, 5.0), (180.0, 4.0)])
    [series] = thinking.tenant.measured.values()
    assert (series.values, series.newest_s, series.newest) == (3, 180.0, 4.0)
    assert thinking.counts == {"samples": 3, "refused:late": 3}


def test_numbers_that_are_none_are_refused(thinking: Thinking):
    body = b'{"name":"load","step_s":60,"lines":[{"labels":{},"points":[[60,1e999],[1e999,1],[120,1]]}]}'
    thinking.row("1m", RowKind.SAMPLES, body)
    counted = dict(thinking.counts)
    # Whether a number that is too large is one at all is the decoder's to say.
    assert counted in ({"samples": 1, "refused:not_a_number": 2}, {"quarantined": 1})


def test_nonsense_goes_to_quarantine(thinking: Thinking):
    outcome = thinking.row("1m", RowKind.SAMPLES, b'{"name":"load"}')
    assert [each.reason[:12] for each in outcome.quarantined] == ["not samples:"]
    assert thinking.counts == {"quarantined": 1}


def test_labels_that_are_too_long_are_refused(thinking: Thinking):
    told(thinking, "1m", [(60.0, 1.0)], labels={"pod": "x" * 2000})
    assert thinking.counts == {"refused:too_long": 1}
    assert not thinking.tenant.measured


def test_of_too_many_series_those_stay_that_were_measured_last(
    thinking: Thinking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(measuring, "MAX_MEASURED", 2)
    for minute, pod in enumerate("abacb", 1):
        told(thinking, f"{minute}m", [(60.0 * minute, 1.0)], labels={"pod": pod})
    assert sorted(thinking.tenant.measured) == ['load{pod="b"}', 'load{pod="c"}']
    assert same(thinking, thinking.restarted(tmp_path))


def test_tenants_have_series_of_their_own(thinking: Thinking):
    row = Samples(name="load", step_s=60.0, lines=(Line(labels={}, points=((60.0, 1.0),)),))
    thinking.row("1m", RowKind.SAMPLES, msgspec.json.encode(row), tenant="east")
    assert [name for name, tenant in thinking.state.tenants.items() if tenant.measured] == ["east"]
