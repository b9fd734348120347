"""What runs by the clock in the front: retention, bounds of what was given up, room on the disk.

Rules: a job is a short coroutine; what blocks goes to a thread of the room that owns it. A job that fails
is one log line and one count, and runs again at its next time; two runs of one job never overlap. Nothing
that decides an incident is a job: time for incidents is told by inbox rows alone.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from bridge.telemetry import Telemetry

logger = logging.getLogger(__name__)

#: Below the larger of the two the disk counts as nearly full: room for the stores to drain, and to say so.
LOW_BYTES = 512 << 20
LOW_SHARE = 0.02


class Job(NamedTuple):
    """One periodic job."""

    name: str
    every_s: float
    run: Callable[[], Awaitable[None]]


class RawRows(Protocol):
    """The inbox, as retention sees it."""

    async def delete_through(self, row: int, before_us: int) -> int:
        """Delete rows up to an id that were received before a time; return how many."""


async def run_jobs(jobs: Iterable[Job], telemetry: Telemetry) -> None:
    """Run all jobs once and then each at its interval, until cancelled."""
    jobs = tuple(jobs)
    for job in jobs:
        await run_once(job, telemetry)
    scheduler = AsyncIOScheduler(timezone=UTC)
    for job in jobs:
        scheduler.add_job(
            run_once,
            "interval",
            (job, telemetry),
            seconds=job.every_s,
            id=job.name,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
    scheduler.start()
    try:
        await asyncio.Event().wait()
    finally:
        scheduler.shutdown(wait=False)


async def run_once(job: Job, telemetry: Telemetry) -> None:
    """Run one job and count how it went; only cancelling gets out."""
    try:
        await job.run()
    except Exception:
        telemetry.add("tocsin_job_runs_total", job=job.name, result="failed")
        logger.exception("A periodic job failed.", extra={"event": "job_failed", "job": job.name})
    else:
        telemetry.add("tocsin_job_runs_total", job=job.name, result="done")


async def delete_raw(
    rows: RawRows, cursor: Callable[[], int], *, keep_s: float, clock_us: Callable[[], int]
) -> None:
    """Delete raw webhooks that were understood and received more than `keep_s` ago."""
    before_us = clock_us() - int(keep_s * 1e6)
    deleted = await rows.delete_through(cursor(), before_us)
    if deleted:
        logger.info(
            "Raw webhooks whose time was over were deleted.",
            extra={
                "event": "retention",
                "rows": deleted,
                "before": datetime.fromtimestamp(before_us / 1e6, UTC).isoformat(timespec="seconds"),
            },
        )


async def look_at_disk(folder: Path, telemetry: Telemetry, on_low: Callable[[str | None], None]) -> None:
    """Measure the room where the stores are; call `on_low` with what is wrong, or None."""
    usage = await asyncio.to_thread(shutil.disk_usage, folder)
    telemetry.set("tocsin_disk_free_bytes", usage.free)
    reason = disk_trouble(usage.free, usage.total)
    if reason is not None:
        logger.warning("The disk is nearly full: %s.", reason, extra={"event": "disk_low"})
    on_low(reason)


def disk_trouble(free_bytes: int, total_bytes: int) -> str | None:
    """Return what is wrong with so much room, None if nothing is."""
    if free_bytes >= max(LOW_BYTES, int(total_bytes * LOW_SHARE)):
        return None
    return f"{free_bytes >> 20} MiB of {total_bytes >> 20} MiB are free"
