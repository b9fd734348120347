"""How unusual is an incident for this tenant: its kinds of alert, their number, this hour.

Theory: alerts come in bursts, so two questions are asked per family. Does it fire at all this often (bursts in
five-minute buckets, Gamma-Poisson with the hour of the day)? And is the burst this large (geometric tail over
earlier burst sizes)? The surprise is the smallest tail probability, corrected for how many questions were asked
(Bonferroni), so it does not grow merely because an incident has many families. It is asked only about what has
fired, and any single kind of alert fires in few five-minute buckets: taken as a probability it would call nearly
every incident strange. So the score is its rank among the tenant's own incidents: 0.9 is stranger than nine in
ten of them.

Rules: counts decay with a half-life of two weeks, so the model follows the tenant. Nothing is said before a day
has passed and twenty incidents are over: `Score(None, why)`, never 0. A storm counts as one burst per bucket, so
it does not teach the model that storms are ordinary; an incident is ranked against what others had become by
their end, and enters the ranking once, when it closes.

Decision: closed form and O(1) per alert, so that a score is there when the first message leaves. Detectors that
need fitting come beside it, selected per series, and never averaged with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from bridge.analysis.statistics import decay, gamma_poisson_tail, geometric_tail
from bridge.model import Score, Word

BUCKET_S = 300
HALF_LIFE_S = 14 * 86400.0
MIN_HISTORY_S = 86400.0
MIN_INCIDENTS = 20.0
#: Surprise, -log10 of a tail probability, in steps of a tenth; what is beyond the last step is all the same.
STEP = 0.1
STEPS = 120
PRIOR_SHAPE = 0.5  # Jeffreys' prior of a Poisson rate
SIZE_CAP = 300  # beyond that a burst is simply large
#: How much evidence an hour of the day needs before it moves the rate: pseudo-bursts of the average hour.
HOUR_SHRINKAGE = 8.0


class Habit(Word, frozen=True, kw_only=True):
    """What is usual for one family, or for all of a tenant's alerts together."""

    since: datetime
    updated_at: datetime
    bursts: float = 0.0  # decayed number of buckets in which it fired
    sizes: float = 0.0  # decayed number of episodes in them
    bucket: int = 0  # the newest bucket, epoch s // BUCKET_S
    in_bucket: int = 0
    hours: tuple[float, ...] = (0.0,) * 24  # decayed bursts by UTC hour; kept for the tenant only


class Experience(Word, frozen=True, kw_only=True):
    """How surprising a tenant's incidents were by their end: decayed counts per `STEP` of surprise."""

    updated_at: datetime
    counts: tuple[float, ...] = (0.0,) * STEPS


def experienced(experience: Experience | None, surprise: float, at: datetime) -> Experience:
    """Return the experience after one more incident has closed at `at` (times do not go back)."""
    known = experience or Experience(updated_at=at)
    fade = decay(1.0, (at - known.updated_at).total_seconds(), HALF_LIFE_S)
    counts = [count * fade for count in known.counts]
    counts[_step(surprise)] += 1.0
    return Experience(updated_at=at, counts=tuple(counts))


def ranked(
    experience: Experience | None, surprise: float, reason: str, *, since: datetime | None, now: datetime
) -> Score:
    """Return the share of the tenant's incidents that surprised less.

    Args:
        experience: The incidents that are over.
        surprise: Of this one, as `surprise_of` gave it.
        reason: Its words.
        since: When the tenant's first alert was heard.
        now: The time of the question.
    """
    seen_s = 0.0 if since is None else (now - since).total_seconds()
    if seen_s < MIN_HISTORY_S:
        return Score(value=None, reason=f"{seen_s / 3600:.0f} h of history, 24 h are needed")
    counts = () if experience is None else experience.counts
    total = sum(counts)
    if total < MIN_INCIDENTS:
        return Score(
            value=None, reason=f"{total:.0f} incidents have closed lately, {MIN_INCIDENTS:.0f} are needed"
        )
    step = _step(surprise)
    share = (sum(counts[:step]) + counts[step] / 2) / (total + 1.0)
    return Score(
        value=round(share, 4), reason=f"stranger than {share:.0%} of {total:.0f} incidents: {reason}"
    )


def _step(surprise: float) -> int:
    return min(STEPS - 1, max(0, int(surprise / STEP)))


def learn(habit: Habit | None, at: datetime, *, by_hour: bool = False) -> Habit:
    """Return the habit after one more episode at `at` (times do not go back)."""
    if habit is None:
        habit = Habit(since=at, updated_at=at)
    elapsed_s = (at - habit.updated_at).total_seconds()
    bucket = int(at.timestamp()) // BUCKET_S
    fresh = bucket != habit.bucket
    fade = decay(1.0, elapsed_s, HALF_LIFE_S)
    hours = habit.hours
    if by_hour and fresh:
        hours = tuple(count * fade + (hour == at.hour) for hour, count in enumerate(hours))
    return replace(
        habit, updated_at=at, bursts=habit.bursts * fade + fresh, sizes=habit.sizes * fade + 1.0,
        bucket=bucket, in_bucket=1 if fresh else habit.in_bucket + 1, hours=hours,
    )  # fmt: skip


def pooled(habits: Sequence[Habit]) -> Habit:
    """Return what is usual for several kinds of alert together, at least one, as a first guess for their family.

    Bursts that came at the same time are counted twice, so the family seems more usual than it is, never less.
    """
    newest = max(habits, key=lambda habit: (habit.updated_at, habit.bucket, habit.in_bucket))
    bursts = sizes = 0.0
    for habit in habits:
        fade = decay(1.0, (newest.updated_at - habit.updated_at).total_seconds(), HALF_LIFE_S)
        bursts += habit.bursts * fade
        sizes += habit.sizes * fade
    return replace(newest, since=min(habit.since for habit in habits), bursts=bursts, sizes=sizes)


def surprise_of(
    sizes: Mapping[str, int],
    habits: Mapping[str, Habit],
    tenant: Habit,
    *,
    opened_at: datetime,
    now: datetime,
    also: Sequence[tuple[float, str]] = (),
) -> tuple[float, str]:
    """Return how surprising an incident is, -log10 of a tail probability >= 0, and why.

    Args:
        sizes: Episodes per family in the incident, at least one family.
        habits: What is usual per family, *including* this incident (its share is taken out here).
        tenant: What is usual for the tenant.
        opened_at: When the incident opened.
        now: The time of the question.
        also: What else was asked about it: tail probability and reason of each.
    """
    span_s = max(float(BUCKET_S), (now - opened_at).total_seconds())
    season = season_of(tenant, now)
    found = list(also)
    for family in sorted(sizes):
        found += _family_tails(sizes[family], habits.get(family), tenant, span_s * season, now)
    tail, reason = min(found)
    corrected = min(1.0, max(tail * len(found), 10.0 ** (-STEP * STEPS)))
    return -math.log10(corrected), reason


def _family_tails(
    size: int, habit: Habit | None, tenant: Habit, span_s: float, now: datetime
) -> list[tuple[float, str]]:
    """Return (tail probability, reason) for "does it fire this often" and "is it this large"."""
    watched_s = min(max(0.0, (now - tenant.since).total_seconds()), HALF_LIFE_S / math.log(2))
    bursts = max(0.0, (habit.bursts if habit else 0.0) - 1.0)  # without this incident's own
    rate_tail = gamma_poisson_tail(1, shape=PRIOR_SHAPE + bursts, exposure=watched_s + BUCKET_S, span=span_s)
    mean = 1.0
    if habit is not None and bursts >= 1.0:
        mean = max(1.0, (habit.sizes - size) / bursts)
    size_tail = geometric_tail(min(size, SIZE_CAP), mean + 1.0)
    days = watched_s / 86400
    if round(bursts) == 0:  # faded away: two weeks halve a burst
        why = f"this kind of alert was not seen in {days:.0f} d before"
    else:
        often = "once" if round(bursts) == 1 else f"{bursts:.0f} times"
        why = f"this kind of alert came {often} in {days:.0f} d before"
    return [(rate_tail, why), (size_tail, f"{size} alerts of one kind at once, {mean:.1f} are usual")]


def season_of(tenant: Habit, now: datetime) -> float:
    """Return how busy this hour of the day is, 1 = average, shrunk towards 1."""
    mean = sum(tenant.hours) / 24
    return (tenant.hours[now.hour] + HOUR_SHRINKAGE) / (mean + HOUR_SHRINKAGE)
