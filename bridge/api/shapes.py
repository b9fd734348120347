"""The shapes of answers, as the document of the API says them.

Rule: nothing is answered out of these. Answers are made where the rows are read, as plain mappings in a fixed order;
these say what is in them, field by field, and allow no other. That both are the same is what the tests ask of a running
front (`tests/test_openapi.py`), with answers to questions that nobody thought of.

Decision: beside the mappings, not in place of them. A list of a thousand incidents would be built twice, once as what
was read and once as what is shown, for a check that a test makes as well.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from bridge.analysis.feedback import ActionState, FeedbackKind
from bridge.analysis.settings import Way
from bridge.api.surroundings import AnalystHealth, DestinationHealth, QuotaHealth
from bridge.model import (
    About,
    Aim,
    CausalWord,
    DeliveryState,
    Event,
    EventKind,
    IncidentState,
    Opinion,
    Origin,
    RootSuspect,
    Severity,
    Suppression,
)

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Next = Annotated[
    str | None, msgspec.Meta(description="The `cursor` to ask the next part with; null at the end.")
]


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shapes share: they name every field."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error (RFC 9457), with a `detail` that says what to do."""

    type: str
    title: str
    status: int
    detail: str
    parameter: str | msgspec.UnsetType = msgspec.UNSET
    faults: list[str] | msgspec.UnsetType = msgspec.UNSET


class Refused(Shape, frozen=True, kw_only=True):
    """Why a webhook was not taken."""

    error: str


class Received(Shape, frozen=True, kw_only=True):
    """How many alerts, or recorded events, are on the disk now."""

    received: Count


class Said(Shape, frozen=True, kw_only=True):
    """The id of what was put on the disk."""

    id: str


class Pressed(Shape, frozen=True, kw_only=True):
    """The ids of the actions that came of what was pressed; none where it is no business of ours."""

    actions: list[str]


class Button(msgspec.Struct, frozen=True, kw_only=True):
    """The form with which Slack tells that a button was pressed."""

    payload: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook of PagerDuty (v3); other fields are passed over."""

    event: dict[str, Any]


class Replayed(Shape, frozen=True, kw_only=True):
    """The number of the row with which the bytes came in once more."""

    id: int


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a webhook. What is wrong inside of an alert is found later, and quarantined."""

    alerts: list[dict[str, Any]]
    version: str = "4"
    groupKey: str = ""  # noqa: N815 - Alertmanager's names


#: What Alertmanager's event recorder sends: one event or a batch.
Recorded = dict[str, Any] | list[dict[str, Any]]


# ---- incidents -------------------------------------------------------------------------------------------


class _Incident(Shape, frozen=True, kw_only=True):
    incident: str
    tenant: str
    origin: Origin
    state: IncidentState
    opened_at: Moment
    closed_at: Moment | None
    title: str
    summary: str
    severity: Severity
    anomaly: Share | None
    root: list[RootSuspect]
    merged_into: str | None


class IncidentItem(_Incident, frozen=True, kw_only=True):
    """An incident in a list."""

    episode_count: Count


class ShownEpisode(Shape, frozen=True, kw_only=True):
    """One uninterrupted firing of an alert."""

    fingerprint: str
    starts_at: Moment
    ends_at: Moment | None
    source: str
    labels: dict[str, str]
    demoted: bool
    suppressed: Suppression
    why: str


class ShownLink(Shape, frozen=True, kw_only=True):
    """Why an episode is part of its incident."""

    fingerprint: str
    starts_at: Moment
    source: str
    why: str


class ShownNode(Shape, frozen=True, kw_only=True):
    """One alert in a causal graph."""

    fingerprint: str
    starts_at: Moment
    source: str
    name: str
    severity: Severity


class ShownEdge(Shape, frozen=True, kw_only=True):
    """One alert came before another; both are places among the nodes."""

    earlier: Count = msgspec.field(name="from")
    later: Count = msgspec.field(name="to")
    word: CausalWord
    lag_s: float
    why: str


class ShownGraph(Shape, frozen=True, kw_only=True):
    """In which order an incident's alerts came."""

    nodes: list[ShownNode]
    edges: list[ShownEdge]


class ShownAction(Shape, frozen=True, kw_only=True):
    """What a person did."""

    id: str
    at: Moment
    kind: FeedbackKind
    text: str
    author: str
    state: ActionState
    reason: str
    undoes: str | None


class ShownDelivery(Shape, frozen=True, kw_only=True):
    """One event on its way to one destination."""

    id: int
    destination: str
    state: DeliveryState
    kind: EventKind
    incident: str
    seq: int
    event_id: str
    attempts: Count
    created_at: Moment
    next_at: Moment | None
    delivered_at: Moment | None
    reason: str
    maybe_duplicate: bool
    instead_of: str
    blocked: bool


class WholeIncident(_Incident, frozen=True, kw_only=True):
    """An incident with all that is known of it."""

    episodes: list[ShownEpisode]
    causal_graph: ShownGraph
    links: list[ShownLink]
    events: list[Event]
    anomaly_reason: str
    degraded: bool
    split_from: str | None
    alerts_total: Count
    alerts_firing: Count
    common_labels: dict[str, str]
    acknowledged_at: Moment | None
    verdict: Opinion | None
    actions: list[ShownAction]
    deliveries: list[ShownDelivery]


class Incidents(Shape, frozen=True, kw_only=True):
    """Part of the list of incidents."""

    items: list[IncidentItem]
    next: Next


class FlatIncident(Shape, frozen=True, kw_only=True):
    """An incident as one row of a table; no value is nested."""

    tenant: str
    incident: str
    state: IncidentState
    origin: Origin
    severity: Severity
    title: str
    summary: str
    opened_at: Moment
    acknowledged_at: Moment | None
    closed_at: Moment | None
    time_to_acknowledge_s: float | None
    time_to_close_s: float | None
    anomaly: Share | None
    rule: str | None
    team: str | None
    service: str | None
    namespace: str | None
    cluster: str | None
    alerts_total: Count
    alerts_firing: Count
    firings: Count
    firings_demoted: Count
    escalations: Count
    reopened: Count
    verdict: Opinion | None
    root_rule: str | None
    root_confidence: Share | None
    merged_into: str | None
    split_from: str | None
    degraded: bool


class FlatIncidents(Shape, frozen=True, kw_only=True):
    """Part of the incidents as a table."""

    items: list[FlatIncident]
    next: Next


class ShownDeliveries(Shape, frozen=True, kw_only=True):
    """Part of the list of deliveries."""

    items: list[ShownDelivery]
    next: Next


# ---- what could not be used, and who changed what --------------------------------------------------------


class _Quarantined(Shape, frozen=True, kw_only=True):
    id: int
    tenant: str
    source: str
    received_at: Moment
    inbox_id: int
    what: Literal["alert", "body", "row"]
    reason: str
    replayed_at: Moment | None


class QuarantinedItem(_Quarantined, frozen=True, kw_only=True):
    """Something that could not be used, in a list."""

    body_bytes: Count


class Quarantined(_Quarantined, frozen=True, kw_only=True):
    """Something that could not be used: its bytes as text, or in base64 where they are none."""

    body: str | msgspec.UnsetType = msgspec.UNSET
    body_base64: str | msgspec.UnsetType = msgspec.UNSET


class QuarantinedItems(Shape, frozen=True, kw_only=True):
    """Part of the quarantine."""

    items: list[QuarantinedItem]
    next: Next


class Entry(Shape, frozen=True, kw_only=True):
    """One change, and what came of it; null where that is not known."""

    id: str
    at: Moment
    tenant: str
    actor: str
    role: str | None = None
    peer: str | None = None
    action: str
    target: str
    asked: Any = None
    before: Any = None
    done: bool | None
    after: Any = None


class Entries(Shape, frozen=True, kw_only=True):
    """Part of the audit log."""

    items: list[Entry]
    next: Next


class ToErase(Shape, frozen=True, kw_only=True):
    """What would be erased, or will be: how much was found, and the id unless it is a dry run."""

    id: str | msgspec.UnsetType = msgspec.UNSET
    dry_run: bool | msgspec.UnsetType = msgspec.UNSET
    by: str
    counts: dict[str, Count]


class Erasure(Shape, frozen=True, kw_only=True):
    """Something that was erased, or is being; while it waits only its id is known."""

    id: str
    state: Literal["waiting", "working", "done"]
    by: str | msgspec.UnsetType = msgspec.UNSET
    until: Moment | msgspec.UnsetType = msgspec.UNSET
    counts: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class Erasures(Shape, frozen=True, kw_only=True):
    """What was erased, newest first."""

    items: list[Erasure]
    next: None


# ---- what was learned ------------------------------------------------------------------------------------


class ShownEvidence(Shape, frozen=True, kw_only=True):
    """How one way of grouping did in the exam."""

    way: Way
    f1: Share
    precision: Share
    recall: Share
    shift: float


class Linker(Shape, frozen=True, kw_only=True, tag_field="name", tag="linker"):
    """How alerts are grouped, and on what evidence."""

    acts: bool
    way: Way
    reason: str
    forced_by_settings: bool
    fit: int | None
    since: Moment | None
    asked_at: Moment | None
    sightings: Count
    pairs: Count
    labelled: Count
    families: Count
    units: Count
    examined: Count
    of: str | None
    evidence: list[ShownEvidence]


class Watched(Shape, frozen=True, kw_only=True, tag_field="name", tag="series"):
    """A series of samples, and its detector."""

    series: str
    model: str
    reason: str
    trials: Count
    challenger: str | None
    wins: Count
    useful: Count
    false_alarms: Count
    reviewed_at: Moment | None
    values: Count
    since: Moment
    heard_at: Moment
    newest: float | None
    score: Share | None
    unusual_since: Moment | None


class Counts(Shape, frozen=True, kw_only=True, tag_field="name", tag="counts"):
    """By how many things firings are counted."""

    model: str
    reason: str
    series: Count


class Models(Shape, frozen=True, kw_only=True):
    """The linker first, then what is watched."""

    items: list[Linker | Counts | Watched]
    next: None


class ShownForecast(Shape, frozen=True, kw_only=True):
    """How likely an incident begins, and why."""

    aim: Aim
    name: str | None
    at: Moment
    until: Moment
    probability: Share
    published: bool
    reasons: list[str]
    why_silent: str | None
    reference: Share
    expected: float
    expected_low: float
    expected_high: float
    evidence: float
    evidence_needed: float


class Forecasts(Shape, frozen=True, kw_only=True):
    """The newest forecast of each target, and what a first one waits for."""

    items: list[ShownForecast]
    next: None
    lacking: str | None


class Against(Shape, frozen=True, kw_only=True):
    """The forecast that a recommendation is about."""

    aim: Aim
    name: str | None
    until: Moment


class Recommended(Shape, frozen=True, kw_only=True):
    """What to do before an incident begins."""

    forecast: Against
    about: About
    text: str
    score: float
    evidence: list[str]
    link: str | None
    incidents: list[str]


class Recommendations(Shape, frozen=True, kw_only=True):
    """What to do about the forecasts that hold, the best first."""

    items: list[Recommended]
    next: None


class ShownService(Shape, frozen=True, kw_only=True):
    """A service."""

    name: str
    cluster: str | None
    namespace: str | None


class Calls(Shape, frozen=True, kw_only=True):
    """One service calls another, or its alerts precede the other's."""

    kind: Literal["calls", "precedes"]
    caller: str = msgspec.field(name="from")
    callee: str = msgspec.field(name="to")
    origin: str
    evidence: str | None
    said: str


class Topology(Shape, frozen=True, kw_only=True):
    """Who calls whom."""

    version: str
    label: str
    services_total: Count
    edges_total: Count
    services: list[ShownService]
    edges: list[Calls]


class Hidden(Shape, frozen=True, kw_only=True):
    """An alert that Alertmanager holds back."""

    alertname: str
    source: str
    by: Suppression
    first_at: Moment
    last_at: Moment


class Grouping(Shape, frozen=True, kw_only=True):
    """How alerts are grouped now."""

    way: Way
    reason: str


class Stats(Shape, frozen=True, kw_only=True):
    """How it is doing."""

    inbox_backlog: Count
    cursor: Count
    processed_until: Moment | None
    incidents: dict[IncidentState, Count]
    episodes: Count
    episodes_firing: Count
    quarantined: Count
    hidden: list[Hidden]
    grouping: Grouping
    deliveries: dict[DeliveryState, Count]
    analyst: AnalystHealth
    destinations: list[DestinationHealth]
    quotas: list[QuotaHealth]
