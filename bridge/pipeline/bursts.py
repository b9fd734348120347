"""Bursts: into which incident time alone puts an alert.

Rules: an alert goes where the newest of its cluster went, unless it is part of a surge, which founds an incident, or
nothing came for a while: then the alert itself must say where it belongs (`gathering`).

Decision: what an alert is about is asked only after a silence. In a stream without one, what fires again or names the
same thing is as often hit by the next fault as by the last, and sending it home draws the next fault's alerts with it.

Decision: all is judged by when alerts began, not by when they were told of. What joins a group of Alertmanager's is
told with its next message, so that of two alerts of one second one may come half a minute later. A surge that was
looked for in the order of messages was found late, and what had been told in between led the others astray: on a
recorded stream with two minutes from fault to fault agreement (ARI) fell from 0.55 to 0.34.

Decision: what fires again after a silence goes home, and comes along as soon as something else shows that this is not
its flapping. Leaving it out, or leaving it there, cost a fifth of the agreement on a recorded stream; founding an
incident each time it flaps would be noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from bridge.analysis.bursts import BEFORE_S, SURGE_REST_S, SURGE_S
from bridge.analysis.clustering import LIVELY
from bridge.analysis.incidents import EpisodeKey, Group
from bridge.model import FOUNDED, Episode
from bridge.pipeline.arrivals import Arrivals, Arrived, arrived_s, counted
from bridge.pipeline.desk import Desk
from bridge.pipeline.state import Tenant

#: Alerts of one moment whose incidents are looked at: the cost per alert must not grow with a storm.
MOST_ALIKE = 20


class Timed(NamedTuple):
    """Where time puts an alert. `group` None: a new incident, if it `founds` one; else time does not say."""

    group: Group | None = None
    why: str = FOUNDED
    began_s: float | None = None  # what it founds began then, epoch s; None: it founds nothing
    along: tuple[EpisodeKey, ...] = ()  # what should come to the incident that it founds


class _Stretch(NamedTuple):
    """What came in a cluster since its last silence."""

    group: Group  # of the newest alert
    newest_s: float
    again: tuple[EpisodeKey, ...]  # all of it, the oldest first, if nothing but that fired again where it was


def choose(desk: Desk, tenant: Tenant, episode: Episode) -> Timed:
    """Return the incident that was going on in its cluster when an alert began."""
    if tenant.had(episode):
        episode = replace(episode, starts_at=desk.now)  # as it will be counted
    arrivals = arrivals_of(desk, tenant)
    stretch = _stretch(tenant, arrivals.back_from(episode))
    if stretch is None:
        return Timed()
    group, now_s = stretch.group, arrived_s(episode)
    if not stretch.again:
        group = _youngest(tenant, arrivals.back_from(episode)) or group
    lag_s = max(0.0, now_s - stretch.newest_s)
    surge = arrivals.surge_of(episode)
    if surge is not None and _rested(group, surge.ends):
        surging = _surging(tenant, arrivals.back_from(episode, surge.ends), surge.ends)
        if surging is not None:
            return Timed(surging, f"{lag_s:.0f} s after the newest alert, in the same surge")
        later = (key for key in arrivals.since(episode, surge) if tenant.holder_of(key) is group)
        along = tuple(dict.fromkeys((*stretch.again, *arrivals.fellows(episode, surge), *later)))
        told = f"{surge.recent} alerts in {SURGE_S:.0f} s after {surge.before} in the {BEFORE_S:.0f} s before"
        return Timed(why=f"{FOUNDED}: {told}", began_s=float(surge.ends), along=along)
    if stretch.again:
        if tenant.home_of((episode.source, episode.fingerprint)) is group:
            return Timed()
        told = f"{lag_s:.0f} s after an alert that fires again"
        return Timed(why=f"{FOUNDED}: {told}", began_s=now_s, along=stretch.again)
    return Timed(group, f"{lag_s:.0f} s after the newest alert, without a surge in between")


def _youngest(tenant: Tenant, before: Iterable[Arrived]) -> Group | None:
    """Return the youngest incident among those of the newest moment.

    What came with a surge and may not leave (`surges`) is in an older one, which the surge has ended.
    """
    newest = list(islice(before, MOST_ALIKE))
    held = [tenant.holder_of(key) for at_s, key in newest if at_s == newest[0][0]]
    lively = [group for group in held if group is not None and group.head.state in LIVELY]
    return max(lively, key=lambda group: (_began_s(group), group.head.id), default=None)


def _began_s(group: Group) -> float:
    return group.progress.began_s or group.head.opened_at.timestamp()


def _rested(group: Group, now_s: float) -> bool:
    return now_s - _began_s(group) >= SURGE_REST_S


def _surging(tenant: Tenant, before: Iterable[Arrived], now_s: float) -> Group | None:
    """Return the incident that this surge has founded already, None if none.

    The newest alert may be in an older one: it came with the surge and may not leave (`surges`).
    """
    held = (tenant.holder_of(key) for at_s, key in before if now_s - at_s < SURGE_S)
    return next((group for group in held if group is not None and _takes(group, now_s)), None)


def _takes(group: Group, now_s: float) -> bool:
    return group.head.state in LIVELY and not _rested(group, now_s)


def _stretch(tenant: Tenant, before: Iterable[Arrived]) -> _Stretch | None:
    """Return what came since a silence; `before` begins with the newest. None if nothing did.

    What fires again where it was, and nothing else since a silence, is no sign of anything: the one that flaps all
    night would draw in whatever comes.
    """
    again: list[EpisodeKey] = []
    newest: tuple[Group, float] | None = None
    for at_s, key in before:
        group = tenant.holder_of(key)
        if group is None or group.head.state not in LIVELY:
            break
        newest = newest or (group, at_s)
        if group.alerts[key[:2]].first == key:
            again.clear()
            break
        again.append(key)
    return None if newest is None else _Stretch(*newest, tuple(reversed(again)))


def arrivals_of(desk: Desk, tenant: Tenant) -> Arrivals:
    """Return a tenant's arrivals, counted anew after a restart."""
    if tenant.arrivals is None:
        tenant.arrivals = counted(
            (
                episode
                for group in tenant.groups.values()
                if group.head.origin == "alerts"
                for episode in group.episodes.values()
            ),
            desk.now,
        )
    return tenant.arrivals
