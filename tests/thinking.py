"""A pipeline under test: rows go in one by one, and what came of them is kept. `Thinking().hears("0s", alert(...))`."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import timeline
from timeline import after, webhook

from bridge.analysis.feedback import Action
from bridge.analysis.gate import LinkFit, linker_row
from bridge.analysis.incidents import Group
from bridge.analysis.rounds import Content, Found, Standing
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.topology import Chart
from bridge.model import Event, InboxRow, RowKind
from bridge.pipeline import Ask, Common, Outcome, State, advance
from bridge.pipeline.state import OutboxEntry, Tenant
from bridge.storage.state import StateStore
from bridge.webhooks.alertmanager import fingerprint_of


def fires(name: str, *, starts: str = "0s", note: str = "", **labels: str) -> dict[str, object]:
    """Return a firing alert; `starts` is from the beginning."""
    told = {"summary": note} if note else None
    return timeline.alert({"alertname": name, **labels}, starts=after(starts), annotations=told)


def ends(name: str, at: str, *, starts: str = "0s", **labels: str) -> dict[str, object]:
    """Return a resolved alert."""
    return timeline.alert({"alertname": name, **labels}, starts=after(starts), ends=after(at))


def listed(name: str, *, starts: str = "0s", told: bool = True, **labels_and_more: Any) -> Standing:
    """Return an alert that Alertmanager has listed for long; arguments that `Standing` has change that."""
    more = {key: value for key, value in labels_and_more.items() if key in Standing.__struct_fields__}
    labels = {"alertname": name} | {key: labels_and_more[key] for key in labels_and_more if key not in more}
    usual: dict[str, Any] = {"stands": True, "everywhere": True, "ours": True, "starts_at": after(starts)}
    content = Content(labels=labels, annotations={"summary": f"{name} is firing"}) if told else None
    return Standing(fingerprint=fingerprint_of(labels), **(usual | {"content": content} | more))


#: Alerts go where they share something, whenever they come: most tests are about what becomes of incidents, and say by
#: labels which alerts are in one. The fallback is time alone (tests/pipeline/test_bursts.py).
SHARING = AnalysisSettings(grouping="entities")


class Thinking:
    """One state, the rows it was given, and all it said."""

    def __init__(self, settings: AnalysisSettings | None = None) -> None:
        self.first_settings = settings or SHARING
        self.state = State(Common(settings=self.first_settings))
        self.rows: list[InboxRow] = []
        self.events: list[Event] = []
        self.outbox: list[OutboxEntry] = []
        self.asks: list[Ask] = []
        self.counts: dict[str, int] = {}

    def row(
        self, at: str, kind: RowKind, body: bytes, *, tenant: str = "default", source: str = "default"
    ) -> Outcome:
        """Let one row in."""
        one = timeline.row(len(self.rows) + 1, after(at), body, kind=kind, tenant=tenant, source=source)
        self.rows.append(one)
        return self.take(advance(self.state, [one]))

    def take(self, outcome: Outcome) -> Outcome:
        """Keep what was said."""
        self.events += outcome.events
        self.outbox += outcome.outbox
        self.asks += outcome.asks
        for name, number in outcome.counts.items():
            self.counts[name] = self.counts.get(name, 0) + number
        return outcome

    def hears(self, at: str, *alerts: dict[str, object], group: str = "{}:{}", **where: str) -> Outcome:
        """Let a webhook in."""
        return self.row(at, RowKind.WEBHOOK, webhook(alerts, group=group), **where)

    def finds(self, at: str, *standing: Standing, source: str = "default", **found: Any) -> Outcome:
        """Let a round over two Alertmanagers in, whole and settled unless told otherwise."""
        told = {"asked": 2, "settled": True, "began_s": 1.0, "listed": standing} | found
        return self.row(at, RowKind.FOUND, msgspec.json.encode(Found(**told)), source=source)

    def records(self, at: str, *events: dict[str, object], source: str = "default") -> Outcome:
        """Let a request of the event recorder in."""
        return self.row(at, RowKind.RECORDED, json.dumps(events).encode(), source=source)

    def clock(self, at: str) -> Outcome:
        """Let time run."""
        return self.row(at, RowKind.CLOCK, b"", tenant="", source="")

    def started(self, at: str) -> Outcome:
        """Let a front begin to listen."""
        return self.row(at, RowKind.STARTED, b"{}", tenant="")

    def settings(self, at: str, settings: AnalysisSettings) -> Outcome:
        """Put settings in force."""
        return self.row(at, RowKind.SETTINGS, msgspec.json.encode(settings), tenant="")

    def topology(self, at: str, chart: Chart, *, tenant: str = "") -> Outcome:
        """Let a topology in, for all tenants or one."""
        return self.row(at, RowKind.TOPOLOGY, msgspec.json.encode(chart), tenant=tenant)

    def mode(self, at: str, *, model_free: bool) -> Outcome:
        """Think without or with models."""
        return self.row(at, RowKind.MODE, json.dumps({"model_free": model_free}).encode(), tenant="")

    def vectors(self, at: str, vectors: Mapping[str, bytes], **where: str) -> Outcome:
        """Let vectors in."""
        told = {name: base64.b64encode(vector).decode() for name, vector in vectors.items()}
        return self.row(at, RowKind.VECTORS, json.dumps({"model": "test", "vectors": told}).encode(), **where)

    def families(self, at: str, assign: Mapping[str, str], *, fit: int = 1, **where: str) -> Outcome:
        """Let families in."""
        body = json.dumps({"fit": fit, "assign": dict(assign)}).encode()
        return self.row(at, RowKind.FAMILIES, body, **where)

    def linker(self, at: str, fit: LinkFit, **where: str) -> Outcome:
        """Let a linker in."""
        return self.row(at, RowKind.LINKER, linker_row(fit), **where)

    def says(self, at: str, action: str, kind: str, **told: Any) -> Action:
        """Let a person say something, and return what came of it."""
        body = msgspec.json.encode({"action": action, "kind": kind, **told})
        self.row(at, RowKind.FEEDBACK, body, source="")
        return self.tenant.actions[action]

    @property
    def tenant(self) -> Tenant:
        """The tenant `default`."""
        return self.state.tenants["default"]

    @property
    def group(self) -> Group:
        """The only incident in memory."""
        (only,) = self.tenant.groups.values()
        return only

    def told(self) -> list[str]:
        """Return the events as `want` lines of a scenario."""
        numbers: dict[str, int] = {}
        lines = []
        for event in self.events:
            number = numbers.setdefault(event.incident.id, len(numbers) + 1)
            seconds = (event.at - timeline.START) / timedelta(seconds=1)
            lines.append(f"{seconds:g}s #{number} {event.kind.value} {event.incident.severity}")
        return lines

    def sent(self, destination: str) -> list[tuple[str, float, float]]:
        """Return what goes to a destination: the kind, when it was made and how long it waits."""
        return [
            (
                entry.kind,
                (entry.at - timeline.START).total_seconds(),
                (entry.not_before - entry.at).total_seconds(),
            )
            for entry in self.outbox
            if entry.destination == destination
        ]

    def restarted(self, folder: Path) -> Thinking:
        """Return the same rows, with a restart after each."""
        store = StateStore(folder / "state.db")
        other = Thinking(self.first_settings)
        state = other.state
        for one in self.rows:
            outcome = other.take(advance(state, [one]))
            store.commit(outcome, front="front-1", rows=[one])
            state = store.load()
        store.close()
        other.state = state
        return other


def same(one: Thinking, other: Thinking) -> bool:
    """Say whether two runs said and know the same."""
    said: Any = [(run.events, run.outbox, run.counts, run.state.picture()) for run in (one, other)]
    return bool(said[0] == said[1])
