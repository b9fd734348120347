"""What thinking is told to do. One value holds all of it, without secrets, so that it can be an inbox row.

Decision: settings travel through the inbox like everything else that changes an incident; a replay that meets
the row changes its mind at the same place. `bridge.config` builds this value from YAML, tests build it bare.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bridge.analysis.quotas import Quotas
from bridge.model import EventKind, Origin, Severity, Word
from bridge.redaction import Redact

DEFAULT_KINDS: tuple[EventKind, ...] = tuple(
    kind for kind in EventKind if kind not in {EventKind.FORECAST, EventKind.RECOMMENDATION}
)
DEFAULT_ORIGINS: tuple[Origin, ...] = ("alerts", "heartbeat", "tocsin")

#: What the world writes into `severity`, counted over 2,400 public rules; lower case, without white space.
DEFAULT_SEVERITIES: dict[str, Severity] = {
    "critical": "critical", "page": "critical", "emergency": "critical", "emerg": "critical",
    "fatal": "critical", "disaster": "critical", "p1": "critical", "sev1": "critical", "1": "critical",
    "error": "warning", "major": "warning", "high": "warning", "warning": "warning", "warn": "warning",
    "medium": "warning", "minor": "warning", "average": "warning", "ticket": "warning", "task": "warning",
    "notify": "warning", "p2": "warning", "p3": "warning", "sev2": "warning", "2": "warning", "3": "warning",
    "info": "info", "informational": "info", "information": "info", "none": "info", "low": "info",
    "debug": "info", "notice": "info", "ok": "info", "p4": "info", "p5": "info", "4": "info", "5": "info",
}  # fmt: skip


#: In which alerts are grouped: by what they share, by time alone, by what was learned.
Way = Literal["entities", "bursts", "linker"]
WAYS: tuple[Way, ...] = ("entities", "bursts", "linker")
#: "auto" leaves the way to each tenant's own history (`analysis.gate`).
Grouping = Literal["auto", "entities", "bursts", "linker"]
Reclustering = Literal["correlation", "hdbscan"]


class Heartbeat(Word, frozen=True, kw_only=True):
    """An alert that must keep firing. Matching alerts are kept out of grouping."""

    match: tuple[str, ...]  # matchers in Prometheus syntax, all must hold
    missing_after_s: float


class Destination(Word, frozen=True, kw_only=True):
    """What routing must know of a destination; the rest is the connector's business."""

    name: str
    wait_s: float  # the default `wait` of its kind


class Route(Word, frozen=True, kw_only=True):
    """Which incident events go where. Every matching route applies."""

    match: tuple[str, ...] = ()
    min_anomaly: float | None = None
    kinds: tuple[EventKind, ...] = DEFAULT_KINDS
    origin: tuple[Origin, ...] = DEFAULT_ORIGINS
    to: tuple[str, ...] = ()
    wait_s: float | None = None  # None: each destination's own; always 0 for a critical incident
    repeat_s: float | None = None  # None: no reminders
    tenant: str | None = None  # None: every tenant


class Source(Word, frozen=True, kw_only=True):
    """How often one Alertmanager repeats itself; bounds how long a silent episode is believed."""

    tenant: str
    name: str
    repeat_interval_s: float = 4 * 3600.0
    group_interval_s: float = 300.0


class Keeping(Word, frozen=True, kw_only=True):
    """For how long things of one tenant are kept; None: as long as others'."""

    tenant: str
    history_s: float | None = None
    incidents_s: float | None = None
    quarantine_s: float | None = None


class AnalysisSettings(Word, frozen=True, kw_only=True):
    """All that thinking depends on besides the rows before."""

    severities: dict[str, Severity] = msgspec.field(default_factory=lambda: dict(DEFAULT_SEVERITIES))
    severity_label: str = "severity"
    unknown_severity: Severity = "warning"  # of a label value that is not in the map, or a missing label
    window_s: float = 900.0  # an incident takes in new alerts this long after its last one
    close_after_s: float = 300.0  # quiet this long is over
    reopen_within_s: float = 1800.0
    dispute_s: float = 30.0  # how long a firing that may be a stale copy waits
    topology_label: str = "service"  # whose value names the service that an alert is about
    sensitivity: float = 0.5  # 0..1: how readily alerts are put together; higher joins more
    grouping: Grouping = "auto"
    reclustering: Reclustering = "correlation"
    #: Labels by whose values firings are counted, beside tenant, kind of alert and service.
    count_by: tuple[str, ...] = ()
    count_windows_s: tuple[float, ...] = (
        300.0,
        3600.0,
        86_400.0,
    )  # ascending; the first is how often it is looked
    false_alarms_a_week: float = 1.0  # that a tenant accepts, over all that is watched
    horizon_s: float = 4 * 3600.0  # of forecasts, 900 s to a month
    models: bool = True  # False: group key, labels and time alone
    heartbeats: tuple[Heartbeat, ...] = ()
    sources: tuple[Source, ...] = ()
    destinations: tuple[Destination, ...] = ()
    routes: tuple[Route, ...] = ()
    quotas: tuple[Quotas, ...] = ()  # of tenants that have others than the usual ones
    external_url: str = ""  # of Tocsin, for links in events; "" for none
    history_s: float = 30 * 86400.0
    incidents_s: float = 365 * 86400.0
    quarantine_s: float = 30 * 86400.0
    keeping: tuple[Keeping, ...] = ()  # of tenants that have their own
    redact: Redact = Redact()
    tenant_redacts: dict[str, Redact] = msgspec.field(default_factory=dict)  # of those that have their own

    def kept_s(self, tenant: str, what: Literal["history", "incidents", "quarantine"]) -> float:
        """Return how long `what` of a tenant is kept."""
        own = next((each for each in self.keeping if each.tenant == tenant), None)
        kept_s: float | None = None if own is None else getattr(own, f"{what}_s")
        usual_s: float = getattr(self, f"{what}_s")
        return usual_s if kept_s is None else kept_s

    @property
    def hashes(self) -> bool:
        """Whether anything that is taken out leaves a hash."""
        return any(each.hashes for each in (self.redact, *self.tenant_redacts.values()))

    def redact_of(self, tenant: str) -> Redact:
        """Return what is taken out of a tenant's alerts."""
        return self.tenant_redacts.get(tenant, self.redact)
