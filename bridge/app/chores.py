"""What the front does now and then: retention, a look at the disk, at who is turned away, at who calls whom."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bridge.app.hearing import Hearing
from bridge.app.troubles import Troubles
from bridge.storage.inbox import InboxWriter
from bridge.telemetry import Telemetry

LOOK_S = 60.0
RETENTION_S = 300.0
GRAPHS_S = 300.0
AUDIT_S = 3600.0
QUOTAS_S = 15.0
#: Refusals that tell of a sender that is set up wrongly. The others pass, are our own trouble, or somebody's browser.
WRONG_SENDER = (
    "source", "credentials", "role", "cross_site", "encoding", "content_type", "too_large", "payload", "path",
    "malformed",
)  # fmt: skip
#: So many looks without a refusal and that trouble is over.
QUIET_LOOKS = 10


class Others(NamedTuple):
    """What others do now and then, and are called for."""

    look_at_graphs: Callable[[], Awaitable[None]]
    prune_audit: Callable[[], Awaitable[None]]
    look_at_quotas: Callable[[], Awaitable[None]]


class Chores:
    """The periodic jobs of one front."""

    def __init__(
        self,
        *,
        data: Path,
        inbox: InboxWriter,
        hearing: Hearing,
        troubles: Troubles,
        telemetry: Telemetry,
        raw_s: Callable[[], float],
        others: Others,
    ) -> None:
        self._data = data
        self._inbox = inbox
        self._hearing = hearing
        self._troubles = troubles
        self._telemetry = telemetry
        self._raw_s = raw_s
        self._others = others
        self._refusals = 0.0
        self._quiet_looks = 0

    async def run(self) -> None:
        """Do all of it, for ever."""
        # APScheduler costs a fifth of a second: not before the intake is ready.
        jobs = await asyncio.to_thread(importlib.import_module, "bridge.jobs")
        look_at_disk = partial(jobs.look_at_disk, self._data, self._telemetry, self._on_disk)

        async def retain() -> None:
            await jobs.delete_raw(
                self._inbox, lambda: self._hearing.cursor, keep_s=self._raw_s(), clock_us=clock_us
            )

        await jobs.run_jobs(
            (
                jobs.Job("retention", RETENTION_S, retain),
                jobs.Job("audit", AUDIT_S, self._others.prune_audit),
                jobs.Job("look", LOOK_S, self.look),
                jobs.Job("disk", LOOK_S, look_at_disk),
                jobs.Job("quotas", QUOTAS_S, self._others.look_at_quotas),
                jobs.Job("service_graph", GRAPHS_S, self._others.look_at_graphs),
            ),
            self._telemetry,
        )

    async def look(self) -> None:
        """Look at what happens now and then, and say when it is over."""
        self._hearing.look()
        count = partial(self._telemetry.value, "tocsin_intake_rejected_total")
        refused = {why: count(reason=why) for why in WRONG_SENDER}
        total = sum(refused.values())
        if total > self._refusals:
            self._quiet_looks = 0
            worst = max(refused, key=lambda why: refused[why])
            reason = f"{total - self._refusals:.0f} requests were refused, most of them for: {worst}"
            self._troubles.is_wrong("TocsinIntakeRejecting", reason)
        else:
            self._quiet_looks += 1
            if self._quiet_looks >= QUIET_LOOKS:
                self._troubles.is_well("TocsinIntakeRejecting")
        self._refusals = total

    def _on_disk(self, reason: str | None) -> None:
        self._troubles.report("TocsinDiskFilling", reason)


def clock_us() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1000
