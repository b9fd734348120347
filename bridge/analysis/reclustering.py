"""Re-clustering: what a new partition of the open window means for the incidents that are there.

Theory: a cluster belongs to the incident that has most of its alerts; what others have in it should come there. An
incident that lies whole in another's cluster should be merged into it, a part should move, and a part of which no
other incident has more should be split off. Ids stay with what is larger, so that most of what people have seen keeps
its name.

Rules: a wish acts when two rounds in a row have it. Nothing is wished of an incident that a person grouped. A
critical alert does not leave an incident that people were called for: it would call them again.

Decision: wishes name incidents, not alerts. In a storm other alerts take part in each round, and the wish stays.

Decision: where most of an incident is in another's cluster, it stays as the largest cluster that is its own, rather
than having that split off as well: its name would be left to nothing, or to what is older than the window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from bridge.analysis.incidents import EpisodeKey, Group
from bridge.model import Word


class Wish(Word, frozen=True, kw_only=True):
    """What should be done with an incident. `target` "": a new incident; `keys` (): all of it, a merge."""

    source: str
    target: str
    keys: tuple[EpisodeKey, ...] = ()

    @property
    def name(self) -> str:
        """What two rounds must agree on."""
        return f"{self.source} {self.target}{' whole' if not self.keys else ''}"


def wishes(
    partition: Mapping[EpisodeKey, int], home: Mapping[EpisodeKey, str], groups: Mapping[str, Group]
) -> list[Wish]:
    """Return what a partition of alerts asks of their incidents, in a fixed order.

    Args:
        partition: The cluster of each alert.
        home: The incident of each of these alerts.
        groups: The incidents.
    """
    parts: dict[tuple[int, str], list[EpisodeKey]] = {}
    for key in sorted(partition):
        parts.setdefault((partition[key], home[key]), []).append(key)
    counts = {part: len(keys) for part, keys in parts.items()}
    sizes = Counter(home[key] for key in partition)
    clusters: dict[int, dict[str, int]] = {}
    for (cluster, incident), count in counts.items():
        clusters.setdefault(cluster, {})[incident] = count
    main = _mains(counts)
    owner = {
        cluster: min(
            held, key=lambda incident: (main[incident] != cluster, -held[incident], _age(groups[incident]))
        )
        for cluster, held in clusters.items()
    }
    stays = {incident: _staying(incident, main[incident], owner, counts) for incident in main}
    found = []
    for (cluster, incident), keys in sorted(parts.items()):
        target = owner[cluster]
        if target == incident:
            if stays[incident] != cluster:
                found.append(Wish(source=incident, target="", keys=tuple(keys)))
        elif stays[target] != cluster:
            continue  # first it must be an incident: who has more of it is split
        elif sizes[incident] == len(keys):
            found.append(Wish(source=incident, target=target))
        else:
            found.append(Wish(source=incident, target=target, keys=tuple(keys)))
    return found


def _mains(counts: Mapping[tuple[int, str], int]) -> dict[str, int]:
    """Return the cluster in which each incident has most alerts; among equals the first."""
    main: dict[str, tuple[int, int]] = {}
    for (cluster, incident), count in sorted(counts.items()):
        if incident not in main or count > main[incident][1]:
            main[incident] = (cluster, count)
    return {incident: cluster for incident, (cluster, _) in main.items()}


def _staying(
    incident: str, main: int, owner: Mapping[int, str], counts: Mapping[tuple[int, str], int]
) -> int:
    """Return the cluster that an incident is to be: its main one, or, where that is another's, its largest own."""
    own = [cluster for cluster, name in sorted(owner.items()) if name == incident]
    return main if main in own or not own else max(own, key=lambda cluster: counts[cluster, incident])


def _age(group: Group) -> tuple[float, str]:
    return (group.head.opened_at.timestamp(), group.head.id)


def agreed(
    found: Sequence[Wish], before: Sequence[str], may: Callable[[Wish], bool]
) -> tuple[list[Wish], tuple[str, ...]]:
    """Return the wishes that act now, and the names of those that wait for the next round."""
    allowed = [wish for wish in found if may(wish)]
    acting = [wish for wish in allowed if wish.name in before]
    names = {wish.name for wish in acting}
    return acting, tuple(sorted({wish.name for wish in allowed if wish.name not in names}))
