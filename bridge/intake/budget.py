"""How much may be held at once, and how much may be set aside in a minute."""

from __future__ import annotations

from bridge.intake.terms import RefusedError


class Budget:
    """Bytes of bodies that may be held at once."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.held_bytes = 0


class Hold:
    """One request's part of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size_bytes = 0

    def grow(self, size: int) -> None:
        """Hold `size` bytes more; refuse the request if they are not left."""
        if self._budget.held_bytes + size > self._budget.total_bytes:
            raise RefusedError("busy", "too much is being received; try again")
        self._budget.held_bytes += size
        self.size_bytes += size

    def release(self) -> None:
        """Give everything back."""
        self._budget.held_bytes -= self.size_bytes
        self.size_bytes = 0


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
