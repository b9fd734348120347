"""Undoing: what a person said is taken back, as far as the world has not moved on, and always with its lesson.

Rules: the lesson goes whatever became of the incidents. Episodes go back where they came from if they still are where
they were put; what cannot be restored is said. What a person thinks of an incident, and what they named as having come
first, is again what the newest action that is left says. An undo cannot be undone: say again what was taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from bridge.analysis.feedback import Action, ActionState, FeedbackKind, Moved, newest_first
from bridge.analysis.incidents import Group, Said
from bridge.errors import RefusedError
from bridge.model import EventKind, IncidentState, Opinion
from bridge.pipeline.aging import Aging
from bridge.pipeline.desk import Desk
from bridge.pipeline.events import Events
from bridge.pipeline.regrouping import Regrouping, refusal
from bridge.pipeline.series import Series
from bridge.pipeline.state import Tenant

_GROUPING = frozenset({FeedbackKind.MERGE, FeedbackKind.SPLIT, FeedbackKind.MOVE})
_VERDICTS: dict[FeedbackKind, Opinion] = {
    FeedbackKind.USEFUL: "useful", FeedbackKind.FALSE_ALARM: "false_alarm",
}  # fmt: skip
_WHY = "a correction was taken back"


class Undoing:
    """Takes actions back."""

    def __init__(self, desk: Desk, events: Events, aging: Aging, regrouping: Regrouping) -> None:
        self._desk = desk
        self._events = events
        self._aging = aging
        self._regrouping = regrouping
        self._series = Series(desk)
        self._kinds: dict[FeedbackKind, Callable[[Tenant, Action, Said], Sequence[str]]] = {
            FeedbackKind.ACK: self._acknowledged,
            FeedbackKind.CLOSE: self._closed,
            FeedbackKind.NOTE: lambda _tenant, _action, _said: (),
            FeedbackKind.MERGE: self._moved,
            FeedbackKind.SPLIT: self._moved,
            FeedbackKind.MOVE: self._moved,
            FeedbackKind.ROOT: self._named,
            FeedbackKind.FALSE_ALARM: self._judged,
            FeedbackKind.USEFUL: self._judged,
        }

    def take_back(self, tenant: Tenant, undoes: str, said: Said) -> tuple[Action, str]:
        """Take an action back; return it with what could not be restored, "" if all was.

        Raises:
            RefusedError: There is no such action in force.
        """
        action = tenant.actions.get(undoes)
        if action is None:
            raise RefusedError(f"{undoes or 'an action without an id'} is not known, or is too old")
        if action.kind is FeedbackKind.UNDO:
            raise RefusedError(f"{action.id} is an undo: say again what it took back")
        if action.state is not ActionState.APPLIED:
            raise RefusedError(f"{action.id} is not in force: it is {action.state.value}")
        # First, so that what is left in force can be asked for.
        self._desk.keep_action(tenant, replace(action, state=ActionState.UNDONE, moved=()))
        self._desk.drop_lesson(tenant, action.id)
        reason = "; ".join(dict.fromkeys(self._kinds[action.kind](tenant, action, said)))
        if reason:
            self._desk.keep_action(tenant, replace(action, state=ActionState.UNDONE, moved=(), reason=reason))
        return action, reason

    def _acknowledged(self, tenant: Tenant, action: Action, said: Said) -> list[str]:
        for group in _there(tenant, action):
            if group.head.acknowledged_at == action.at:
                group.head = replace(group.head, acknowledged_at=None)
                self._events.due(tenant, group, EventKind.UPDATED, said)  # reminders count from this
        return []

    def _closed(self, tenant: Tenant, action: Action, said: Said) -> list[str]:
        left = []
        for incident in action.incidents:
            group = tenant.groups.get(incident)
            if group is None or (group.head.state is IncidentState.CLOSED and not group.firing):
                left.append(f"{incident} stays closed: nothing in it fires any more")
            elif group.head.state is IncidentState.CLOSED:
                self._aging.open_by_hand(tenant, group, said)
        return left

    def _named(self, tenant: Tenant, action: Action, said: Said) -> list[str]:
        for group in _there(tenant, action):
            before = (group.progress.root, group.progress.root_by)
            others = newest_first(tenant.actions, group.head.id)
            other = next((each for each in others if each.kind is FeedbackKind.ROOT), None)
            root, by = (None, "") if other is None else (other.root, other.author or "a person")
            if (root, by) != before:
                group.progress = replace(group.progress, root=root, root_by=by)
                self._events.due(tenant, group, EventKind.UPDATED, said)
        return []

    def _judged(self, tenant: Tenant, action: Action, _said: Said) -> list[str]:
        for group in _there(tenant, action):
            others = (each.kind for each in newest_first(tenant.actions, group.head.id))
            verdict: Opinion = next((_VERDICTS[kind] for kind in others if kind in _VERDICTS), "")
            self._series.hear(tenant, group, group.head.verdict, verdict)
            group.head = replace(group.head, verdict=verdict)
            self._desk.touch(tenant, group)
        return []

    # ---- episodes go back -----------------------------------------------------------------------------------

    def _moved(self, tenant: Tenant, action: Action, _said: Said) -> list[str]:
        left = [why for moved in reversed(action.moved) if (why := self._give_back(tenant, moved))]
        if not action.moved:
            left.append("it moved too many episodes for them to be moved back")
        for group in _there(tenant, action):
            others = newest_first(tenant.actions, group.head.id)
            by_hand = any(each.kind in _GROUPING for each in others)
            group.progress = replace(group.progress, by_hand=by_hand)
            self._desk.touch(tenant, group)
        return left

    def _give_back(self, tenant: Tenant, moved: Moved) -> str:
        """Let episodes go back where they came from; return what of it cannot be."""
        source, holder = tenant.groups.get(moved.source), tenant.groups.get(moved.target)
        if source is None:
            return f"{moved.source} is over for too long to take its episodes back"
        if holder is None:
            return f"{moved.target} is over for too long to give episodes back"
        keys = [key for key in moved.episodes if key in holder.episodes]
        if not keys:
            return f"the episodes are not in {moved.target} any more"
        if source.head.state is not IncidentState.MERGED:
            why_not = refusal(holder, source, keys)
            if not why_not:
                self._regrouping.move(tenant, holder, source, keys, _WHY)
        else:
            why_not = refusal(holder, None, keys)
            if not why_not:
                self._regrouping.revive(tenant, source, holder, keys, _WHY)
        gone = len(moved.episodes) - len(keys)
        return why_not or (f"{gone} of the episodes are not in {moved.target} any more" if gone else "")


def _there(tenant: Tenant, action: Action) -> list[Group]:
    """Return the incidents of an action that can still change."""
    return [tenant.groups[each] for each in action.incidents if each in tenant.groups]
