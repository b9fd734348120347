"""Two states compared: what is stored, place by place, and what is derived from it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
from hypothesis import HealthCheck, settings
from msgspec.structs import replace

from bridge.analysis.incidents import EpisodeKey
from bridge.pipeline import Outcome, State
from bridge.pipeline.arrivals import Surge, arrived_s
from bridge.pipeline.bursts import arrivals_of
from bridge.pipeline.desk import Desk
from bridge.pipeline.links import Links
from bridge.pipeline.state import Tenant


def examples(number: int) -> settings:
    """Return settings for `number` examples; TOCSIN_EXAMPLES multiplies it for a long search."""
    number *= int(os.environ.get("TOCSIN_EXAMPLES", "1"))
    return settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))


def differences(one: State, other: State) -> list[str]:
    """Name what differs, place by place: a comparison of the two pictures as text takes minutes to print."""

    def walk(place: str, left: object, right: object) -> Iterator[str]:
        if isinstance(left, dict) and isinstance(right, dict):
            for key in sorted(left.keys() | right.keys()):
                yield from walk(f"{place}.{key}", left.get(key), right.get(key))
        elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
            for number, (each, its) in enumerate(zip(left, right, strict=True)):
                yield from walk(f"{place}[{number}]", each, its)
        elif left != right:
            yield f"{place}: {left!r} is not {right!r}"

    return list(walk("", msgspec.json.decode(one.picture()), msgspec.json.decode(other.picture())))


def derived(tenant: Tenant) -> dict[str, object]:
    """What is not stored and must come out the same from what is."""
    groups = tenant.groups.values()
    indexed = {group.head.id for group in groups if tenant.index.holds(group.head.id)}
    return {
        "firing": tenant.firing,
        "homes": {key: set(homes) for key, homes in tenant.homes.items()},
        "kin": {kin: set(homes) for kin, homes in tenant.kin.items()},
        "ladders": {rungs: set(firing) for rungs, firing in tenant.ladders.items()},
        "indexed": indexed,
        "held": {group.head.id: group.held for group in groups if group.head.id in indexed},
        "found": {
            key: tenant.index.newest(key)
            for group in groups
            if group.head.id in indexed
            for key in group.held
        },
        "templates": {group.head.id: group.templates for group in groups},
    }


def windows(state: State) -> dict[str, dict[EpisodeKey, str]]:
    """What a learned linker sees of each tenant's last quarter of an hour: which alert is in which incident."""
    links = Links(Desk(state, Outcome()))
    seen = {}
    for name, tenant in state.tenants.items():
        if links.way(tenant) == "linker":
            seen[name] = links.window(tenant).homes()
    return seen


def answers(state: State) -> dict[str, list[object]]:
    """What bursts are told if an alert that is in memory, or its like, came now, whatever was counted before."""
    desk = Desk(state, Outcome())
    told: dict[str, list[object]] = {}
    for name, tenant in state.tenants.items():
        counted = tenant.arrivals
        arrivals = arrivals_of(desk, tenant)
        tenant.arrivals = counted
        asked = [
            replace(episode, seen_at=state.common.clock, starts_at=starts_at)
            for _, episode in sorted(
                item for group in tenant.groups.values() for item in group.episodes.items()
            )
            for starts_at in (state.common.clock, episode.starts_at)
        ]
        windows = [Surge(int(arrived_s(one)), 0, 0) for one in asked]
        told[name] = [
            (
                arrivals.surge_of(one), list(arrivals.back_from(one)), arrivals.fellows(one, window),
                arrivals.since(one, window),
            )
            for one, window in zip(asked, windows, strict=True)
        ]  # fmt: skip
    return told
