"""Regrouping: episodes go from one incident to another, whoever decided it.

Rules: every episode stands in exactly one incident, in memory, in the store and in all that leads to it; both sides say
what happened. Whoever calls has found good what is done here: `refusal` says whether it can be done at all, and nothing
else is asked (who may, whether a person grouped it: `Progress.by_hand`).

Decision: one room for merges that alerts speak for, for those that a person wishes and for automatic splits. What
follows from moving an episode (pointers, index, alarms, rows, events) is the same whoever wishes it, and easily
forgotten in part.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from bridge.analysis import calling, incidents, regrouping
from bridge.analysis.entities import tokens_of
from bridge.analysis.incidents import EpisodeKey, Group
from bridge.model import EventKind, IncidentState
from bridge.pipeline.desk import Desk
from bridge.pipeline.events import Events
from bridge.pipeline.gathering import Gathering
from bridge.pipeline.state import Tenant


def refusal(source: Group, target: Group | None, leaving: Collection[EpisodeKey] | None = None) -> str:
    """Return why episodes of `source` cannot go where they should; "" if they can.

    Args:
        source: The incident that they are in.
        target: The incident that they go to; None for a new one.
        leaving: Which of them; None for all, which is a merge.
    """
    if source.head.state is IncidentState.MERGED:
        return f"{source.head.id} was merged into {source.head.merged_into} and has no episodes"
    if leaving is not None:
        missing = sum(1 for key in leaving if key not in source.episodes)
        if missing or not leaving:
            return f"{missing or 'all'} of the episodes named are not in {source.head.id}"
        if len(set(leaving)) == len(source.episodes) and target is None:
            return f"these are all episodes of {source.head.id}: a split leaves some behind"
    return "" if target is None else regrouping.why_not(source, target)


class Regrouping:
    """Merges, splits and moves."""

    def __init__(self, desk: Desk, events: Events, gathering: Gathering) -> None:
        self._desk = desk
        self._events = events
        self._gathering = gathering

    def merge(self, tenant: Tenant, older: Group, younger: Group, why: str) -> None:
        """Put all episodes of `younger` into `older`; `younger` stays, empty, and says where they are.

        Cost grows with the episodes of `younger`.

        Args:
            tenant: Whose incidents they are.
            older: The incident that goes on. Usually the older one: a person may wish otherwise.
            younger: The one that ends.
            why: Half a sentence that each episode that moves carries from here on.

        Raises:
            ValueError: `refusal` says why.
        """
        _check(refusal(younger, older))
        now = self._desk.now
        moved, kins = sorted(younger.episodes), list(younger.kin)
        severity = older.head.severity
        regrouping.merge(older, younger, now, why)
        tenant.move_to(older, [older.episodes[key] for key in moved], kins, younger.head.id)
        for key in moved:
            self._desk.keep_episode(tenant, older.episodes[key])
            self._desk.state.router.note(older, older.episodes[key])
        tenant.index.drop(younger.head.id, younger.head.opened_at)
        self._desk.forget_later(tenant, younger, now)
        self._events.due(tenant, younger, EventKind.MERGED)
        self._taken_in(tenant, older, moved, severity)

    def split(self, tenant: Tenant, group: Group, episode_keys: Sequence[EpisodeKey], why: str) -> Group:
        """Let some episodes leave for an incident of their own, and return it.

        What is split from a closed incident is closed, too. Cost grows with the incident. `group` is another object
        afterwards: ask the tenant for it.

        Raises:
            ValueError: `refusal` says why.
        """
        _check(refusal(group, None, episode_keys))
        desk = self._desk
        stays, left = regrouping.split(group, sorted(set(episode_keys)), desk.now, why)
        self._replace(tenant, group, stays)
        tenant.adopt(left)
        for key in sorted(left.episodes):
            desk.keep_episode(tenant, left.episodes[key])
            desk.state.router.note(left, left.episodes[key])
        calling.note_call(left, desk.now)  # with the event of its split people are told of what fires in it
        self._settle(tenant, left)
        self._events.due(tenant, stays, EventKind.SPLIT)
        self._events.due(tenant, left, EventKind.SPLIT)
        return left

    def move(
        self, tenant: Tenant, source: Group, target: Group, episode_keys: Sequence[EpisodeKey], why: str
    ) -> None:
        """Let episodes leave for another incident that is there already. All of them: that is a merge.

        Cost grows with `source`, which is another object afterwards: ask the tenant for it.

        Raises:
            ValueError: `refusal` says why.
        """
        _check(refusal(source, target, episode_keys))
        leaving = sorted(set(episode_keys))
        if len(leaving) == len(source.episodes):
            self.merge(tenant, target, source, why)
            return
        severity = target.head.severity
        stays = regrouping.hand_over(source, target, leaving, self._desk.now, why)
        self._replace(tenant, source, stays)
        self._point(tenant, target, leaving)
        self._events.due(tenant, stays, EventKind.UPDATED)
        self._taken_in(tenant, target, leaving, severity)

    def revive(
        self, tenant: Tenant, gone: Group, holder: Group, episode_keys: Sequence[EpisodeKey], why: str
    ) -> None:
        """Let episodes go back to `gone`, which was merged, from the incident that holds them now.

        It reopens if one of them fires: its page was resolved when it was merged. Cost grows with `holder`, which is
        another object afterwards: ask the tenant for it.

        Raises:
            ValueError: `refusal` says why not, or `gone` is not merged.
        """
        _check(refusal(holder, None, episode_keys))
        if gone.head.state is not IncidentState.MERGED:
            _check(f"{gone.head.id} is not merged")
        returning = sorted(set(episode_keys))
        stays = regrouping.take_back(gone, holder, returning, self._desk.now, why)
        self._replace(tenant, holder, stays)
        self._point(tenant, gone, returning)
        self._settle(tenant, gone)
        fires = gone.head.state is IncidentState.OPEN
        self._events.due(tenant, gone, EventKind.REOPENED if fires else EventKind.SPLIT)
        self._events.due(tenant, stays, EventKind.SPLIT)

    def unbridge(self, tenant: Tenant, incident: str) -> None:
        """Drop what spoke for merging others into an incident: a part has left, or a person grouped it."""
        for other in tenant.groups.values():
            if incident in other.progress.bridges:
                bridges = {name: count for name, count in other.progress.bridges.items() if name != incident}
                other.progress = replace(other.progress, bridges=bridges)
                self._desk.touch(tenant, other)

    def _point(self, tenant: Tenant, group: Group, arrived: Sequence[EpisodeKey]) -> None:
        """Let everything that leads to these episodes lead to the incident that they are in now."""
        for key in arrived:
            episode = group.episodes[key]
            tenant.point_to(group, episode)
            kin = incidents.kin_of(episode.template, tokens_of(episode.labels))
            if kin:
                tenant.relate(kin, group)
            self._desk.keep_episode(tenant, episode)
            self._desk.state.router.note(group, episode)

    def _replace(self, tenant: Tenant, before: Group, stays: Group) -> None:
        """Let what stays of an incident take its place, with all that leads to it."""
        tenant.leave(before)
        tenant.adopt(stays)
        self.unbridge(tenant, stays.head.id)  # it spoke for the whole
        self._settle(tenant, stays)

    def _taken_in(
        self, tenant: Tenant, group: Group, arrived: Sequence[EpisodeKey], severity_before: str
    ) -> None:
        """Let an incident say that episodes came to it, which are in it and pointed to already."""
        self._settle(tenant, group)
        is_open = group.head.state is IncidentState.OPEN
        rings = is_open and severity_before != "critical" and group.head.severity == "critical"
        self._events.due(tenant, group, EventKind.ESCALATED if rings else EventKind.UPDATED)
        if is_open:
            for key in arrived:  # a call that the other still owed
                self._events.call(tenant, group, group.episodes[key])

    def _settle(self, tenant: Tenant, group: Group) -> None:
        """Let an incident be found by what it holds now, close when it is time, and be forgotten."""
        self._gathering.show(tenant, group)
        if group.head.state is IncidentState.QUIET:
            self._gathering.arm_close(tenant, group)
        elif group.head.state is IncidentState.CLOSED:
            self._gathering.settle_over(tenant, group)


def _check(why_not: str) -> None:
    if why_not:
        raise ValueError(why_not)
