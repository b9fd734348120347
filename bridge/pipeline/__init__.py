"""From inbox rows to incidents, events and what must be stored: pure, and the same for every batch size.

`advance` is the only way in: live, in a replay and in the tests. Its caller stores the `Outcome` in one
transaction; if that or anything here fails, the state is thrown away and loaded anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from msgspec.structs import replace

from bridge.analysis.families import EncodeAsk
from bridge.model import InboxRow, IncidentState, Template
from bridge.pipeline.desk import Desk
from bridge.pipeline.fits import fit_ask, ready_templates
from bridge.pipeline.linkers import link_ask
from bridge.pipeline.path import Path
from bridge.pipeline.redacting import Redacting
from bridge.pipeline.reviews import review_ask
from bridge.pipeline.state import TICK_S, Ask, Common, Outcome, State, time_of
from bridge.pipeline.trace import Sampled, Trace

__all__ = [
    "TICK_S", "Ask", "Common", "Outcome", "Redacting", "Sampled", "State", "Trace", "advance", "finish",
    "nobody_was_told", "outstanding", "restore",
]  # fmt: skip

#: What does not happen merely because a recording ends: a heartbeat is not missing when nobody listens.
_NOT_AFTER_THE_END = frozenset({"beat"})


def advance(
    state: State,
    rows: Sequence[InboxRow],
    *,
    progress: Callable[[], None] = lambda: None,
    trace: Trace | None = None,
    redacting: Redacting | None = None,
    behind: Collection[str] | None = None,
) -> Outcome:
    """Let `rows` (in order of their ids) change `state`; return what changed.

    `behind` are the tenants of whom, after these rows, an older one waits than the newest that was thought of another;
    None: as it was. A row that concerns all comes only when there is none (`bridge.turns`).

    `progress` is called between rows and within large ones, so that a supervisor sees a long batch is alive. `trace`,
    an empty one, is filled with what happened on the way. `redacting` has the key of hashes, and is used again for the
    next rows: it remembers texts. On any exception the state is half changed: throw it away.
    """
    outcome = Outcome(trace)
    path = Path(state, outcome, progress, redacting)
    if behind is not None:
        path.hold(behind)
    for row in rows:
        path.take(row)
        progress()
    if behind is not None:
        path.let_go(behind)
    return outcome


def finish(state: State, until: datetime | None = None, *, trace: Trace | None = None) -> Outcome:
    """Let time run on after the last row: to `until`, or until every incident is closed.

    Without `until` heartbeats do not go missing: the recording ended, not the heartbeat.
    """
    outcome = Outcome(trace)
    path = Path(state, outcome)
    if until is not None:
        path.run_clock(until)
        return outcome
    while _unfinished(state):
        tick = state.next_tick()
        if tick is None:
            break
        path.run_clock(time_of(tick), ignore=_NOT_AFTER_THE_END.__contains__)
    return outcome


def nobody_was_told(state: State) -> Outcome:
    """Forget which destinations were told of what: nothing was delivered, so nobody shall hear only of ends."""
    outcome = Outcome()
    for tenant in state.tenants.values():
        for group in tenant.groups.values():
            if group.progress.told:
                group.progress = replace(group.progress, told={})
                outcome.touched[tenant.name, group.head.id] = group
    return outcome


def _unfinished(state: State) -> bool:
    """Say whether an incident can still close by time alone (a missing heartbeat is missing for ever)."""
    live = {IncidentState.OPEN, IncidentState.QUIET}
    return any(
        group.head.state in live and not (group.head.origin == "heartbeat" and group.firing)
        for tenant in state.tenants.values()
        for group in tenant.groups.values()
    )


def restore(state: State) -> None:
    """Arm the alarms and build the indexes of a state that was loaded."""
    path = Path(state, Outcome())
    for tenant in state.tenants.values():
        path.rearm(tenant)


def outstanding(state: State) -> list[Ask]:
    """Return what the models were asked and have not answered: asked again after a restart.

    Nothing of a tenant that takes more than it may.
    """
    asks: list[Ask] = []
    for tenant in state.tenants.values():
        if tenant.record.usage.over:
            continue
        missing = [record for record in tenant.templates.values() if not record.vector]
        if missing:
            templates = tuple(Template(id=record.id, text=record.text) for record in missing)
            asks.append(EncodeAsk(tenant=tenant.name, templates=templates))
        if tenant.record.fit_asked > tenant.record.fit_done:
            asks.append(fit_ask(tenant, ready_templates(tenant)))
        if tenant.record.link_asked > tenant.record.link_done:
            desk = Desk(state, Outcome())
            desk.turn_to(tenant)
            asks.append(link_ask(desk, tenant))
        if tenant.record.review_asked > tenant.record.review_done:
            asks.append(review_ask(tenant))
    return asks
