"""Forgetting: what was learned of, or said about, what is erased goes; what names nobody stays.

Rules: whatever holds a text, a label or an alert of what is erased is dropped, or loses that part: templates, orders of
services, counts by label or service, series and their alarms, samples that links and roots are learned from, the keys
of a linker, occurrences, precedents, outlooks, actions and lessons, charts that were learned. What is only numbers
stays: rates of families and of the tenant, weights, rarity (a sketch of hashes), sizes of incidents. An erase of a
whole tenant, at no particular time, leaves nothing but the numbers that are never used twice, and where its thinking
stands.

Decision: what was learned is not learned anew without what is erased. Nothing is left to learn from but the newest
sightings, and a tenant whose models begin anew after each erase has none. The linker's next fit replaces it all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from typing import TypeVar

from msgspec.structs import replace

from bridge.analysis.erasing import MASK, Eraser
from bridge.analysis.families import own_family
from bridge.analysis.feedback import Action
from bridge.analysis.forecast.occurrences import Occurrence
from bridge.analysis.lessons import Lesson
from bridge.analysis.rarity import Rarity
from bridge.analysis.roots import Sample
from bridge.analysis.topology import Chart
from bridge.analysis.watching import alert_key
from bridge.model import Episode
from bridge.pipeline.counts import LABEL
from bridge.pipeline.desk import Desk
from bridge.pipeline.series import Series
from bridge.pipeline.state import Tenant, TenantRecord, day_of

Key = TypeVar("Key")
Thing = TypeVar("Thing")


class Forgetting:
    """Takes what is erased out of what one tenant's thinking remembers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._series = Series(desk)

    def forget(self, tenant: Tenant, eraser: Eraser, hit: frozenset[str], gone: Iterable[Episode]) -> None:
        """Forget what is erased; `hit` are the incidents that held it, `gone` the episodes that went."""
        episodes = list(gone)
        alerts = {each.fingerprint for each in episodes}
        theirs = {each.template for each in episodes}
        self._taught(tenant, eraser, hit, alerts)
        theirs |= self._linked(tenant, eraser, alerts)
        self._watched(tenant, eraser)
        self._foreseen(tenant, eraser, hit)
        self._charts(tenant, eraser)
        self._templates(tenant, eraser, theirs)
        self._record(tenant, eraser)

    def _keep(
        self,
        table: MutableMapping[Key, Thing],
        changed: Callable[[Key, Thing], Thing | None],
        store: Callable[[Key, Thing | None], None],
    ) -> None:
        """Let `changed` say what is left of each thing in a table; None: nothing."""
        for key, thing in list(table.items()):
            left = changed(key, thing)
            if left is None:
                del table[key]
                store(key, None)
            elif left is not thing:
                table[key] = left
                store(key, left)

    # ---- what people said ------------------------------------------------------------------------------------

    def _taught(self, tenant: Tenant, eraser: Eraser, hit: frozenset[str], alerts: set[str]) -> None:
        out, name = self._desk.out, tenant.name

        def is_gone(fingerprint: str) -> bool:
            return fingerprint in alerts or eraser.is_of({}, fingerprint)

        def action(_: str, known: Action) -> Action | None:
            if known.at > eraser.until:
                return known
            if eraser.everything:
                return None
            moved = tuple(
                replace(each, episodes=tuple(key for key in each.episodes if not is_gone(key[1])))
                for each in known.moved
            )
            root = None if known.root is not None and is_gone(known.root[1]) else known.root
            about = hit.intersection(known.incidents)
            text = MASK if about and known.text else known.text
            reason = MASK if about and known.reason else known.reason
            left = eraser.word(replace(known, moved=moved, root=root, text=text, reason=reason))
            return known if left == known else left

        def stays(sample: Sample) -> bool:
            return not (sample.fingerprint in alerts or eraser.is_of(sample.labels, sample.fingerprint))

        def lesson(_: str, known: Lesson) -> Lesson | None:
            if known.at > eraser.until:
                return known
            groups = tuple(kept for each in known.groups if (kept := tuple(filter(stays, each))))
            alarms = tuple(filter(stays, known.alarms))
            root = None if known.root is not None and is_gone(known.root[1]) else known.root
            left = eraser.word(replace(known, groups=groups, alarms=alarms, root=root))
            return known if left == known else left if groups or alarms else None

        self._keep(tenant.actions, action, lambda key, left: out.actions.__setitem__((name, key), left))
        self._keep(tenant.lessons, lesson, lambda key, left: out.lessons.__setitem__((name, key), left))

    # ---- what links are learned from -------------------------------------------------------------------------

    def _linked(self, tenant: Tenant, eraser: Eraser, alerts: set[str]) -> set[str]:
        """Drop what is meant, and return the templates that it had."""
        out, name = self._desk.out, tenant.name
        before = {each.template for each in tenant.sightings.values()}
        until_s = eraser.until.timestamp()
        self._keep(
            tenant.sightings,
            lambda _, seen: (
                seen if seen.at_s > until_s
                else None if seen.fingerprint in alerts or eraser.is_of(seen.labels, seen.fingerprint)
                else eraser.word(seen)
            ),
            lambda key, left: out.sightings.__setitem__((name, key), left),
        )  # fmt: skip
        if tenant.link_fit is not None:
            fit = None if eraser.is_all else eraser.word(tenant.link_fit)
            if fit is not tenant.link_fit:
                tenant.link_fit = out.link_fits[name] = fit
                tenant.judge = None
        return before - {each.template for each in tenant.sightings.values()}

    # ---- what is counted and measured ------------------------------------------------------------------------

    def _watched(self, tenant: Tenant, eraser: Eraser) -> None:
        out, name = self._desk.out, tenant.name
        label = eraser.erase.label

        def is_named(key: tuple[str, str]) -> bool:
            sort, which = key
            if eraser.is_all or eraser.mentions(which):
                return True
            return label is not None and (sort, which) == (f"{LABEL}{label.name}", label.value)

        self._keep(
            tenant.counted,
            lambda key, known: None if is_named(key) else known,
            lambda key, left: out.counted.__setitem__((name, *key), left),
        )
        self._keep(
            tenant.pending,
            lambda key, known: None if is_named(key) else eraser.word(known),
            lambda key, left: out.pending.__setitem__((name, *key), left),
        )
        for series, known in list(tenant.measured.items()):
            if eraser.is_all or eraser.is_of(known.labels, "") or eraser.mentions(series):
                self._series.drop(tenant, series)
            elif (cleaned := eraser.word(known)) is not known:
                self._series.keep(tenant, series, cleaned)
        self._keep(
            tenant.alarms,
            lambda watched, alarm: (
                None if eraser.is_of(alarm.labels, alert_key(watched)[1]) or eraser.mentions(watched)
                else eraser.word(alarm)
            ),
            lambda key, left: out.alarms.__setitem__((name, key), left),
        )  # fmt: skip

    # ---- what is foreseen ------------------------------------------------------------------------------------

    def _foreseen(self, tenant: Tenant, eraser: Eraser, hit: frozenset[str]) -> None:
        out, name = self._desk.out, tenant.name
        until_s = eraser.until.timestamp()

        def occurrence(incident: str, known: Occurrence) -> Occurrence | None:
            if known.start_s > until_s:
                return known
            if eraser.everything:
                return None
            left = replace(known, text=MASK, entity="") if incident in hit else eraser.word(known)
            return known if left == known else left

        self._keep(tenant.happened, occurrence, lambda key, left: out.happened.__setitem__((name, key), left))
        self._keep(
            tenant.pasts,
            lambda incident, known: (
                known if known.past.opened_at > eraser.until
                else None if eraser.everything or incident in hit or eraser.word(known) is not known
                else known
            ),
            lambda key, left: out.pasts.__setitem__((name, key), left),
        )  # fmt: skip
        self._keep(
            tenant.outlooks,
            lambda target, known: (
                None if eraser.is_all or (target.aim == "service" and eraser.mentions(target.name))
                else eraser.word(known)
            ),
            lambda key, left: out.outlooks.__setitem__((name, key.aim, key.name), left),
        )  # fmt: skip

    # ---- who calls whom, and who comes first -----------------------------------------------------------------

    def _charts(self, tenant: Tenant, eraser: Eraser) -> None:
        out, name = self._desk.out, tenant.name
        self._keep(
            tenant.orders,
            lambda pair, known: None if eraser.is_all or any(map(eraser.mentions, pair)) else known,
            lambda pair, left: out.orders.__setitem__((name, *pair), left),
        )
        for (owner, origin), chart in list(self._desk.state.charts.items()):
            if owner == name and origin != "file":  # that one is the configuration's
                empty = Chart(origin=chart.origin)
                self._desk.keep_chart(name, empty if eraser.is_all else _without(chart, eraser))

    # ---- texts -----------------------------------------------------------------------------------------------

    def _templates(self, tenant: Tenant, eraser: Eraser, theirs: set[str]) -> None:
        """Drop templates that name what is erased, or that nothing that is left has; one in use loses the word."""
        held = {template for group in tenant.groups.values() for template in group.templates}
        seen = {sighting.template for sighting in tenant.sightings.values()}
        today, everything = day_of(eraser.until), eraser.is_all
        for template, record in list(tenant.templates.items()):
            is_named = eraser.mentions(record.text)
            if template in held:
                if is_named:
                    self._desk.keep_template(tenant, replace(record, text=eraser.masked(record.text)))
            elif everything or is_named or (template in theirs - seen and record.used_day <= today):
                self._desk.drop_template(tenant, template)
                self._desk.drop_habit(tenant, own_family(template))
        if everything:
            for family in list(tenant.habits):
                self._desk.drop_habit(tenant, family)

    def _record(self, tenant: Tenant, eraser: Eraser) -> None:
        record = tenant.record
        if eraser.is_all:
            left = TenantRecord(
                fit_asked=record.fit_asked, fit_done=record.fit_asked, sighted=record.sighted,
                link_asked=record.link_asked, review_asked=record.review_asked, review_done=record.review_asked,
                behind_at=record.behind_at, model_free=record.model_free, usage=record.usage,
            )  # fmt: skip
            tenant.rarity = self._desk.out.rarities[tenant.name] = Rarity()
        else:
            onsets = tuple(each for each in record.onsets if not eraser.mentions(each.service))
            reviewing = tuple(each for each in record.reviewing if not eraser.mentions(each))
            left = eraser.word(replace(record, onsets=onsets, reviewing=reviewing))
        # A linker that is being learned was asked for with what is erased, and so was a review.
        left = replace(
            left, link_done=left.link_asked, link_void=left.link_asked, review_done=left.review_asked
        )
        if left != record:
            self._desk.keep_record(tenant, left)


def _without(chart: Chart, eraser: Eraser) -> Chart:
    """Return a chart without the services that name what is erased, and their calls."""
    kept = [
        number
        for number, service in enumerate(chart.services)
        if not any(map(eraser.mentions, (service.name, service.cluster, service.namespace, *service.also)))
    ]
    place = {number: at for at, number in enumerate(kept)}
    calls = tuple(
        replace(
            call, caller=place[call.caller], callee=place[call.callee], evidence=eraser.masked(call.evidence)
        )
        for call in chart.calls
        if call.caller in place and call.callee in place
    )
    return replace(chart, services=tuple(chart.services[number] for number in kept), calls=calls)
