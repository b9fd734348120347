"""Who was let in and who was turned away: counted, and said in the log at a bounded rate.

Rules: the log has one line a minute for each kind of credential, with how many there were since; a line holds the
reason and the address, never what was shown. The counters do not tell reasons apart: `/metrics` is open, and whoever
tries credentials must not learn there which part of one was right.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bridge.auth import Denied, Grant, Shape
from bridge.telemetry import Telemetry

logger = logging.getLogger(__name__)

#: One line of each kind in so long.
EVERY_S = 60.0


class Admissions:
    """Counts and logs, as `bridge.intake.Witness`."""

    def __init__(self, telemetry: Telemetry, clock: Callable[[], float]) -> None:
        """Take where to count, and any steady clock in seconds."""
        self._telemetry = telemetry
        self._clock = clock
        self._said_at_s: dict[Shape, float] = {}
        self._unsaid: dict[Shape, int] = {}

    def let_in(self, grant: Grant) -> None:
        """Hear of a credential that was accepted."""
        self._telemetry.add("tocsin_admissions_total", shape=grant.shape, result="accepted")

    def turned_away(self, denied: Denied, peer: str | None) -> None:
        """Hear of a request whose credential is missing or was not accepted."""
        shape = denied.shape
        self._telemetry.add("tocsin_admissions_total", shape=shape, result="refused")
        now_s, count = self._clock(), self._unsaid.get(shape, 0) + 1
        self._unsaid[shape] = count
        if now_s - self._said_at_s.get(shape, float("-inf")) < EVERY_S:
            return
        self._said_at_s[shape], self._unsaid[shape] = now_s, 0
        more = f" ({count - 1} more since the last such line)" if count > 1 else ""
        logger.warning(
            "A request from %s was turned away: %s%s.", peer, denied.why, more,
            extra={"event": "turned_away", "shape": shape, "requests": count},
        )  # fmt: skip

    def undecided(self, place: str) -> None:  # noqa: ARG002 - who fetches the keys of the place logs it
        """Hear of a request that could not be decided, since the keys of `place` cannot be had."""
        self._telemetry.add("tocsin_admissions_total", shape="jwt", result="undecided")
