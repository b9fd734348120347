"""The words of an incident: one line for a title, a few sentences for a summary.

Rules: everything comes from what the alerts say of themselves (names, shared labels, their own summary), worst and
earliest first; the same episodes give the same words in whatever order they came.

Decision: nothing is generated. At three in the morning a sentence must be true before it is fluent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge.analysis.linking import ENTITY_LABELS, SILENT_LABELS, tokens_of
from bridge.model import Episode

TITLE_CHARS = 140
TEXT_CHARS = 200  # of the leading alert's own summary
VALUE_CHARS = 60  # of a shared label's value
NAMES_LISTED = 6  # kinds of alert named in a summary, the leading one included
LABELS_LISTED = 6
SPECIFIC = 0.5  # a label from this weight on says what an alert is about
SPEAKING = 0.9  # a host or service needs no prefix


def entity_of(labels: Mapping[str, str]) -> str:
    """Return what the alert is about in one word: the most specific thing its labels name, or ""."""
    tokens = tokens_of(labels)
    return tokens[0].key.split("=", 1)[1] if tokens and tokens[0].weight >= SPECIFIC else ""


def title_of(ranked: Sequence[Episode], common: Mapping[str, str]) -> str:
    """Return one line: the leading alert, how many others, where.

    `ranked` is all episodes, at least one, worst and earliest first; `common` the labels all share.
    """
    lead = ranked[0]
    names = _names(ranked)
    where = scope_of(common) or entity_of(lead.labels)
    title = lead.name
    if len(names) > 1:
        title += f" and {_count(len(names) - 1, 'other kind')}"
    if where:
        title += f" on {where}"
    if len(ranked) > 1:
        title += f" ({len(ranked)} alerts)"
    return _cut(title, TITLE_CHARS)


def scope_of(common: Mapping[str, str]) -> str:
    """Return where all of it happens, most specific first: "db-1, cluster eu-1"; "" when nothing is shared."""
    named = [
        (ENTITY_LABELS[name][1], name, value)
        for name, value in common.items()
        if name in ENTITY_LABELS and name not in SILENT_LABELS and name != "job"
    ]
    named.sort(key=lambda item: (-item[0], item[1]))
    words: list[str] = []
    for weight, name, value in named:
        word = value if weight >= SPEAKING else f"{name} {value}"
        if not any(value in known for known in words):
            words.append(word)
    return ", ".join(words[:2])


def summary_of(ranked: Sequence[Episode], common: Mapping[str, str], *, firing: int) -> str:
    """Return two or three sentences: how much, since when, what leads, what all share."""
    lead = ranked[0]
    first = min(episode.starts_at for episode in ranked)
    names = _names(ranked)
    kinds = f" of {len(names)} kinds" if len(names) > 1 else ""
    since = f"{first:%Y-%m-%d %H:%M:%S} UTC"
    parts = [f"{_count(len(ranked), 'alert')}{kinds} since {since}, {firing} firing."]
    text = lead.annotations.get("summary") or lead.annotations.get("description") or ""
    entity = entity_of(lead.labels)
    about = f" on {entity}" if entity else ""
    leading = f"Most severe and earliest: {lead.name}{about} ({lead.severity})"
    parts.append(f"{leading}: {_ended(_cut(' '.join(text.split()), TEXT_CHARS))}" if text else f"{leading}.")
    if len(names) > 1:
        others = ", ".join(f"{count} {name}" for name, count in names[1:NAMES_LISTED])
        parts.append(f"Also {others}{_more(len(names) - NAMES_LISTED)}")
    shared = [(name, value) for name, value in sorted(common.items()) if name not in SILENT_LABELS]
    if len(ranked) > 1 and shared:
        listed = ", ".join(f"{name}={_cut(value, VALUE_CHARS)}" for name, value in shared[:LABELS_LISTED])
        parts.append(f"All share {listed}.")
    return " ".join(parts)


def _names(ranked: Sequence[Episode]) -> list[tuple[str, int]]:
    """Return alert names with their counts, the leading episode's first, then the most frequent."""
    counts: dict[str, int] = {}
    for episode in ranked:
        counts[episode.name] = counts.get(episode.name, 0) + 1
    lead = ranked[0].name
    return sorted(counts.items(), key=lambda item: (item[0] != lead, -item[1], item[0]))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _more(number: int) -> str:
    return f" and {_count(number, 'other kind')}." if number > 0 else "."


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?", "…")) else f"{sentence}."


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
