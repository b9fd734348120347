"""The message about an incident in Slack's Block Kit, within its limits and with nothing that mentions anybody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.model import Event, EventEpisode, EventKind, IncidentState
from connectors.common import OVER, clip, clip_escaped, one_line
from connectors.wording import AHEAD, alert_mark, alert_text, links, mark, suspect, together

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEADER_CHARACTERS, FALLBACK_CHARACTERS, REPLY_CHARACTERS = 150, 300, 600
#: All below the 3000 characters of a section, escapes included.
SUMMARY_CHARACTERS, LINE_CHARACTERS, LISTED = 2900, 220, 10
LINK_CHARACTERS = 1500
BUTTON_CHARACTERS = 2000
#: What the buttons and the menu are called when they come back (`POST /v1/slack`).
ACK, FALSE_ALARM, SPLIT = "tocsin_ack", "tocsin_false_alarm", "tocsin_split"
#: Of an option of a menu, and of a block's id.
OPTION_CHARACTERS, ID_CHARACTERS = 75, 255


def escape(text: str) -> str:
    """Return `text` for Slack's mrkdwn: `&`, `<` and `>` as entities, so that nothing becomes a mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def line(text: str, characters: int) -> str:
    """Return `text` escaped on one line of at most so many characters."""
    return clip_escaped(one_line(text[: 4 * characters]), characters, escape)


def fallback(event: Event, kind: EventKind, change: str) -> str:
    """Return the one line that notifications show; `change` is what changed, "" at first."""
    title = line(event.incident.title, FALLBACK_CHARACTERS)
    if not change:
        return f"{mark(event)} {kind.value.capitalize()}: {title}"
    return f"{mark(event)} {line(change, REPLY_CHARACTERS)}: {title}"


def reply(event: Event, change: str) -> str:
    """Return a reply in the thread."""
    return f"{mark(event)} {line(change, REPLY_CHARACTERS)}"


def blocks(event: Event, listed: int, *, buttons: bool = False) -> list[dict[str, Any]]:
    """Return the whole message; `listed` is how many alerts it lists, 0 to leave everything but counts out.

    `buttons` says whether Slack has the address at which Tocsin hears of them.
    """
    view = event.incident
    title = clip(one_line(f"{mark(event)} {view.title[:500]}"), HEADER_CHARACTERS)
    made: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": title, "emoji": False}}
    ]
    if view.summary.strip() and listed:
        lines = (one_line(each) for each in view.summary[:SUMMARY_CHARACTERS].splitlines())
        made.append(_section(clip_escaped("\n".join(lines), SUMMARY_CHARACTERS, escape)))
    if view.episodes and listed:
        made.append(_section(_list(event, listed)))
    reasons = _reasons(event)
    if reasons and listed:
        made.append(_section(reasons))
    if buttons and event.kind not in AHEAD and view.state is not IncidentState.MERGED:
        made.append({"type": "actions", "block_id": "tocsin", "elements": _buttons(event)})
        made += _split(event, listed)
    # The id of the event as the block's: it also finds a message that was posted twice through a webhook.
    made.append({"type": "context", "block_id": event.event_id, "elements": [_mrkdwn(_facts(event))]})
    return made


def _buttons(event: Event) -> list[dict[str, Any]]:
    told = (
        {} if event.incident.state in OVER or event.kind is EventKind.ACKNOWLEDGED else {ACK: "Acknowledge"}
    )
    return [
        {
            "type": "button",
            "action_id": name,
            "value": event.incident.id[:BUTTON_CHARACTERS],
            "text": _plain(words),
        }
        for name, words in (told | {FALSE_ALARM: "False alarm"}).items()
    ]


def _split(event: Event, listed: int) -> list[dict[str, Any]]:
    """Return the menu of alerts that can leave for an incident of their own; some have to stay.

    The block's id says of which incident it is: what comes back of a menu has no value beside what was chosen.
    """
    view = event.incident
    block = f"split/{view.id}"
    if len(view.episodes) < 2 or view.state in OVER or not listed or len(block) > ID_CHARACTERS:  # noqa: PLR2004
        return []
    options = [
        {"text": _plain(clip(one_line(alert_text(each)[:300]), OPTION_CHARACTERS)), "value": _ref(each)}
        for each in view.episodes[:listed]
    ]
    menu = {
        "type": "multi_static_select",
        "action_id": SPLIT,
        "placeholder": _plain("Choose alerts"),
        "options": options,
        "confirm": {
            "title": _plain("Split the incident?"),
            "text": _plain("The chosen alerts leave for an incident of their own."),
            "confirm": _plain("Split"),
            "deny": _plain("Cancel"),
        },
    }
    return [
        {
            "type": "section",
            "block_id": block,
            "text": _mrkdwn("Not one incident? Split off:"),
            "accessory": menu,
        }
    ]


def _ref(episode: EventEpisode) -> str:
    """Return an alert as the API knows it: its fingerprint and when it began, in microseconds since the epoch."""
    return f"{episode.fingerprint[:40]}/{(episode.starts_at - EPOCH) // timedelta(microseconds=1)}"


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text}


def _list(event: Event, listed: int) -> str:
    view = event.incident
    lines = [
        f"{alert_mark(each)} {line(alert_text(each), LINE_CHARACTERS)}" for each in view.episodes[:listed]
    ]
    more = len(view.episodes) - listed + view.truncated
    return "\n".join([*lines, f"and {more} more"] if more > 0 else lines)


def _reasons(event: Event) -> str:
    told = (("First suspect", suspect(event)), ("One incident because", together(event)))
    return "\n".join(f"*{name}:* {line(text, LINE_CHARACTERS)}" for name, text in told if text)


def _facts(event: Event) -> str:
    view = event.incident
    facts = [f"*{view.severity}*"]
    if event.kind in AHEAD:
        facts.append(f"{event.kind.value} of {_date(view.opened_at)}")
    else:
        facts += [
            view.state.value,
            f"{view.alerts_firing} of {view.alerts_total} alerts firing",
            f"since {_date(view.opened_at)}",
        ]
    if view.closed_at is not None:
        facts.append(f"closed {_date(view.closed_at)}")
    if view.anomaly is not None:
        facts.append(f"anomaly {view.anomaly:.2f}")
    if event.degraded:
        facts.append("decided without models")
    facts += [
        f"<{escape(each.url)}|{each.text}>" for each in links(event) if len(each.url) <= LINK_CHARACTERS
    ]
    facts.append(f"`{escape(clip(view.id, 100))}`")
    return " · ".join(facts)


def _date(time: datetime) -> str:
    """Return a time that Slack shows in each reader's own zone."""
    written = time.strftime("%Y-%m-%d %H:%M UTC")
    return f"<!date^{int(time.timestamp())}^{{date_short_pretty}} {{time}}|{written}>"
