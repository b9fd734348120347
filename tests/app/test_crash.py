"""kill -9 of front, analyst and both, under load. benchmarks/crash_sidecar.py is the long version."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.crash import Ledger, environment
from benchmarks.crash_sidecar import CONFIG, judge, kill_loop

SLOW_US = 4_000


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, Path]:
    """Six kills under load, and what is left when all has been understood and delivered."""
    data = tmp_path_factory.mktemp("killed")
    (data / "tocsin.yaml").write_text(CONFIG.format(data=data, models="false"), "utf-8")
    env = environment(SLOW_US, data)
    ledger, killed = kill_loop(data, kills=6, draw=random.Random(1), env=env, idle_s=2.0)
    assert killed == {"front": 2, "analyst": 2, "both": 2}
    return ledger, data


@pytest.mark.timeout(120)
def test_nothing_acknowledged_is_lost_or_told_twice_whoever_is_killed(killed: tuple[Ledger, Path]) -> None:
    ledger, data = killed
    assert len(ledger.acknowledged) > 100
    assert judge(ledger, data)


@pytest.mark.timeout(120)
def test_a_webhook_that_was_acknowledged_and_is_nowhere_is_caught(killed: tuple[Ledger, Path]) -> None:
    """The control: without it the test above could not fail."""
    ledger, data = killed
    assert not judge(Ledger(acknowledged=ledger.acknowledged | {next(ledger.sent)}), data)
