"""The words of Tocsin: one value type per noun of the field, Prometheus' own terms first.

Rules: frozen and keyword-only; times are aware UTC `datetime`s (microseconds; Alertmanager's nanoseconds are
cut); seconds end in `_s`; probabilities and scores are 0..1; `None` means "not enough history", never 0.

Decision: `msgspec.Struct` rather than frozen dataclasses. Both are slotted and frozen; a Struct is built five
times faster, which the path of an alert feels, and is its own wire and storage form, so that no second set of
"row" types grows beside these. Unknown fields are ignored on decoding, so an older row can be read by a newer
release.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Literal

import msgspec

EVENT_SCHEMA = "tocsin.event/1"
#: Namespace of every UUIDv5 that Tocsin derives; changing it changes every event id.
NAMESPACE = uuid.UUID("6f9d1bb6-6a2c-5ad0-9a44-70c51b0e7a11")

Severity = Literal["critical", "warning", "info"]
#: Higher is worse.
SEVERITY_RANK: dict[str, int] = {"info": 0, "warning": 1, "critical": 2}
Origin = Literal["alerts", "anomaly", "heartbeat", "tocsin"]
#: What keeps Alertmanager from telling of an alert that fires: a silence, another alert, a time interval; "": nothing.
Suppression = Literal["", "silenced", "inhibited", "muted"]
#: The source of alerts about Tocsin itself; nobody else may send as it.
OWN_SOURCE = "tocsin"
#: Where webhooks come from that name no source.
DEFAULT_SOURCE = "default"
#: The name under which the analyst keeps how far it has read the inbox of this front.
FRONT = "front-1"


class Word(msgspec.Struct, frozen=True):
    """What all words share: frozen, slotted, compared by value. Each adds `kw_only` (it is not inherited)."""


# ---- what comes in ---------------------------------------------------------------------------------------


class RowKind(StrEnum):
    """What one inbox row holds. Everything that may change an incident is a row; nothing else is."""

    WEBHOOK = "webhook"  # the bytes of one webhook as received
    GRAFANA = "grafana"  # the bytes of one webhook of Grafana Alerting as received
    REJECTED = "rejected"  # the bytes of a body that can never be good: goes to quarantine
    CLOCK = "clock"  # nothing but the time, appended by an idle front
    STARTED = "started"  # a front begins to listen; nothing was heard since the row before
    VECTORS = "vectors"  # template vectors that act from here on
    FAMILIES = "families"  # a finished HDBSCAN fit or prediction that acts from here on
    MODE = "mode"  # thinking with or without models from here on
    SETTINGS = "settings"  # the analysis settings in force from here on, without secrets
    TOPOLOGY = (
        "topology"  # who calls whom from here on, as far as one origin knows it; no tenant: for all of them
    )
    LINKER = "linker"  # a linker that was learned and examined acts from here on: `analysis.gate`
    FEEDBACK = "feedback"  # what a person says of an incident: `analysis.feedback`
    FOUND = "found"  # what all Alertmanagers of a source list, asked through their API
    RECORDED = "recorded"  # the bytes that Alertmanager's event recorder sent
    SAMPLES = "samples"  # values of a configured Prometheus series: `analysis.samples`
    REVIEWS = "reviews"  # which detectors speak for series from here on: `analysis.reviewing`
    REPLAYED = "replayed"  # an entry of the quarantine was sent again; changes nothing that is thought
    ERASE = "erase"  # what was known of a label, an alert or a tenant goes: `analysis.erasing`


#: Rows whose bodies hold alerts as their sender sent them.
WEBHOOK_KINDS = frozenset({RowKind.WEBHOOK, RowKind.GRAFANA})


class InboxRow(Word, frozen=True, kw_only=True):
    """One row of the inbox. `id` and `received_at` never go back."""

    id: int
    received_at: datetime
    tenant: str
    source: str
    kind: RowKind
    body: bytes


class Alert(Word, frozen=True, kw_only=True):
    """One alert as sent. Identity is (tenant, source, fingerprint); annotations never identify."""

    tenant: str
    source: str
    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    firing: bool
    starts_at: datetime
    ends_at: datetime | None  # None while firing
    generator_url: str = ""


class Fault(Word, frozen=True, kw_only=True):
    """Something that could not be used: an alert in a good body, or a whole body. Kept with its bytes."""

    reason: str
    body: bytes


class Notification(Word, frozen=True, kw_only=True):
    """One webhook call, parsed. It has no identity: a resend is a normal event.

    The top-level `status` is not kept: it lies when alerts were truncated. Nor are the receiver and how many alerts
    were truncated: nothing is decided by them.
    """

    tenant: str
    source: str
    group_key: str
    external_url: str
    alerts: tuple[Alert, ...]
    faults: tuple[Fault, ...] = ()


class Listed(Word, frozen=True, kw_only=True):
    """One alert as one Alertmanager lists it."""

    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    generator_url: str
    starts_at: datetime
    suppressed: Suppression
    unprocessed: bool  # it was not looked at yet: whether it is suppressed is not known
    receivers: tuple[str, ...]  # who is told of it


class Listing(Word, frozen=True, kw_only=True):
    """What one Alertmanager lists."""

    alerts: tuple[Listed, ...]
    faults: tuple[Fault, ...] = ()


# ---- what is understood ----------------------------------------------------------------------------------


class Change(StrEnum):
    """Why an alert is news, or why it is none."""

    FIRST_SEEN = "first_seen"  # opens an episode
    REPEATED = "repeated"  # a resend, an HA duplicate, a resolve told twice
    ALTERED = "altered"  # same episode, other annotations
    RESOLVED = "resolved"  # ends the episode
    REOPENED = "reopened"  # fires again after its last episode ended
    STALE = "stale"  # belongs to a time already over; no effect
    DISPUTED = "disputed"  # a firing that may be a late copy or a real re-fire; settled later
    EXPIRED = "expired"  # the resolve never came
    GONE = "gone"  # the resolve never came, and no Alertmanager lists it any more: it is over


#: How `Episode.why` begins of the alert that an incident began with. What was said of it later stands behind "; ".
FOUNDED = "first alert of this incident"


class Episode(Word, frozen=True, kw_only=True):
    """One uninterrupted firing of one alert. Identity: (tenant, source, fingerprint, starts_at)."""

    tenant: str
    source: str
    fingerprint: str
    starts_at: datetime  # of its first firing
    ends_at: datetime | None
    seen_at: datetime  # received_at of the webhook that opened it
    labels: dict[str, str]
    annotations: dict[str, str]
    generator_url: str
    group_key: str
    severity: Severity
    template: str  # Template id
    incident: str  # Incident id; "" for a heartbeat that is kept out of grouping
    why: str  # one sentence: why it joined
    expired: bool = False
    disputed: bool = False  # opened by a firing that Alertmanager itself cannot tell from a stale copy
    demoted: bool = False
    suppressed: Suppression = ""  # it fires, and Alertmanager holds it back

    @property
    def firing(self) -> bool:
        """Whether it has not ended."""
        return self.ends_at is None

    @property
    def name(self) -> str:
        """The alert name; label sets without one are legal in Alertmanager."""
        return self.labels.get("alertname") or "unnamed alert"


class Template(Word, frozen=True, kw_only=True):
    """An alert's text with its own label values and numbers masked. `id` is a hash of `text`."""

    id: str
    text: str


class IncidentState(StrEnum):
    """Where an incident stands; the legal moves are `analysis.incidents.MOVES`."""

    OPEN = "open"  # at least one episode fires
    QUIET = "quiet"  # nothing fires, not long enough to be over
    CLOSED = "closed"
    MERGED = "merged"  # its episodes went into another incident


class RootSuspect(Word, frozen=True, kw_only=True):
    """One ranked candidate for "what came first". `confidence` 0..1, higher is likelier."""

    fingerprint: str
    starts_at: datetime
    confidence: float
    why: str


#: Who came first says nothing about why: "causes" needs the topology or a person.
CausalWord = Literal["precedes", "causes"]


class CausalNode(Word, frozen=True, array_like=True):
    """One alert in a causal graph, by the first episode of it in the incident."""

    source: str
    fingerprint: str
    starts_at: datetime
    name: str
    severity: Severity


class CausalEdge(Word, frozen=True, array_like=True):
    """One alert of an incident came before another. Both are places in the graph's `nodes`."""

    earlier: int
    later: int
    word: CausalWord
    lag_s: float  # below 0 where a person named a root that began later
    why: str


class CausalGraph(Word, frozen=True, kw_only=True):
    """What is known of the order in an incident: its alerts that have an edge, by when they began, at most 100."""

    nodes: tuple[CausalNode, ...] = ()
    edges: tuple[CausalEdge, ...] = ()


class Score(Word, frozen=True, kw_only=True):
    """How unusual something is. `value` 0..1, higher is stranger; None with the `reason` when unknown."""

    value: float | None
    reason: str


#: What a forecast is about: anything, incidents of one severity, of one service.
Aim = Literal["any", "severity", "service"]


class Forecast(Word, frozen=True, kw_only=True):
    """How likely it is that an incident begins in (at, until]."""

    aim: Aim
    name: str = ""  # of the severity or the service
    at: datetime
    until: datetime
    probability: float  # what is given: the model's if it earned that, else the reference's
    published: bool  # False: no skill here, `why_silent` says so
    reference: float  # by how often incidents come at such hours
    expected: float  # incidents, by the reference
    expected_low: float  # four in five times they are at least so many
    expected_high: float  # and at most so many
    reasons: tuple[str, ...] = ()  # what moved the odds, first the most; none unless published
    why_silent: str = ""


#: What a recommendation comes from: what people wrote, a runbook, the order in which alerts come.
About = Literal["done", "runbook", "order"]


class Advice(Word, frozen=True, kw_only=True):
    """One recommendation, with what it rests on."""

    about: About
    text: str
    score: float  # above 0; only for the order among them
    evidence: tuple[str, ...]
    link: str = ""  # of a runbook
    incidents: tuple[str, ...] = ()  # past ones it comes from


#: What a person thinks of an incident; "" while nobody said.
Opinion = Literal["", "useful", "false_alarm"]


class Incident(Word, frozen=True, kw_only=True):
    """Episodes believed to share one cause. `id` derives from its first episode."""

    id: str
    tenant: str
    origin: Origin
    state: IncidentState
    opened_at: datetime
    closed_at: datetime | None
    changed_at: datetime
    active_at: datetime  # when an episode last joined
    title: str
    summary: str
    severity: Severity  # the highest it has had since it opened
    anomaly: Score
    seq: int  # of its newest event; gap-free from 1
    alerts_total: int  # different alerts, however often each has fired
    alerts_firing: int
    common_labels: dict[str, str]
    root: tuple[RootSuspect, ...] = ()
    graph: CausalGraph = CausalGraph()
    degraded: bool = False  # some of it was decided without models
    merged_into: str | None = None
    split_from: str | None = None
    generation: int = 0  # how often an incident was born from this first episode
    acknowledged_at: datetime | None = None  # by a person, and it has neither reopened nor escalated since
    verdict: Opinion = ""  # what a person thinks of it


class EventKind(StrEnum):
    """What happened to an incident."""

    OPENED = "opened"
    UPDATED = "updated"
    ESCALATED = "escalated"
    REOPENED = "reopened"
    ACKNOWLEDGED = "acknowledged"
    MERGED = "merged"
    SPLIT = "split"
    CLOSED = "closed"
    REMINDER = "reminder"
    FORECAST = "forecast"
    RECOMMENDATION = "recommendation"


class EventEpisode(Word, frozen=True, kw_only=True):
    """One episode as an event carries it."""

    fingerprint: str
    starts_at: datetime
    ends_at: datetime | None
    source: str
    labels: dict[str, str]
    annotations: dict[str, str]
    generator_url: str
    severity: Severity
    demoted: bool
    why: str
    times: int = 1  # how often the alert has fired in this incident; this is the newest
    expired: bool = False  # its end was never told: it was given up
    disputed: bool = False  # opened by a firing that Alertmanager itself cannot tell from a stale copy
    suppressed: Suppression = ""  # it fires, and Alertmanager holds it back


class IncidentView(Word, frozen=True, kw_only=True):
    """The incident as an event carries it: its state when the event was made."""

    id: str
    state: IncidentState
    origin: Origin
    title: str
    summary: str
    severity: Severity
    anomaly: float | None
    anomaly_reason: str
    opened_at: datetime
    closed_at: datetime | None
    alerts_total: int
    alerts_firing: int
    common_labels: dict[str, str]
    episodes: tuple[
        EventEpisode, ...
    ]  # the newest of each alert; at most 100, what fires, is worst and earliest first
    truncated: int  # how many alerts are not listed
    root: tuple[RootSuspect, ...]
    merged_into: str | None
    split_from: str | None
    escalations: int  # pages so far beyond the first; PagerDuty's dedup_key is <id>/e<n>
    url: str  # "" when no public address is configured
    expired: bool = False  # it closed because a resolve never came, not because one did


class Event(Word, frozen=True, kw_only=True):
    """What leaves. `event_id` is UUIDv5 of (tenant, incident, seq, kind): a replay makes the same id."""

    schema: str = EVENT_SCHEMA
    event_id: str
    kind: EventKind
    seq: int
    at: datetime
    tenant: str
    degraded: bool
    incident: IncidentView
    note: str | msgspec.UnsetType = msgspec.UNSET  # what a person said that this event is about
    author: str | msgspec.UnsetType = msgspec.UNSET
    forecast: Forecast | msgspec.UnsetType = (
        msgspec.UNSET
    )  # what it tells of, or recommends something against
    recommendations: tuple[Advice, ...] | msgspec.UnsetType = msgspec.UNSET  # the best first
    instead_of: str | msgspec.UnsetType = msgspec.UNSET  # the destination whose fallback this one went to


def told_instead(title: str, destination: str) -> str:
    """Return the title of an incident that is told instead of a destination that does not take it."""
    return f"[instead of {destination}] {title}"


def event_id(tenant: str, incident: str, seq: int, kind: EventKind) -> str:
    """Return the id that this event has in every replay."""
    return str(uuid.uuid5(NAMESPACE, f"{tenant}\n{incident}\n{seq}\n{kind.value}"))


# ---- what is delivered -----------------------------------------------------------------------------------


class DeliveryState(StrEnum):
    """Where one event stands on its way to one destination; moves are `delivery.MOVES`."""

    WAITING = "waiting"  # not before `next_at`
    PENDING = "pending"  # accepted, the destination's own acknowledgement is awaited
    DELIVERED = "delivered"
    SUPERSEDED = "superseded"  # a newer state of the incident went instead
    DEAD = "dead"  # given up; stays in the dead-letter store until retried or dropped
    DROPPED = "dropped"  # by a person


class Delivery(Word, frozen=True, kw_only=True):
    """One event for one destination. Identity: (event_id, destination)."""

    event_id: str
    destination: str
    tenant: str
    incident: str
    seq: int
    kind: EventKind
    urgent: bool = False  # its incident is critical: it goes before others
    fit_bytes: int = 0  # it was too large: the next request must be this small; 0: as large as is usual
    state: DeliveryState
    created_at: datetime
    next_at: datetime
    attempts: int = 0
    token: str = ""  # what an asynchronous acknowledgement is asked for with
    step: str = ""  # which call of several comes next
    reason: str = ""  # why it waits or was given up; never a secret
    delivered_at: datetime | None = None
    maybe_duplicate: bool = False  # an earlier attempt may have arrived
    until_recovery: bool = False  # it waits no longer than until the destination takes something again
    pending_since: datetime | None = None  # since when an acknowledgement is awaited
    failing_since: datetime | None = None  # when it first failed or was refused
    stuck_since: datetime | None = None  # since when it fails although the destination takes others
    refusals: int = 0  # how often it was refused although the destination takes others
    asked_at: datetime | None = (
        None  # when a person sent it off again; or it came to a fallback: its horizon counts
    )
    instead_of: str = ""  # the destination that did not take it and whose fallback this one is


class Delivered(Word, tag="delivered", frozen=True, kw_only=True):
    """The destination has it. `memory` replaces what is remembered for this incident (None: keep)."""

    memory: dict[str, str] | None = None
    next_step: str = ""  # a further call this event needs, "" when done


class Duplicate(Word, tag="duplicate", frozen=True, kw_only=True):
    """The destination already had it: as good as delivered."""


class Retry(Word, tag="retry", frozen=True, kw_only=True):
    """Try again, not before `after_s` (None: the dispatcher's own wait)."""

    reason: str
    after_s: float | None = None
    whole_destination: bool = False  # the destination is in trouble, not this event
    maybe_sent: bool = False
    of_event: bool = False  # the destination takes others; the dispatcher's finding, no connector's


class Split(Word, tag="split", frozen=True, kw_only=True):
    """Too large: send fewer events, or, if it was one, half as much of it."""

    reason: str


class Reject(Word, tag="reject", frozen=True, kw_only=True):
    """The destination will not take this event; if not `final`, it is asked a few times more before that."""

    reason: str
    final: bool = True
    wished: bool = False  # the settings say that it is given up: that says nothing about the destination


class Blocked(Word, tag="blocked", frozen=True, kw_only=True):
    """The destination refuses us (credentials, address): keep everything, probe, raise an alarm."""

    reason: str
    disabled: bool = False  # it said in so many words to be left alone: it is asked once a day, no sooner


class Pending(Word, tag="pending", frozen=True, kw_only=True):
    """Accepted, not yet durable there: ask with `token` after `after_s`."""

    token: str
    after_s: float
    reason: str = ""


Verdict = Delivered | Duplicate | Retry | Split | Reject | Blocked | Pending
