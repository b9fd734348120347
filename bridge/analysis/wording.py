"""The words of an incident: one line for a title, a few sentences for a summary.

Rules: everything comes from what the alerts say of themselves (names, shared labels, their own summary); what fires
now, is worst and earliest comes first; the same episodes give the same words in whatever order they came. A place
is named only if all of it is there; of many places their number.

Decision: nothing is generated. At three in the morning a sentence must be true before it is fluent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from bridge.analysis.entities import (
    ENTITY_LABELS,
    SILENT_LABELS,
    SPECIFIC_WEIGHT,
    Token,
    subject_of,
    tokens_of,
)
from bridge.model import Episode, Word

TITLE_CHARS = 140
TEXT_CHARS = 200  # of the leading alert's own summary
VALUE_CHARS = 60  # of a shared label's value
NAMES_LISTED = 6  # kinds of alert named in a summary, the leading one included
LABELS_LISTED = 6
PLACES_TOLD = 2  # in a title: a thing and what it is in
PLACES_LISTED = 3  # of things of one kind; of more only the number is said
SPEAKING = 0.8  # a host or a service needs no prefix
FLAPS_FROM = 3  # an alert that fires that often in one incident flaps
#: Kinds that are a part of the world rather than a thing.
_INSIDE = frozenset({"namespace", "cluster", "zone", "region", "rack"})
_PLACES = frozenset(kind for kind, _ in ENTITY_LABELS.values()) - {"job", "team", "env"}


class Facts(Word, frozen=True, kw_only=True):
    """What the words of an incident are made from."""

    ranked: Sequence[Episode]  # the newest episode of each alert, at least one, the most urgent first
    times: Mapping[tuple[str, str], int]  # source, fingerprint -> how often it fired, where that is not once
    first_at: datetime  # when its first episode began
    common: Mapping[str, str]  # labels that all of it shares
    shared: tuple[Token, ...]  # what all of it names, the most specific first
    firing: int


def title_of(facts: Facts) -> str:
    """Return one line: the leading alert, how many other kinds, where, how many alerts."""
    ranked = facts.ranked
    kinds = len(_names(ranked))
    title = ranked[0].name
    if kinds > 1:
        title += f" and {_count(kinds - 1, 'other kind')}"
    where = _where(facts)
    if where:
        title += f" {where}"
    times = max(facts.times.values(), default=1)
    if len(ranked) > 1:
        title += f" ({len(ranked)} alerts)"
    elif times >= FLAPS_FROM:
        title += f" (flaps, {times} times)"
    return _cut(title, TITLE_CHARS)


def _where(facts: Facts) -> str:
    """Return where it happens with its preposition: "on db-1, cluster eu-1"; "" if nothing says so."""
    places: list[tuple[str, str]] = []  # kind, words
    if not facts.shared or facts.shared[0].weight < SPECIFIC_WEIGHT:
        places += _places(facts.ranked)
    for token in facts.shared:
        known = any(token.value in words for _, words in places)
        if token.kind in _PLACES and not known and len(places) < PLACES_TOLD:
            places.append((token.kind, _phrase(token, said=len(facts.ranked) == 1)))
    if not places:
        return ""
    return f"{'in' if places[0][0] in _INSIDE else 'on'} {', '.join(words for _, words in places)}"


def _phrase(token: Token, *, said: bool = False) -> str:
    value = token.said if said else token.value
    return value if token.weight >= SPEAKING and token.kind not in _INSIDE else f"{token.kind} {value}"


def _places(ranked: Sequence[Episode]) -> list[tuple[str, str]]:
    """Return the things of one kind that all alerts have one of: their names, or how many there are."""
    lead = subject_of(ranked[0].labels)
    if lead is None:
        return []
    values: dict[str, None] = {}
    for episode in ranked:
        found = next((token for token in tokens_of(episode.labels) if token.kind == lead.kind), None)
        if found is None:
            return []
        values[found.value] = None
    if len(values) > PLACES_LISTED:
        return [(lead.kind, f"{len(values)} {_plural(lead.kind)}")]
    names = [value if lead.kind not in _INSIDE else f"{lead.kind} {value}" for value in values]
    return [(lead.kind, names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}")]


def summary_of(facts: Facts) -> str:
    """Return two or three sentences: how much, since when, what leads, what all share."""
    one = len(facts.ranked) == 1
    parts = [_alone(facts), *_flapping(facts)] if one else [_measure(facts), _leading(facts.ranked)]
    names = _names(facts.ranked)
    if len(names) > 1:
        others = ", ".join(f"{count} {name}" for name, count in names[1:NAMES_LISTED])
        parts.append(f"Also {others}{_more(len(names) - NAMES_LISTED)}")
    if not one:
        parts += _flapping(facts)
    parts += _unsure(facts.ranked)
    shared = [(name, value) for name, value in sorted(facts.common.items()) if name not in SILENT_LABELS]
    if not one and shared:
        listed = ", ".join(f"{name}={_cut(value, VALUE_CHARS)}" for name, value in shared[:LABELS_LISTED])
        parts.append(f"All share {listed}.")
    return " ".join(parts)


def _alone(facts: Facts) -> str:
    """Return the sentence of an incident that is one alert."""
    episode = facts.ranked[0]
    about = f"{episode.name}{_about(episode)} ({episode.severity})"
    if episode.firing:
        told = f"{about} since {facts.first_at:%Y-%m-%d %H:%M:%S} UTC"
    else:
        ended = episode.ends_at or episode.starts_at
        until = f"{ended:%H:%M:%S}" if ended.date() == facts.first_at.date() else f"{ended:%Y-%m-%d %H:%M:%S}"
        lasted = _lasted(ended - facts.first_at)
        told = f"{about} from {facts.first_at:%Y-%m-%d %H:%M:%S} to {until} UTC, {lasted}"
    return _with_text(told, episode)


def _measure(facts: Facts) -> str:
    ranked = facts.ranked
    kinds = len(_names(ranked))
    of_kinds = f" of {kinds} kinds" if kinds > 1 else ""
    since = f"{facts.first_at:%Y-%m-%d %H:%M:%S} UTC"
    severities: dict[str, int] = {}
    for episode in ranked:
        severities[episode.severity] = severities.get(episode.severity, 0) + 1
    told = ", ".join(
        f"{severities[each]:,} {each}" for each in ("critical", "warning", "info") if each in severities
    )
    mixed = f" ({told})" if len(severities) > 1 else ""
    return f"{len(ranked):,} alerts{of_kinds}{mixed} since {since}, {facts.firing:,} firing."


def _leading(ranked: Sequence[Episode]) -> str:
    lead = ranked[0]
    alike = sum(1 for episode in ranked if episode.name == lead.name)
    what = f"{lead.name}{_about(lead)} ({lead.severity}{f', one of {alike:,}' if alike > 1 else ''})"
    return _with_text(f"Most urgent: {what}", lead)


def _with_text(told: str, episode: Episode) -> str:
    text = " ".join(
        (episode.annotations.get("summary") or episode.annotations.get("description") or "").split()
    )
    return f"{told}." if text in {"", episode.name} else f"{told}: {_ended(_cut(text, TEXT_CHARS))}"


def _about(episode: Episode) -> str:
    subject = subject_of(episode.labels)
    return "" if subject is None else f" on {_phrase(subject)}"


def _flapping(facts: Facts) -> list[str]:
    """Return what is to be said of alerts that came and went."""
    often = [(times, key) for key, times in facts.times.items() if times >= FLAPS_FROM]
    if not often:
        return []
    if len(facts.ranked) == 1:
        return [f"It flaps: fired {often[0][0]:,} times."]
    most, key = max(often)
    name = next(e.name for e in facts.ranked if (e.source, e.fingerprint) == key)
    flap = "1 alert flaps" if len(often) == 1 else f"{len(often):,} alerts flap"
    return [f"{flap}, {name} fired {most:,} times."]


def _unsure(ranked: Sequence[Episode]) -> list[str]:
    """Return what is not known for sure."""
    given_up = sum(1 for episode in ranked if episode.expired)
    disputed = sum(1 for episode in ranked if episode.disputed and episode.firing)
    told = []
    if given_up:
        told.append(f"{_count(given_up, 'alert')} given up: no resolve came, and nothing was heard any more.")
    if disputed:
        told.append(f"{_count(disputed, 'alert')} disputed: perhaps a late copy of a firing that is over.")
    return told


def _names(ranked: Sequence[Episode]) -> list[tuple[str, int]]:
    """Return alert names with their counts, the leading episode's first, then the most frequent."""
    counts: dict[str, int] = {}
    for episode in ranked:
        counts[episode.name] = counts.get(episode.name, 0) + 1
    lead = ranked[0].name
    return sorted(counts.items(), key=lambda item: (item[0] != lead, -item[1], item[0]))


def _lasted(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _plural(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


def _more(number: int) -> str:
    return f" and {_count(number, 'other kind')}." if number > 0 else "."


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?", "…")) else f"{sentence}."


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
