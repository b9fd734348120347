"""How much may be held at once, by all and by each, and how much may be set aside in a minute.

Rules: nothing is read before it is held. A body counts with what it really costs: a large one three times (its
pieces, the whole, and SQLite's own copy; 3.1 and 2.1 times were measured at 60 MiB). Large bodies share three
quarters of the budget, so that there is always room for small ones, which are nearly all. No holder, a tenant or,
where there is only one tenant, a peer, has more than half of what bodies of one size share and the others leave, but
for one body that it may always have: however many take what they can get, there is room for one more.

Decision: parts of what others leave rather than of what is free. A sender of a single large body would otherwise be
refused its own small ones for as long as it takes to arrive.
"""

from __future__ import annotations

from collections.abc import Hashable

from bridge.intake.terms import RefusedError

#: From here on a body is large. One of 1,000 alerts is just small.
LARGE_BYTES = 1 << 20
#: What a large body costs in memory, in its own size.
LARGE_COST = 3
#: The share of the budget that large bodies may have together.
LARGE_SHARE = 0.75


class Budget:
    """Bytes of bodies that may be held at once."""

    def __init__(self, total_bytes: int, largest_bytes: int = 0) -> None:
        """Make room for `total_bytes`, and in any case for one body of `largest_bytes`."""
        largest = cost_of(largest_bytes)
        self.total_bytes = max(total_bytes, largest)
        self.large_bytes = max(int(total_bytes * LARGE_SHARE), largest)
        self.held_bytes = 0
        self._large_held = 0
        self._by_holder: dict[tuple[Hashable, bool], int] = {}

    def take(self, holder: Hashable, cost: int, *, large: bool, most: int | None = None) -> None:
        """Take `cost` for one body; refuse the request if it is not left, or too much for this holder.

        `most` is what this holder may have, of both sizes together; None: it has no bound of its own.
        """
        shared = self.large_bytes if large else self.total_bytes
        used = self._large_held if large else self.held_bytes
        own, other = self._by_holder.get((holder, large), 0), self._by_holder.get((holder, not large), 0)
        if used + cost > shared or self.held_bytes + cost > self.total_bytes:
            raise RefusedError("busy", "too much is being received; try again")
        left = shared - (used - own - (0 if large else other))
        if own and own + cost > left // 2:
            raise RefusedError("busy", "too much is being received from you; try again")
        if most is not None and own + other and own + other + cost > most:
            raise RefusedError(
                "in_flight", "more is being received from you than your quota allows; try again"
            )
        self._change(holder, cost, large=large)

    def give_back(self, holder: Hashable, cost: int, *, large: bool) -> None:
        """Give back what was taken."""
        self._change(holder, -cost, large=large)

    def _change(self, holder: Hashable, cost: int, *, large: bool) -> None:
        self.held_bytes += cost
        self._large_held += cost * large
        own = self._by_holder.get((holder, large), 0) + cost
        if own:
            self._by_holder[holder, large] = own
        else:
            self._by_holder.pop((holder, large), None)


class Hold:
    """One request's part of the budget."""

    def __init__(self, budget: Budget, holder: Hashable = None, most: int | None = None) -> None:
        self._budget = budget
        self._holder = holder
        self._most = most
        self.size_bytes = 0

    def grow(self, size: int) -> None:
        """Hold `size` bytes of body more; refuse the request, and hold nothing, if they are not to be had."""
        before, self.size_bytes = self.size_bytes, self.size_bytes + size
        if before:
            self._budget.give_back(self._holder, cost_of(before), large=before > LARGE_BYTES)
        try:
            large = self.size_bytes > LARGE_BYTES
            self._budget.take(self._holder, cost_of(self.size_bytes), large=large, most=self._most)
        except RefusedError:
            self.size_bytes = 0
            raise

    def release(self) -> None:
        """Give everything back."""
        size, self.size_bytes = self.size_bytes, 0
        if size:
            self._budget.give_back(self._holder, cost_of(size), large=size > LARGE_BYTES)


class Allowance:
    """Bytes that may be spent per minute; saved up for at most one minute."""

    def __init__(self, bytes_per_min: int) -> None:
        self._per_min = bytes_per_min
        self._left = float(bytes_per_min)
        self._asked_at_s = 0.0

    def spend(self, size: int, now_s: float) -> bool:
        """Spend `size` bytes at `now_s` (of any steady clock); False, and nothing spent, if too many."""
        gained = (now_s - self._asked_at_s) / 60 * self._per_min
        self._left = min(self._left + gained, float(self._per_min))
        self._asked_at_s = now_s
        if size > self._left:
            return False
        self._left -= size
        return True


def cost_of(size: int) -> int:
    """Return what a body of `size` bytes takes of the budget."""
    return size * LARGE_COST if size > LARGE_BYTES else size
