"""Regrouping: what becomes of two incidents when episodes move between them.

Rules: an episode stands in exactly one incident. What leaves never leaves nothing behind: moving all of an incident's
episodes is a merge. An open incident is never put into a closed one, so nothing that fires disappears from sight.
What people were told stays with what stays; whoever takes episodes in knows of it, too.

Decision: what stays after a split is counted anew from its episodes, not counted down. It costs as much as the incident
is large, and it cannot differ from what is counted when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec.structs import replace

from bridge.analysis.incidents import (
    EpisodeKey,
    Group,
    Progress,
    Signal,
    incident_id,
    raised,
    rendered,
    worst,
)
from bridge.analysis.ranking import importance
from bridge.model import SEVERITY_RANK, CausalGraph, Episode, IncidentState


def why_not(source: Group, target: Group) -> str:
    """Return why nothing of `source` can be put into `target`; "" if it can."""
    if source is target:
        return "an incident cannot be put into itself"
    if IncidentState.MERGED in {source.head.state, target.head.state}:
        return "a merged incident has no episodes: say which one it was merged into"
    if source.head.origin != target.head.origin or target.head.origin == "heartbeat":
        return (
            "alerts, missing heartbeats and Tocsin's own troubles do not mix, nor do two missing heartbeats"
        )
    if target.head.state is IncidentState.CLOSED and source.head.state is not IncidentState.CLOSED:
        return "what goes on cannot be put into what is closed: put the closed one into the other"
    return ""


def split(group: Group, leaving: list[EpisodeKey], at: datetime, why: str = "") -> tuple[Group, Group]:
    """Return (what stays, what leaves) as two groups; the new one knows where it came from.

    Both carry the next generation, so that an alert that is split off, merged back and split off again opens
    another incident each time. What is split from a closed incident is closed.

    Raises:
        ValueError: `leaving` names no episode, all of them, or one that is not here.
    """
    stays, gone = _parted(group, leaving, at)
    first = min(gone, key=importance)
    generation = group.head.generation + 1
    stays.head = replace(stays.head, generation=generation)
    new_id = incident_id(first, group.head.id, generation)
    state, quiet_at = group.head.state, group.progress.quiet_at
    if state is not IncidentState.CLOSED:
        fires = any(episode.firing for episode in gone)
        state, quiet_at = (IncidentState.OPEN, None) if fires else (IncidentState.QUIET, at)
    head = replace(
        group.head, id=new_id, generation=generation, split_from=group.head.id, seq=0, opened_at=at,
        changed_at=at, active_at=at, severity=worst(gone), state=state, root=(), graph=CausalGraph(),
    )  # fmt: skip
    reason = f"split from {group.head.id}: {why}" if why else f"split from {group.head.id}"
    left = Group(
        head, Progress(quiet_at=quiet_at), [replace(e, incident=new_id, why=reason) for e in gone]
    )  # fmt: skip
    return stays, left


def hand_over(source: Group, target: Group, leaving: list[EpisodeKey], at: datetime, why: str) -> Group:
    """Move some episodes into another incident; return what stays of the first. `why` goes to each that leaves.

    Raises:
        ValueError: `leaving` names no episode, all of them, or one that is not here.
    """
    stays, gone = _parted(source, leaving, at)
    _take_in(target, gone, why)
    seen_at = max(episode.seen_at for episode in gone)
    target.head = replace(target.head, active_at=max(target.head.active_at, seen_at))
    _settle(target, at, source.progress)
    return stays


def take_back(gone: Group, holder: Group, returning: list[EpisodeKey], at: datetime, why: str) -> Group:
    """Let episodes return to an incident that was merged into `holder`; return what stays of that.

    It is open or quiet again, or closed if `holder` is.

    Raises:
        ValueError: `returning` names no episode, all of them, or one that is not here.
    """
    stays, episodes = _parted(holder, returning, at)
    gone.move(Signal.TAKEN_BACK)
    closed_at = None
    if holder.head.state is IncidentState.CLOSED:
        gone.move(Signal.CLOSED_BY_HAND)
        closed_at = holder.head.closed_at
    gone.head = replace(gone.head, merged_into=None, closed_at=closed_at, severity=worst(episodes))
    gone.progress = replace(gone.progress, forget_at=None)
    _take_in(gone, episodes, why)
    _settle(gone, at, holder.progress)
    return stays


def _parted(group: Group, leaving: list[EpisodeKey], at: datetime) -> tuple[Group, list[Episode]]:
    """Return what stays of an incident, as a group, and the episodes that leave it."""
    unknown = [key for key in leaving if key not in group.episodes]
    if not leaving or unknown or len(set(leaving)) == len(group.episodes):
        raise ValueError("some, but not all, of the incident's episodes can leave it")
    gone = {key: group.episodes[key] for key in leaving}
    staying = [episode for key, episode in group.episodes.items() if key not in gone]
    # What spoke for a merge spoke for the whole.
    progress = replace(group.progress, bridges={})
    stays = Group(replace(group.head, severity=worst(staying)), progress, staying)
    if not stays.firing and stays.head.state is IncidentState.OPEN:
        stays.move(Signal.ALL_ENDED)
        stays.progress = replace(stays.progress, quiet_at=at, ring_at=None, reminders={})
    return stays, sorted(gone.values(), key=importance)


def _take_in(group: Group, episodes: Iterable[Episode], why: str) -> None:
    """Take in episodes that come from another incident, each with why it did; what goes to and fro is told once."""
    for episode in episodes:
        told = episode.why if why in episode.why.split("; ") else f"{episode.why}; {why}"
        group.add(replace(episode, incident=group.head.id, why=told))
        raised(group, episode)


def _settle(group: Group, at: datetime, before: Progress) -> None:
    """Let an incident's state and memory follow what came from another one, whose progress was `before`."""
    if group.firing and group.head.state is IncidentState.QUIET:
        group.move(Signal.FIRES)
    quiet = [each for each in (group.progress.quiet_at, before.quiet_at) if each is not None]
    told = dict(before.criticals_told)
    for name, at_that_time in group.progress.criticals_told.items():
        told[name] = max(at_that_time, told.get(name, at_that_time))
    quiet_at = None if group.firing else max(quiet, default=at)
    group.progress = replace(group.progress, quiet_at=quiet_at, criticals_told=told)


def merge(older: Group, younger: Group, at: datetime, why: str) -> None:
    """Move the younger incident's episodes into the older one. The younger stays, empty, and says where to."""
    _take_in(older, sorted(younger.episodes.values(), key=importance), why)
    worse = max(older.head.severity, younger.head.severity, key=SEVERITY_RANK.__getitem__)
    older.head = replace(
        older.head, severity=worse, active_at=max(older.head.active_at, younger.head.active_at),
        degraded=older.head.degraded or younger.head.degraded,
    )  # fmt: skip
    _settle(older, at, younger.progress)
    last = rendered(younger)  # its last words stay readable
    younger.head = replace(last, root=younger.head.root or last.root, graph=younger.head.graph)
    younger.move(Signal.MERGED)
    younger.head = replace(younger.head, merged_into=older.head.id, closed_at=at)
    younger.episodes, younger.alerts, younger.firing, younger.held = {}, {}, {}, {}
    younger.templates, younger.kin, younger.common = {}, {}, None
    younger.progress = replace(younger.progress, quiet_at=None, ring_at=None, reminders={}, bridges={})
