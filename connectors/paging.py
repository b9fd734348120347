"""Pages of an incident where people are woken: when one is opened, taken and closed, whoever carries it.

Theory: page n of an incident is opened when it has escalated n times and is told of; anything else about an open page
changes nothing. Remembered is the highest n that was opened (`open`). When the incident closes, or goes into another
one, the pages n, n-1, ... 0 are closed one by one; one that was never opened is closed in vain.

Rule: a page is not closed because a resolve did not come (`expired`), unless the settings say so.
"""

from __future__ import annotations

from typing import Literal

from bridge.model import Delivered, Event, EventKind, IncidentState
from bridge.ports import Memory
from connectors.common import clip
from connectors.wording import AHEAD

PAGING_STATES = frozenset({IncidentState.OPEN, IncidentState.QUIET})
INCIDENT_CHARACTERS = 200

Action = Literal["trigger", "acknowledge", "resolve", ""]


def action_of(event: Event, memory: Memory | None, *, resolve_on_expiry: bool) -> Action:
    """Return what an event asks for, given what is remembered; "" for nothing."""
    if event.kind in AHEAD:  # of what has not begun nobody is woken, whatever a route says
        return ""
    view, highest = event.incident, highest_of(memory)
    if view.state not in PAGING_STATES:
        keeps = view.expired and not resolve_on_expiry
        return "resolve" if highest is not None and not keeps else ""
    if event.kind is EventKind.ACKNOWLEDGED:
        return "acknowledge" if highest is not None else ""
    return "trigger" if highest is None or view.escalations > highest else ""


def usual_action(event: Event) -> Action:
    """Return what an event means where nothing is remembered."""
    if event.incident.state not in PAGING_STATES:
        return "resolve"
    return "acknowledge" if event.kind is EventKind.ACKNOWLEDGED else "trigger"


def highest_of(memory: Memory | None) -> int | None:
    """Return the number of the newest page that is open; None if none is."""
    number = (memory or {}).get("open", "")
    return int(number) if number.isascii() and number.isdigit() else None


def number_of(event: Event, memory: Memory | None, action: Action, step: str) -> int:
    """Return which page this call is about; later steps go down from the newest one to 0.

    The newest may be higher than what is remembered: the answer to its trigger can have been lost.
    """
    if step:
        return int(step)
    escalations = event.incident.escalations
    return escalations if action == "trigger" else max(highest_of(memory) or 0, escalations)


def key_of(event: Event, number: int) -> str:
    """Return by what a page is known where it went."""
    return f"{clip(event.incident.id, INCIDENT_CHARACTERS)}/e{number}"


def accepted(action: str, number: int) -> Delivered:
    """Return what is remembered, and whether another page of the incident is to be treated alike."""
    if action == "trigger":
        return Delivered(memory={"open": str(number)})
    if number > 0:
        return Delivered(next_step=str(number - 1))
    return Delivered(memory={} if action == "resolve" else None)
