"""Whose rows are thought next: those that wait, by tenant, and turns that are fair.

Rules: pure, without I/O or clock. Of one tenant rows are always taken in the order of the inbox. A row that concerns
all (settings, a topology of all, a front's start) waits until everything before it was taken, and everything after it
waits for it. What is picked still waits until it is `done`: a batch that failed is picked again.

Theory of operation: start-time fair queueing over bytes. Each tenant has spent so much; who spent least is next, and
who begins to wait anew begins with what the one had spent whose row was taken last. So a tenant that waits with one row
waits for one batch at most, whatever another has in front of it, and tenants that all have a backlog share alike. Who
can be done with goes without those who wait on, every other time: all of a batch is there only when the last of it is.
What a tenant's rows make is not changed by when they are taken (`pipeline.advance`, `behind`).

Decision: bytes rather than alerts or time. They are known before a row is read, and what thinking costs follows them;
shares by measured time would let one dear row be paid for by its tenant's next, which nobody could explain.

Decision: ids, times and sizes in arrays of numbers rather than objects: a backlog of a million rows is 24 MB.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter, deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

from bridge.model import RowKind

#: What a row costs beside its bytes.
ROW_BYTES = 512
#: What is only the time waits under this name, which no tenant has.
CLOCK = ""
_OF_ALL = frozenset({RowKind.STARTED, RowKind.SETTINGS, RowKind.MODE})
_COMPACT = 4096


class Waiting(NamedTuple):
    """A row of the inbox, without its body."""

    id: int
    at_us: int  # when it was received, microseconds since the epoch
    tenant: str
    kind: RowKind
    size_bytes: int


class Turn(NamedTuple):
    """What is taken next. `behind`: tenants that then wait with an older row than another's newest that was taken."""

    ids: tuple[int, ...]  # ascending
    behind: frozenset[str]


class Reached(NamedTuple):
    """Up to where everything was taken."""

    id: int
    at_us: int


class _Queue:
    """The waiting rows of one tenant, the oldest first."""

    def __init__(self) -> None:
        self.ids, self.times, self.sizes = array("q"), array("q"), array("q")
        self.start = 0
        self.spent = 0  # bytes

    def __len__(self) -> int:
        return len(self.ids) - self.start

    def add(self, row: Waiting) -> None:
        self.ids.append(row.id)
        self.times.append(row.at_us)
        self.sizes.append(row.size_bytes)

    def drop(self, count: int) -> None:
        self.start += count
        if self.start >= _COMPACT and self.start * 2 >= len(self.ids):
            for column in (self.ids, self.times, self.sizes):
                del column[: self.start]
            self.start = 0

    def is_waiting_at(self, place: int) -> bool:
        return self.start + place < len(self.ids)


class Turns:
    """All that waits, as far as it was noted."""

    def __init__(self, reached: Reached, taken: dict[str, int] | None = None) -> None:
        """Begin after `reached`; `taken` says up to which row above that single tenants' rows were taken."""
        self._reached = reached
        self._taken = dict(taken or {})
        self._queues: dict[str, _Queue] = {}
        self._of_all: deque[Waiting] = deque()
        self._noted = Reached(reached.id, reached.at_us)
        self._newest_taken = max([reached.id, *self._taken.values()])
        self._is_alone = False  # what was picked last was without those who wait on
        self._present = 0  # what had been spent, before its row, by the one whose row was taken last

    @property
    def noted(self) -> int:
        """The id of the newest row that was noted."""
        return self._noted.id

    @property
    def reached(self) -> Reached:
        """Up to where everything was taken: the cursor of the whole inbox."""
        return self._reached

    def __len__(self) -> int:
        """Return how many rows wait."""
        return sum(map(len, self._queues.values())) + len(self._of_all)

    def note(self, rows: Iterable[Waiting]) -> None:
        """Let rows wait that follow those that were noted before, in order."""
        for row in rows:
            self._noted = Reached(row.id, row.at_us)
            name = queue_of(row.tenant, row.kind)
            if name is None:
                self._of_all.append(row)
            elif row.id > self._taken.get(name, 0):
                queue = self._queues.get(name)
                if queue is None:
                    queue = self._queues[name] = _Queue()
                if not len(queue):
                    queue.spent = max(queue.spent, self._present)
                queue.add(row)
        self._settle()

    def pick(self, max_rows: int, max_bytes: int) -> Turn:
        """Return at most so many rows, and so many bytes if it is more than one row; at least one if any waits."""
        barrier = self._of_all[0].id if self._of_all else None
        order = self.order(max_rows, max_bytes, barrier)
        if not order:
            return Turn((), frozenset()) if barrier is None else Turn((barrier,), frozenset())
        counts = Counter(name for name, _ in order)
        alone = [(name, row) for name, row in order if len(self._queues[name]) == counts[name]]
        self._is_alone = bool(alone) and len(alone) < len(order) and not self._is_alone
        if self._is_alone:
            order, counts = alone, Counter(name for name, _ in alone)
        newest = max(self._newest_taken, *(row for _, row in order))
        behind = frozenset(
            name
            for name, queue in self._queues.items()
            if name != CLOCK and self._is_behind(queue, counts[name], newest)
        )
        return Turn(tuple(sorted(row for _, row in order)), behind)

    def order(self, max_rows: int, max_bytes: int, before: int | None = None) -> list[tuple[str, int]]:
        """Return names and ids in the order of the turns, of rows whose id is below `before`."""
        turns = [
            (queue.spent, queue.ids[queue.start], name, 0)
            for name, queue in self._queues.items()
            if len(queue)
        ]
        turns = [turn for turn in turns if before is None or turn[1] < before]
        heapq.heapify(turns)
        order: list[tuple[str, int]] = []
        size = 0
        while turns and len(order) < max_rows:
            spent, row, name, place = turns[0]
            queue = self._queues[name]
            size_bytes = queue.sizes[queue.start + place]
            if order and size + size_bytes > max_bytes:
                break
            order.append((name, row))
            size += size_bytes
            following = queue.ids[queue.start + place + 1] if queue.is_waiting_at(place + 1) else None
            if following is None or (before is not None and following >= before):
                heapq.heappop(turns)
            else:
                heapq.heapreplace(turns, (spent + size_bytes + ROW_BYTES, following, name, place + 1))
        return order

    def done(self, ids: Collection[int]) -> None:
        """Let rows that were picked wait no more."""
        if not ids:
            return
        gone = frozenset(ids)
        self._newest_taken = max(self._newest_taken, *gone)
        while self._of_all and self._of_all[0].id in gone:
            self._of_all.popleft()
        for name, queue in self._queues.items():
            count = 0
            while queue.is_waiting_at(count) and queue.ids[queue.start + count] in gone:
                self._present = max(self._present, queue.spent)
                queue.spent += queue.sizes[queue.start + count] + ROW_BYTES
                count += 1
            if count:
                self._taken[name] = queue.ids[queue.start + count - 1]
                queue.drop(count)
        self._settle()

    def skip_to(self, reached: Reached) -> None:
        """Go on after a row up to which everything was taken in the order of the inbox; nothing may wait."""
        self._noted = self._reached = reached
        self._newest_taken = max(self._newest_taken, reached.id)
        self._taken.clear()

    def _settle(self) -> None:
        """Find out up to where everything was taken, and forget what that says already."""
        waiting = [queue for queue in self._queues.values() if len(queue)]
        first = [Reached(queue.ids[queue.start], queue.times[queue.start]) for queue in waiting]
        if self._of_all:
            first.append(Reached(self._of_all[0].id, self._of_all[0].at_us))
        oldest = min(first, default=None)
        # The row before the oldest that waits is as old as that at most.
        self._reached = self._noted if oldest is None else Reached(oldest.id - 1, oldest.at_us)
        self._taken = {name: row for name, row in self._taken.items() if row > self._reached.id}
        for name in [name for name, queue in self._queues.items() if not len(queue)]:
            if self._queues[name].spent <= self._present:
                del self._queues[name]

    @staticmethod
    def _is_behind(queue: _Queue, taken: int, newest: int) -> bool:
        return queue.is_waiting_at(taken) and queue.ids[queue.start + taken] < newest


def queue_of(tenant: str, kind: RowKind) -> str | None:
    """Return the name that a row waits under; None if it concerns all."""
    if kind is RowKind.CLOCK:
        return CLOCK
    if kind in _OF_ALL or (kind is RowKind.TOPOLOGY and not tenant):
        return None
    return tenant
