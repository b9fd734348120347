"""Heartbeats: alerts that must keep firing, kept out of grouping; their absence is an incident of its own.

Rules: a heartbeat that Alertmanager calls resolved is not missing yet; the absence itself tells. It is missing
when it was not heard for `missing_after_s`, or for half as long again as the longest gap that is ordinary for it:
a gap counts as ordinary once two in a row were that long, so a slow `repeat_interval` stops raising false alarms,
and one outage does not make Tocsin deaf to the next. The copies of an HA pair are one beat. A heartbeat that fell
silent as another of its name and source began was relabelled, and is not missed; one that is missed for a week is
given up.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from bridge.analysis import entities, linking
from bridge.analysis.clustering import Newcomer
from bridge.analysis.families import own_family
from bridge.analysis.incidents import AlertKey
from bridge.analysis.matchers import Matcher, all_hold, parse
from bridge.model import Alert, Episode
from bridge.pipeline.alerts import Alerts
from bridge.pipeline.desk import Desk
from bridge.pipeline.gathering import Gathering
from bridge.pipeline.state import Beat, Tenant

MISSING = "Missing"  # WatchdogMissing: the alert of a heartbeat's absence
#: A beat is late only after this many of the longest ordinary gaps.
PATIENCE = 1.5
#: What is left of the longest ordinary gap at each beat.
FADE = 0.9
#: Beats closer together than this share of `missing_after` are one, told by two Alertmanagers.
ONE_BEAT = 0.05
GIVEN_UP_AFTER_S = 7 * 86400.0


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
        if alert.firing:
            self._beat(tenant, alert, missing_after_s)
        return True

    def expects(self, labels: dict[str, str]) -> bool:
        """Say whether an alert with these labels is a heartbeat."""
        return self._missing_after_s(labels) is not None

    def _missing_after_s(self, labels: dict[str, str]) -> float | None:
        for matchers, missing_after_s in self._expected:
            if all_hold(matchers, labels):
                return missing_after_s
        return None

    def _beat(self, tenant: Tenant, alert: Alert, missing_after_s: float) -> None:
        key = (alert.source, alert.fingerprint)
        before = tenant.beats.get(key)
        now = self._desk.now
        gap_s = ordinary_s = 0.0
        if before is not None:
            gap_s, ordinary_s = before.last_gap_s, before.longest_gap_s
            since_s = (now - before.heard_at).total_seconds()
            if since_s >= ONE_BEAT * missing_after_s:
                ordinary_s = max(ordinary_s * FADE, min(since_s, gap_s))
                gap_s = since_s
        heard = Beat(
            labels=alert.labels, annotations=alert.annotations, first_at=before.first_at if before else now,
            heard_at=now, missing_after_s=missing_after_s, longest_gap_s=ordinary_s, last_gap_s=gap_s,
        )  # fmt: skip
        self._keep(tenant, key, heard)
        if before is not None and before.missing:
            self._gathering.end(tenant, key, self._desk.now)

    def _keep(self, tenant: Tenant, key: AlertKey, beat: Beat) -> None:
        tenant.beats[key] = self._desk.out.beats[tenant.name, key[0], key[1]] = beat
        self._desk.arm(tenant, "beat", key, self._due(beat))

    def _drop(self, tenant: Tenant, key: AlertKey, *, given_up: bool = False) -> None:
        """Expect a heartbeat no longer; the incident of its absence ends."""
        beat = tenant.beats.pop(key)
        self._desk.out.beats[tenant.name, key[0], key[1]] = None
        if beat.missing:
            self._gathering.end(tenant, key, self._desk.now, expired=given_up)

    def renew(self, tenant: Tenant, alerts: Alerts) -> None:
        """Let new settings decide what is a heartbeat: some are none any more, some alerts have become one."""
        for key, beat in sorted(tenant.beats.items()):
            missing_after_s = self._missing_after_s(beat.labels)
            if missing_after_s is not None:
                self._keep(tenant, key, replace(beat, missing_after_s=missing_after_s))
                continue
            self._drop(tenant, key)
        for key, (incident, episode) in sorted(tenant.firing.items()):
            group = tenant.groups[incident]
            labels = group.episodes[episode].labels
            if group.head.origin != "heartbeat" and self._missing_after_s(labels) is not None:
                alerts.drop(tenant, key)
        for key, watch in sorted(tenant.watches.items()):  # one in doubt would be opened when that is settled
            if watch.disputed_alert is not None and self.expects(watch.disputed_alert.labels):
                alerts.drop(tenant, key)

    # ---- alarms --------------------------------------------------------------------------------------------

    def late(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Open an incident if a heartbeat is missing; give up one that has been missing for too long."""
        alert_key = (key[0], key[1])
        beat = tenant.beats.get(alert_key)
        if beat is None:
            return
        if self._desk.now < self._due(beat):
            self._desk.arm(tenant, "beat", key, self._due(beat))
        elif beat.missing or self._is_replaced(tenant, alert_key, beat):
            self._drop(tenant, alert_key, given_up=True)
        else:
            self._keep(tenant, alert_key, replace(beat, missing=True))
            self._open(tenant, alert_key, beat)

    def _is_replaced(self, tenant: Tenant, key: AlertKey, beat: Beat) -> bool:
        """Say whether another heartbeat of the same name and source began as this one fell silent."""
        name = beat.labels.get("alertname")
        return any(
            other.first_at > beat.heard_at and not other.missing and other.labels.get("alertname") == name
            for (source, fingerprint), other in tenant.beats.items()
            if source == key[0] and fingerprint != key[1]
        )

    def rearm(self, tenant: Tenant) -> None:
        """Arm the time by which each heartbeat must be heard."""
        for key, beat in tenant.beats.items():
            self._desk.arm(tenant, "beat", key, self._due(beat))

    def _due(self, beat: Beat) -> datetime:
        """Return when a heartbeat is missing, or, if it is, when it is given up."""
        heard_at = max(beat.heard_at, self._desk.state.common.resumed_at)
        if beat.missing:
            return heard_at + timedelta(seconds=GIVEN_UP_AFTER_S)
        return heard_at + timedelta(seconds=max(beat.missing_after_s, PATIENCE * beat.longest_gap_s))

    def _open(self, tenant: Tenant, key: AlertKey, beat: Beat) -> None:
        now = self._desk.now
        name = beat.labels.get("alertname", "heartbeat")
        labels = {**beat.labels, "alertname": f"{name}{MISSING}", "heartbeat": name, "severity": "critical"}
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
            tokens=entities.tokens_of(labels), origin="heartbeat", template=template, at=now, group="",
            family=linking.family_token(own_family(template)),
        )  # fmt: skip
        self._gathering.found(tenant, episode, newcomer)
        self._desk.learn(tenant, template)


def _summary(name: str, silence_s: float) -> str:
    return (
        f"{name} was not heard for {silence_s / 60:.0f} min. Its Prometheus, its Alertmanager or the way to "
        f"Tocsin is down, or the route's repeat_interval is longer than missing_after."
    )
