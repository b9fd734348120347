"""The series of benchmarks/forecast.py are what they claim to be."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.parts.events import KINDS, null, recorded, remembering


@pytest.mark.parametrize("seed", range(4))
def test_a_series_of_chance_is_the_same_for_a_seed_and_of_its_kind(seed):
    kind, events = null(seed, days=120)
    assert kind == KINDS[seed]
    assert events.starts.tolist() == null(seed, days=120)[1].starts.tolist()
    assert 0.2 < len(events) / 120 < 7


def test_chance_has_no_memory_and_a_series_with_one_has():
    """In hours after an event there are more of them only where each brings others."""
    after = {}
    for name, events in (("chance", null(0, days=400)[1]), ("memory", remembering(0, days=400, follow=0.6))):
        gaps = np.diff(events.starts)
        after[name] = gaps.std() / gaps.mean()  # 1 where there is no memory and no season
    assert after["chance"] == pytest.approx(1.0, abs=0.15)
    assert after["memory"] > 1.5


def test_a_file_is_read_as_the_command_reads_it(tmp_path):
    file = tmp_path / "e.csv"
    file.write_text("start,text\n5,a\n3,b\n")
    assert recorded(file).starts.tolist() == [3.0, 5.0]
