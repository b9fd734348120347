"""Feedback: what a person says of an incident takes effect, is kept, and teaches.

Rules: everything a person says leaves an `Action`, done or refused with its reason; nothing of it raises. It is done
whole or not at all. What a person grouped is marked, and no alert or model regroups it. An action acts once, however
often its row comes; the newest `MAX_ACTIONS` of a tenant are kept, the lessons of older ones go with them.

Decision: an incident that is over for so long that it is forgotten (`Desk.forget_later`) cannot be regrouped any more,
but what is said of it is kept with it: thinking holds what can still change, and a correction of last week's grouping
changes nothing that anybody waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from bridge.analysis import lessons
from bridge.analysis.feedback import Action, ActionState, EpisodeRef, Feedback, FeedbackKind, Moved
from bridge.analysis.incidents import AlertKey, EpisodeKey, Group, Said
from bridge.analysis.lessons import Lesson
from bridge.analysis.ranking import importance
from bridge.errors import RefusedError
from bridge.model import Episode, EventKind, Fault, InboxRow, IncidentState, Opinion
from bridge.pipeline.aging import Aging
from bridge.pipeline.desk import Desk
from bridge.pipeline.events import Events
from bridge.pipeline.regrouping import Regrouping, refusal
from bridge.pipeline.series import Series
from bridge.pipeline.state import Tenant
from bridge.pipeline.undoing import Undoing

#: Of a tenant. An undo needs the action that it takes back.
MAX_ACTIONS = 10_000
MAX_RESTORED = 5_000  # episodes that an action moves and remembers, so that an undo can move them back
_LIVELY = frozenset({IncidentState.OPEN, IncidentState.QUIET})
_SAID_LATER = frozenset({FeedbackKind.NOTE, FeedbackKind.FALSE_ALARM, FeedbackKind.USEFUL})
_NO_LESSON = frozenset({FeedbackKind.ACK, FeedbackKind.NOTE, FeedbackKind.UNDO})
#: The order in which one of several incidents goes on when they are merged.
_GOES_ON = {IncidentState.OPEN: 0, IncidentState.QUIET: 1, IncidentState.CLOSED: 2, IncidentState.MERGED: 3}


class Done(NamedTuple):
    """What came of one action."""

    incidents: tuple[str, ...]
    reason: str = ""
    moved: tuple[Moved, ...] = ()
    root: EpisodeKey | None = None
    #: Episodes that share a cause, apart from those that do not.
    groups: tuple[tuple[Episode, ...], ...] = ()
    alarms: tuple[Episode, ...] = ()
    verdict: Opinion = ""


class Corrections:
    """Puts feedback into effect."""

    def __init__(self, desk: Desk, events: Events, aging: Aging, regrouping: Regrouping) -> None:
        self._desk = desk
        self._events = events
        self._aging = aging
        self._regrouping = regrouping
        self._series = Series(desk)
        self._undoing = Undoing(desk, events, aging, regrouping)
        self._kinds: dict[FeedbackKind, Callable[[Tenant, Feedback], Done]] = {
            FeedbackKind.ACK: self._ack,
            FeedbackKind.CLOSE: self._close,
            FeedbackKind.NOTE: self._note,
            FeedbackKind.MERGE: self._merge,
            FeedbackKind.SPLIT: self._part,
            FeedbackKind.MOVE: self._part,
            FeedbackKind.ROOT: self._root,
            FeedbackKind.FALSE_ALARM: self._judge,
            FeedbackKind.USEFUL: self._judge,
            FeedbackKind.UNDO: self._undo,
        }

    def take(self, row: InboxRow) -> None:
        """Do what a row says, or keep why it cannot be done."""
        try:
            told = msgspec.json.decode(row.body, type=Feedback)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._desk.quarantine(row, "body", Fault(reason=f"not feedback: {error}", body=row.body))
            return
        tenant = self._desk.tenant(row.tenant)
        if told.action in tenant.actions:
            return
        state = ActionState.APPLIED
        try:
            done = self._kinds[told.kind](tenant, told)
        except RefusedError as error:
            state = ActionState.REFUSED
            done = Done(incidents=(told.incident,) if told.incident else (), reason=str(error))
        self._desk.out.count(f"feedback:{told.kind.value if state is ActionState.APPLIED else 'refused'}")
        self._keep(tenant, told, done, state)

    def _keep(self, tenant: Tenant, told: Feedback, done: Done, state: ActionState) -> None:
        """Keep what was done and what it teaches, and let go of what is too old."""
        number = next(reversed(tenant.actions.values())).number + 1 if tenant.actions else 1
        now = self._desk.now
        fits = sum(len(moved.episodes) for moved in done.moved) <= MAX_RESTORED
        self._desk.keep_action(tenant, Action(
            id=told.action, number=number, at=now, kind=told.kind, incidents=done.incidents, text=told.text,
            author=told.author, state=state, reason=done.reason, undoes=told.undoes,
            moved=done.moved if fits else (), root=done.root,
        ))  # fmt: skip
        while len(tenant.actions) > MAX_ACTIONS:
            self._desk.drop_action(tenant, next(iter(tenant.actions)))
        groups = lessons.samples_of(done.groups)
        alarms = lessons.samples_of([done.alarms])
        if groups or alarms:
            self._desk.keep_lesson(tenant, Lesson(
                action=told.action, number=number, at=now, kind=told.kind, incident=done.incidents[0],
                groups=groups, root=done.root, verdict=done.verdict, alarms=alarms[0] if alarms else (),
            ))  # fmt: skip
        while len(tenant.lessons) > lessons.MAX_LESSONS:
            self._desk.drop_lesson(tenant, next(iter(tenant.lessons)))

    # ---- what is said of an incident ------------------------------------------------------------------------

    def _ack(self, tenant: Tenant, told: Feedback) -> Done:
        groups = self._meant(tenant, told, _LIVELY)
        fresh = [group for group in groups if group.head.acknowledged_at is None]
        for group in fresh:
            group.head = replace(group.head, acknowledged_at=self._desk.now)
            group.progress = replace(group.progress, reminders={})
            self._events.due(tenant, group, EventKind.ACKNOWLEDGED, _said(told))
        return Done(incidents=_ids(groups), reason="" if fresh else "it was acknowledged before")

    def _close(self, tenant: Tenant, told: Feedback) -> Done:
        groups = self._meant(tenant, told, _LIVELY)
        for group in groups:
            self._aging.close_by_hand(tenant, group, _said(told))
        # Of several incidents none is said to belong to another.
        together = tuple(tuple(group.episodes.values()) for group in groups) if told.confirm else ()
        return Done(incidents=_ids(groups), groups=together)

    def _note(self, tenant: Tenant, told: Feedback) -> Done:
        if not told.text.strip():
            raise RefusedError("a note needs a text")
        groups = self._meant(tenant, told)
        for group in groups:
            self._events.due(tenant, group, EventKind.UPDATED, _said(told))
        return self._of(told, groups)

    def _judge(self, tenant: Tenant, told: Feedback) -> Done:
        is_useful = told.kind is FeedbackKind.USEFUL
        verdict: Opinion = "useful" if is_useful else "false_alarm"
        groups = self._meant(tenant, told)
        for group in groups:
            self._series.hear(tenant, group, group.head.verdict, verdict)
            group.head = replace(group.head, verdict=verdict)
            self._desk.touch(tenant, group)
        told_of = tuple(tuple(group.episodes.values()) for group in groups)
        done = self._of(told, groups)._replace(verdict=verdict)
        if is_useful:
            return done._replace(groups=told_of)
        return done._replace(alarms=tuple(episode for each in told_of for episode in each))

    def _of(self, told: Feedback, groups: Sequence[Group]) -> Done:
        """Return what came of something that is only said, also of an incident that is forgotten."""
        if groups:
            return Done(incidents=_ids(groups))
        return Done(
            incidents=(told.incident,), reason="it was over for too long for more than to keep this with it"
        )

    def _root(self, tenant: Tenant, told: Feedback) -> Done:
        named = self._named(tenant, told)
        groups = {group.head.id: group for _, group in named}
        if len(groups) != 1:
            raise RefusedError("the episode that came first is one, of one incident: name its source, too")
        group = next(iter(groups.values()))
        key = min((key for key, _ in named), key=lambda each: importance(group.episodes[each]))
        by = told.author or "a person"
        group.progress = replace(group.progress, root=key, root_by=by)
        self._events.due(tenant, group, EventKind.UPDATED, _said(told))
        return Done(incidents=_ids([group]), root=key, groups=(tuple(group.episodes.values()),))

    def _undo(self, tenant: Tenant, told: Feedback) -> Done:
        action, reason = self._undoing.take_back(tenant, told.undoes, _said(told))
        return Done(incidents=action.incidents, reason=reason)

    # ---- what belongs together ------------------------------------------------------------------------------

    def _merge(self, tenant: Tenant, told: Feedback) -> Done:
        groups = {group.head.id: group for _, group in self._named(tenant, told)} if told.episodes else {}
        if told.incident:
            groups[told.incident] = self._known(tenant, told.incident)
        if told.into and told.into == told.incident:
            raise RefusedError("an incident cannot be merged into itself")
        into = self._known(tenant, told.into) if told.into else None
        goes_on = into or (_goes_on(groups.values()) if groups else None)
        gone = [group for _, group in sorted(groups.items()) if group is not goes_on]
        if goes_on is None or not gone:
            raise RefusedError("a merge needs two incidents")
        for group in gone:
            _check(refusal(group, goes_on))
        together = tuple(episode for group in (goes_on, *gone) for episode in group.episodes.values())
        moved = []
        for group in gone:
            moved.append(_moved(group, goes_on, group.episodes))
            self._regrouping.merge(tenant, goes_on, group, _why("merged", told))
        self._mark(tenant, [*gone, goes_on], _said(told))
        first = told.incident or gone[0].head.id
        ids = dict.fromkeys([first, goes_on.head.id, *_ids(gone)])
        return Done(incidents=tuple(ids), moved=tuple(moved), groups=(together,))

    def _part(self, tenant: Tenant, told: Feedback) -> Done:
        """Let the episodes named leave together: for the incident that was named, or for one of their own."""
        homes: dict[str, list[EpisodeKey]] = {}
        for key, group in self._named(tenant, told):
            homes.setdefault(group.head.id, []).append(key)
        target = self._taker(tenant, told)
        if target is not None:
            homes.pop(target.head.id, None)
        if not homes:
            raise RefusedError("these episodes are where they should go")
        # Without a target the first is split and the others' episodes follow: one that is wholly named cannot be split.
        sources = sorted(
            [tenant.groups[name] for name in homes],
            key=lambda each: (len(homes[each.head.id]) == len(each.episodes), _rank(each)),
        )
        for source in sources:
            new = target is None and source is sources[0]
            _check(refusal(source, None if new else target or sources[0], homes[source.head.id]))
        stayed = [_others(source, homes[source.head.id]) for source in sources]
        if target is None:
            why = _why("", told)
            target = self._regrouping.split(tenant, sources[0], homes[sources[0].head.id], why)
        for source in sources:
            if source is tenant.groups[source.head.id]:  # one that was split is another object now
                self._regrouping.move(tenant, source, target, homes[source.head.id], _why("moved", told))
        moved = [_moved(source, target, homes[source.head.id]) for source in sources]
        ids = dict.fromkeys([told.incident or sources[0].head.id, *_ids(sources), target.head.id])
        self._mark(tenant, [tenant.groups[each] for each in ids], _said(told))
        together = tuple(target.episodes.values())
        return Done(incidents=tuple(ids), moved=tuple(moved), groups=(together, *stayed))

    def _taker(self, tenant: Tenant, told: Feedback) -> Group | None:
        """Return the incident that takes in, None for a new one."""
        if told.into:
            return self._known(tenant, told.into)
        if told.beside is None:
            return None
        found = self._find(tenant, [told.beside], None)
        return found[0][1]

    def _mark(self, tenant: Tenant, groups: Iterable[Group], said: Said) -> None:
        """Let nothing but a person regroup what a person grouped, and their events say who it was."""
        for group in groups:
            self._events.sign(tenant, group, said)
            group.progress = replace(group.progress, by_hand=True, bridges={})
            self._regrouping.unbridge(tenant, group.head.id)
            self._desk.touch(tenant, group)

    # ---- who is meant ---------------------------------------------------------------------------------------

    def _meant(self, tenant: Tenant, told: Feedback, states: Iterable[IncidentState] = ()) -> list[Group]:
        """Return the incidents that something is said of, oldest first.

        None only for one that is forgotten and of which something may still be said.
        """
        if told.incident:
            if told.incident not in tenant.groups and told.kind in _SAID_LATER:
                return []
            groups = [self._known(tenant, told.incident)]
        else:
            found = {group.head.id: group for _, group in self._named(tenant, told)}
            groups = sorted(found.values(), key=lambda group: (group.head.opened_at, group.head.id))
        for group in groups:
            head = group.head
            if head.state is IncidentState.MERGED:
                raise RefusedError(f"{head.id} was merged into {head.merged_into}")
            if states and head.state not in states:
                raise RefusedError(f"{head.id} is {head.state.value} already")
        return groups

    def _known(self, tenant: Tenant, incident: str) -> Group:
        group = tenant.groups.get(incident)
        if group is None:
            raise RefusedError(
                f"{incident} is not known, or was over for so long that it cannot change any more"
            )
        return group

    def _named(self, tenant: Tenant, told: Feedback) -> list[tuple[EpisodeKey, Group]]:
        """Return the episodes that were named, with their incidents."""
        if not told.episodes:
            raise RefusedError("name the incident or its episodes")
        within = (
            self._known(tenant, told.incident)
            if told.incident and told.kind is not FeedbackKind.MERGE
            else None
        )
        return self._find(tenant, told.episodes, within)

    def _find(
        self, tenant: Tenant, refs: Iterable[EpisodeRef], within: Group | None
    ) -> list[tuple[EpisodeKey, Group]]:
        named = [*refs]
        candidates = _candidates(
            tenant.groups.values() if within is None else [within], {ref.fingerprint for ref in named}
        )
        found: dict[EpisodeKey, Group] = {}
        for ref in named:
            matching = _matching(ref, candidates.get(ref.fingerprint, ()))
            if not matching:
                where = "no incident that can still change" if within is None else f"not {within.head.id}"
                raise RefusedError(
                    f"the episode of {ref.fingerprint} that began {ref.starts_at:%Y-%m-%dT%H:%M:%SZ}: {where} has it"
                )
            found.update(matching)
        return list(found.items())


def _candidates(
    groups: Iterable[Group], fingerprints: Collection[str]
) -> dict[str, list[tuple[EpisodeKey, Group]]]:
    """Return the episodes of alerts with these fingerprints, with their incidents."""
    found: dict[str, list[tuple[EpisodeKey, Group]]] = {}
    for group in groups:
        if any(fingerprint in fingerprints for _, fingerprint in group.alerts):
            for key in group.episodes:
                if key[1] in fingerprints:
                    found.setdefault(key[1], []).append((key, group))
    return found


def _matching(
    ref: EpisodeRef, candidates: Iterable[tuple[EpisodeKey, Group]]
) -> list[tuple[EpisodeKey, Group]]:
    """Return the episodes that began when a person says, or else the newest of each alert that fired then."""
    its = [(key, group) for key, group in candidates if ref.source in {"", key[0]}]
    exact = [(key, group) for key, group in its if key[2] == ref.starts_at]
    if exact:
        return exact
    fired: dict[AlertKey, tuple[EpisodeKey, Group]] = {}
    for key, group in sorted(its, key=lambda each: each[0]):
        ends_at = group.episodes[key].ends_at
        if key[2] <= ref.starts_at and (ends_at is None or ref.starts_at <= ends_at):
            fired[key[:2]] = (key, group)
    return list(fired.values())


def _goes_on(groups: Iterable[Group]) -> Group:
    """Return which of several incidents goes on: one that is open, then the oldest."""
    return min(groups, key=_rank)


def _rank(group: Group) -> tuple[int, datetime, str]:
    return (_GOES_ON[group.head.state], group.head.opened_at, group.head.id)


def _others(group: Group, named: Iterable[EpisodeKey]) -> tuple[Episode, ...]:
    """Return the episodes of an incident that were not named."""
    leaving = set(named)
    return tuple(episode for key, episode in group.episodes.items() if key not in leaving)


def _moved(source: Group, target: Group, keys: Iterable[EpisodeKey]) -> Moved:
    return Moved(source=source.head.id, target=target.head.id, episodes=tuple(sorted(keys)))


def _ids(groups: Iterable[Group]) -> tuple[str, ...]:
    return tuple(group.head.id for group in groups)


def _said(told: Feedback) -> Said:
    return Said(text=told.text, author=told.author)


def _why(verb: str, told: Feedback) -> str:
    """Return why an episode is where it is now: who said so, and what."""
    by = f"{verb} by {told.author or 'hand'}".strip()
    return f"{by}: {told.text}" if told.text else by


def _check(why_not: str) -> None:
    if why_not:
        raise RefusedError(why_not)
