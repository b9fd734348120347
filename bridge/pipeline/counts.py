"""Counts: how many alerts began to fire, of all, of each kind, service and chosen label, and whether that is usual.

Rules: an alert costs an entry in a table for each of its names. At the end of each tick, a window of the shortest
length, in which something fired, the counts so far are asked about: a strange one makes the incidents that took those
alerts as surprising, and opens one of its own if none of them is open any more. Of too much that is counted what was
busy least lately is forgotten.

Decision: by what they were heard of (`received_at`), not by `startsAt`, which comes late, twice and from other clocks.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from bridge.analysis import anomaly, counting
from bridge.analysis.counting import Counted, Finding, Tally
from bridge.analysis.entities import SPECIFIC_WEIGHT, tokens_of
from bridge.analysis.precedence import BETWEEN, key_of
from bridge.analysis.topology import Service
from bridge.analysis.watching import WEEK_S, Alarm, by_chance
from bridge.model import Episode, IncidentState
from bridge.pipeline.desk import Desk
from bridge.pipeline.events import Events
from bridge.pipeline.state import CountKey, Pending, Tenant, time_of
from bridge.pipeline.unusual import Unusual, surprise_of

#: What is counted; the values of a label have its name for a sort, behind `LABEL`.
ALL, NEW, FAMILY, SERVICE, LABEL = "all", "new", "family", "service", "label:"
_ALWAYS = frozenset({ALL, NEW})  # kept, whatever goes
MAX_COUNTED = 2_000
#: Things that fire within one tick; what comes after is not counted in it.
MAX_PENDING = 4_000
MAX_INCIDENTS = 8
LONGEST_VALUE = 200
#: A tail probability above this is nothing to speak of.
STRANGE = 1e-3
#: Which share of the false alarms may be counts.
SHARE = 0.5


class Counts:
    """Counts what fires."""

    def __init__(self, desk: Desk, events: Events, unusual: Unusual) -> None:
        self._desk = desk
        self._events = events
        self._unusual = unusual

    def count(self, tenant: Tenant, episode: Episode, service: Service | None, *, is_new: bool) -> None:
        """Count an alert that began to fire; `is_new`: it is of a kind that was never seen before."""
        running = tenant.firing.get((episode.source, episode.fingerprint))
        incident = "" if running is None else running[0]
        self._add(tenant, (ALL, ""), incident)
        self._add(tenant, (FAMILY, self._desk.family_of(tenant, episode.template)), incident, episode.name)
        name = None if service is None else key_of(service)
        if name is not None:
            self._add(tenant, (SERVICE, name), incident)
        for label in self._desk.settings.count_by:
            value = episode.labels.get(label, "")
            if value and len(value) <= LONGEST_VALUE:
                self._add(tenant, (LABEL + label, value), incident)
        if is_new:
            self._add(tenant, (NEW, ""), incident)

    def _add(self, tenant: Tenant, key: CountKey, incident: str, alertname: str = "") -> None:
        found = tenant.pending.get(key)
        if found is None:
            if len(tenant.pending) >= MAX_PENDING:
                return
            found = tenant.pending[key] = Pending(alertname=alertname)
            if len(tenant.pending) == 1:
                self.rearm(tenant)
        found.number += 1
        if len(found.incidents) < MAX_INCIDENTS and incident not in found.incidents:
            found.incidents.append(incident)
        self._desk.out.pending[tenant.name, *key] = found

    def rearm(self, tenant: Tenant) -> None:
        """Arm the end of the tick, if something waits for it."""
        if tenant.pending:
            tick_s = int(self._desk.settings.count_windows_s[0])
            end = (int(self._desk.now.timestamp()) // tick_s + 1) * tick_s
            self._desk.arm(tenant, "count", (), time_of(end))

    # ---- at the end of a tick ------------------------------------------------------------------------------

    def tick(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Ask about all that fired in the tick that is over."""
        del key
        desk, windows_s = self._desk, self._desk.settings.count_windows_s
        began_at = desk.now - timedelta(seconds=windows_s[0])
        season = 1.0 if tenant.record.habit is None else anomaly.season_of(tenant.record.habit, began_at)
        self._begin(tenant, began_at)
        clumps = dict(tenant.record.clumps)
        strange: list[tuple[CountKey, Pending, list[Finding]]] = []
        for name, pending in sorted(tenant.pending.items()):
            known = clumps.get(name[0]) or counting.first_clumps(len(windows_s))
            counted, clumps[name[0]] = counting.counted(
                self._known(tenant, name), pending.number, began_at, windows_s, known
            )
            self._keep(tenant, name, counted)
            found = counting.findings(counted, began_at, windows_s, known, season=season)
            rare = [each for each in found if each.tail <= STRANGE]
            if rare:
                strange.append((name, pending, rare))
            desk.out.pending[tenant.name, *name] = None
        desk.keep_record(tenant, replace(tenant.record, clumps=clumps))
        tenant.pending.clear()
        for name, pending, rare in strange:
            self._tell(tenant, name, pending, rare)
        self._evict(tenant)

    def _begin(self, tenant: Tenant, at: datetime) -> None:
        """Begin to count at `at`, if nothing was counted before in windows of these lengths."""
        windows_s = self._desk.settings.count_windows_s
        if tenant.record.counted_windows_s != windows_s:
            for name in list(tenant.counted):
                self._keep(tenant, name, None)
            self._desk.keep_record(tenant, replace(
                tenant.record, counted_windows_s=windows_s, counting_since=at, forgotten_busy=None, clumps={},
            ))  # fmt: skip

    def _known(self, tenant: Tenant, name: CountKey) -> Counted:
        """Return what is known of something, or that it was silent since firings are counted."""
        found = tenant.counted.get(name)
        if found is not None:
            return found
        record, now = tenant.record, self._desk.now
        since = record.forgotten_busy or record.counting_since or now
        windows = len(self._desk.settings.count_windows_s)
        return Counted(since=since, busy_at=since, tallies=(Tally(),) * windows)

    def _tell(self, tenant: Tenant, name: CountKey, pending: Pending, rare: list[Finding]) -> None:
        """Let the incidents that took these alerts be as surprising, or open one if all of them are over."""
        worst = min(rare, key=lambda finding: finding.tail)
        windows = len(self._desk.settings.count_windows_s)
        what = f"{_title(name, pending.alertname)} within {_length(worst.window_s)}"
        why = f"{worst.count:,} {what}, {worst.usual:.1f} are usual"
        asked = windows * (4 + len(self._desk.settings.count_by))
        surprise = surprise_of(min(1.0, worst.tail * asked))
        took = dict.fromkeys(_merged_into(tenant, incident) for incident in pending.incidents)
        lively = [
            group
            for group in (tenant.groups.get(incident) for incident in took)
            if group is not None and group.head.state in {IncidentState.OPEN, IncidentState.QUIET}
        ]
        for group in lively:
            self._events.surprise(tenant, group, surprise, why)
        if not lively:
            self._own(tenant, name, worst, why)

    def _own(self, tenant: Tenant, name: CountKey, worst: Finding, why: str) -> None:
        windows_s = self._desk.settings.count_windows_s
        a_week = len(tenant.counted) * sum(WEEK_S / window_s for window_s in windows_s)
        expected = by_chance(worst.tail, a_week)
        if expected > SHARE * self._desk.settings.false_alarms_a_week:
            return
        now = self._desk.now
        labels = {"alertname": "UnusualAlertRate", "counted": _said(name), "severity": "warning"}
        labels = {**_labels(name), **labels}
        self._unusual.seen(tenant, f"alerts {' '.join(name)}", Alarm(
            labels=labels, since=now, last_at=now, hold_s=worst.window_s + windows_s[0],
            surprise=surprise_of(worst.tail), why=why, by_chance=expected, keys=keys_of(labels),
        ))  # fmt: skip

    def _evict(self, tenant: Tenant) -> None:
        surplus = len(tenant.counted) - MAX_COUNTED
        if surplus <= 0:
            return
        by_use = sorted(
            tenant.counted.items(), key=lambda item: (item[0][0] in _ALWAYS, item[1].busy_at, item[0])
        )
        newest = tenant.record.forgotten_busy
        for name, known in by_use[:surplus]:
            newest = known.busy_at if newest is None else max(newest, known.busy_at)
            self._keep(tenant, name, None)
        self._desk.keep_record(tenant, replace(tenant.record, forgotten_busy=newest))

    def _keep(self, tenant: Tenant, name: CountKey, known: Counted | None) -> None:
        self._desk.out.counted[tenant.name, *name] = known
        if known is None:
            del tenant.counted[name]
        else:
            tenant.counted[name] = known


def _merged_into(tenant: Tenant, incident: str) -> str:
    """Return the incident in which the alerts of one are that may have been merged meanwhile."""
    while (group := tenant.groups.get(incident)) is not None and group.head.merged_into:
        incident = group.head.merged_into
    return incident


def keys_of(labels: dict[str, str]) -> tuple[str, ...]:
    """Return what labels name in particular, as incidents are found by it."""
    return tuple(token.key for token in tokens_of(labels) if token.weight >= SPECIFIC_WEIGHT)


def _title(name: CountKey, alertname: str) -> str:
    """Return what is counted in words, in the plural."""
    sort, which = name
    if sort.startswith(LABEL):
        return f'alerts with {sort.removeprefix(LABEL)}="{which}"'
    if sort == SERVICE:
        return f"alerts of service {_place(which)}"
    return {ALL: "alerts", NEW: "kinds of alert never seen before"}.get(sort, f"{alertname} alerts")


def _place(which: str) -> str:
    """Return the name of a service with its place, as people write it."""
    return "/".join(filter(None, which.split(BETWEEN)))


def _labels(name: CountKey) -> dict[str, str]:
    """Return the labels that say what was counted, as far as labels do."""
    sort, which = name
    if sort == SERVICE:
        parts = zip(("cluster", "namespace", "service"), which.split(BETWEEN), strict=True)
        return {label: part for label, part in parts if part}
    return {sort.removeprefix(LABEL): which} if sort.startswith(LABEL) else {}


def _said(name: CountKey) -> str:
    sort, which = name
    return f"{sort.removeprefix(LABEL)} {_place(which)}".strip()


def _length(seconds: float) -> str:
    for unit, size_s in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size_s and seconds % size_s == 0:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds:.0f} s"
