"""What the front puts into the inbox by itself, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge import config
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.topology import Chart, Service, read
from bridge.app import telling
from bridge.app.kinds import known_kinds
from bridge.app.telling import AHEAD_S, Telling
from bridge.app.troubles import Troubles
from bridge.model import InboxRow, RowKind
from bridge.storage.inbox import InboxReader, InboxWriter, writer
from bridge.telemetry import Telemetry

#: What a front puts first of all.
FIRST = [RowKind.STARTED, RowKind.SETTINGS, RowKind.TOPOLOGY]
NOON_S = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


class Desk:
    """A real inbox, and everything around what is told to it."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.wall_s = NOON_S
        self.timers = False
        self.behind = False
        self.path = folder / "inbox.db"
        self.settings = config.load(None, known_kinds(), {}, data_dir=folder)
        self.telemetry = Telemetry()
        self.inbox = InboxWriter(self.path, clock_us=lambda: int(self.wall_s * 1e6))
        self.troubles = Troubles(
            put=self.inbox.put, tenant="default", file=folder / "troubles.json",
            clock=lambda: datetime(2026, 1, 1, tzinfo=UTC), telemetry=self.telemetry,
        )  # fmt: skip
        self.telling = Telling(
            self.inbox, settings=lambda: self.settings, timers=lambda: self.timers, behind=lambda: self.behind,
            troubles=self.troubles,
            telemetry=self.telemetry, clock=lambda: self.now, wall=lambda: self.wall_s,
        )  # fmt: skip
        self.inbox.start()

    async def looked(self) -> None:
        """Do what is done every second."""
        self.telling.look()
        await self.telling.tell()

    def rows(self) -> list[InboxRow]:
        reader = InboxReader(self.path)
        try:
            return reader.read(0, 100, 1 << 30)
        finally:
            reader.close()

    def kinds(self) -> list[RowKind]:
        return [row.kind for row in self.rows()]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.inbox.close()


async def test_the_start_and_the_settings_are_told_once_and_settings_again_when_they_change(desk: Desk):
    await desk.looked()
    await desk.looked()
    assert desk.kinds() == FIRST
    desk.settings = dataclasses.replace(desk.settings, analysis=AnalysisSettings(sensitivity=0.9))
    await desk.looked()
    assert desk.kinds() == [*FIRST, RowKind.SETTINGS]
    assert {(row.tenant, row.source) for row in desk.rows()} == {("default", "tocsin"), ("", "tocsin")}


async def test_a_changed_topology_is_told_for_all_tenants(desk: Desk):
    await desk.looked()
    chart = Chart(origin="file", services=(Service(name="shop"),))
    desk.settings = dataclasses.replace(desk.settings, topology=chart)
    await desk.looked()
    await desk.looked()
    told = [(row.tenant, read(row.body)) for row in desk.rows() if row.kind is RowKind.TOPOLOGY]
    assert told == [("", Chart(origin="file")), ("", chart)]


async def test_a_state_that_is_begun_anew_is_told_what_is_in_force(desk: Desk):
    await desk.looked()
    desk.telling.tell_anew()
    await desk.looked()
    assert desk.kinds() == [*FIRST, RowKind.SETTINGS, RowKind.TOPOLOGY]


async def test_settings_that_the_inbox_did_not_take_are_told_later(desk: Desk):
    assert desk.inbox._connection is not None
    desk.inbox._connection.close()  # the next commit fails, and the one after that opens the file anew
    await desk.looked()
    assert desk.inbox.trouble
    assert desk.kinds() == []
    await desk.looked()
    assert desk.kinds() == FIRST
    assert not desk.inbox.trouble


@pytest.mark.parametrize(("timers", "idle_s"), [(True, 5.0), (False, 60.0)])
async def test_time_is_told_when_nobody_sends(desk: Desk, timers: bool, idle_s: float):
    desk.timers = timers
    await desk.looked()
    desk.now = idle_s - 0.1
    await desk.looked()
    assert desk.kinds() == FIRST
    desk.now = idle_s
    await desk.looked()
    assert desk.kinds() == [*FIRST, RowKind.CLOCK]
    desk.now = idle_s * 1.9
    desk.telling.rows_came()
    desk.now = idle_s * 2.1
    await desk.looked()
    assert len(desk.rows()) == len(FIRST) + 1


async def test_a_disk_that_was_full_is_tried_with_as_much_as_failed(desk: Desk):
    await desk.looked()
    connection = desk.inbox._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(Exception, match="no room"):
        await desk.inbox.put("t", "s", RowKind.WEBHOOK, b"x" * 200_000)
    for _ in range(2):
        desk.now += 5.0
        await desk.looked()
        assert "no room" in desk.inbox.trouble
    connection.execute("PRAGMA max_page_count=100000")
    desk.now += 5.0
    await desk.looked()
    assert desk.inbox.trouble == ""
    assert [(row.kind, len(row.body)) for row in desk.rows()[len(FIRST) :]] == [(RowKind.CLOCK, 200_000)]


async def test_a_clock_that_was_set_back_is_shown_and_an_alert_until_it_is_reached(desk: Desk):
    await desk.looked()
    assert desk.telemetry.value("tocsin_inbox_clock_ahead_seconds") == 0.0
    desk.wall_s -= AHEAD_S + 1
    await desk.looked()
    assert desk.telemetry.value("tocsin_inbox_clock_ahead_seconds") == AHEAD_S + 1
    assert desk.telemetry.value("tocsin_own_alerts_firing") == 1
    desk.wall_s += 2
    await desk.looked()
    assert desk.telemetry.value("tocsin_own_alerts_firing") == 0


async def test_a_disk_that_hangs_under_a_clock_row_is_noticed(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    """The row that tells the time is itself the first that waits."""
    for room, name, value in (
        (telling, "LOOK_S", 0.01),
        (writer, "STALL_S", 0.0),
        (writer, "GIVE_UP_S", 0.0),
    ):
        monkeypatch.setattr(room, name, value)
    going = threading.Event()
    desk.inbox._clock_us = lambda: going.wait(10) and 0  # type: ignore[assignment, return-value]
    desk.timers, desk.now = True, 100.0
    running = asyncio.Task(desk.telling.run())
    while "has not answered" not in desk.inbox.trouble:
        await asyncio.sleep(0)
    going.set()
    while desk.inbox.trouble:
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])


def test_time_is_told_while_a_tenant_is_behind_though_rows_come(tmp_path: Path):
    desk = Desk(tmp_path)

    async def run() -> None:
        desk.timers = True
        await desk.looked()
        for second in range(1, 12):
            desk.now = float(second)
            desk.telling.rows_came()
            desk.behind = second > 1
            await desk.looked()

    asyncio.run(run())
    desk.inbox.close()
    assert [row.kind for row in desk.rows()] == [*FIRST, RowKind.CLOCK, RowKind.CLOCK]
