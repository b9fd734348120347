"""What thinking holds in memory, and what it hands out to be stored.

Rules: `State` is changed only by `pipeline.advance`; every change also enters the `Outcome` of that call, so that
storing the outcome and loading it again gives an equal state (tested). Indexes and timers are derived and never
stored.

Timers are lazy: one may ring early (its due time moved on meanwhile), then it is armed anew. They ring at ticks
aligned to the epoch, so that results depend on when things were heard and never on how rows were batched.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import msgspec

from bridge.analysis.announcing import Advised, Announced
from bridge.analysis.anomaly import Experience, Habit
from bridge.analysis.causality import NO_ORDERS, Orders
from bridge.analysis.clustering import Index
from bridge.analysis.counting import Clumps, Counted
from bridge.analysis.dedup import Watch
from bridge.analysis.erasing import Erase
from bridge.analysis.extent import Extent
from bridge.analysis.families import EncodeAsk, FitAsk, own_family
from bridge.analysis.feedback import Action
from bridge.analysis.forecast.occurrences import Occurrence
from bridge.analysis.forecast.outlooks import Outlook
from bridge.analysis.forecast.targets import Target
from bridge.analysis.gate import LinkAsk, LinkFit
from bridge.analysis.incidents import AlertKey, EpisodeKey, Group, Kin, Progress, counted
from bridge.analysis.learning import Judge, Sighting
from bridge.analysis.lessons import Lesson
from bridge.analysis.precedence import Onset, Order, Pair
from bridge.analysis.precedents import Precedent
from bridge.analysis.quotas import Held, Usage
from bridge.analysis.rarity import Rarity
from bridge.analysis.reviewing import ReviewAsk
from bridge.analysis.routing import Router
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.text import TemplateCache
from bridge.analysis.topology import ORIGINS, Chart, Topology
from bridge.analysis.watching import Alarm, Measured
from bridge.model import Episode, Event, InboxRow, Suppression, Word
from bridge.pipeline.arrivals import Arrivals
from bridge.pipeline.banks import Banks
from bridge.pipeline.histories import History
from bridge.pipeline.trace import Trace
from bridge.pipeline.window import Window

TICK_S = 5
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Ask = EncodeAsk | FitAsk | LinkAsk | ReviewAsk
#: Labels but for the one that tells the severity.
Rungs = tuple[tuple[str, str], ...]


class TemplateRecord(Word, frozen=True, kw_only=True):
    """One template of one tenant. `vector` is b"" until it was encoded; `family` "" until a fit named one."""

    id: str
    text: str
    vector: bytes = b""
    family: str = ""
    used_day: int = 0  # when an alert last had it, in days since the epoch


class Beat(Word, frozen=True, kw_only=True):
    """One heartbeat: an alert that must keep firing."""

    labels: dict[str, str]
    annotations: dict[str, str]
    first_at: datetime
    heard_at: datetime
    missing_after_s: float
    longest_gap_s: float = 0.0  # that is ordinary: two in a row were at least this long; fades
    last_gap_s: float = 0.0
    missing: bool = False


class Hidden(Word, frozen=True, kw_only=True):
    """Alerts of one name that Alertmanager holds back and never told of."""

    source: str
    by: Suppression
    first_at: datetime
    last_at: datetime


class TenantRecord(Word, frozen=True, kw_only=True):
    """What one tenant's thinking remembers besides its rows."""

    habit: Habit | None = None
    experience: Experience | None = None
    #: The newest start of an episode whose watch was forgotten: an unknown alert that claims to fire at least since
    #: then may be one of those, and its startsAt names that episode.
    forgotten_start: datetime | None = None
    fit_asked: int = 0  # number of the newest family fit that was asked for
    fit_done: int = 0
    sighted: int = 0  # episodes that were ever kept to learn links from
    sighted_tick: int = 0  # the tick of the newest of them
    sighted_in_tick: int = 0  # and how many were kept in it
    link_asked: int = 0  # number of the newest linker that was asked for
    link_done: int = 0
    link_void: int = 0  # answers up to this one were learned from what was erased since
    link_since: datetime | None = None  # when the newest one came
    linked_at: datetime | None = None  # when it was asked for
    linked_sighted: int = 0  # `sighted` at that time
    linked_lessons: tuple[str, ...] = ()  # actions whose lessons it was to learn from
    learn_at: datetime | None = None  # when the next one is asked for
    forecast_at: datetime | None = None  # when the next forecast is made
    review_at: datetime | None = None  # when it is next looked whose detectors are to be reviewed
    review_asked: int = 0  # number of the newest reviews that were asked for
    review_done: int = 0
    review_since: datetime | None = None  # when they were
    reviewing: tuple[str, ...] = ()  # the series that they are about
    announced: dict[str, Announced] = msgspec.field(default_factory=dict)  # by aim and name
    advised: dict[str, Advised] = msgspec.field(default_factory=dict)  # by aim and name
    regroup_at: datetime | None = None  # when the open window is clustered anew
    regroup_wishes: tuple[str, ...] = ()  # of the last round, by name: `analysis.reclustering`
    regroup_advice: tuple[str, ...] = ()  # those that it only counted
    fitted_templates: int = 0  # templates with a vector when that fit was asked for
    onsets: tuple[Onset, ...] = ()  # services that lately began to alert
    learned_at: datetime | None = None  # when it was last looked whose alerts precede whose
    halved_day: int = 0  # when what that is learned from was last halved, in days since the epoch
    extent: Extent | None = None
    counted_windows_s: tuple[float, ...] = ()  # in which firings are counted
    counting_since: datetime | None = None  # since when they are
    forgotten_busy: datetime | None = (
        None  # of what is not counted any more, since there was too much, the last time
    )
    clumps: dict[str, Clumps] = msgspec.field(default_factory=dict)  # by what is counted
    hidden: dict[str, Hidden] = msgspec.field(default_factory=dict)  # by alert name, of the newest
    behind_at: datetime | None = (
        None  # its own present, while older rows of it wait than others' were thought
    )
    model_free: bool | None = None  # what was told of it alone; None: as all are
    usage: Usage = Usage()


#: What is counted: a sort (`counts.SORTS`), and which of it.
CountKey = tuple[str, str]


class Pending(msgspec.Struct):
    """Firings since the last look. Mutable: an alert costs next to nothing here."""

    alertname: str = ""  # of the first, where a kind of alert is counted
    number: int = 0
    incidents: list[str] = []  # that took them, at most `counts.MAX_INCIDENTS`, the first ones


class Common(Word, frozen=True, kw_only=True):
    """What all tenants share: the settings in force, the mode, and the clock."""

    settings: AnalysisSettings = AnalysisSettings()
    model_free: bool = False
    clock: datetime = EPOCH  # received_at of the newest row
    resumed_at: datetime = (
        EPOCH  # when a front last began to listen after nobody had: silence counts from there
    )


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


class Erasure(Word, frozen=True, kw_only=True):
    """An erase that thinking has obeyed; what is stored and not in memory is still to be gone through."""

    tenant: str
    row: int  # of the inbox, which asked for it
    erase: Erase
    until: datetime  # what came later stays
    incidents: tuple[str, ...] = ()  # in memory, that lost episodes
    episodes: int = 0  # that they lost


class Outcome:
    """What one call of `advance` changed, ready for one transaction. None as a value means: delete."""

    def __init__(self, trace: Trace | None = None) -> None:
        self.trace = trace  # None: nobody asked for it
        self.rows: list[InboxRow] = []  # as they were thought: redacted
        self.common: Common | None = None
        self.tenants: dict[str, TenantRecord] = {}
        self.touched: dict[tuple[str, str], Group] = {}  # tenant, incident: rendered when it is stored
        self.episodes: dict[tuple[str, str, str, datetime], Episode | None] = {}
        self.watches: dict[tuple[str, str, str], Watch | None] = {}
        self.beats: dict[tuple[str, str, str], Beat | None] = {}
        self.templates: dict[tuple[str, str], TemplateRecord | None] = {}
        self.habits: dict[tuple[str, str], Habit | None] = {}
        self.sightings: dict[tuple[str, int], Sighting | None] = {}
        self.link_fits: dict[str, LinkFit | None] = {}  # by tenant
        self.rarities: dict[str, Rarity] = {}  # tenant: rendered when it is stored
        self.charts: dict[tuple[str, str], Chart | None] = {}
        self.orders: dict[tuple[str, str, str], Order | None] = {}
        self.measured: dict[tuple[str, str], Measured | None] = {}
        self.bank_rows: dict[tuple[str, str], bytes | None] = {}  # tenant, series: all that a detector knows
        self.histories: dict[
            tuple[str, str, int], bytes | None
        ] = {}  # tenant, series, first sample of a block
        self.counted: dict[tuple[str, str, str], Counted | None] = {}
        self.pending: dict[tuple[str, str, str], Pending | None] = {}  # as it is when it is stored
        self.alarms: dict[tuple[str, str], Alarm | None] = {}
        self.happened: dict[tuple[str, str], Occurrence | None] = {}  # tenant, incident
        self.pasts: dict[tuple[str, str], Precedent | None] = {}  # tenant, incident
        self.outlooks: dict[tuple[str, str, str], Outlook | None] = {}  # tenant, aim, name
        self.actions: dict[tuple[str, str], Action | None] = {}
        self.lessons: dict[tuple[str, str], Lesson | None] = {}
        self.events: list[Event] = []
        self.outbox: list[OutboxEntry] = []
        self.quarantined: list[Quarantined] = []
        self.asks: list[Ask] = []
        self.erasures: list[Erasure] = []
        self.void: set[int] = set()  # rows that come too late to be kept: they hold what was erased
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


def day_of(at: datetime) -> int:
    """Return the days since the epoch."""
    return (at - EPOCH).days


def midnight_of(at: datetime) -> datetime:
    """Return when the day began, UTC."""
    return EPOCH + timedelta(days=day_of(at))


def time_of(tick: int) -> datetime:
    """Return the time of a tick."""
    return EPOCH + timedelta(seconds=tick)


def forgotten(progress: Progress, now: datetime) -> bool:
    """Say whether the alarm that lets go of an incident that is over has rung."""
    return progress.forget_at is not None and time_of(tick_at(progress.forget_at)) <= now


def _leave(homes: dict[Any, dict[str, None]], key: tuple[str, ...], incident: str) -> None:
    """Let nothing under `key` lead to an incident any more."""
    found = homes.get(key)
    if found is not None:
        found.pop(incident, None)
        if not found:
            del homes[key]


class Tenant:
    """One tenant's share of the state."""

    def __init__(self, name: str, record: TenantRecord, severity_label: str) -> None:
        self.name = name
        self.record = record
        self.watches: dict[AlertKey, Watch] = {}
        self.beats: dict[AlertKey, Beat] = {}
        self.groups: dict[str, Group] = {}  # open, quiet, and closed ones that may still reopen
        self.firing: dict[AlertKey, tuple[str, EpisodeKey]] = {}  # -> incident and episode
        self.homes: dict[AlertKey, dict[str, None]] = {}  # -> the incidents in `groups` that have had it
        #: What an alert is and what it is about -> the incidents in `groups` that have had one of that kin.
        self.kin: dict[Kin, dict[str, None]] = {}
        #: Labels but for the severity -> the firing alerts that have them: one thing at several thresholds.
        self.ladders: dict[Rungs, dict[AlertKey, None]] = {}
        self._severity_label = severity_label
        self._known_orders: tuple[LinkFit | None, Orders] = (None, NO_ORDERS)
        self.templates: dict[str, TemplateRecord] = {}
        self.habits: dict[str, Habit] = {}
        self.orders: dict[Pair, Order] = {}  # how often one service's alerts came before another's
        self.rarity = Rarity()
        self.measured: dict[str, Measured] = {}  # series of samples by their names
        self.banks = Banks()  # what detectors know of them
        self.histories: dict[str, History] = {}  # newest samples of those that are remembered
        self.counted: dict[CountKey, Counted] = {}
        self.pending: dict[CountKey, Pending] = {}
        self.alarms: dict[str, Alarm] = {}  # by the name of what is watched
        self.happened: dict[str, Occurrence] = {}  # by incident: what forecasts learn from
        self.pasts: dict[str, Precedent] = {}  # by incident: what recommendations rest on
        self.outlooks: dict[Target, Outlook] = {}
        self.actions: dict[str, Action] = {}  # what people did, oldest first
        self.lessons: dict[str, Lesson] = {}  # by action id: what is in force of it teaches, oldest first
        self.sightings: dict[int, Sighting] = {}  # what links are learned from, oldest first
        self.link_fit: LinkFit | None = None
        self.judge: Judge | None = None  # of the linker in force
        self.window: Window | None = None  # None: it is built at its next use
        self.arrivals: Arrivals | None = None  # None: they are counted at their next use
        self.index = Index()
        self.timers = Timers()

    def held(self) -> Held:
        """Return how much there is of what quotas bound."""
        return Held(
            fingerprints=len(self.watches), templates=len(self.templates), open_incidents=len(self.groups)
        )

    def family_of(self, template: str, *, model_free: bool) -> str:
        """Return the family of a template: HDBSCAN's, or the template itself."""
        record = self.templates.get(template)
        return record.family if record and record.family and not model_free else own_family(template)

    def known_orders(self) -> Orders:
        """Return which families precede which, as the newest fit found."""
        if self.link_fit is not self._known_orders[0]:
            self._known_orders = (
                self.link_fit,
                NO_ORDERS if self.link_fit is None else Orders(self.link_fit.causes),
            )
        return self._known_orders[1]

    def adopt_series(
        self,
        measured: Mapping[str, Measured],
        rows: Mapping[str, bytes],
        blocks: Mapping[str, Mapping[int, bytes]],
    ) -> None:
        """Take in the series of samples that were loaded, with what their detectors knew and their histories."""
        self.measured.update(measured)
        for name, row in rows.items():
            self.banks.put(name, measured[name].standing.model, row)
        self.banks.learn_again((name, each.standing.model, each.learned) for name, each in measured.items())
        for name, each in measured.items():
            if each.has_history:
                self.histories[name] = History(blocks.get(name), each.learned)

    def adopt(self, group: Group) -> None:
        """Take in a group that was loaded, with what its episodes are found by."""
        self.groups[group.head.id] = group
        for episode in group.episodes.values():
            self.point_to(group, episode)
        for kin in group.kin:
            self.relate(kin, group)

    def relate(self, kin: Kin, group: Group) -> None:
        """Remember that an incident has had an alert of this kin; `kin` is not empty."""
        if group.head.origin != "heartbeat":
            self.kin.setdefault(kin, {})[group.head.id] = None

    def related(self, kin: Kin) -> list[Group]:
        """Return the incidents in memory that have had an alert of this kin."""
        return [self.groups[incident] for incident in self.kin.get(kin, ())]

    def point_to(self, group: Group, episode: Episode) -> None:
        """Remember which incident has an alert's episodes (all of them, while it is here), and which one fires.

        A missing heartbeat is not remembered once it is over: each absence is an incident of its own.
        """
        key = (episode.source, episode.fingerprint)
        if episode.ends_at is None:
            self.firing[key] = (group.head.id, (*key, episode.starts_at))
            if group.head.origin == "alerts":
                self.ladders.setdefault(self._rungs_of(episode.labels), {})[key] = None
        if group.head.origin != "heartbeat":
            self.homes.setdefault(key, {})[group.head.id] = None
        if self.window is not None:
            self.window.place((*key, episode.starts_at), group.head.id)

    def had(self, episode: Episode) -> bool:
        """Say whether an incident in memory has an episode of this alert with this start already."""
        key = (episode.source, episode.fingerprint)
        homes = [self.groups[incident] for incident in self.homes.get(key, ())]
        return any((*key, episode.starts_at) in group.episodes for group in homes)

    def holder_of(self, key: EpisodeKey) -> Group | None:
        """Return the incident in memory that has an episode, None if none has."""
        homes = [self.groups[incident] for incident in self.homes.get(key[:2], ())]
        return next((group for group in homes if key in group.episodes), None)

    def home_of(self, key: AlertKey) -> Group | None:
        """Return the incident that has the newest episode of an alert, None if none in memory has any."""
        homes = [self.groups[incident] for incident in self.homes.get(key, ())]
        return max(homes, key=lambda group: (group.alerts[key].newest, group.head.id), default=None)

    def end(self, key: AlertKey) -> tuple[str, EpisodeKey] | None:
        """Forget that an alert fires; return its incident and episode, None if it does not fire."""
        running = self.firing.pop(key, None)
        if running is not None:
            rungs = self._rungs_of(self.groups[running[0]].episodes[running[1]].labels)
            firing = self.ladders.get(rungs, {})
            firing.pop(key, None)
            if not firing:
                self.ladders.pop(rungs, None)
        return running

    def ladder_of(self, labels: Mapping[str, str]) -> str | None:
        """Return the incident of a firing alert that has these labels but for its severity, None if none fires."""
        firing = self.ladders.get(self._rungs_of(labels))
        return self.firing[min(firing)][0] if firing else None

    def climb_by(self, severity_label: str) -> None:
        """Let another label tell the severity from here on."""
        if severity_label != self._severity_label:
            self._severity_label = severity_label
            self.ladders.clear()
            for key, (incident, episode_key) in self.firing.items():
                group = self.groups[incident]
                if group.head.origin == "alerts":
                    self.ladders.setdefault(self._rungs_of(group.episodes[episode_key].labels), {})[key] = (
                        None
                    )

    def _rungs_of(self, labels: Mapping[str, str]) -> Rungs:
        """Return what two alerts share that differ in their severity alone."""
        return tuple(sorted([item for item in labels.items() if item[0] != self._severity_label]))

    def move_to(self, group: Group, episodes: Sequence[Episode], kins: Sequence[Kin], before: str) -> None:
        """Point to `group` for what came there from incident `before`: all of its episodes and kins."""
        for episode in episodes:
            _leave(self.homes, (episode.source, episode.fingerprint), before)
            self.point_to(group, episode)
        for kin in kins:
            _leave(self.kin, kin, before)
            self.relate(kin, group)

    def leave(self, group: Group) -> None:
        """Let nothing that a group holds lead to it any more, but for what fires."""
        for key in group.alerts:
            _leave(self.homes, key, group.head.id)
        for kin in group.kin:
            _leave(self.kin, kin, group.head.id)

    def release(self, incident: str) -> None:
        """Forget a group that can no longer change."""
        group = self.groups.pop(incident)
        if self.window is not None and any(map(self.window.holds, group.episodes)):
            self.window = None
        if self.arrivals is not None:
            for episode in group.episodes.values():
                self.arrivals.remove(episode)
        self.index.drop(incident, group.head.opened_at)
        self.leave(group)


def next_of(tenants: Iterable[Tenant]) -> int | None:
    """Return the next tick (epoch s) at which any of these tenants has something due."""
    ticks = [tick for tenant in tenants if (tick := tenant.timers.next_tick()) is not None]
    return min(ticks, default=None)


class State:
    """All that thinking holds: what is common, and the tenants."""

    def __init__(self, common: Common | None = None) -> None:
        self.common = common or Common()
        self.tenants: dict[str, Tenant] = {}
        self.router = Router(self.common.settings)
        self.texts = TemplateCache()
        self.charts: dict[tuple[str, str], Chart] = {}  # by tenant, "" for all of them, and origin
        self._topologies: dict[str, Topology] = {}  # by tenant, "" for those without a chart of their own

    def tenant(self, name: str) -> Tenant:
        """Return the tenant, made on its first alert."""
        found = self.tenants.get(name)
        if found is None:
            found = self.tenants[name] = Tenant(name, TenantRecord(), self.common.settings.severity_label)
        return found

    def keep_chart(self, tenant: str, origin: str, chart: Chart | None) -> None:
        """Let a chart take the place of the one before; None forgets it. `tenant` "" means all of them."""
        if chart is None:
            self.charts.pop((tenant, origin), None)
        else:
            self.charts[tenant, origin] = chart
        self.redraw(tenant)

    def redraw(self, tenant: str = "") -> None:
        """Let topologies be made anew when they are asked for: one tenant's, or all."""
        if tenant:
            self._topologies.pop(tenant, None)
        else:
            self._topologies.clear()

    def topology_of(self, tenant: str) -> Topology:
        """Return what is known of who calls whom; the same object until something about it changes."""
        found = self._topologies.get(tenant)
        if found is None:
            owned = any((tenant, origin) in self.charts for origin in ORIGINS)
            found = self._drawn(tenant) if owned or not tenant else self.topology_of("")
            self._topologies[tenant] = found
        return found

    def charts_of(self, tenant: str) -> tuple[Chart, ...]:
        """Return what a tenant's topology is made of, the chart that is trusted most first."""
        slots = [(owner, origin) for origin in ORIGINS for owner in dict.fromkeys(("", tenant))]
        return tuple(self.charts[slot] for slot in slots if slot in self.charts)

    def _drawn(self, tenant: str) -> Topology:
        return Topology(self.charts_of(tenant), label=self.common.settings.topology_label)

    def next_tick(self) -> int | None:
        """Return the next tick (epoch s) at which something is due of any tenant that is not behind."""
        return next_of(tenant for tenant in self.tenants.values() if tenant.record.behind_at is None)

    def picture(self) -> bytes:
        """Return everything that is stored, in one canonical form: two equal states have equal pictures."""
        tenants = {
            name: {
                "record": tenant.record,
                "watches": _listed(tenant.watches),
                "beats": _listed(tenant.beats),
                "templates": _listed(tenant.templates),
                "habits": _listed(tenant.habits),
                "orders": _listed(tenant.orders),
                "measured": [
                    (name, measured, blake2b(tenant.banks.row(name, measured.standing.model)).hexdigest())
                    for name, measured in _listed(tenant.measured)
                ],
                "histories": [
                    (name, blake2b(past.stored()).hexdigest()) for name, past in _listed(tenant.histories)
                ],
                "counted": _listed(tenant.counted),
                "pending": _listed(tenant.pending),
                "alarms": _listed(tenant.alarms),
                "happened": _listed(tenant.happened),
                "pasts": [
                    (incident, blake2b(msgspec.msgpack.encode(each, order="sorted")).hexdigest())
                    for incident, each in _listed(tenant.pasts)
                ],
                "outlooks": [
                    (target, outlook.newest, blake2b(msgspec.msgpack.encode(outlook)).hexdigest())
                    for target, outlook in _listed(tenant.outlooks)
                ],
                "rarity": blake2b(tenant.rarity.stored()).hexdigest(),
                "sightings": _listed(tenant.sightings),
                "link_fit": blake2b(msgspec.msgpack.encode(tenant.link_fit)).hexdigest(),
                "actions": list(tenant.actions.values()),
                "lessons": list(tenant.lessons.values()),
                "groups": [
                    (counted(group), group.progress, sorted(group.episodes.values(), key=_identity))
                    for _, group in sorted(tenant.groups.items())
                ],
            }
            for name, tenant in sorted(self.tenants.items())
        }
        whole = {"common": self.common, "charts": _listed(self.charts), "tenants": tenants}
        plain = msgspec.to_builtins(whole, str_keys=True)
        return msgspec.json.encode(plain, order="sorted")


def _listed(things: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return sorted(things.items())


def _identity(episode: Episode) -> tuple[str, str, datetime]:
    return (episode.source, episode.fingerprint, episode.starts_at)
