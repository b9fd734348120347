"""The Adaptive Card about an incident.

Rule: whatever a sender may have written stands in text runs, which know no Markdown: there is no link, no mention and
no emphasis in it, and nothing to escape. Links are buttons, and lead only to web addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge.model import Event, EventKind, Severity
from connectors.common import OVER, clip, one_line
from connectors.wording import alert_text, links, suspect, together

SCHEMA, VERSION = "http://adaptivecards.io/schemas/adaptive-card.json", "1.4"
TITLE_CHARACTERS, CHANGE_CHARACTERS, SUMMARY_CHARACTERS, LINE_CHARACTERS = 150, 300, 1500, 220
SUMMARY_LINES, LISTED, LINK_CHARACTERS = 10, 10, 1500
#: Of a card that lists nothing.
BARE_CHARACTERS = 80
#: About what has not begun: there are no alerts to count.
AHEAD = frozenset({EventKind.FORECAST, EventKind.RECOMMENDATION})
MARKS: dict[Severity, str] = {"critical": "🔴", "warning": "🟠", "info": "🔵"}
#: Colours of Adaptive Cards, which each theme shows in its own way.
COLOURS: dict[Severity, str] = {"critical": "Attention", "warning": "Warning", "info": "Accent"}


def message(event: Event, change: str, listed: int) -> dict[str, Any]:
    """Return the body of a request: a message with one card.

    `change` is what changed since it was told, "" at first; `listed` how many alerts stand in it, 0 to leave everything
    but title and counts out.
    """
    card = {
        "$schema": SCHEMA,
        "type": "AdaptiveCard",
        "version": VERSION,
        "msteams": {"width": "Full"},
        "body": list(_body(event, change, listed)),
    }
    if listed:
        card["fallbackText"] = _line(f"{_mark(event)} {event.incident.title}", TITLE_CHARACTERS)
        card["actions"] = [
            {"type": "Action.OpenUrl", "title": each.text, "url": each.url}
            for each in links(event)
            if len(each.url) <= LINK_CHARACTERS
        ]
    attachment = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": card,
    }
    return {"type": "message", "attachments": [attachment]}


def _body(event: Event, change: str, listed: int) -> Iterator[dict[str, Any]]:
    view = event.incident
    colour = "Good" if view.state in OVER else COLOURS[view.severity]
    title = f"{_mark(event)} {_line(view.title, TITLE_CHARACTERS if listed else BARE_CHARACTERS)}"
    yield _text(_run(title, size="Large", weight="Bolder", color=colour))
    if change:
        yield _text(_run(_line(change, CHANGE_CHARACTERS if listed else BARE_CHARACTERS), weight="Bolder"))
    if listed:
        lines = view.summary[:SUMMARY_CHARACTERS].splitlines()[:SUMMARY_LINES]
        for text in (one_line(each).strip() for each in lines):
            if text:
                yield _text(_run(text))
        yield from _alerts(event, listed)
        for name, reason in (("First suspect", suspect(event)), ("One incident because", together(event))):
            if reason:
                yield _text(_run(f"{name}: ", weight="Bolder"), _run(_line(reason, LINE_CHARACTERS)))
    # The id of the event as the element's: it also finds a message that was posted twice.
    yield _text(_run(_facts(event), isSubtle=True)) | {"id": event.event_id, "spacing": "Medium"}


def _alerts(event: Event, listed: int) -> Iterator[dict[str, Any]]:
    view = event.incident
    for number, each in enumerate(view.episodes[:listed]):
        sign = MARKS[each.severity] if each.ends_at is None else "◦"
        made = _text(_run(f"{sign} {_line(alert_text(each), LINE_CHARACTERS)}"))
        yield made if number else made | {"spacing": "Medium"}
    more = len(view.episodes) - listed + view.truncated
    if view.episodes and more > 0:
        yield _text(_run(f"and {more} more"))


def _facts(event: Event) -> str:
    view = event.incident
    facts: list[str] = [view.severity]
    if event.kind in AHEAD:
        facts.append(f"{event.kind.value} of {view.opened_at:%Y-%m-%d %H:%M} UTC")
    else:
        facts += [
            view.state.value,
            f"{view.alerts_firing} of {view.alerts_total} alerts firing",
            f"since {view.opened_at:%Y-%m-%d %H:%M} UTC",
        ]
    if view.closed_at is not None:
        facts.append(f"closed {view.closed_at:%Y-%m-%d %H:%M} UTC")
    if view.anomaly is not None:
        facts.append(f"anomaly {view.anomaly:.2f}")
    if event.degraded:
        facts.append("decided without models")
    return " · ".join([*facts, one_line(clip(view.id, 100))])


def _mark(event: Event) -> str:
    return "✅" if event.incident.state in OVER else MARKS[event.incident.severity]


def _line(text: str, characters: int) -> str:
    return clip(one_line(text[: 2 * characters]), characters)


def _text(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "spacing": "Small", "inlines": list(runs)}


def _run(text: str, **looks: Any) -> dict[str, Any]:
    return {"type": "TextRun", "text": text} | looks
