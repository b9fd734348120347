"""Linkers: what links are learned from, when a linker is asked for, and from when on it acts.

Rules: every alert that opens an episode is kept to learn from, so many of one tick and so many in all. A linker is
asked for at a tick on the full ten minutes, with what there is at that tick. It acts from the row that brings it,
unless one that was asked for later acts already. What people took back goes out of it with the next one, which is
asked for at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import zstandard
from msgspec.structs import replace

from bridge.analysis.causal_graph import key_of
from bridge.analysis.gate import LinkAsk, read_linker
from bridge.analysis.learning import Judge, Sighting, Taught
from bridge.analysis.lessons import Lesson
from bridge.analysis.pairs import begun_s
from bridge.analysis.roots import NamedRoot
from bridge.analysis.verdicts import LEAST_SIGHTINGS
from bridge.model import Episode, Fault, InboxRow
from bridge.pipeline.desk import Desk
from bridge.pipeline.links import Links
from bridge.pipeline.state import Tenant, tick_at, time_of

LEARN_EVERY_S = 600
#: A linker is learned anew when there is by that share more to learn from, or after a day.
LEARN_GROWTH = 0.35
LEAST_NEWS = 200
RELEARN_S = 86_400.0
LESSONS_EVERY_S = 6 * 3600.0
MAX_SIGHTINGS = 8_000
MAX_IN_TICK = 60
MAX_LABELS = 64  # of an alert that is learned from: more are no rule's


class Linkers:
    """Keeps sightings, asks for linkers, and takes them in."""

    def __init__(self, desk: Desk, links: Links) -> None:
        self._desk = desk
        self._links = links

    def sight(self, tenant: Tenant, episode: Episode) -> None:
        """Keep an alert to learn from."""
        record, tick = tenant.record, tick_at(self._desk.now)
        in_tick = record.sighted_in_tick + 1 if record.sighted_tick == tick else 1
        if in_tick > MAX_IN_TICK or len(episode.labels) > MAX_LABELS or record.usage.over:
            return
        number = record.sighted + 1
        sighting = Sighting(
            begun_s(episode.starts_at, episode.seen_at), episode.source, episode.fingerprint, episode.starts_at,
            episode.template, episode.labels,
        )  # fmt: skip
        tenant.sightings[number] = self._desk.out.sightings[tenant.name, number] = sighting
        while len(tenant.sightings) > MAX_SIGHTINGS:
            self._desk.drop_sighting(tenant, next(iter(tenant.sightings)))
        self._desk.keep_record(
            tenant, replace(record, sighted=number, sighted_tick=tick, sighted_in_tick=in_tick)
        )
        self.plan(tenant)

    def plan(self, tenant: Tenant) -> None:
        """Arm the next fit if there is enough that the last one did not know."""
        if tenant.record.learn_at is None and self._wanted(tenant):
            tick = -(-tick_at(self._desk.now) // LEARN_EVERY_S) * LEARN_EVERY_S
            self._desk.keep_record(tenant, replace(tenant.record, learn_at=time_of(tick)))
            self._desk.arm(tenant, "learn", (), time_of(tick))

    def rearm(self, tenant: Tenant) -> None:
        """Arm the fit that is due."""
        if tenant.record.learn_at is not None:
            self._desk.arm(tenant, "learn", (), tenant.record.learn_at)

    def _wanted(self, tenant: Tenant) -> bool:
        record, settings = tenant.record, self._desk.settings
        if (
            record.usage.over
            or len(tenant.sightings) < LEAST_SIGHTINGS
            or settings.grouping in {"entities", "bursts"}
        ):
            return False
        if record.linked_at is None:
            return True
        news = record.sighted - record.linked_sighted
        since_s = (self._desk.now - record.linked_at).total_seconds()
        if news >= LEAST_NEWS:
            growth = LEARN_GROWTH * min(record.linked_sighted, MAX_SIGHTINGS)
            if news >= growth or since_s >= RELEARN_S:
                return True
        known = set(record.linked_lessons)
        if not known <= tenant.lessons.keys():
            return True
        return since_s >= LESSONS_EVERY_S and len(tenant.lessons) > len(known)

    def learn(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Ask for a linker as things stand at this tick."""
        del key
        record = tenant.record
        if record.learn_at is None:
            return
        if self._desk.now < record.learn_at:
            self.rearm(tenant)
            return
        record = replace(record, learn_at=None)
        self._desk.keep_record(tenant, record)
        if self._wanted(tenant):
            self._desk.keep_record(tenant, replace(
                record, link_asked=record.link_asked + 1, linked_at=self._desk.now, linked_sighted=record.sighted,
                linked_lessons=tuple(tenant.lessons),
            ))  # fmt: skip
            self._desk.out.asks.append(link_ask(self._desk, tenant))

    def linker(self, row: InboxRow) -> None:
        """Let a linker act from here on; one that was asked for before the one in force, or an erase, is too late."""
        tenant = self._desk.tenant(row.tenant)
        try:
            fit = read_linker(row.body)
            judge = Judge(fit.linker)
        except (ValueError, KeyError, TypeError, zstandard.ZstdError) as error:
            self._desk.quarantine(row, "body", Fault(reason=f"not a linker: {error}", body=row.body))
            return
        if fit.fit and fit.fit <= tenant.record.link_void:
            self._desk.out.void.add(row.id)
            return
        if tenant.link_fit is not None and fit.fit < tenant.link_fit.fit:
            return
        tenant.judge = judge
        tenant.link_fit = self._desk.out.link_fits[tenant.name] = fit
        done = max(tenant.record.link_done, fit.fit)
        self._desk.keep_record(tenant, replace(
            tenant.record, link_done=done, link_since=self._desk.now, regroup_wishes=(),
        ))  # fmt: skip
        self._links.rearm(tenant)
        self._links.arm_round(tenant)


def link_ask(desk: Desk, tenant: Tenant) -> LinkAsk:
    """Return what a fit of a linker needs."""
    settings = desk.settings
    known = sorted({sighting.template for sighting in tenant.sightings.values()})
    records = [tenant.templates[name] for name in known if name in tenant.templates]
    return LinkAsk(
        tenant=tenant.name, fit=tenant.record.link_asked, sightings=tuple(tenant.sightings.values()),
        families={name: desk.family_of(tenant, name) for name in known},
        vectors={} if desk.free else {record.id: record.vector for record in records if record.vector},
        charts=desk.charts_of(tenant), label=settings.topology_label,
        taught=tuple(_taught(lesson) for lesson in tenant.lessons.values() if lesson.groups),
        roots=named_roots(tenant.lessons.values()),
        sensitivity=settings.sensitivity, window_s=settings.window_s,
    )  # fmt: skip


def _taught(lesson: Lesson) -> Taught:
    groups = tuple(
        tuple((sample.source, sample.fingerprint, sample.starts_at) for sample in group)
        for group in lesson.groups
    )
    return Taught(incident=lesson.incident, groups=groups)


def named_roots(lessons: Iterable[Lesson]) -> tuple[NamedRoot, ...]:
    """Return the incidents whose root people named, as ranking learns from them: the newest word about each."""
    newest: dict[str, NamedRoot] = {}
    for lesson in lessons:
        samples = [sample for group in lesson.groups for sample in group]
        same = [
            sample
            for sample in samples
            if lesson.root and (sample.source, sample.fingerprint) == lesson.root[:2]
        ]
        if same:
            newest.pop(lesson.incident, None)
            newest[lesson.incident] = NamedRoot(root=key_of(same[0]), alerts=tuple(samples))
    return tuple(newest.values())
