"""From the tables to the state that thinking holds."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import msgspec

from bridge.analysis.anomaly import Habit
from bridge.analysis.counting import Counted
from bridge.analysis.dedup import Watch
from bridge.analysis.feedback import Action
from bridge.analysis.forecast.occurrences import Occurrence
from bridge.analysis.forecast.outlooks import Outlook
from bridge.analysis.gate import LinkFit
from bridge.analysis.incidents import Group, Progress
from bridge.analysis.learning import Sighting
from bridge.analysis.lessons import Lesson
from bridge.analysis.precedence import Order
from bridge.analysis.precedents import Precedent
from bridge.analysis.rarity import Rarity
from bridge.analysis.settings import AnalysisSettings, Source
from bridge.analysis.topology import Chart
from bridge.analysis.watching import Alarm, Measured
from bridge.model import Episode, Incident
from bridge.pipeline import restore
from bridge.pipeline.state import Beat, Common, Pending, State, TemplateRecord, TenantRecord, forgotten
from bridge.storage.times import microseconds

_decode = msgspec.msgpack.decode


def remembered_s(settings: AnalysisSettings) -> float:
    """Return how long an incident that is over may still change, in seconds: it reopens, or an end comes late."""
    sources = (*settings.sources, Source(tenant="", name=""))
    late_s = max(2 * (source.repeat_interval_s + source.group_interval_s) for source in sources)
    return 60.0 + max(settings.reopen_within_s, late_s)


def load(db: sqlite3.Connection) -> State:
    """Return the state as it was committed last. Cost grows with what is open, not with history."""
    stored = db.execute("select body from common").fetchone()
    state = State(_decode(stored[0], type=Common) if stored else Common())
    for name, body in db.execute("select tenant, body from tenant_state order by tenant"):
        state.tenant(name).record = _decode(body, type=TenantRecord)
    for name, origin, body in db.execute("select tenant, origin, body from chart order by 1, 2"):
        state.keep_chart(name, origin, _decode(body, type=Chart))
    _load_alerts(db, state)
    _load_watched(db, state)
    _load_forecasts(db, state)
    _load_feedback(db, state)
    _load_groups(db, state)
    restore(state)
    return state


def _load_alerts(db: sqlite3.Connection, state: State) -> None:
    query = "select tenant, source, fingerprint, body from {} order by tenant, source, fingerprint"
    for name, source, fingerprint, body in db.execute(query.format("watch")):
        state.tenant(name).watches[source, fingerprint] = _decode(body, type=Watch)
    for name, source, fingerprint, body in db.execute(query.format("beat")):
        state.tenant(name).beats[source, fingerprint] = _decode(body, type=Beat)
    for name, body in db.execute("select tenant, body from template order by tenant, id"):
        record = _decode(body, type=TemplateRecord)
        state.tenant(name).templates[record.id] = record
    for name, family, body in db.execute("select tenant, family, body from habit order by 1, 2"):
        state.tenant(name).habits[family] = _decode(body, type=Habit)
    for name, earlier, later, body in db.execute(
        "select tenant, earlier, later, body from service_order order by 1, 2, 3"
    ):
        state.tenant(name).orders[earlier, later] = _decode(body, type=Order)
    for name, number, body in db.execute("select tenant, number, body from sighting order by 1, 2"):
        state.tenant(name).sightings[number] = _decode(body, type=Sighting)
    for name, body in db.execute("select tenant, body from link_fit order by tenant"):
        state.tenant(name).link_fit = _decode(body, type=LinkFit)
    for name, body in db.execute("select tenant, body from rarity order by tenant"):
        state.tenant(name).rarity = Rarity(body)


def _load_watched(db: sqlite3.Connection, state: State) -> None:
    measured: dict[str, dict[str, Measured]] = {}
    for name, series, body in db.execute("select tenant, name, body from measured order by 1, 2"):
        measured.setdefault(name, {})[series] = _decode(body, type=Measured)
    rows: dict[str, dict[str, bytes]] = {}
    for name, series, body in db.execute("select tenant, name, body from bank_row order by 1, 2"):
        rows.setdefault(name, {})[series] = _decode(body, type=bytes)
    blocks: dict[str, dict[str, dict[int, bytes]]] = {}
    for name, series, first, body in db.execute(
        "select tenant, name, first, body from sample_block order by 1, 2, 3"
    ):
        blocks.setdefault(name, {}).setdefault(series, {})[first] = _decode(body, type=bytes)
    for name, mine in measured.items():
        state.tenant(name).adopt_series(mine, rows.get(name, {}), blocks.get(name, {}))
    for name, sort, which, body in db.execute(
        "select tenant, sort, which, body from counted order by 1, 2, 3"
    ):
        state.tenant(name).counted[sort, which] = _decode(body, type=Counted)
    for name, sort, which, body in db.execute(
        "select tenant, sort, which, body from pending order by 1, 2, 3"
    ):
        state.tenant(name).pending[sort, which] = _decode(body, type=Pending)
    for name, series, body in db.execute("select tenant, name, body from alarm order by 1, 2"):
        state.tenant(name).alarms[series] = _decode(body, type=Alarm)


def _load_forecasts(db: sqlite3.Connection, state: State) -> None:
    for name, incident, body in db.execute("select tenant, incident, body from happened order by 1, 2"):
        state.tenant(name).happened[incident] = _decode(body, type=Occurrence)
    for name, incident, body in db.execute("select tenant, incident, body from past order by 1, 2"):
        state.tenant(name).pasts[incident] = _decode(body, type=Precedent)
    for name, body in db.execute("select tenant, body from outlook order by tenant, aim, name"):
        outlook = _decode(body, type=Outlook)
        state.tenant(name).outlooks[outlook.target] = outlook


def _load_feedback(db: sqlite3.Connection, state: State) -> None:
    """Load what people did and what it teaches, in the order in which it was said."""
    actions = [
        (name, _decode(body, type=Action)) for name, body in db.execute("select tenant, body from action")
    ]
    for name, action in sorted(actions, key=lambda each: each[1].number):
        state.tenant(name).actions[action.id] = action
    lessons = [
        (name, _decode(body, type=Lesson)) for name, body in db.execute("select tenant, body from lesson")
    ]
    for name, lesson in sorted(lessons, key=lambda each: each[1].number):
        state.tenant(name).lessons[lesson.action] = lesson


def _load_groups(db: sqlite3.Connection, state: State) -> None:
    """Load what can still change: open, quiet, and closed or merged so recently that it is not forgotten."""
    present = {name: tenant.record.behind_at or state.common.clock for name, tenant in state.tenants.items()}
    oldest = min(present.values(), default=state.common.clock)
    since = microseconds(oldest - timedelta(seconds=remembered_s(state.common.settings)))
    rows = db.execute(
        "select tenant, id, body, work from incident where state in ('open', 'quiet') or changed_at >= ?"
        # A person closed it, and it fires on.
        " or (tenant, id) in (select tenant, incident from episode where ends_at is null)"
        " order by tenant, opened_at, id",
        (since,),
    ).fetchall()
    for name, incident, body, work in rows:
        head = _decode(body, type=Incident)
        progress = _decode(work, type=Progress)
        if forgotten(progress, present.get(name, state.common.clock)):
            continue
        episodes = [
            _decode(row[0], type=Episode)
            for row in db.execute(
                "select body from episode where tenant = ? and incident = ?"
                " order by source, fingerprint, starts_at",
                (name, incident),
            )
        ]
        state.tenant(name).adopt(Group(head, progress, episodes))
