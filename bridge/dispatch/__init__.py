"""The loop outbox -> verdict: takes in what the analyst decided and brings it to the destinations.

Rooms: `dispatcher` starts everything and takes in, `worker` is one destination, `standing` what is known of it,
`preparing` makes requests of what is due, `sending` is one attempt, `telling` logs and counts it, `alarms` tells
of trouble, `diverting` gives to fallbacks, `surroundings` is what all this is given.

Rules: one worker per destination, with its own limits; a destination that is dead costs the others nothing.
What is under way is marked in the store before it is sent. Nothing here keeps an event in memory for longer
than its attempt. Every decision is made in `bridge.delivery`; here is only waiting, moving and telling.
"""

from __future__ import annotations

from bridge.dispatch.dispatcher import Dispatcher
from bridge.dispatch.surroundings import (
    Book,
    DispatchMeter,
    DispatchSettings,
    OnTrouble,
    Outbox,
    Pause,
    SilentMeter,
)

__all__ = [
    "Book",
    "DispatchMeter",
    "DispatchSettings",
    "Dispatcher",
    "OnTrouble",
    "Outbox",
    "Pause",
    "SilentMeter",
]
