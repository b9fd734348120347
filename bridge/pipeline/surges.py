"""Surges: what comes along into an incident that was founded because of the time at which alerts came (`bursts`).

Rules: no critical alert leaves an incident that people were called for; nothing leaves one that a person grouped, or is
all of it.

Decision: at once, in the row that brings the surge, rather than by rounds that must agree: the first message should
name what belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.analysis.clustering import LIVELY
from bridge.analysis.incidents import EpisodeKey, Group
from bridge.model import Episode
from bridge.pipeline.desk import Desk
from bridge.pipeline.regrouping import Regrouping, refusal
from bridge.pipeline.state import Tenant

WHY = "moved: it came with the first alert of this incident"


class Surges:
    """Lets a surge take along what belongs to it."""

    def __init__(self, desk: Desk, regrouping: Regrouping) -> None:
        self._desk = desk
        self._regrouping = regrouping

    def take_along(self, tenant: Tenant, episode: Episode, along: Iterable[EpisodeKey]) -> None:
        """Let the alerts `along` come to the incident that `episode` founded, where it fires now.

        Cost grows with the incidents that they leave; what they come along with is at most what `Arrivals` looks at.
        """
        target = tenant.groups[tenant.firing[episode.source, episode.fingerprint][0]]
        leaving: dict[str, list[EpisodeKey]] = {}
        for fellow in along:
            source = tenant.holder_of(fellow)
            if source is not None and source is not target and _may_leave(source, fellow):
                leaving.setdefault(source.head.id, []).append(fellow)
        for incident, keys in leaving.items():
            source = tenant.groups[incident]
            if len(keys) < len(source.episodes) and not refusal(source, target, keys):
                self._regrouping.move(tenant, source, target, keys, WHY)
                self._desk.out.count("regroup:moved")


def _may_leave(source: Group, key: EpisodeKey) -> bool:
    rung = source.progress.rung_at is not None and source.episodes[key].severity == "critical"
    return not rung and not source.progress.by_hand and source.head.state in LIVELY
