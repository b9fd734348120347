"""How the parts of a sidecar are doing, as its front knows it.

Rule: nothing is asked for this. What is shown is what metrics and own alerts say, so that all three agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from bridge.api import AnalystHealth, DestinationHealth, Health
from bridge.app.troubles import Firing, Troubles
from bridge.config import Settings
from bridge.telemetry import Telemetry

#: Own alerts that say how a destination is; of two the first counts.
_STATES: tuple[tuple[str, Literal["blocked", "unreachable"]], ...] = (
    ("TocsinDestinationBlocked", "blocked"),
    ("TocsinDestinationUnreachable", "unreachable"),
)


def health_of(tenant: str, settings: Settings, telemetry: Telemetry, troubles: Troubles) -> Health:
    """Return what a tenant is told: of the analyst, and of the destinations that it has a route to."""
    firing = {(each.labels["alertname"], each.labels.get("destination")): each for each in troubles.firing()}
    return Health(
        analyst=AnalystHealth(
            up=telemetry.value("tocsin_analyst_up") == 1,
            models=_models(settings, telemetry),
            degraded=telemetry.value("tocsin_degraded") == 1,
        ),
        destinations=tuple(_destination(name, firing) for name in _reached(tenant, settings)),
    )


def _models(settings: Settings, telemetry: Telemetry) -> Literal["work", "missing", "off"]:
    if not settings.analysis.models:
        return "off"
    return "work" if telemetry.value("tocsin_models_up") == 1 else "missing"


def _reached(tenant: str, settings: Settings) -> Iterator[str]:
    """Yield the destinations that a tenant's incidents may go to, in the order of the configuration."""
    routed = {
        name for route in settings.analysis.routes if route.tenant in {None, tenant} for name in route.to
    }
    return (each.name for each in settings.destinations if each.name in routed)


def _destination(name: str, firing: dict[tuple[str, str | None], Firing]) -> DestinationHealth:
    for alert, state in _STATES:
        found = firing.get((alert, name))
        if found is not None:
            return DestinationHealth(name=name, state=state, reason=found.reason, since=found.starts_at)
    return DestinationHealth(name=name, state="working")
