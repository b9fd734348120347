"""What the dispatcher and the delivery store hand each other.

Decision: a request is frozen as one row with its events, rather than bytes per event. A batch is retried as
the batch that it was: same bytes, same signature id, so that a destination can recognise the repeat.
"""

from __future__ import annotations

from datetime import datetime

from bridge.delivery.coalescing import Line, LineKey, Told
from bridge.model import Delivery, EventKind, Word
from bridge.ports import Memory


class OutboxPlace(Word, frozen=True, kw_only=True):
    """A place in an outbox. A state that is begun anew has another outbox, whose ids begin again."""

    outbox: str  # its identity; "" before any was read
    id: int = 0  # of a row; 0 before the first


class OutboxRow(Word, frozen=True, kw_only=True):
    """One event for one destination as the analyst wrote it. `id` never goes back within one outbox."""

    id: int
    tenant: str
    destination: str
    event_id: str
    incident: str
    seq: int
    kind: EventKind
    at: datetime
    not_before: datetime
    urgent: bool = False  # the incident is critical


class Frozen(Word, frozen=True, kw_only=True):
    """A request that was claimed before: its bytes (`ports.encode_request`) and its events, in order.

    `deliveries` are those that still need it; fewer than `event_ids` if some have ended.
    """

    id: int
    request: bytes
    event_ids: tuple[str, ...]
    step: str
    deliveries: tuple[Delivery, ...]
    told: dict[LineKey, Told]
    overtaken: bool = False  # a newer event of one of its incidents waits behind it


class Room(Word, frozen=True, kw_only=True):
    """How much a destination may start now."""

    requests: int  # frozen ones and new ones together
    lines: int
    follow: int | None = None  # at most so many waiting deliveries of each line, the oldest; None for all
    deliveries: int | None = None  # no further line is read once there are so many of them
    by_age: bool = False  # the oldest first, urgent or not
    turn: int = 0  # which of the tenants that all have a backlog goes first; counts up
    fresh: bool = False  # what was not tried before what was, as far as there is any


class Due(Word, frozen=True, kw_only=True):
    """What a destination can start now, and when the next thing is due (None: nothing waits)."""

    frozen: tuple[Frozen, ...] = ()
    lines: tuple[Line, ...] = ()
    next_at: datetime | None = None


class Claim(Word, frozen=True, kw_only=True):
    """A request about to be sent for the first time."""

    destination: str
    request: bytes
    event_ids: tuple[str, ...]
    step: str
    deliveries: tuple[Delivery, ...]  # as they were read; one per event id, in order


class LineChange(Word, frozen=True, kw_only=True):
    """What an answer changes about a line. `memory` None: keep."""

    key: LineKey
    told: Told
    memory: Memory | None = None


class Settlement(Word, frozen=True, kw_only=True):
    """What became of a request's deliveries; all of it is committed together.

    `keep_until` is when the same bytes go again, or their acknowledgement is asked for; None: the request is
    done with, and what is left of its events is rendered anew.
    """

    destination: str
    request: int
    deliveries: tuple[Delivery, ...]
    lines: tuple[LineChange, ...] = ()
    keep_until: datetime | None = None


class Stuck(Word, frozen=True, kw_only=True):
    """An event that fails although its destination takes others; what follows of its incident waits behind it."""

    since: datetime
    incident: str
    reason: str


class Fallback(Word, frozen=True, kw_only=True):
    """Where events go that a destination does not take."""

    to: str
    after_s: float = (
        300.0  # a destination that takes nothing for so long has its waiting events told there, too
    )


class Diverted(Word, frozen=True, kw_only=True):
    """What went to a fallback."""

    events: int = 0  # the fallback did not have them yet
    through: datetime | None = None  # when the newest waiting one of them was made; None if none waited
    more: bool = False


class Backlog(Word, frozen=True, kw_only=True):
    """What one destination does not have yet. `lost`: dead letters deleted since the store was made."""

    waiting: int = 0
    dead: int = 0
    lost: int = 0
    oldest_at: datetime | None = None  # when the oldest waiting event was made
    stuck: Stuck | None = None  # the one that is stuck longest


class Retention(Word, frozen=True, kw_only=True):
    """How long what has ended is kept."""

    ended_s: float = 30 * 86400.0  # delivered, superseded and dropped
    dead_s: float = 30 * 86400.0
    max_dead: int = 10_000  # per destination; the oldest make room
    memory_s: float = 90 * 86400.0  # of an incident that nothing was sent about


class GivenUp(Word, frozen=True, kw_only=True):
    """What made room: `events` became dead letters, `lost` older dead letters were deleted."""

    events: int
    lost: int


class Tidied(Word, frozen=True, kw_only=True):
    """What was deleted. `lost` counts dead letters per destination, which nobody can retry any more."""

    ended: int
    lost: dict[str, int]
    more: bool = False  # not all of it was deleted yet
