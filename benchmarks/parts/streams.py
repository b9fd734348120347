"""Alert streams whose truth is known, and how an Alertmanager would send them.

A `Firing` is one uninterrupted firing of one alert with the incident that it truly belongs to. A `Stream` is a
history of them, the moment from which on it is reported, and what is known of the topology. `webhooks` plays
Alertmanager over it: what Tocsin is given is bytes, as in operation.

What is scored are *items*: an alert that fires again under the same incident within `AGAIN_S` of its last end is one
item, its first firing. A flapping alert would otherwise add thousands of pairs that nobody can get wrong.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from bridge.webhooks.alertmanager import fingerprint_of

SOURCE = "default"
AGAIN_S = 1800.0
NEVER = "0001-01-01T00:00:00Z"
#: As config/alertmanager/alertmanager.yml asks Alertmanager to send.
GROUP_BY = ("alertname", "cluster")
GROUP_WAIT_S, GROUP_INTERVAL_S, REPEAT_INTERVAL_S = 5.0, 30.0, 3600.0
#: From the flush of a group to the row in the inbox.
ON_THE_WAY_S = 0.2

Key = tuple[str, str, datetime]  # source, fingerprint, starts_at: an episode's identity within its tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """One uninterrupted firing of one alert."""

    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    incident: str
    noise: bool = False
    root: bool = False  # the fault itself, no consequence of it

    @property
    def fingerprint(self) -> str:
        """As Alertmanager computes it."""
        return _fingerprint(tuple(sorted(self.labels.items())))

    @property
    def key(self) -> Key:
        """The identity of the episode that Tocsin makes of it."""
        return (SOURCE, self.fingerprint, self.starts_at)

    @property
    def critical(self) -> bool:
        """Whether it calls people."""
        return self.labels.get("severity") == "critical"


@lru_cache(maxsize=1 << 16)
def _fingerprint(labels: tuple[tuple[str, str], ...]) -> str:
    return fingerprint_of(dict(labels))


@dataclass(slots=True, kw_only=True)
class Stream:
    """A history with its truth."""

    name: str
    firings: list[Firing]  # by start, then fingerprint
    split_at: datetime  # incidents that begin from here on are reported, the others may teach
    topology: list[dict[str, object]] = field(default_factory=list)  # `services:` of a topology file
    root_entity: dict[str, str] = field(default_factory=dict)  # incident -> what was broken first
    again_s: float = AGAIN_S  # see `first_of_each`
    #: Of recorded alerts that were condensed: the rows of each episode by their incidents.
    rows: dict[Key, list[str]] = field(default_factory=dict)
    on_grid: bool = False  # its incidents begin at equal distances

    def __post_init__(self) -> None:
        self.firings.sort(key=lambda firing: (firing.starts_at, firing.fingerprint))

    def items(self, *, reported: bool) -> list[Firing]:
        """Return what is scored: of the incidents that begin in the reported part, or of those before it."""
        began: dict[str, datetime] = {}
        for firing in self.firings:
            began.setdefault(firing.incident, firing.starts_at)
        return [
            firing
            for firing in first_of_each(self.firings, self.again_s)
            if (began[firing.incident] >= self.split_at) is reported
        ]


def first_of_each(firings: Iterable[Firing], again_s: float = AGAIN_S) -> list[Firing]:
    """Return the firings that are not merely an alert's return, within `again_s`, under the same incident.

    `firings` are by start; with `again_s` below 0 all are returned.
    """
    until: dict[tuple[str, str], datetime] = {}
    firsts = []
    for firing in firings:
        name = (firing.fingerprint, firing.incident)
        if name not in until or firing.starts_at > until[name] + timedelta(seconds=again_s):
            firsts.append(firing)
        until[name] = max(firing.ends_at, until.get(name, firing.ends_at))
    return firsts


# ---- Alertmanager --------------------------------------------------------------------------------------


def webhooks(
    firings: Sequence[Firing],
    *,
    group_by: tuple[str, ...] = GROUP_BY,
    group_wait_s: float = GROUP_WAIT_S,
    group_interval_s: float = GROUP_INTERVAL_S,
) -> list[tuple[datetime, bytes]]:
    """Return (received_at, body) of the webhooks for these firings, in order.

    A group is told `group_wait_s` after its first alert and then every `group_interval_s` if something changed, or
    after the repeat interval; a notification names all that fires in the group and what ended since the last one.
    Between two firings of one alert there must be more than `group_interval_s`, or the first is never told.
    """
    groups: dict[str, list[Firing]] = {}
    for firing in firings:
        labels = ", ".join(
            f'{name}="{firing.labels[name]}"' for name in sorted(group_by) if name in firing.labels
        )
        groups.setdefault(f"{{}}:{{{labels}}}", []).append(firing)
    told = [
        _notifications(key, members, group_wait_s, group_interval_s)
        for key, members in sorted(groups.items())
    ]
    return [(at, body) for at, _, body in heapq.merge(*told)]


def _notifications(
    key: str, members: list[Firing], wait_s: float, interval_s: float
) -> list[tuple[datetime, str, bytes]]:
    """Return (received_at, group, body) of one group. `members` are by start."""
    way, step = timedelta(seconds=ON_THE_WAY_S), timedelta(seconds=interval_s)
    found = []
    waiting = 0
    present: list[Firing] = []
    flush = said_at = datetime.min.replace(tzinfo=UTC)
    while waiting < len(members) or present:
        if not present:
            flush = members[waiting].starts_at + timedelta(seconds=wait_s)
        changed = False
        while waiting < len(members) and members[waiting].starts_at <= flush:
            present.append(members[waiting])
            waiting += 1
            changed = True
        changed = changed or any(firing.ends_at <= flush for firing in present)
        if changed or flush - said_at >= timedelta(seconds=REPEAT_INTERVAL_S):
            found.append((flush + way, key, _body(key, present, flush)))
            said_at = flush
            present = [firing for firing in present if firing.ends_at > flush]
        flush += step
    return found


def _body(key: str, present: list[Firing], at: datetime) -> bytes:
    alerts = [
        {
            "status": "resolved" if firing.ends_at <= at else "firing",
            "labels": firing.labels, "annotations": firing.annotations,
            "startsAt": _written(firing.starts_at),
            "endsAt": _written(firing.ends_at) if firing.ends_at <= at else NEVER,
            "generatorURL": "http://prometheus.example:9090/graph?g0.expr=up", "fingerprint": firing.fingerprint,
        }
        for firing in present
    ]  # fmt: skip
    status = "firing" if any(alert["status"] == "firing" for alert in alerts) else "resolved"
    body = {
        "version": "4", "groupKey": key, "receiver": "tocsin", "status": status, "truncatedAlerts": 0,
        "externalURL": "http://alertmanager.example:9093", "alerts": alerts,
    }  # fmt: skip
    return json.dumps(body, separators=(",", ":")).encode()


def _written(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
