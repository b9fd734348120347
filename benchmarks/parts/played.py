"""A stream through Tocsin's real path: `pipeline.advance` over inbox rows, from empty models, as `tocsin replay` does.

Template vectors come from the real encoder and act at the tick after they were asked for; vectors are remembered from
run to run, since the same text always has the same one. Nothing is stored: what is asked of the outcome is in which
incident each episode stands in the end, and which events called people.
"""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

import msgspec

from benchmarks.parts.streams import SOURCE, Firing, Key, Stream, webhooks
from bridge.analysis import families, gate
from bridge.analysis.families import EncodeAsk, FitAsk
from bridge.analysis.gate import LinkAsk
from bridge.analysis.settings import AnalysisSettings
from bridge.model import EventKind, InboxRow, RowKind
from bridge.pipeline import TICK_S, Ask, Common, Outcome, State, advance, finish
from bridge.pipeline.state import EPOCH, time_of

TENANT = "default"
ROWS_AT_ONCE = 64
PAGES = frozenset({EventKind.OPENED, EventKind.ESCALATED, EventKind.REOPENED})
OPERATOR_EVERY_S = 600


class Vectors:
    """The packaged encoder, loaded at the first text, with a memory."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}
        self._encoder = None

    def __call__(self, texts: Sequence[str]) -> list[bytes]:
        """Return one vector per text."""
        missing = sorted({text for text in texts if text not in self._known})
        if missing:
            if self._encoder is None:
                from bridge.encoder import load  # noqa: PLC0415 - seconds and 450 MB

                self._encoder = load()
            self._known.update(zip(missing, self._encoder.encode(missing), strict=True))
        return [self._known[text] for text in texts]


@dataclass(frozen=True, slots=True)
class Page:
    """An event that calls people, as a route of kind pagerduty would have it."""

    at: datetime
    incident: str
    kind: str
    dedup_key: str


@dataclass(slots=True)
class Played:
    """What came of a stream."""

    home: dict[Key, str] = field(default_factory=dict)  # episode -> incident, before merges are followed
    into: dict[str, str] = field(default_factory=dict)  # merged incident -> the one it went into
    pages: list[Page] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    rows: int = 0

    def incident_of(self, key: Key) -> str:
        """Return where an episode stands now; a name of its own if it was never heard of."""
        return self.follow(self.home.get(key, f"unheard {key}"))

    def follow(self, incident: str) -> str:
        """Return what became of an incident by merges."""
        while incident in self.into:
            incident = self.into[incident]
        return incident

    def unheard(self, items: Iterable[Firing]) -> int:
        """Return how many episodes never came out under their own identity: none, or the benchmark is at fault."""
        return sum(item.key not in self.home for item in items)

    def take(self, outcome: Outcome) -> None:
        """Follow what one call of `advance` changed."""
        for (_, source, fingerprint, starts_at), episode in outcome.episodes.items():
            self.home[source, fingerprint, starts_at] = episode.incident
        for (_, incident), group in outcome.touched.items():
            if group.head.merged_into:
                self.into[incident] = group.head.merged_into
        for event in outcome.events:
            self.events[event.kind.value] = self.events.get(event.kind.value, 0) + 1
            told = event.incident
            if event.kind in PAGES and told.severity == "critical":
                key = f"{told.id}/e{told.escalations}"
                self.pages.append(Page(event.at, told.id, event.kind.value, key))


Operator = Callable[[datetime, Played], Sequence[bytes]]  # bodies of rows


def play(
    stream: Stream, vectors: Vectors | None, *, settings: AnalysisSettings | None = None,
    operator: Operator | None = None, first_rows: Sequence[tuple[RowKind, bytes]] = (), name: str = "",
) -> Played:  # fmt: skip
    """Let the webhooks of `stream` through; time then runs on until everything is closed.

    Args:
        stream: What happens.
        vectors: The encoder; None: without models' answers.
        settings: The settings in force from the beginning.
        operator: Asked every ten minutes what a person would say; its lines become rows.
        first_rows: Rows before the first webhook, a topology for example.
        name: Said in the progress line.
    """
    begin = time.process_time()
    played = Played()
    told = webhooks(stream.firings)
    state = State(Common(settings=settings or AnalysisSettings()))
    run = _Run(state, played, vectors)
    for kind, body in first_rows:
        run.let([(told[0][0], kind, body)])
    asked_at = told[0][0] if operator else None
    for number, batch in enumerate(_by_tick(told)):
        at = batch[0][0]
        while operator and asked_at and asked_at <= at:
            kind = RowKind("feedback")
            lines = operator(asked_at, played)
            run.let([(asked_at, kind, body) for body in lines])
            asked_at += timedelta(seconds=OPERATOR_EVERY_S)
        run.let(batch)
        if number % 500 == 0:
            progress(f"{name}: {at:%d %b %H:%M}, {run.rows} of {len(told)} webhooks")
    played.take(finish(state))
    played.rows = run.rows
    played.seconds = time.process_time() - begin
    progress("")
    return played


class _Run:
    def __init__(self, state: State, played: Played, vectors: Vectors | None) -> None:
        self._state = state
        self._played = played
        self._vectors = vectors
        self._ids = count(1)
        self._asks: list[Ask] = []
        self._asked_tick = 0
        self.rows = 0

    def let(self, listed: Sequence[tuple[datetime, RowKind, bytes]]) -> None:
        """Let rows of one tick in, after the answers to what was asked in an earlier one."""
        if not listed:
            return
        if self._asks and _tick(listed[0][0]) > self._asked_tick:
            self._answer()
        self._advance(listed)

    def _advance(self, listed: Sequence[tuple[datetime, RowKind, bytes]]) -> None:
        rows = [
            InboxRow(id=next(self._ids), received_at=at, tenant=TENANT, source=SOURCE, kind=kind, body=body)
            for at, kind, body in listed
        ]
        outcome = advance(self._state, rows)
        self._played.take(outcome)
        if self._vectors is not None:
            self._asks += outcome.asks
        self._asked_tick = _tick(rows[-1].received_at)
        self.rows += len(rows)

    def _answer(self) -> None:
        asked, self._asks = self._asks, []
        at = time_of(self._asked_tick + TICK_S)
        texts = {each.id: each.text for ask in asked if isinstance(ask, EncodeAsk) for each in ask.templates}
        rows = []
        if texts and self._vectors is not None:
            found = self._vectors(list(texts.values()))
            told = {
                name: base64.b64encode(vector).decode() for name, vector in zip(texts, found, strict=True)
            }
            rows.append((at, RowKind.VECTORS, msgspec.json.encode({"vectors": told})))
        for ask in asked:
            if isinstance(ask, LinkAsk):
                rows.append((at, RowKind.LINKER, gate.linker_row(gate.fit(ask))))
            if isinstance(ask, FitAsk):
                body = {"fit": ask.fit, "assign": families.fit(ask).assign}
                rows.append((at, RowKind.FAMILIES, msgspec.json.encode(body)))
        if rows:
            self._advance(rows)


def _by_tick(told: Sequence[tuple[datetime, bytes]]) -> Iterator[list[tuple[datetime, RowKind, bytes]]]:
    batch: list[tuple[datetime, RowKind, bytes]] = []
    for at, body in told:
        if batch and (_tick(at) != _tick(batch[0][0]) or len(batch) >= ROWS_AT_ONCE):
            yield batch
            batch = []
        batch.append((at, RowKind.WEBHOOK, body))
    if batch:
        yield batch


def _tick(moment: datetime) -> int:
    seconds = int((moment - EPOCH).total_seconds())
    return seconds - seconds % TICK_S


def progress(text: str) -> None:
    """Say on stderr how far it is, in one line that is written over."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
