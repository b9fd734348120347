"""Jobs: what they do, that a failing one is counted and comes again, and that the clock drives them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.jobs import LOW_BYTES, Job, delete_raw, disk_trouble, look_at_disk, run_jobs, run_once
from bridge.telemetry import Telemetry


async def test_the_clock_runs_a_job_again_and_again_even_after_it_failed():
    telemetry = Telemetry()
    twice = asyncio.Event()
    runs = []

    async def fail() -> None:
        runs.append(1)
        if len(runs) > 1:
            twice.set()
        raise OSError("no luck")

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(run_jobs([Job("fail", 0.01, fail)], telemetry))
        await twice.wait()
        task.cancel()
    assert telemetry.value("tocsin_job_runs_total", job="fail", result="failed") >= 1


async def test_a_job_that_went_well_is_counted():
    telemetry = Telemetry()

    async def good() -> None:
        return

    await run_once(Job("good", 1.0, good), telemetry)
    assert telemetry.value("tocsin_job_runs_total", job="good", result="done") == 1


async def test_raw_webhooks_are_deleted_behind_the_cursor_and_after_their_time():
    asked = []

    class Rows:
        async def delete_through(self, row: int, before_us: int) -> int:
            asked.append((row, before_us))
            return 3

    await delete_raw(Rows(), lambda: 17, keep_s=3600.0, clock_us=lambda: 10_000_000_000)
    assert asked == [(17, 6_400_000_000)]


@pytest.mark.parametrize(
    ("free", "total", "is_low"),
    [
        (LOW_BYTES, LOW_BYTES, False),
        (LOW_BYTES - 1, 10 * LOW_BYTES, True),
        (50 << 30, 1 << 40, False),
        (10 << 30, 1 << 40, True),  # 1 % of a large disk
    ],
)
def test_a_disk_is_low_below_a_floor_or_a_share(free: int, total: int, *, is_low: bool):
    assert (disk_trouble(free, total) is not None) == is_low


async def test_the_room_on_the_disk_is_measured(tmp_path: Path):
    telemetry = Telemetry()
    said: list[str | None] = []
    await look_at_disk(tmp_path, telemetry, said.append)
    assert telemetry.value("tocsin_disk_free_bytes") > 0
    assert len(said) == 1
