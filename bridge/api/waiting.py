"""Why a delivery waits, for those who look at it.

Rule: every delivery that has not ended shows a reason. Its own is that of its newest attempt; one that was never
tried has the destination's, or the order of things.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bridge.api.surroundings import DestinationHealth
from bridge.model import DeliveryState

_OPEN = {DeliveryState.WAITING.value, DeliveryState.PENDING.value}
_VERBS = {"blocked": "refuses", "unreachable": "does not answer"}


def explained(
    items: Iterable[Mapping[str, Any]], destinations: Iterable[DestinationHealth]
) -> list[dict[str, Any]]:
    """Return deliveries with `blocked` (their destination refuses us) and a reason wherever they wait."""
    by_name = {each.name: each for each in destinations}
    return [_explained(item, by_name.get(item["destination"])) for item in items]


def _explained(item: Mapping[str, Any], destination: DestinationHealth | None) -> dict[str, Any]:
    if item["state"] not in _OPEN:
        return {**item, "blocked": False}
    is_blocked = destination is not None and destination.state == "blocked"
    return {**item, "blocked": is_blocked, "reason": item["reason"] or _reason(item, destination)}


def _reason(item: Mapping[str, Any], destination: DestinationHealth | None) -> str:
    if destination is not None and destination.state in _VERBS:
        return f"the destination {_VERBS[destination.state]}: {destination.reason}"
    if item["state"] == DeliveryState.PENDING.value:
        return "sent, and not acknowledged yet"
    if not item["attempts"] and item["next_at"] is not None and item["next_at"] > item["created_at"]:
        return "held back until then, as its route says"
    return "in line"
