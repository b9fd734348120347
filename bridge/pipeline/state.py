"""What thinking holds in memory, and what it hands out to be stored.

Rules: `State` is changed only by `pipeline.advance`; every change also enters the `Outcome` of that call, so that
storing the outcome and loading it again gives an equal state (tested). Indexes and timers are derived and never
stored.

Timers are lazy: one may ring early (its due time moved on meanwhile), then it is armed anew. They ring at ticks
aligned to the epoch, so that results depend on when things were heard and never on how rows were batched.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from bridge.analysis.anomaly import Habit
from bridge.analysis.clustering import Index
from bridge.analysis.dedup import Watch
from bridge.analysis.families import EncodeAsk, FitAsk
from bridge.analysis.incidents import EpisodeKey, Group, Progress, counted
from bridge.analysis.routing import Router
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.text import TemplateCache
from bridge.model import Episode, Event, Word

TICK_S = 5
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Ask = EncodeAsk | FitAsk
AlertKey = tuple[str, str]  # source, fingerprint


class TemplateRecord(Word, frozen=True, kw_only=True):
    """One template of one tenant. `vector` is b"" until it was encoded; `family` "" until a fit named one."""

    id: str
    text: str
    vector: bytes = b""
    family: str = ""


class Beat(Word, frozen=True, kw_only=True):
    """One heartbeat: an alert that must keep firing."""

    labels: dict[str, str]
    annotations: dict[str, str]
    heard_at: datetime
    missing_after_s: float
    longest_gap_s: float = 0.0  # that is ordinary: two in a row were at least this long; fades
    last_gap_s: float = 0.0
    missing: bool = False


class TenantRecord(Word, frozen=True, kw_only=True):
    """What one tenant's thinking remembers besides its rows."""

    habit: Habit | None = None
    fit_asked: int = 0  # number of the newest family fit that was asked for
    fit_done: int = 0
    fitted_templates: int = 0  # templates with a vector when that fit was asked for


class Common(Word, frozen=True, kw_only=True):
    """What all tenants share: the settings in force, the mode, and the clock."""

    settings: AnalysisSettings = AnalysisSettings()
    model_free: bool = False
    clock: datetime = EPOCH  # received_at of the newest row


class OutboxEntry(Word, frozen=True, kw_only=True):
    """One event on its way to one destination."""

    tenant: str
    destination: str
    event_id: str
    incident: str
    seq: int
    kind: str
    at: datetime
    not_before: datetime


class Quarantined(Word, frozen=True, kw_only=True):
    """Bytes that could not be used, with the reason. `what`: alert, body or row."""

    tenant: str
    source: str
    received_at: datetime
    inbox_id: int
    what: str
    reason: str
    body: bytes


class Outcome:
    """What one call of `advance` changed, ready for one transaction. None as a value means: delete."""

    def __init__(self) -> None:
        self.common: Common | None = None
        self.tenants: dict[str, TenantRecord] = {}
        self.touched: dict[tuple[str, str], Group] = {}  # tenant, incident: rendered when it is stored
        self.episodes: dict[tuple[str, str, str, datetime], Episode] = {}
        self.watches: dict[tuple[str, str, str], Watch | None] = {}
        self.beats: dict[tuple[str, str, str], Beat | None] = {}
        self.templates: dict[tuple[str, str], TemplateRecord] = {}
        self.habits: dict[tuple[str, str], Habit] = {}
        self.events: list[Event] = []
        self.outbox: list[OutboxEntry] = []
        self.quarantined: list[Quarantined] = []
        self.asks: list[Ask] = []
        self.counts: dict[str, int] = {}

    def count(self, name: str, number: int = 1) -> None:
        """Count something for the metrics; names are those of `telemetry`."""
        self.counts[name] = self.counts.get(name, 0) + number


class Timers:
    """Lazy alarms at ticks. One alarm per (kind, key); an earlier time replaces a later one."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str, tuple[str, ...]]] = []
        self._armed: dict[tuple[str, tuple[str, ...]], int] = {}

    def arm(self, kind: str, key: tuple[str, ...], at: datetime) -> None:
        """Ring at the first tick not before `at`, which must not be in the past."""
        tick = tick_at(at)
        armed = self._armed.get((kind, key))
        if armed is None or tick < armed:
            self._armed[kind, key] = tick
            heapq.heappush(self._heap, (tick, kind, key))

    def next_tick(self) -> int | None:
        """Return the next tick (epoch s) at which something rings, None when nothing does."""
        while self._heap:
            tick, kind, key = self._heap[0]
            if self._armed.get((kind, key)) == tick:
                return tick
            heapq.heappop(self._heap)
        return None

    def ring(self) -> tuple[int, str, tuple[str, ...]]:
        """Take the next alarm off. Call `next_tick` first."""
        tick, kind, key = heapq.heappop(self._heap)
        del self._armed[kind, key]
        return tick, kind, key

    def __len__(self) -> int:
        return len(self._armed)


def tick_at(at: datetime) -> int:
    """Return the first tick, in epoch seconds, that is not before `at`."""
    elapsed = at - EPOCH
    seconds = elapsed.days * 86400 + elapsed.seconds + (1 if elapsed.microseconds else 0)
    return -(-seconds // TICK_S) * TICK_S


def time_of(tick: int) -> datetime:
    """Return the time of a tick."""
    return EPOCH + timedelta(seconds=tick)


def forgotten(progress: Progress, now: datetime) -> bool:
    """Say whether the alarm that lets go of an incident that is over has rung."""
    return progress.forget_at is not None and time_of(tick_at(progress.forget_at)) <= now


class Tenant:
    """One tenant's share of the state."""

    def __init__(self, name: str, record: TenantRecord) -> None:
        self.name = name
        self.record = record
        self.watches: dict[AlertKey, Watch] = {}
        self.beats: dict[AlertKey, Beat] = {}
        self.groups: dict[str, Group] = {}  # open, quiet, and closed ones that may still reopen
        self.firing: dict[AlertKey, tuple[str, EpisodeKey]] = {}  # -> incident and episode
        self.last_incident: dict[AlertKey, str] = {}  # of the newest ended episode, while in `groups`
        self.templates: dict[str, TemplateRecord] = {}
        self.habits: dict[str, Habit] = {}
        self.index = Index()
        self.timers = Timers()

    def family_of(self, template: str, *, model_free: bool) -> str:
        """Return the family of a template: HDBSCAN's, or the template itself."""
        record = self.templates.get(template)
        return record.family if record and record.family and not model_free else f"t:{template}"

    def adopt(self, group: Group) -> None:
        """Take in a group that was loaded, with what its episodes are found by."""
        self.groups[group.head.id] = group
        for episode in group.episodes.values():
            self.point_to(group, episode)

    def point_to(self, group: Group, episode: Episode) -> None:
        """Remember which incident has an alert's episodes (all of them, while it is here), and which one fires.

        A missing heartbeat is not remembered once it is over: each absence is an incident of its own.
        """
        key = (episode.source, episode.fingerprint)
        if episode.ends_at is None:
            self.firing[key] = (group.head.id, (*key, episode.starts_at))
        if group.head.origin != "heartbeat":
            self.last_incident[key] = group.head.id

    def move_to(self, group: Group, episode: Episode, before: str) -> None:
        """Point to `group` for an episode that came there from incident `before`."""
        key = (episode.source, episode.fingerprint)
        if episode.ends_at is None:
            self.firing[key] = (group.head.id, (*key, episode.starts_at))
        if self.last_incident.get(key) == before:
            self.last_incident[key] = group.head.id

    def release(self, incident: str) -> None:
        """Forget a group that can no longer change."""
        group = self.groups.pop(incident)
        self.index.drop(incident, group.head.opened_at)
        for source, fingerprint, _ in group.episodes:
            if self.last_incident.get((source, fingerprint)) == incident:
                del self.last_incident[source, fingerprint]


class State:
    """All that thinking holds: what is common, and the tenants."""

    def __init__(self, common: Common | None = None) -> None:
        self.common = common or Common()
        self.tenants: dict[str, Tenant] = {}
        self.router = Router(self.common.settings)
        self.texts = TemplateCache()

    def tenant(self, name: str) -> Tenant:
        """Return the tenant, made on its first alert."""
        found = self.tenants.get(name)
        if found is None:
            found = self.tenants[name] = Tenant(name, TenantRecord())
        return found

    def next_tick(self) -> int | None:
        """Return the next tick (epoch s) at which any tenant has something due."""
        ticks = [tick for tenant in self.tenants.values() if (tick := tenant.timers.next_tick()) is not None]
        return min(ticks, default=None)

    def picture(self) -> bytes:
        """Return everything that is stored, in one canonical form: two equal states have equal pictures."""
        tenants = {
            name: {
                "record": tenant.record,
                "watches": _listed(tenant.watches),
                "beats": _listed(tenant.beats),
                "templates": _listed(tenant.templates),
                "habits": _listed(tenant.habits),
                "groups": [
                    (counted(group), group.progress, sorted(group.episodes.values(), key=_identity))
                    for _, group in sorted(tenant.groups.items())
                ],
            }
            for name, tenant in sorted(self.tenants.items())
        }
        plain = msgspec.to_builtins({"common": self.common, "tenants": tenants}, str_keys=True)
        return msgspec.json.encode(plain, order="sorted")


def _listed(things: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return sorted(things.items())


def _identity(episode: Episode) -> tuple[str, str, datetime]:
    return (episode.source, episode.fingerprint, episode.starts_at)
