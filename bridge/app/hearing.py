"""What the front makes of the analyst's words: metrics, log lines, alerts about ourselves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.analysis.settings import WAYS
from bridge.app.troubles import Troubles
from bridge.telemetry import Telemetry, count_outcome

logger = logging.getLogger(__name__)

#: From the analyst's gauges to metrics. `due` is no metric: it says whether time has to be told; `disputed` says that
#: somebody should be asked.
GAUGES: dict[str, str] = {
    "incidents_open": "tocsin_incidents_open",
    "heartbeat_missing": "tocsin_heartbeat_missing",
    "behind": "tocsin_tenants_behind",
    "degraded": "tocsin_degraded",
    "resident_bytes": "tocsin_analyst_resident_bytes",
    "models_up": "tocsin_models_up",
    "verdict_age_s": "tocsin_grouping_verdict_age_seconds",
}
#: The same of gauges that are named `what:way`. A way of which nothing is told has no series.
GAUGES_BY_WAY: dict[str, str] = {
    "grouping": "tocsin_grouping_tenants",
    "exam_f1": "tocsin_grouping_exam_f1",
}
#: Deaths without a commit in between, from which on it is a trouble worth an alert.
DEATHS = 3
#: How long an alert about a row that was set aside, or about a state that was lost, fires: nothing else ends it.
ASIDE_S = 3600.0


def _nothing() -> None:
    """Do nothing."""


def _heard(_gauges: Mapping[str, float]) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Whom to tell what the analyst said: that there are events, that its state is lost, and so on."""

    events: Callable[[], None]
    state_lost: Callable[[], None]
    inbox_damaged: Callable[[str], None]
    doubt: Callable[[], None] = _nothing
    gauges: Callable[[Mapping[str, float]], None] = _heard


class Hearing:
    """Listens to one analyst after the other, as `bridge.app.supervision.Listener`."""

    def __init__(
        self,
        telemetry: Telemetry,
        troubles: Troubles,
        *,
        newest_id: Callable[[], int],
        calls: Calls,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._telemetry = telemetry
        self._troubles = troubles
        self._newest_id = newest_id
        self._calls = calls
        self._clock = clock
        self._wall = wall
        self._caught_up_at = clock()
        self._reached_at = 0.0  # received_at of the newest understood row, epoch s
        self.cursor = 0
        self._aside_at = self._lost_at = float("-inf")
        self._renewed_at: dict[str, float] = {}
        self.timers = True  # until the analyst says otherwise
        self.behind = False  # whether a tenant's rows wait while others' are thought
        telemetry.watch("tocsin_inbox_backlog_rows", lambda: float(self.backlog))
        telemetry.watch("tocsin_analyst_lag_seconds", self.lag_s)

    @property
    def backlog(self) -> int:
        """Rows that are committed and not yet understood."""
        return max(0, self._newest_id() - self.cursor)

    def lag_s(self) -> float:
        """Return for how long the oldest of those rows has waited, at most."""
        if not self.backlog:
            return 0.0
        return max(0.0, min(self._clock() - self._caught_up_at, self._wall() - self._reached_at))

    def look(self) -> None:
        """Let an alert about something that happened once end after its time."""
        if self._clock() - self._aside_at > ASIDE_S:
            self._troubles.is_well("TocsinRowSetAside")
        if self._clock() - self._lost_at > ASIDE_S:
            self._troubles.is_well("TocsinStateLost")
        for store in [store for store, at in self._renewed_at.items() if self._clock() - at > ASIDE_S]:
            del self._renewed_at[store]
            self._troubles.is_well("TocsinStoreRenewed", store=store)

    def store_renewed(self, store: str, reason: str) -> None:
        """Note that a broken store was begun anew."""
        self._renewed_at[store] = self._clock()
        self._troubles.is_wrong("TocsinStoreRenewed", reason, store=store)

    def analyst_is(self, *, up: bool) -> None:
        """Note that it became ready, or ended."""
        self._telemetry.set("tocsin_analyst_up", float(up))
        if not up:
            self._telemetry.set("tocsin_models_up", 0)

    def analyst_restarts(self, reason: str, deaths_in_a_row: int) -> None:
        """Note that it ended without being asked to."""
        self._telemetry.add("tocsin_analyst_restarts_total", reason=reason)
        if deaths_in_a_row >= DEATHS:
            self._troubles.is_wrong(
                "TocsinAnalystDown", f"it ended {deaths_in_a_row} times in a row ({reason})"
            )

    def analyst_says(self, message: Mapping[str, Any]) -> None:
        """Take in what it says about its work."""
        match message["say"]:
            case "ready":
                self._reach(int(message["cursor"]))
            case "committed":
                self._committed(message)
            case "counted":
                self._count(message["counters"])
            case "gauges":
                self._gauges(message["gauges"])
            case "failed":
                logger.warning(
                    "A batch could not be understood.",
                    extra={
                        "event": "batch_failed", "low": message["from"], "high": message["to"],
                        "reason": message["reason"], "trace": message["trace"],
                    },
                )  # fmt: skip
            case "aside":
                self._aside(message)
            case "models":
                self._models(up=bool(message["up"]))
            case "state_lost" | "inbox_damaged":
                self._broken(message)
            case "trouble":
                logger.warning(
                    "The analyst cannot go on: %s.", message["reason"], extra={"event": "analyst_trouble"}
                )
            case _:
                pass

    def _broken(self, message: Mapping[str, Any]) -> None:
        if message["say"] == "inbox_damaged":
            self._calls.inbox_damaged(message["reason"])
            return
        self._lost_at = self._clock()
        self._calls.state_lost()
        self._troubles.is_wrong("TocsinStateLost", f"{message['reason']}; kept as {message['kept']}")

    def _committed(self, message: Mapping[str, Any]) -> None:
        self._reached_at = datetime.fromisoformat(message["at"]).timestamp()
        self._reach(int(message["cursor"]))
        self._telemetry.observe("tocsin_analyst_batch_seconds", message.get("took_s", 0.0))
        self._count(message["counters"])
        self._troubles.is_well("TocsinAnalystDown")

    def _count(self, counters: Mapping[str, int]) -> None:
        count_outcome(self._telemetry, counters)
        if any(name.startswith("event:") for name in counters):
            self._calls.events()

    def _reach(self, cursor: int) -> None:
        self.cursor = cursor
        if not self.backlog:
            self._caught_up_at = self._clock()

    def _gauges(self, gauges: Mapping[str, float]) -> None:
        self.timers = bool(gauges.get("due", 1))
        self.behind = bool(gauges.get("behind"))
        if gauges.get("disputed"):
            self._calls.doubt()
        self._calls.gauges(gauges)
        for name, metric in GAUGES.items():
            if name in gauges:
                self._telemetry.set(metric, gauges[name])
        for what in ("samples", "counts"):
            if f"watched:{what}" in gauges:
                self._telemetry.set("tocsin_series_watched", gauges[f"watched:{what}"], what=what)
        for family, metric in GAUGES_BY_WAY.items():
            for way in WAYS:
                if f"{family}:{way}" in gauges:
                    self._telemetry.set(metric, gauges[f"{family}:{way}"], way=way)
                else:
                    self._telemetry.forget(metric, way=way)

    def _aside(self, message: Mapping[str, Any]) -> None:
        logger.error(
            "A row could not be understood and is in quarantine.",
            extra={"event": "row_set_aside"}
            | {name: message[name] for name in ("row", "tenant", "source", "reason")},
        )
        self._aside_at = self._clock()
        self._troubles.is_wrong("TocsinRowSetAside", f"inbox row {message['row']}: {message['reason']}")

    def _models(self, *, up: bool) -> None:
        if up:
            logger.info("The models work.", extra={"event": "models_joined"})
        else:
            logger.warning(
                "The models do not answer; it goes on without them.", extra={"event": "models_lost"}
            )
