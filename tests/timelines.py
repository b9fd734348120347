"""Random timelines: rows of every kind, two tenants, several sources, alerts that share something and some that do not.

The pool is small and the times are chosen from where something may happen (a tick, the end of a dispute, of quiet, of
what is believed), so that a short timeline meets most of what a year does.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import reviewed
import timeline
from hypothesis import strategies as st
from linkers import LINKERS

from bridge.analysis.erasing import Erase, Label
from bridge.analysis.feedback import EpisodeRef, Feedback, FeedbackKind
from bridge.analysis.rounds import Content, Found, Standing
from bridge.analysis.samples import Line, Samples
from bridge.analysis.settings import AnalysisSettings, Destination, Heartbeat, Route, Source
from bridge.analysis.text import template_of
from bridge.analysis.topology import Call, Chart, Service
from bridge.model import EventKind, InboxRow, RowKind
from bridge.webhooks.alertmanager import fingerprint_of, parse

TENANTS = ("east", "west")
POOL: tuple[dict[str, str], ...] = (
    {"alertname": "NodeDown", "instance": "db-1:9100", "severity": "critical", "team": "db"},
    {"alertname": "DiskSlow", "node": "db-1", "severity": "warning", "team": "db"},
    {"alertname": "Errors", "service": "shop", "namespace": "web", "severity": "warning"},
    {"alertname": "Latency", "service": "shop", "namespace": "web", "severity": "critical"},
    {"alertname": "Latency", "service": "pay", "namespace": "web", "severity": "info"},
    {"alertname": "CertExpiry", "host": "mail-9", "severity": "info"},
    {"alertname": "Watchdog", "severity": "none"},
    {"foo": "bar"},
)
BEAT = Heartbeat(match=('alertname="Watchdog"',), missing_after_s=900.0)
DESTINATIONS = (Destination(name="file", wait_s=0.0), Destination(name="chat", wait_s=30.0))
TO_FILE = Route(to=("file",))
TO_CHAT = Route(match=('severity=~"critical|warning"',), to=("chat",), repeat_s=14_400.0)
TO_DB = Route(match=('team="db"',), to=("chat",), repeat_s=3600.0, wait_s=60.0, kinds=tuple(EventKind))
TO_WARN = Route(kinds=(EventKind.FORECAST,), to=("chat",))
BASE = AnalysisSettings(
    heartbeats=(BEAT,), destinations=DESTINATIONS, routes=(TO_FILE, TO_CHAT, TO_DB, TO_WARN), count_by=("team",),
    count_windows_s=(5.0, 30.0, 300.0), horizon_s=86_400.0,
)  # fmt: skip
SHARING = msgspec.structs.replace(BASE, grouping="entities")
#: What a reload may bring in the middle of it all.
SETTINGS = (
    BASE,
    msgspec.structs.replace(BASE, heartbeats=()),
    msgspec.structs.replace(
        BASE, heartbeats=(BEAT, Heartbeat(match=('alertname="CertExpiry"',), missing_after_s=60.0))
    ),
    msgspec.structs.replace(BASE, routes=(TO_DB, TO_FILE)),
    msgspec.structs.replace(
        BASE, routes=(Route(match=('team!="db"',), to=("chat",), repeat_s=1800.0), TO_CHAT)
    ),
    msgspec.structs.replace(SHARING, window_s=20.0, close_after_s=10.0, reopen_within_s=60.0, dispute_s=5.0),
    msgspec.structs.replace(BASE, window_s=7200.0, close_after_s=900.0, reopen_within_s=86_400.0),
    msgspec.structs.replace(
        SHARING,
        sources=tuple(Source(tenant=name, name="am", repeat_interval_s=60.0) for name in TENANTS),
        sensitivity=0.9,
    ),
    msgspec.structs.replace(SHARING, topology_label="app"),
    msgspec.structs.replace(BASE, horizon_s=28_800.0),
    msgspec.structs.replace(BASE, count_windows_s=(60.0,), count_by=(), false_alarms_a_week=1e-6),
    msgspec.structs.replace(BASE, models=False, severity_label="team", severities={"db": "critical"}),
    msgspec.structs.replace(BASE, grouping="linker", sensitivity=0.8),
    msgspec.structs.replace(BASE, grouping="linker", window_s=60.0, reopen_within_s=60.0, close_after_s=10.0),
    msgspec.structs.replace(BASE, grouping="bursts", window_s=60.0, close_after_s=10.0, reopen_within_s=60.0),
    SHARING,
)
#: What a changed file or an import may bring, and what is no topology at all.
CHARTS = (
    Chart(origin="file"),
    Chart(origin="file", services=(Service(name="shop"), Service(name="pay")), calls=(Call(0, 1),)),
    Chart(
        origin="file",
        services=(Service(name="pay", namespace="web"), Service(name="shop"), Service(name="db")),
        calls=(Call(1, 0), Call(0, 2), Call(2, 1)),
    ),
    Chart(
        origin="prometheus",
        services=(Service(name="shop", namespace="web"), Service(name="db", also=("db-1",))),
        calls=(Call(0, 1, "12 requests"),),
    ),
    Chart(origin="prometheus", services=(Service(name="shop"),), calls=(Call(0, 7),)),
)
#: What may be erased: a team, a service, a host, an alert, a tenant, what came in the first minutes, and what is done.
ERASES = (
    Erase(id="era-1", label=Label(name="team", value="db")),
    Erase(id="era-2", label=Label(name="service", value="shop")),
    Erase(id="era-3", label=Label(name="instance", value="db-1:9100")),
    Erase(id="era-4", label=Label(name="severity", value="warning")),
    Erase(id="era-5", fingerprint=fingerprint_of(POOL[3]), fingerprints=(fingerprint_of(POOL[4]),)),
    Erase(id="era-6"),
    Erase(id="era-7", before=timeline.START + timedelta(seconds=30)),
    Erase(id="era-8", label=Label(name="alertname", value="Watchdog")),
    Erase(id="era-9", label=Label(name="nobody", value="has"), sealed=True),
)
#: Seconds between rows.
PAUSES = (0.0, 0.0, 0.0, 0.0, 0.001, 1.0, 1.0, 1.0, 2.5, 2.5, 2.5, 5.0, 5.0, 5.0, 7.0, 7.0, 7.0, 20.0, 20.0, 30.0,
          30.0, 31.0, 31.0, 60.0, 60.0, 90.0, 300.0, 305.0, 900.0, 1801.0, 1805.0, 29_400.0, 60_000.0)  # fmt: skip
#: startsAt of a firing, from when it is received; None is the beginning, which never changes.
STARTS = (0.0, 0.0, -10.0, -600.0, 60.0, None, None)
ENDS = (0.0, 0.0, -20.0, -3600.0, 45.0)


#: Reviews of series that may be there, as they are or not any more, and of one that never was.
REVIEWS = tuple(
    reviewed.told(
        *(
            reviewed.review(name, model, lived=lived, tick=int(timeline.START.timestamp()) + 120, is_new=is_new)
            for name in ('load{service="shop"}', 'load{service="pay"}', "none")
        ),
        fit=fit,
    )
    for fit, (model, lived, is_new) in enumerate(
        (("shape", 1, True), ("isolation-forest", 2, True), ("isolation-forest", 2, False), ("counts", 3, True),
         ("spot", 4, True), ("autoencoder", 1, False), ("isolation-forest", 0, True)), 1,
    )
)  # fmt: skip


def _alert(
    labels: dict[str, str], at: datetime, starts: float | None, ends: float | None
) -> dict[str, object]:
    starts_at = timeline.START if starts is None else at + timedelta(seconds=starts)
    ends_at = None if ends is None else at + timedelta(seconds=ends)
    return timeline.alert(
        labels, starts=starts_at, ends=ends_at, annotations={"summary": f"{starts} is high"}
    )


def template_ids() -> list[str]:
    """Return the ids of the templates that the pool's alerts have."""
    alerts = [_alert(labels, timeline.START, None, None) for labels in POOL]
    parsed = parse(timeline.webhook(alerts), tenant="east", source="am")
    return sorted({template_of(alert).id for alert in parsed.alerts})


TEMPLATES = template_ids()


GROUPING = (FeedbackKind.MERGE, FeedbackKind.SPLIT, FeedbackKind.MOVE)


def vector(number: int) -> bytes:
    """Return a unit vector; numbers close to each other give vectors close to each other."""
    return np.array([np.cos(number / 7), np.sin(number / 7)], dtype="<f2").tobytes()


_alerts = st.tuples(
    st.sampled_from(POOL), st.sampled_from(STARTS), st.one_of(st.none(), st.sampled_from(ENDS))
)
_webhooks = st.tuples(
    st.just(RowKind.WEBHOOK),
    st.lists(_alerts, min_size=1, max_size=5),
    st.sampled_from(("{}:{}", '{}:{team="db"}', '{}:{namespace="web"}')),
)
_vectors = st.tuples(
    st.just(RowKind.VECTORS),
    st.dictionaries(st.sampled_from([*TEMPLATES, "0" * 16]), st.integers(0, 9), min_size=1),
)
_families = st.tuples(
    st.just(RowKind.FAMILIES),
    st.dictionaries(st.sampled_from(TEMPLATES), st.sampled_from(("f:1.1", "f:1.2"))),
)
#: What is named is chosen among what was heard by then: numbers from the newest back.
_feedback = st.tuples(
    st.just(RowKind.FEEDBACK),
    st.sampled_from((*FeedbackKind, *GROUPING, *GROUPING, FeedbackKind.CLOSE, *(FeedbackKind.UNDO,) * 3)),
    st.lists(st.integers(0, 12), min_size=1, max_size=3),
    st.integers(0, 12),
    st.integers(1, 40),
)
_standing = st.tuples(
    st.sampled_from(POOL), st.sampled_from(STARTS), st.sampled_from(("", "", "", "silenced", "inhibited")),
    st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip
_found = st.tuples(
    st.just(RowKind.FOUND),
    st.lists(_standing, max_size=4),
    st.sampled_from((False, False, False, True)),  # a peer is silent
    st.sampled_from((0.0, 1.0, 40.0)),
    st.dictionaries(st.sampled_from(range(len(POOL))), st.sampled_from((5.0, 900.0)), max_size=3),
)
_recorded = st.tuples(
    st.just(RowKind.RECORDED),
    st.lists(
        st.tuples(st.sampled_from(("silenceMutedAlert", "inhibitionMutedAlert", "alertResolved", "notification")),
                  st.sampled_from(POOL), st.sampled_from(STARTS), st.sampled_from(ENDS)),
        min_size=1, max_size=4,
    ),
)  # fmt: skip
#: Minutes back, where the newest may come twice or late, and values, most of them alike.
_samples = st.tuples(
    st.just(RowKind.SAMPLES),
    st.lists(
        st.tuples(st.sampled_from(("shop", "pay")), st.sampled_from((0, 0, 1, 1, 2, 9)),
                  st.sampled_from((1.0, 1.5, 2.0, 2.0, 90.0, -1e308))),
        max_size=5,
    ),
)  # fmt: skip
_kinds: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    "webhook": _webhooks,
    "vectors": _vectors,
    "families": _families,
    "feedback": _feedback,
    "found": _found,
    "recorded": _recorded,
    "clock": st.tuples(st.just(RowKind.CLOCK)),
    "rejected": st.tuples(st.just(RowKind.REJECTED)),
    "mode": st.tuples(st.just(RowKind.MODE), st.booleans()),
    "settings": st.tuples(st.just(RowKind.SETTINGS), st.sampled_from(SETTINGS)),
    "topology": st.tuples(st.just(RowKind.TOPOLOGY), st.sampled_from(CHARTS)),
    "linker": st.tuples(st.just(RowKind.LINKER), st.sampled_from(LINKERS)),
    "samples": _samples,
    "reviews": st.tuples(st.just(RowKind.REVIEWS), st.sampled_from(range(len(REVIEWS)))),
    "erase": st.tuples(st.just(RowKind.ERASE), st.sampled_from(ERASES)),
}
_steps = st.tuples(
    st.sampled_from(PAUSES),
    st.sampled_from(("east", "east", "east", "west")),
    st.sampled_from(("am", "am", "am", "am", "am2", "tocsin")),
    st.sampled_from(
        ("webhook",) * 18
        + ("feedback",) * 5
        + ("found",) * 5
        + ("settings",) * 3
        + ("linker",) * 3
        + ("reviews",) * 3
        + ("erase",) * 2
        + ("topology", "samples", "samples")
        + tuple(_kinds)
    ).flatmap(_kinds.__getitem__),
)


@st.composite
def timelines(draw: st.DrawFn) -> list[InboxRow]:
    """Return the rows of a random timeline, at most 41."""
    at = timeline.START
    rows: list[InboxRow] = []
    if draw(st.booleans()):  # else it begins with the way that acts where nobody says anything
        rows.append(
            timeline.row(1, at, _body(at, RowKind.SETTINGS, SHARING), kind=RowKind.SETTINGS, tenant="")
        )
    size = draw(st.sampled_from((1, 10, 30)))  # left alone, lists are mostly short
    steps = draw(st.lists(_steps, min_size=size, max_size=size + 10))
    for number, (pause_s, tenant, source, what) in enumerate(steps, len(rows) + 1):
        at += timedelta(seconds=pause_s)
        common = what[0] in {RowKind.MODE, RowKind.SETTINGS, RowKind.CLOCK} or what[1:] == (CHARTS[1],)
        owner = "" if common else tenant
        body = _said(rows, tenant, number, *what[1:]) if what[0] is RowKind.FEEDBACK else _body(at, *what)
        rows.append(timeline.row(number, at, body, kind=what[0], tenant=owner, source=source))
    return rows


def _said(
    rows: list[InboxRow],
    tenant: str,
    number: int,
    kind: FeedbackKind,
    named: list[int],
    beside: int,
    more: int,
) -> bytes:
    """Return what a person says of alerts that were heard, or of what they have said before."""
    mine = [row for row in rows if row.tenant == tenant]
    heard = [
        EpisodeRef(fingerprint=alert.fingerprint, starts_at=alert.starts_at)
        for row in mine
        if row.kind is RowKind.WEBHOOK
        for alert in parse(row.body, tenant=tenant, source=row.source).alerts
    ] or [EpisodeRef(fingerprint="nobody", starts_at=timeline.START)]
    before = [row.id for row in mine if row.kind is RowKind.FEEDBACK] or [0]
    told = Feedback(
        action=f"act-{number}", kind=kind, episodes=tuple(heard[-1 - each % len(heard)] for each in named),
        beside=heard[-1 - beside % len(heard)] if more % 3 else None, text="because" if more % 2 else "",
        author="mia" if more % 5 else "", confirm=more % 2 == 0, undoes=f"act-{before[-1 - more % len(before)]}",
    )  # fmt: skip
    return msgspec.json.encode(told)


def _body(at: datetime, kind: RowKind, *given: Any) -> bytes:
    match kind:
        case RowKind.WEBHOOK:
            alerts = [_alert(labels, at, starts, ends) for labels, starts, ends in given[0]]
            return timeline.webhook(alerts, group=given[1])
        case RowKind.FOUND | RowKind.RECORDED | RowKind.SAMPLES:
            made = {RowKind.FOUND: _round, RowKind.RECORDED: _record, RowKind.SAMPLES: _measured}
            return made[kind](at, *given)
        case RowKind.REJECTED:
            return json.dumps({"reason": "no JSON", "body_base64": base64.b64encode(b"{").decode()}).encode()
        case RowKind.VECTORS:
            vectors = {name: base64.b64encode(vector(number)).decode() for name, number in given[0].items()}
            return json.dumps({"model": "test", "vectors": vectors}).encode()
        case RowKind.FAMILIES:
            return json.dumps({"fit": 1, "assign": given[0]}).encode()
        case RowKind.MODE:
            return json.dumps({"model_free": given[0]}).encode()
        case RowKind.SETTINGS | RowKind.TOPOLOGY | RowKind.ERASE:
            return msgspec.json.encode(given[0])
        case RowKind.LINKER | RowKind.REVIEWS | RowKind.CLOCK:
            found: Any = given[0] if given else b""
            return REVIEWS[found] if kind is RowKind.REVIEWS else found


def _round(
    at: datetime, standing: list[tuple[Any, ...]], silent: bool, began_s: float, left: dict[int, float]
) -> bytes:
    listed = {}
    for labels, starts, suppressed, stands, everywhere, told in standing:
        fingerprint = fingerprint_of(labels)
        listed[fingerprint] = Standing(
            fingerprint=fingerprint, suppressed=suppressed, stands=stands, everywhere=everywhere, ours=True,
            starts_at=timeline.START if starts is None else at + timedelta(seconds=starts),
            content=Content(labels=labels, annotations={"summary": "listed"}) if told else None,
        )  # fmt: skip
    found = Found(
        asked=2, silent=("http://am-1",) if silent else (), began_s=began_s, settled=True,
        listed=tuple(listed.values()),
        left={fingerprint_of(POOL[number]): age_s for number, age_s in left.items()},
    )  # fmt: skip
    return msgspec.json.encode(found)


def _measured(at: datetime, values: list[tuple[str, int, float]]) -> bytes:
    minute = at.timestamp() // 60
    lines = tuple(
        Line(labels={"service": service}, points=(((minute - back) * 60.0, value),))
        for service, back, value in values
    )
    return msgspec.json.encode(Samples(name="load", step_s=60.0, lines=lines))


def _record(at: datetime, events: list[tuple[Any, ...]]) -> bytes:
    return json.dumps([_event(at, *event) for event in events]).encode()


def _event(
    at: datetime, kind: str, labels: dict[str, str], starts: float | None, ends: float
) -> dict[str, Any]:
    """Return one event as the recorder sends it."""
    pairs = {"labels": [{"key": name, "value": value} for name, value in labels.items()]}
    details = {
        "fingerprint": str(int(fingerprint_of(labels), 16)), "labels": pairs,
        "startsAt": timeline.stamp(timeline.START if starts is None else at + timedelta(seconds=starts)),
        "endsAt": timeline.stamp(at + timedelta(seconds=ends)), "resolved": True,
    }  # fmt: skip
    what = {"alertResolved": {"alert": {"details": details}}, "notification": {"alerts": []}}
    return {"instance": "am-0", "data": {kind: what.get(kind, {"mutedAlert": details})}}
