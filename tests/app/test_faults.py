"""Some rows of `benchmarks/faults.py`, briefly: those whose fault no other test brings about."""

from __future__ import annotations

import pytest
from servers import require_server

from benchmarks.crash_sidecar import Judgement
from benchmarks.faults import FAULTS, Fault, control, run

SECONDS = 1.0
#: What has to be installed for a fault.
TOOLS = {"EIO, 1 in 20 writes and syncs": "fiu-ctrl", "clock +2 h, +1 d, -1 h, right": "faketime"}


def named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", [*TOOLS, "destination half-open"])
def test_nothing_is_lost_doubled_or_told_out_of_order(name: str):
    if name in TOOLS:
        require_server(TOOLS[name])
    outcome = run(named(name), SECONDS)
    assert outcome.good, outcome
    assert outcome.stores.acknowledged > 50


@pytest.mark.timeout(180)
def test_one_that_is_lost_is_found():
    """The control: without it the test above could not fail."""
    assert control(SECONDS)


def test_an_outcome_is_bad_for_each_thing_that_went_wrong():
    fine = {
        "acknowledged": 9, "episodes": 9, "incidents": 2, "lost": 0, "doubled": 0, "homeless": 0, "events": 3,
        "gaps": 0, "due": 3, "missing": 0, "repeated": 7,
    }  # fmt: skip
    assert Judgement(**fine, integrity="ok").good
    for name in ("lost", "doubled", "homeless", "gaps", "missing"):
        assert not Judgement(**(fine | {name: 1}), integrity="ok").good
    assert not Judgement(**(fine | {"acknowledged": 0}), integrity="ok").good
    assert not Judgement(**fine, integrity="row 3 missing from index").good
