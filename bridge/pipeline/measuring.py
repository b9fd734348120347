"""Measuring: samples of configured series, as rows bring them.

Rules: samples are taken in by the order of their times, whatever the order in a row is. What is late, comes twice or is
no number changes nothing and is counted; a row that makes no sense goes to quarantine as a whole.
"""

from __future__ import annotations

import math

from msgspec.structs import replace

from bridge.analysis import samples
from bridge.analysis.samples import Point, Samples
from bridge.analysis.watching import LONGEST_NAME, MAX_MEASURED, Measured, name_of
from bridge.model import Fault, InboxRow
from bridge.pipeline.desk import Desk
from bridge.pipeline.state import Tenant


class Measuring:
    """Takes samples in."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def samples(self, row: InboxRow) -> None:
        """Take in the samples of a row."""
        try:
            told = samples.read(row.body)
        except ValueError as error:
            self._desk.quarantine(row, "body", Fault(reason=str(error), body=row.body))
            return
        tenant = self._desk.tenant(row.tenant)
        for why, number in sorted(told.refused.items()):
            self._refuse(why, number)
        for line in told.lines:
            self._take(tenant, told, line.labels, line.points)
        self._evict(tenant)

    def _take(self, tenant: Tenant, told: Samples, labels: dict[str, str], points: tuple[Point, ...]) -> None:
        name = name_of(told.name, labels)
        good = sorted(point for point in points if math.isfinite(point[0]) and math.isfinite(point[1]))
        self._refuse(samples.NOT_A_NUMBER, len(points) - len(good))
        if len(name) > LONGEST_NAME:
            self._refuse(samples.TOO_LONG, len(good))
            return
        before = tenant.measured.get(name)
        newest_s = float("-inf") if before is None else before.newest_s
        fresh: list[Point] = []
        for point in good:
            if point[0] > newest_s:
                newest_s = point[0]
                fresh.append(point)
        self._refuse(samples.LATE, len(good) - len(fresh))
        self._desk.out.count("samples", len(fresh))
        if fresh:
            now = self._desk.now
            known = before or Measured(
                query=told.name, labels=labels, step_s=told.step_s, since=now, heard_at=now, newest_s=newest_s
            )
            self._keep(tenant, name, replace(
                known, step_s=told.step_s, heard_at=now, newest_s=newest_s, values=known.values + len(fresh),
                newest=fresh[-1][1],
            ))  # fmt: skip

    def _evict(self, tenant: Tenant) -> None:
        """Let go of the series that were measured least lately, if there are too many."""
        surplus = len(tenant.measured) - MAX_MEASURED
        if surplus > 0:
            by_use = sorted(tenant.measured.items(), key=lambda item: (item[1].heard_at, item[0]))
            for name, _ in by_use[:surplus]:
                self._keep(tenant, name, None)

    def _keep(self, tenant: Tenant, name: str, measured: Measured | None) -> None:
        self._desk.out.measured[tenant.name, name] = measured
        if measured is None:
            del tenant.measured[name]
        else:
            tenant.measured[name] = measured

    def _refuse(self, why: str, number: int) -> None:
        if number:
            self._desk.out.count(f"refused:{why}", number)
