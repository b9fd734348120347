"""What is watched: series of samples, each known by its query and its labels.

Rules: a series takes in what is newer than all it has; what is late, comes twice or is no number changes nothing and is
counted. Of too many series those stay that were measured last.

An alarm is an anomaly that lasts: it begins with a value that is strange beyond the tenant's budget of false alarms,
goes on as long as such values come, and is over when none came for `hold_s`. However long it lasts, it is one.
Detectors find what changes, and get used to it; so a value that is on the strange side of half the way from what was
usual to the strangest keeps an alarm up, for a day at most, and one on the usual side begins none for a while: it is
the way back.

Detectors promise tail probabilities, and on some series the promise is not kept. So a series is held to its own past:
what was as strange more often than the tenant's budget allows, in about the last eight weeks, is not strange (`often`).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import datetime
from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from bridge.analysis.champions import Standing
from bridge.model import OWN_SOURCE, Word

WEEK_S = 7 * 86_400.0

#: Series of one tenant's queries together.
MAX_MEASURED = 2_000
#: Times that a series was strange that are remembered, and for how long.
MAX_CROSSINGS, CROSSINGS_S = 64, 8 * 7 * 86_400.0
#: What was this much less surprising, in decades, was as strange.
NEARLY = 1.0
#: What lasts longer is the new normal.
ACCEPTED_AFTER_S = 86_400.0
#: The longest name of a series; labels that make a longer one are refused.
LONGEST_NAME = 1_024


class Alarm(Word, frozen=True, kw_only=True):
    """An anomaly that is not over."""

    labels: dict[str, str]  # of the alert that speaks of it
    since: datetime
    last_at: datetime  # when it was seen last
    hold_s: float
    surprise: float  # the most so far, -log10 of a tail probability
    why: str  # at that time
    by_chance: float  # how many of these a week would have by chance, >= 0
    keys: tuple[str, ...] = ()  # of what its labels name in particular: `entities`
    #: Of samples: what was usual when it began, and the strangest value.
    usual: float | None = None
    strangest: float | None = None


class Measured(Word, frozen=True, kw_only=True):
    """One series of samples."""

    query: str  # by its name
    labels: dict[str, str]
    step_s: float
    since: datetime  # when it was first heard of
    heard_at: datetime  # when it was last
    newest_s: float  # of its samples
    values: int = 0  # taken in so far
    newest: float | None = None  # value
    lately: float | None = None  # mean value, about the last fifty that were not strange
    last_alarm: Alarm | None = None  # the newest, as it was last seen
    last_alarm_s: float = 0.0  # when, in the time of samples
    score: float | None = None  # of the newest value; None while its detector warms up
    standing: Standing  # its detector, and why that one
    is_settled: bool = False  # enough was seen to choose its detector
    is_busy: bool = False  # among those whose detector is reviewed, for which much is remembered
    reviewed_at: datetime | None = None  # when a review was asked for last
    #: When it was strange beyond the budget (epoch s) and how much, newest last: `often`.
    crossings: tuple[tuple[float, float], ...] = ()
    #: What its detector has learned since what it knows was stored as a whole: when (epoch s), what, and whether it was
    #: too strange to be learned from as it is; oldest first.
    learned: tuple[tuple[float, float, bool], ...] = ()

    @property
    def has_history(self) -> bool:
        """Whether its newest values are remembered: to choose its detector by, or to review it."""
        return self.is_busy or not self.is_settled


def is_far(alarm: Alarm, value: float) -> bool | None:
    """Say whether a value is nearer to the strangest of an alarm than to what was usual; None where nobody can say."""
    if alarm.usual is None or alarm.strangest is None or alarm.usual == alarm.strangest:
        return None
    return abs(value - alarm.strangest) < abs(value - alarm.usual) or (
        (value - alarm.strangest) * (alarm.strangest - alarm.usual) > 0
    )


def is_about(alarm: Alarm, held: Container[str]) -> bool:
    """Say whether an incident's alerts name something that an anomaly is about; `held`: what they name."""
    return any(key in held for key in alarm.keys)


def surprises(alarms: Mapping[str, Alarm], held: Container[str]) -> list[tuple[float, str]]:
    """Return (tail probability, reason) of the anomalies that last and are about what an incident is about."""
    return [
        (10.0**-alarm.surprise, alarm.why) for _, alarm in sorted(alarms.items()) if is_about(alarm, held)
    ]


def by_chance(tail: float, values_a_week: float) -> float:
    """Return how many values as rare as this a week has by chance, where a week has so many values."""
    return tail * values_a_week


def often(measured: Measured, surprise: float, now_s: float) -> float:
    """Return how many times a week a series was as strange as this before, in the weeks in which it was watched."""
    lately = [each for at_s, each in measured.crossings if now_s - at_s <= CROSSINGS_S]
    as_strange = sum(1 for each in lately if each >= surprise - NEARLY)
    watched_s = min(CROSSINGS_S, max(WEEK_S, now_s - measured.since.timestamp()))
    return as_strange * WEEK_S / watched_s


def crossed(measured: Measured, surprise: float, now_s: float) -> Measured:
    """Return the series after it was as strange as this."""
    lately = [each for each in measured.crossings if now_s - each[0] <= CROSSINGS_S]
    return replace(measured, crossings=(*lately[1 - MAX_CROSSINGS :], (now_s, surprise)))


def said_of_chance(expected_a_week: float) -> str:
    """Return in words how often something comes by chance."""
    weeks = 1.0 / max(expected_a_week, 1e-12)
    if weeks < 2.0:  # noqa: PLR2004 - below two weeks it is "a week"
        return "about once a week by chance"
    if weeks < 104.0:  # noqa: PLR2004 - two years
        return f"about once in {weeks:.0f} weeks by chance"
    return f"about once in {weeks / 52.0:,.0f} years by chance" if weeks < 52e4 else "next to never by chance"  # noqa: PLR2004


def alarm_of(name: str) -> str:
    """Return the name under which a series of samples has its alarm."""
    return f"samples {name}"


def alert_key(name: str) -> tuple[str, str]:
    """Return the source and the fingerprint of the alert of what has its alarm under `name`."""
    return OWN_SOURCE, blake2b(f"anomaly\n{name}".encode(), digest_size=8).hexdigest()


def name_of(query: str, labels: Mapping[str, str]) -> str:
    """Return the name of a series as Prometheus writes it: `query{label="value"}`."""
    told = ",".join(f"{name}={msgspec.json.encode(value).decode()}" for name, value in sorted(labels.items()))
    return f"{query}{{{told}}}" if told else query
