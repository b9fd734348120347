"""Calling: when people are to hear of a critical alert in an incident that they know, and what they were told.

Rules: the first of a kind calls, and the first about a thing; a kind they were told of calls again only for another
thing, at intervals that double, so that an incident that spreads does not ring all night. What was told is news again
some time after the last of it ended, so that one that flaps rings once. What surely shares the cause that people were
called for (`note_part`) is part of that call. A rising severity calls always, elsewhere (`incidents.raised`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from bridge.analysis.entities import subject_of
from bridge.analysis.incidents import Group
from bridge.analysis.ranking import importance
from bridge.model import Episode

#: People are called again for a new kind of critical at most this often per incident, for all that came meanwhile
#: at once; for more of a kind they were told of, at intervals that double. A rising severity calls always.
CALL_EVERY_S = 900.0
CALL_DOUBLINGS = 4  # up to four hours
MAX_TOLD = 200  # critical names and entities remembered as told; beyond that only a new alert name is news


def call_at(group: Group, episode: Episode, now: datetime, *, forget_after_s: float) -> datetime | None:
    """Return when people are to be called for `episode`: not after `now` is at once, None is not at all.

    They are called for what is critical, fires, and is of a kind or of an entity that they were not told of. What
    was told is news again `forget_after_s` after the last of it ended.
    """
    if episode.severity != "critical" or not episode.firing:
        return None
    told, rung_at = group.progress.criticals_told, group.progress.rung_at
    long_ago = now - timedelta(seconds=forget_after_s)
    for number, name in enumerate(_names_of(episode)):
        since = told.get(name)
        is_news = number == 0 or len(told) < MAX_TOLD
        if since is not None:
            is_news = since < long_ago and not _others_fire(group, episode, name)
        if is_news:
            doublings = min(group.progress.escalations, CALL_DOUBLINGS) if number else 0
            return now if rung_at is None else rung_at + timedelta(seconds=CALL_EVERY_S * 2**doublings)
    return None


def _names_of(episode: Episode) -> tuple[str, ...]:
    """Return what people are told of a critical alert: its name, and what it is about."""
    subject = subject_of(episode.labels)
    return (episode.name,) if subject is None else (episode.name, subject.key)


def _others_fire(group: Group, episode: Episode, name: str) -> bool:
    return any(
        other is not episode and other.severity == "critical" and name in _names_of(other)
        for other in group.firing.values()
    )


def note_call(group: Group, now: datetime) -> None:
    """Remember that people are called, and of which firing criticals they are told."""
    # In an order that a loaded group has, too: not all may find a place.
    criticals = sorted(
        (each for each in group.firing.values() if each.severity == "critical"), key=importance
    )
    told = dict(group.progress.criticals_told)
    for episode in criticals:
        told.update(dict.fromkeys(_names_of(episode)[: 1 if len(told) >= MAX_TOLD else 2], now))
    rung_at = now if criticals else group.progress.rung_at
    group.progress = replace(group.progress, criticals_told=told, rung_at=rung_at, ring_at=None)


def note_part(group: Group, episode: Episode, now: datetime) -> None:
    """Take a critical alert for part of what people were called for; does nothing where nobody was."""
    if episode.severity == "critical" and group.progress.rung_at is not None:
        told = dict(group.progress.criticals_told)
        told.update(dict.fromkeys(_names_of(episode)[: 1 if len(told) >= MAX_TOLD else 2], now))
        group.progress = replace(group.progress, criticals_told=told)


def note_end(group: Group, episode: Episode, now: datetime) -> None:
    """Remember when a critical alert that was told ended: for a while its return is no news."""
    told = group.progress.criticals_told
    names = [name for name in _names_of(episode) if name in told] if episode.severity == "critical" else []
    if names:
        group.progress = replace(group.progress, criticals_told={**told, **dict.fromkeys(names, now)})


def note_escalation(group: Group) -> None:
    """Count an escalation: PagerDuty's next page gets the next dedup key."""
    group.progress = replace(group.progress, escalations=group.progress.escalations + 1)
