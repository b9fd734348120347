"""A store breaks: it is begun anew by itself, and says so. Every kill -9 and full disk is in test_crash."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sidecars import Sidecar, until


def break_store(path: Path) -> None:
    """Overwrite all of a store but its first 4 KiB, whatever its log says."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


def checkpointed(path: Path) -> None:
    """Bring everything from the log into the file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def own_alerts(sidecar: Sidecar) -> set[str]:
    return {each for each in sidecar.understood() if each.startswith("Tocsin")}


@pytest.mark.parametrize("store", ["inbox.db", "delivery.db"])
def test_a_store_that_is_broken_at_the_start_is_begun_anew_and_told_of(
    make: Callable[..., Sidecar], store: str
):
    sidecar = make()
    sidecar.start()
    sidecar.send("Before1", "Before2")
    until(lambda: sidecar.heard_of("Before1") and sidecar.heard_of("Before2"), "both are told")
    sidecar.end(signal.SIGKILL)
    checkpointed(sidecar.data / store)
    break_store(sidecar.data / store)
    sidecar.start()
    sidecar.send("After")
    until(lambda: sidecar.heard_of("After"), "it goes on")
    until(lambda: "TocsinStoreRenewed" in own_alerts(sidecar), "it says so")
    assert {"Before1", "Before2", "After"} <= set(sidecar.understood())
    (line,) = sidecar.logged("store_renewed")
    assert (line["store"], line["level"]) == (store, "critical")
    assert (sidecar.data / line["kept"]).exists()
    # What is told again is told under the same ids.
    ids = [event["event_id"] for event in sidecar.heard_of("Before1") if event["kind"] == "opened"]
    assert len(set(ids)) == 1
    assert len(ids) == (2 if store == "delivery.db" else 1)
    assert sidecar.end() == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("store", ["inbox.db", "delivery.db"])
def test_a_store_that_breaks_while_it_is_used_is_begun_anew_without_a_restart(
    make: Callable[..., Sidecar], store: str
):
    sidecar = make()
    sidecar.start()
    sidecar.send("Before")
    until(lambda: sidecar.heard_of("Before"), "it is told")
    checkpointed(sidecar.data / store)
    break_store(sidecar.data / store)
    names = (f"Between{number}" for number in range(1000))

    def is_renewed() -> bool:
        try:
            sidecar.ask("POST", "/v1/alertmanager", json.dumps({"alerts": []}).encode())
            sidecar.send(next(names))
        except (OSError, AssertionError):
            pass  # it is just being begun anew, and an Alertmanager sends again
        return bool(sidecar.logged("store_renewed"))

    until(is_renewed, "the damage is found")
    until(sidecar.is_ready, "it is ready again")
    sidecar.send("After")
    until(lambda: sidecar.heard_of("After"), "it goes on")
    assert "Before" in sidecar.understood()
    assert sidecar.end() == 0
