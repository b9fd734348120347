"""The front's chores: who is turned away at the door becomes an alert, and it ends when that ends."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.app.chores import QUIET_LOOKS, WRONG_SENDER, Chores, Others, clock_us
from bridge.app.hearing import Calls, Hearing
from bridge.app.troubles import Troubles
from bridge.storage.inbox import InboxWriter
from bridge.telemetry import Telemetry


async def hearing_nothing() -> None:
    """Ask nobody who calls whom."""


def chores_of(folder: Path) -> tuple[Chores, Telemetry]:
    telemetry = Telemetry()
    inbox = InboxWriter(folder / "inbox.db", clock_us=clock_us)
    troubles = Troubles(
        put=inbox.put, tenant="t", file=folder / "troubles.json", clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        telemetry=telemetry,
    )  # fmt: skip
    hearing = Hearing(
        telemetry,
        troubles,
        newest_id=lambda: 0,
        calls=Calls(events=lambda: None, state_lost=lambda: None, inbox_damaged=lambda _: None),
        clock=lambda: 0.0,
        wall=lambda: 0.0,
    )
    chores = Chores(
        data=folder,
        inbox=inbox,
        hearing=hearing,
        troubles=troubles,
        telemetry=telemetry,
        raw_s=lambda: 3600.0,
        others=Others(hearing_nothing, hearing_nothing, hearing_nothing),
    )
    return chores, telemetry


@pytest.mark.parametrize("reason", WRONG_SENDER)
async def test_senders_that_are_set_up_wrongly_are_an_alert_until_they_are_gone(tmp_path: Path, reason: str):
    chores, telemetry = chores_of(tmp_path)
    telemetry.add("tocsin_intake_rejected_total", 3, reason=reason)
    await chores.look()
    assert telemetry.value("tocsin_own_alerts_firing") == 1
    for _ in range(QUIET_LOOKS - 1):
        await chores.look()
    assert telemetry.value("tocsin_own_alerts_firing") == 1
    await chores.look()
    assert telemetry.value("tocsin_own_alerts_firing") == 0


@pytest.mark.parametrize("reason", ["busy", "slow", "disk_full", "storage", "broken"])
async def test_what_passes_by_itself_is_no_alert_about_senders(tmp_path: Path, reason: str):
    chores, telemetry = chores_of(tmp_path)
    telemetry.add("tocsin_intake_rejected_total", 3, reason=reason)
    await chores.look()
    assert telemetry.value("tocsin_own_alerts_firing") == 0
