"""Heartbeats: alerts that must keep firing, kept out of grouping; their absence is an incident of its own.

Rules: a heartbeat that Alertmanager calls resolved is not missing yet; the absence itself tells. It is missing
when it was not heard for `missing_after_s`, or for half as long again as the longest gap that is ordinary for it:
a gap counts as ordinary once two in a row were that long, so a slow `repeat_interval` stops raising false alarms,
and one outage does not make Tocsin deaf to the next.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from bridge.analysis import linking
from bridge.analysis.clustering import Newcomer
from bridge.analysis.families import own_family
from bridge.analysis.matchers import Matcher, all_hold, parse
from bridge.model import Alert, Episode
from bridge.pipeline.alerts import Alerts
from bridge.pipeline.desk import Desk
from bridge.pipeline.gathering import Gathering
from bridge.pipeline.state import AlertKey, Beat, Tenant

HEARTBEAT_ALERT = "HeartbeatMissing"
#: A beat is late only after this many of the longest ordinary gaps.
PATIENCE = 1.5
#: What is left of the longest ordinary gap at each beat.
FADE = 0.9


class Heartbeats:
    """Hears heartbeats, and their absence."""

    def __init__(self, desk: Desk, gathering: Gathering) -> None:
        self._desk = desk
        self._gathering = gathering
        self._expected: list[tuple[tuple[Matcher, ...], float]] = []
        self.settle_in()

    def settle_in(self) -> None:
        """Work out what follows from the settings in force."""
        self._expected = [
            (tuple(parse(text) for text in beat.match), beat.missing_after_s)
            for beat in self._desk.settings.heartbeats
        ]

    def hear(self, tenant: Tenant, alert: Alert) -> bool:
        """Take the alert in if it is a heartbeat; say whether it is one."""
        missing_after_s = self._missing_after_s(alert.labels)
        if missing_after_s is None:
            return False
        self._desk.out.count("heartbeats")
        if alert.firing:
            self._beat(tenant, alert, missing_after_s)
        return True

    def _missing_after_s(self, labels: dict[str, str]) -> float | None:
        for matchers, missing_after_s in self._expected:
            if all_hold(matchers, labels):
                return missing_after_s
        return None

    def _beat(self, tenant: Tenant, alert: Alert, missing_after_s: float) -> None:
        key = (alert.source, alert.fingerprint)
        before = tenant.beats.get(key)
        gap_s = ordinary_s = 0.0
        if before is not None:
            gap_s = (self._desk.now - before.heard_at).total_seconds()
            ordinary_s = max(before.longest_gap_s * FADE, min(gap_s, before.last_gap_s))
        heard = Beat(
            labels=alert.labels, annotations=alert.annotations, heard_at=self._desk.now,
            missing_after_s=missing_after_s, longest_gap_s=ordinary_s, last_gap_s=gap_s,
        )  # fmt: skip
        self._keep(tenant, key, heard)
        if before is not None and before.missing:
            self._gathering.end(tenant, key, self._desk.now)

    def _keep(self, tenant: Tenant, key: AlertKey, beat: Beat) -> None:
        tenant.beats[key] = self._desk.out.beats[tenant.name, key[0], key[1]] = beat
        if not beat.missing:
            self._desk.arm(tenant, "beat", key, _due(beat))

    def renew(self, tenant: Tenant, alerts: Alerts) -> None:
        """Let new settings decide what is a heartbeat: some are none any more, some alerts have become one."""
        for key, beat in sorted(tenant.beats.items()):
            missing_after_s = self._missing_after_s(beat.labels)
            if missing_after_s is not None:
                self._keep(tenant, key, replace(beat, missing_after_s=missing_after_s))
                continue
            del tenant.beats[key]
            self._desk.out.beats[tenant.name, key[0], key[1]] = None
            if beat.missing:
                self._gathering.end(tenant, key, self._desk.now)
        for key, (incident, episode) in sorted(tenant.firing.items()):
            group = tenant.groups[incident]
            labels = group.episodes[episode].labels
            if group.head.origin != "heartbeat" and self._missing_after_s(labels) is not None:
                alerts.drop(tenant, key)

    # ---- alarms --------------------------------------------------------------------------------------------

    def late(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Open an incident if a heartbeat is missing."""
        alert_key = (key[0], key[1])
        beat = tenant.beats.get(alert_key)
        if beat is None or beat.missing:
            return
        if self._desk.now < _due(beat):
            self._desk.arm(tenant, "beat", key, _due(beat))
            return
        self._keep(tenant, alert_key, replace(beat, missing=True))
        self._open(tenant, alert_key, beat)

    def rearm(self, tenant: Tenant) -> None:
        """Arm the time by which each heartbeat must be heard."""
        for key, beat in tenant.beats.items():
            if not beat.missing:
                self._desk.arm(tenant, "beat", key, _due(beat))

    def _open(self, tenant: Tenant, key: AlertKey, beat: Beat) -> None:
        now = self._desk.now
        name = beat.labels.get("alertname", "heartbeat")
        labels = {**beat.labels, "alertname": HEARTBEAT_ALERT, "heartbeat": name, "severity": "critical"}
        annotations = {**beat.annotations, "summary": _summary(name, (now - beat.heard_at).total_seconds())}
        alert = Alert(
            tenant=tenant.name, source=key[0], fingerprint=key[1], labels=labels, annotations=annotations,
            firing=True, starts_at=now, ends_at=None,
        )  # fmt: skip
        template = self._desk.template_of(tenant, alert)
        episode = Episode(
            tenant=tenant.name, source=key[0], fingerprint=key[1], starts_at=now, ends_at=None, seen_at=now,
            labels=labels, annotations=annotations, generator_url="", group_key="", severity="critical",
            template=template, incident="", why=f"{name} was last heard {beat.heard_at:%H:%M:%S} UTC",
        )  # fmt: skip
        newcomer = Newcomer(
            tokens=linking.tokens_of(labels), origin="heartbeat", template=template, at=now, group="",
            family=linking.family_token(own_family(template)),
        )  # fmt: skip
        self._gathering.found(tenant, episode, newcomer)


def _summary(name: str, silence_s: float) -> str:
    return (
        f"{name} was not heard for {silence_s / 60:.0f} min. Its Prometheus, its Alertmanager or the way to "
        f"Tocsin is down, or the route's repeat_interval is longer than missing_after."
    )


def _due(beat: Beat) -> datetime:
    return beat.heard_at + timedelta(seconds=max(beat.missing_after_s, PATIENCE * beat.longest_gap_s))
