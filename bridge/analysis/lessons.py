"""Lessons: what people's corrections say about which alerts share a cause.

Rules: a lesson stands by itself: it carries what the alerts were, so it can be learned from when they are long
forgotten. It goes when the correction is undone. Of each tenant the newest `MAX_LESSONS` are kept, each of at most
`MAX_SAMPLES`.

Theory: alerts of one group share a cause; alerts of different groups of the same lesson do not. A merge and a
confirmation are one group, a split or a move has what left and what stayed. Nothing is said about alerts of different
lessons.

Decision: one sample per alert, its first episode. One that flaps would fill a lesson with itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from bridge.analysis.feedback import FeedbackKind
from bridge.analysis.incidents import AlertKey, EpisodeKey
from bridge.analysis.roots import Sample
from bridge.model import Episode, Opinion, Word

MAX_LESSONS = 2_000
MAX_SAMPLES = 100


class Lesson(Word, frozen=True, kw_only=True):
    """What one action teaches."""

    action: str  # its id
    number: int  # the action's: lessons are in this order
    at: datetime
    kind: FeedbackKind
    incident: str
    groups: tuple[tuple[Sample, ...], ...] = ()
    root: EpisodeKey | None = None  # what came first
    verdict: Opinion = ""
    alarms: tuple[Sample, ...] = ()  # what a false alarm was about: whether it belongs together is not said


def samples_of(groups: Sequence[Iterable[Episode]]) -> tuple[tuple[Sample, ...], ...]:
    """Return samples of each group, earliest first, at most `MAX_SAMPLES` in all; groups without any are left out."""
    firsts = [found for found in map(_firsts, groups) if found]
    room, taken = MAX_SAMPLES, []
    # The smallest first: what it leaves over is for the others.
    for left, number in enumerate(sorted(range(len(firsts)), key=lambda each: len(firsts[each]))):
        share = min(len(firsts[number]), room // (len(firsts) - left))
        taken.append((number, tuple(map(_sample, firsts[number][:share]))))
        room -= share
    return tuple(samples for _, samples in sorted(taken, key=lambda each: each[0]) if samples)


def _firsts(episodes: Iterable[Episode]) -> list[Episode]:
    """Return the first episode of each alert, earliest first."""
    firsts: dict[AlertKey, Episode] = {}
    for episode in sorted(episodes, key=lambda each: (each.starts_at, each.source, each.fingerprint)):
        firsts.setdefault((episode.source, episode.fingerprint), episode)
    return list(firsts.values())


def _sample(episode: Episode) -> Sample:
    return Sample(
        source=episode.source, fingerprint=episode.fingerprint, starts_at=episode.starts_at,
        seen_at=episode.seen_at, labels=episode.labels, template=episode.template, severity=episode.severity,
    )  # fmt: skip
