"""The whole sidecar under load: killed, ended and without room. benchmarks/crash_sidecar.py is the long version."""

from __future__ import annotations

import json
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sidecars import Sidecar, until

from benchmarks.crash import Ledger, environment, load
from benchmarks.crash_sidecar import CONFIG, drain, judge, kill_loop, kinds

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


def test_an_end_under_load_is_in_time_and_loses_nothing(make: Callable[..., Sidecar]) -> None:
    sidecar, ledger = make(), Ledger()
    sidecar.start()
    with load(sidecar.port, ledger, kinds):
        until(lambda: len(ledger.acknowledged) > 200, "webhooks on their way")
        begun = time.monotonic()
        assert sidecar.end() == 0
        assert time.monotonic() - begun < 10.0
    sidecar.start()
    drain(sidecar.port, 1.0)
    assert sidecar.end() == 0
    assert judge(ledger, sidecar.data)


@pytest.mark.timeout(120)
def test_without_room_the_whole_sidecar_waits_and_goes_on_by_itself(make: Callable[..., Sidecar]) -> None:
    """Files may not grow beyond a limit, as on a disk that is full, and then may again."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sidecar, ledger = make(), Ledger()
    sidecar.start()
    analyst = sidecar.analyst()

    def is_full() -> bool:
        """Say whether two hundred webhooks were refused and none was taken meanwhile."""
        nonlocal taken, refused
        if len(ledger.acknowledged) != taken:
            taken, refused = len(ledger.acknowledged), ledger.refused[503]
        return ledger.refused[503] - refused > 200

    taken = refused = 0
    resource.prlimit(sidecar.pid, resource.RLIMIT_FSIZE, (2_000_000, hard))
    resource.prlimit(analyst, resource.RLIMIT_FSIZE, (200_000, hard))
    with load(sidecar.port, ledger, lambda serial: kinds(serial) + b" " * 50_000):
        until(is_full, "everything is refused")
        assert set(ledger.refused) == {503}
        assert sidecar.ask("GET", "/-/ready")[0] == 503
        until(lambda: sidecar.logged("analyst_trouble"), "the analyst has no room either")
        for process in (sidecar.pid, analyst):
            resource.prlimit(process, resource.RLIMIT_FSIZE, (hard, hard))
        until(lambda: len(ledger.acknowledged) > taken + 100, "webhooks are taken again")
    until(sidecar.is_ready, "it is ready again by itself")
    drain(sidecar.port, 1.0)
    assert sidecar.analyst() == analyst
    assert json.loads(sidecar.ask("GET", "/api/v1/quarantine")[1])["items"] == []
    assert sidecar.end() == 0
    assert judge(ledger, sidecar.data)
