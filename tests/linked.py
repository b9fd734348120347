"""A pipeline in which a linker is in force, and what is looked up in it by the names of alerts."""

from __future__ import annotations

from typing import Any

from linkers import fitted
from thinking import Thinking, fires

from bridge.analysis.incidents import Group
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.trees import NO_TREES, Grown
from bridge.model import Episode
from bridge.pipeline import Outcome
from bridge.pipeline.desk import Desk
from bridge.pipeline.links import Links
from bridge.pipeline.window import Window

LINKER = AnalysisSettings(grouping="linker")
BURSTS = AnalysisSettings(grouping="bursts")


def linked(unlabelled: Grown = NO_TREES, *, settings: AnalysisSettings = LINKER, **more: Any) -> Thinking:
    """Begin with a linker in force; `more` goes to `fitted`."""
    thinking = Thinking(settings)
    thinking.linker("0s", fitted(unlabelled, **more))
    return thinking


def episode(thinking: Thinking, name: str, place: int = -1) -> Episode:
    """Return the newest episode of an alert name."""
    found = [one for group in thinking.tenant.groups.values() for one in group.episodes.values()]
    mine = sorted((one for one in found if one.name == name), key=lambda one: one.starts_at)
    return mine[place]


def home(thinking: Thinking, name: str) -> Group:
    """Return the incident of the newest episode of an alert name."""
    return thinking.tenant.groups[episode(thinking, name).incident]


def the_window(thinking: Thinking) -> Window:
    """Return the window as it was last looked at."""
    assert thinking.tenant.window is not None
    return thinking.tenant.window


def look(thinking: Thinking) -> Window:
    """Return the window as it is at the next look."""
    return Links(Desk(thinking.state, Outcome())).window(thinking.tenant)


def shop(name: str, at: str, **labels: str) -> dict[str, object]:
    """Return an alert of the service `shop`."""
    return fires(name, starts=at, service="shop", **labels)


def pay(name: str, at: str, **labels: str) -> dict[str, object]:
    """Return an alert of the service `pay`."""
    return fires(name, starts=at, service="pay", **labels)
