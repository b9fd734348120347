"""The storm that `tocsin demo` plays: a database node fails, and everything that needs it complains.

Rules: pure; the same beginning gives the same calls. The bodies are what Alertmanager would send for such a
storm: groups by alert name and service, a `group_wait` before the first notification, the whole group again
at every change, a second Alertmanager that now and then says the same, and at the end the resolves.

Before it come three ordinary days, as a recording: what is unusual is so only beside what is usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec

from bridge.model import Word
from bridge.webhooks.alertmanager import fingerprint_of

#: Seconds of a group's life in this fast Alertmanager (30 s and 5 min are usual).
GROUP_WAIT_S = 0.4
GROUP_INTERVAL_S = 3.0
#: The second Alertmanager repeats every so many calls of the first, this much later.
PEER_EVERY, PEER_LAG_S = 4, 0.5
FAILS_AT_S = 0.8
SERVICES_AT_S, SERVICE_EVERY_S = 4.0, 3.6
#: An incident says what is new at most every 30 s, so the storm lasts until that was seen once.
REPAIRED_AT_S = 32.5
END_S = 38.0
PEERS = ("http://alertmanager-0:9093", "http://alertmanager-1:9093")
SERVICES = ("checkout", "orders", "payments", "catalog", "search", "sessions")
PODS = ("5c9d7fbb4d-x2x8k", "5c9d7fbb4d-q7rtz", "5c9d7fbb4d-m4nfb", "5c9d7fbb4d-w9hjd", "5c9d7fbb4d-b6vls")
#: The days before: a small incident so often, each over so soon.
PAST_DAYS, PAST_EVERY_S, PAST_LASTS_S = 3, 5_400, 240
PAST = (
    ("BackupLate", {"namespace": "office", "service": "backup", "severity": "warning"}),
    ("QueueGrows", {"namespace": "blog", "service": "mailer", "severity": "warning"}),
    ("JobFailed", {"namespace": "ci", "service": "runner", "severity": "info"}),
    ("HighLatency", {"namespace": "blog", "service": "web", "severity": "warning"}),
)
_NEVER = "0001-01-01T00:00:00Z"

#: What is told to the audience, and when.
SCENES: tuple[tuple[float, str], ...] = (
    (0.0, "Something small, in another cluster: a blog's certificate runs out in two weeks."),
    (FAILS_AT_S, "The disk of the database node db-3 fails. That is critical, so it is told at once:"),
    (
        SERVICES_AT_S,
        """Six services of the shop lose their database, every pod complains, and a second Alertmanager
says it all again. It is still the same incident, so nobody is woken twice.""",
    ),
    (27.0, "An incident says what is new every 30 s at most: here it comes."),
    (REPAIRED_AT_S, "db-3 is repaired. The resolves come in; after the last one the incident closes."),
)


class Alarm(Word, frozen=True, kw_only=True):
    """One alert of the storm; times are seconds from its beginning."""

    labels: dict[str, str]
    summary: str
    fires_s: float
    ends_s: float | None  # None: it goes on


class Call(Word, frozen=True, kw_only=True):
    """One POST as an Alertmanager makes it."""

    at_s: float
    group: str  # for people: the alert's name and the service
    peer: str  # the Alertmanager that calls
    body: bytes
    firing: int
    resolved: int
    fingerprints: tuple[str, ...]


def alarms() -> tuple[Alarm, ...]:
    """Return every alert of the storm."""
    return tuple(_alarms())


def calls(start: datetime) -> tuple[Call, ...]:
    """Return the calls of both Alertmanagers in order.

    `start` is when the first alert fires; `at_s` counts from there.
    """
    groups: dict[tuple[str, str], list[Alarm]] = {}
    for alarm in alarms():
        key = (alarm.labels["alertname"], alarm.labels.get("service", ""))
        groups.setdefault(key, []).append(alarm)
    first = sorted(
        (call for members in groups.values() for call in _group_calls(members, start)),
        key=lambda call: (call.at_s, call.group),
    )
    again = [_by_the_peer(call) for call in first[::PEER_EVERY]]
    return tuple(sorted((*first, *again), key=lambda call: (call.at_s, call.group, call.peer)))


def past(until: datetime) -> Iterator[bytes]:
    """Give the days before `until` as the lines of a recording."""
    for number in range(PAST_DAYS * 86_400 // PAST_EVERY_S):
        name, labels = PAST[number * 7 % len(PAST)]
        begin = until - timedelta(days=PAST_DAYS) + timedelta(seconds=PAST_EVERY_S * number)
        alarm = Alarm(
            labels=dict(sorted({"alertname": name, "cluster": "eu-1", **labels}.items())),
            summary=f"{name} of {labels['service']}", fires_s=0.0, ends_s=PAST_LASTS_S,
        )  # fmt: skip
        for at_s in (0.0, PAST_LASTS_S):
            call = _call([alarm], at_s, begin, PEERS[0])
            line = {"received_at": begin + timedelta(seconds=at_s), "body": msgspec.Raw(call.body.strip())}
            yield msgspec.json.encode(line) + b"\n"


def _alarms() -> Iterator[Alarm]:
    yield _alarm("CertificateExpiresSoon", 0.0, None, "warning",
                 "the certificate of blog.example.com ends in 14 days",
                 cluster="web-1", namespace="blog", instance="web-9:443", team="marketing")  # fmt: skip
    node = {"instance": "db-3:9100", "node": "db-3", "namespace": "shop", "team": "platform"}
    at, end = FAILS_AT_S, REPAIRED_AT_S
    yield _alarm("NodeDiskIOErrors", at, end - 0.4, "critical", "db-3: I/O errors on /dev/nvme1n1", **node)
    yield _alarm(
        "NodeFilesystemReadOnly",
        at + 0.3,
        end - 0.3,
        "critical",
        "db-3: /var/lib/postgresql is read-only",
        **node,
    )
    database = {"database": "shop", "namespace": "shop", "service": "postgres", "node": "db-3"}
    yield _alarm(
        "PostgresDown",
        at + 0.6,
        end,
        "critical",
        "PostgreSQL of the shop on db-3 does not answer",
        **database,
    )
    yield _alarm(
        "PostgresReplicationBroken", at + 1.0, end + 0.5, "critical", "no WAL from db-3 for 30 s", **database
    )
    for number, service in enumerate(SERVICES):
        yield from _service_alarms(service, SERVICES_AT_S + number * SERVICE_EVERY_S, end + number * 0.2)


def _service_alarms(service: str, at_s: float, repaired_s: float) -> Iterator[Alarm]:
    """Return what one service of five pods says when its database is gone."""
    base = {"service": service, "namespace": "shop", "database": "shop", "team": service}
    for number, suffix in enumerate(PODS):
        pod = {**base, "pod": f"{service}-{suffix}"}
        at = at_s + number * 0.15
        yield _alarm("DatabaseConnectionsFailing", at, repaired_s, "warning",
                     f"{service}-{suffix}: 0 of 20 connections to shop are usable", **pod)  # fmt: skip
        yield _alarm("PodNotReady", at + 1.2, repaired_s + 1.0, "warning",
                     f"{service}-{suffix} has not been ready for 30 s", **pod)  # fmt: skip
    yield _alarm("HighErrorRate", at_s + 0.8, repaired_s + 0.6, "critical",
                 f"{service}: {35 + len(service) * 4} % of requests fail", **base)  # fmt: skip
    yield _alarm("HighLatency", at_s + 1.0, repaired_s + 0.8, "warning",
                 f"{service}: p99 latency is {len(service)}.4 s", **base)  # fmt: skip


def _alarm(
    name: str, fires_s: float, ends_s: float | None, severity: str, summary: str, **labels: str
) -> Alarm:
    told = {"alertname": name, "severity": severity, "cluster": "eu-1", **labels}
    return Alarm(labels=dict(sorted(told.items())), summary=summary, fires_s=fires_s, ends_s=ends_s)


def _group_calls(members: list[Alarm], start: datetime) -> Iterator[Call]:
    """Return a group's notifications: after `GROUP_WAIT_S`, then at each interval in which it changed."""
    said: dict[str, bool] = {}
    at_s = min(alarm.fires_s for alarm in members) + GROUP_WAIT_S
    while at_s < END_S:
        known = [alarm for alarm in members if alarm.fires_s <= at_s]
        # What has ended and was told to have ended is no longer sent.
        sent = [alarm for alarm in known if _is_firing(alarm, at_s) or said.get(alarm.summary, True)]
        news = {alarm.summary: _is_firing(alarm, at_s) for alarm in known}
        if sent and news != said:
            yield _call(sent, at_s, start, PEERS[0])
            said = news
        at_s += GROUP_INTERVAL_S


def _is_firing(alarm: Alarm, at_s: float) -> bool:
    return alarm.ends_s is None or at_s < alarm.ends_s


def _call(sent: list[Alarm], at_s: float, start: datetime, peer: str) -> Call:
    name, service = sent[0].labels["alertname"], sent[0].labels.get("service", "")
    group = {"alertname": name} | ({"service": service} if service else {})
    alerts = [_alert(alarm, at_s, start) for alarm in sent]
    firing = sum(each["status"] == "firing" for each in alerts)
    body = {
        "receiver": "tocsin",
        "status": "firing" if firing else "resolved",
        "alerts": alerts,
        "groupLabels": group,
        "commonLabels": _common(alarm.labels for alarm in sent),
        "commonAnnotations": _common([{"summary": alarm.summary} for alarm in sent]),
        "externalURL": peer,
        "version": "4",
        "groupKey": "{}:{" + ", ".join(f'{key}="{value}"' for key, value in group.items()) + "}",
        "truncatedAlerts": 0,
    }
    return Call(
        at_s=at_s, group=f"{name} {service}".strip(), peer=peer, body=msgspec.json.encode(body) + b"\n",
        firing=firing, resolved=len(alerts) - firing,
        fingerprints=tuple(fingerprint_of(alarm.labels) for alarm in sent),
    )  # fmt: skip


def _alert(alarm: Alarm, at_s: float, start: datetime) -> dict[str, object]:
    is_firing = _is_firing(alarm, at_s)
    return {
        "status": "firing" if is_firing else "resolved",
        "labels": alarm.labels,
        "annotations": {"summary": alarm.summary},
        "startsAt": start + timedelta(seconds=alarm.fires_s),
        "endsAt": _NEVER if is_firing else start + timedelta(seconds=alarm.ends_s or 0.0),
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": fingerprint_of(alarm.labels),
    }


def _common(sets: Iterable[Mapping[str, str]]) -> dict[str, str]:
    every = list(sets)
    return {key: value for key, value in every[0].items() if all(each.get(key) == value for each in every)}


def _by_the_peer(call: Call) -> Call:
    body = call.body.replace(PEERS[0].encode(), PEERS[1].encode())
    return msgspec.structs.replace(call, at_s=call.at_s + PEER_LAG_S, peer=PEERS[1], body=body)
