"""What people read in an issue: summary, description, comments. In the markup hostile text is only text."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from bridge.model import NAMESPACE, SEVERITY_RANK, Event, EventKind, IncidentState
from bridge.ports import Memory
from connectors.common import OVER, clip, clip_escaped, one_line, rfc3339
from connectors.wording import alert_text, lasted, links, suspect, together

SUMMARY_CHARACTERS, DESCRIPTION_CHARACTERS = 255, 32_767
LINE_CHARACTERS, BARE_CHARACTERS, LISTED, LABELS = 600, 100, 20, 30
#: What is told of because it happened; everything else because of the difference that it made.
SAID = frozenset({EventKind.ACKNOWLEDGED, EventKind.SPLIT, EventKind.REMINDER})
_MARKUP = str.maketrans({each: f"\\{each}" for each in "{}[]*_|!^~+-?#"} | {"\\": "&#92;"})
_IN_LINK = str.maketrans({each: f"%{ord(each):02X}" for each in "{}[]^\\`"})


def label_of(event: Event) -> str:
    """Return the label by which an incident's issue is found; the same in every replay."""
    named = f"jira\n{event.tenant}\n{event.incident.id}"
    return f"tocsin-{uuid.uuid5(NAMESPACE, named).hex}"


def escape(text: str) -> str:
    """Return one line of text that wiki markup shows as it is."""
    return one_line(text).translate(_MARKUP)


def summary(event: Event) -> str:
    """Return the summary: one line, which is no markup."""
    title = one_line(event.incident.title).strip() or f"Incident {event.incident.id}"
    return clip(title, SUMMARY_CHARACTERS)


def description(event: Event, listed: int = LISTED) -> str:
    """Return the description with the `listed` worst alerts; 0 keeps little more than counts and ids."""
    lines = list(_lines(event, listed))
    text = "\n".join(lines)
    while len(text) > DESCRIPTION_CHARACTERS:
        text = "\n".join(lines := lines[:-1])
    return text


def _lines(event: Event, listed: int) -> Iterator[str]:
    view = event.incident
    limit = LINE_CHARACTERS if listed else BARE_CHARACTERS
    if view.summary.strip():
        yield clip_escaped(view.summary, limit, escape)
    anomaly = "unknown" if view.anomaly is None else f"{view.anomaly:.2f}"
    yield (
        f"*{view.severity}*, {view.state.value}: {view.alerts_firing} of {view.alerts_total} alerts firing, "
        f"since {rfc3339(view.opened_at)[:19]}Z, anomaly {anomaly}"
    )
    if listed:
        for word, text in (("First suspect", suspect(event)), ("One incident because", together(event))):
            if text:
                yield f"{word}: {clip_escaped(text, limit, escape)}"
        for each in view.episodes[:listed]:
            yield f"* {each.severity}: {clip_escaped(alert_text(each), limit, escape)}"
        unlisted = view.alerts_total - min(listed, len(view.episodes))
        if unlisted > 0:
            yield f"* and {unlisted} more"
        yield from (f"[{each.text}|{each.url.translate(_IN_LINK)}]" for each in links(event))
        for name, value in sorted(view.common_labels.items())[:LABELS]:
            yield clip_escaped(f"{name}: {value}", BARE_CHARACTERS * 2, escape)
    yield f"incident {clip_escaped(view.id, BARE_CHARACTERS, escape)}, event {event.event_id}"


def told(event: Event) -> Memory:
    """Return what an issue says after this event."""
    view = event.incident
    return {"severity": view.severity, "state": view.state.value, "escalations": str(view.escalations)}


def change(event: Event, memory: Memory) -> str:
    """Return what changed since the issue was last told of anything, as one line of markup; "" for nothing."""
    words = "; ".join(_changes(event, memory))
    note = event.note if isinstance(event.note, str) else ""
    if not words and not note:
        return ""
    author = event.author if isinstance(event.author, str) else ""
    said = f"{author}: {note}" if note and author else note
    text = "; ".join(filter(None, (words, clip_escaped(said, LINE_CHARACTERS, escape))))
    return f"{text} (event {event.event_id})"


def _changes(event: Event, memory: Memory) -> Iterator[str]:
    view = event.incident
    was_over, is_over = memory.get("state") in OVER, view.state in OVER
    if is_over and memory.get("state") != view.state.value:
        yield _end(event)
    elif was_over and not is_over:
        yield "Reopened"
    if _rose(event, memory):
        yield f"Escalated: {view.severity}"
    if event.kind in SAID:
        yield event.kind.value.capitalize()


def _rose(event: Event, memory: Memory) -> bool:
    view, escalations = event.incident, memory.get("escalations", "")
    if "severity" in memory and SEVERITY_RANK[view.severity] > SEVERITY_RANK.get(memory["severity"], 0):
        return True
    return escalations.isdecimal() and view.escalations > int(escalations)


def _end(event: Event) -> str:
    view = event.incident
    if view.state is IncidentState.MERGED:
        return f"Went into incident {escape(view.merged_into or 'another')}"
    how = ", because a resolve never came" if view.expired else ""
    return f"Closed after {lasted((view.closed_at or event.at) - view.opened_at)}{how}"
