"""What changed since an incident was told, and whether anybody must hear of it: for chats that keep one message.

Rule: pure; nothing is escaped or cut here.

Theory: `told` is what the newest message that made a sound has said: severity, state, how often it escalated, and
which alerts were listed. It is remembered for the incident and replaced when the next such message was taken, so a
change that was told of by nobody stays a change, through outages and restarts.

Decision: what is told comes from the difference between what was told and what is, not from the kind of the event. The
event that rang the bell may have been replaced by a newer one while the destination was down.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge.model import SEVERITY_RANK, Event, EventKind, IncidentState
from bridge.ports import Memory
from connectors.common import OVER
from connectors.wording import alert_line, lasted

KNOWN_CHARACTERS = 8  # the last of a fingerprint; enough to tell a hundred alerts apart
NAMED = 3  # alerts that joined, by name
#: What the difference itself tells of. Every other kind that is loud is told of because it happened.
FROM_DIFFERENCE = frozenset(
    {
        EventKind.OPENED, EventKind.UPDATED, EventKind.ESCALATED, EventKind.REOPENED, EventKind.MERGED,
        EventKind.CLOSED,
    }
)  # fmt: skip


def told(event: Event) -> Memory:
    """Return what a message about this event tells."""
    view = event.incident
    return {
        "severity": view.severity,
        "state": view.state.value,
        "escalations": str(view.escalations),
        "known": " ".join(each.fingerprint[-KNOWN_CHARACTERS:] for each in view.episodes),
    }


def change(event: Event, memory: Memory) -> EventKind | None:
    """Return what there is to hear about, None if nothing is."""
    view = event.incident
    if "state" not in memory:
        return None if event.kind in {EventKind.OPENED, EventKind.UPDATED} else event.kind
    was_over, is_over = memory["state"] in OVER, view.state in OVER
    if is_over and memory["state"] != view.state.value:
        return EventKind.MERGED if view.state is IncidentState.MERGED else EventKind.CLOSED
    if was_over and not is_over:
        return EventKind.REOPENED
    if view.escalations > int(memory["escalations"]) or _rose(event, memory):
        return EventKind.ESCALATED
    return None if event.kind in FROM_DIFFERENCE else event.kind


def _rose(event: Event, memory: Memory) -> bool:
    return SEVERITY_RANK[event.incident.severity] > SEVERITY_RANK.get(memory["severity"], 0)


def words(event: Event, kind: EventKind, memory: Memory) -> str:
    """Return what changed, in one line that is neither escaped nor cut."""
    return "; ".join(_parts(event, kind, memory))


def _parts(event: Event, kind: EventKind, memory: Memory) -> Iterator[str]:
    view = event.incident
    head = "Still open" if kind is EventKind.REMINDER else kind.value.capitalize()
    if kind is EventKind.MERGED:
        yield f"Merged into incident {view.merged_into}" if view.merged_into else head
    elif kind is EventKind.CLOSED and view.closed_at is not None:
        yield f"{head} after {lasted(view.closed_at - view.opened_at)}"
    elif kind is EventKind.SPLIT and view.split_from is not None:
        yield f"Split from incident {view.split_from}"
    elif "severity" in memory and _rose(event, memory):
        yield f"{head}: {memory['severity']} → {view.severity}"
    else:
        yield head
    joined = _joined(event, memory)
    if joined and view.state not in OVER:
        more = f" and {len(joined) - NAMED} more" if len(joined) > NAMED else ""
        yield f"{', '.join(joined[:NAMED])}{more} joined"
    if view.state is IncidentState.CLOSED:
        yield f"{view.alerts_total} alerts in all"
        if view.expired:
            yield "the resolve of some never came"
    elif view.state is not IncidentState.MERGED:
        yield f"{view.alerts_firing} of {view.alerts_total} firing"


def _joined(event: Event, memory: Memory) -> list[str]:
    if "known" not in memory:
        return []
    known = set(memory["known"].split())
    new = (each for each in event.incident.episodes if each.fingerprint[-KNOWN_CHARACTERS:] not in known)
    return list(dict.fromkeys(map(alert_line, new)))
