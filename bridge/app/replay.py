"""`tocsin replay`: recorded webhooks through the whole analysis in their own time, delivering nothing.

Rules: the path is the live one (`pipeline.advance`, `StateStore.commit`), the clock is that of the lines, and
what is written comes out of the store as an export does. Results depend neither on the size of batches nor on
the machine's clock. A line that cannot be used is told with its place and passed over.

Theory of operation. Live, the models answer when they are done, and their answers are inbox rows; the analyst adds
rows of its own that say from where on it thought with models or without. A recording that holds such rows is obeyed
and nothing is encoded anew, but for texts that were known before a partial one begins. For any other, each question is
answered by a row at the next tick after the row that asked it: batches end at ticks, so that how many rows a batch
holds never decides which alert a vector comes in time for.

Decision: the state is kept in a store on disk, a temporary one unless `--store` asks for it, rather than in
memory. A recording of a year holds more episodes than memory does, and one path to the bytes is enough.
"""

from __future__ import annotations

import heapq
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from bridge import pipeline
from bridge.analysis.families import FitAsk
from bridge.analysis.feedback import ActionState
from bridge.analysis.gate import LinkAsk
from bridge.analysis.reviewing import ReviewAsk
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.topology import Chart
from bridge.app import feedback, report
from bridge.app.feedback import Opinions
from bridge.app.models import GaveUp, ModelRow, ModelsProcess
from bridge.app.recordings import BadLine, Recorded, Survey, merged, survey
from bridge.app.report import Recorder
from bridge.app.screen import Progress, plain, when
from bridge.app.screen import count as counted
from bridge.app.summary import Summary, write_incidents
from bridge.errors import StorageError
from bridge.model import FRONT, InboxRow, RowKind, Template, Word
from bridge.pipeline.state import EPOCH, time_of
from bridge.redaction import NO_KEY
from bridge.storage.reading import StateReader
from bridge.storage.seeding import seed
from bridge.storage.state import StateStore

if TYPE_CHECKING:
    from bridge.config import Settings

#: What only somebody's live thinking tells.
TOLD_KINDS = frozenset({RowKind.VECTORS, RowKind.FAMILIES, RowKind.LINKER, RowKind.REVIEWS, RowKind.MODE})
#: How many faults of one file, and how many rows set aside, are told one by one: a wrong file has thousands.
FAULTS_TOLD = 10
#: Unpacked, what a batch may hold; one line may be larger.
BATCH_BYTES = 8 << 20
#: How often the models' process is asked whether it is done.
POLL_S = 0.002


class Wishes(Word, frozen=True, kw_only=True):
    """What the command was asked for; see `tocsin replay --help`."""

    config: Path | None = None
    topology: Path | None = None
    tenant: str = "default"
    incidents: Path | None = None
    events: Path | None = None
    feedback: Path | None = None
    until: datetime | None = None
    store: Path | None = None
    no_models: bool = False
    report: Path | None = None
    batch: int = 256


def replay(files: Sequence[str], wishes: Wishes, *, say: Callable[[str], None]) -> Summary:
    """Replay the files; `say` is told every fault.

    Raises:
        StorageError: A file cannot be read, or something cannot be written.
        ConfigError: The configuration has faults.
    """
    settings, chart, key = _told_instead(wishes, say)
    with ExitStack() as stack:
        spool = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tocsin-replay-")))
        surveys = _surveys(files, wishes, spool, say)
        said = _said(wishes, say)
        home = wishes.store or spool
        store = stack.enter_context(closing(StateStore(_fresh(home))))
        events = stack.enter_context(_output(wishes.events)) if wishes.events else None
        models = None
        if _asks(wishes, surveys, settings):
            models = stack.enter_context(closing(Models(say, surveys)))
        recorder = Recorder() if wishes.report else None
        run = _Run(store, models, events, say, said.places, recorder, pipeline.Redacting(key))
        lines = merged(surveys, tenant=wishes.tenant, spool=spool)
        if said.rows:  # of equal times what was received goes first
            lines = heapq.merge(lines, said.rows, key=lambda line: line.received_at)
        with Progress("replay", sum(each.lines for each in surveys) + len(said.rows)) as progress:
            run.take(_opening(surveys, settings, chart, lines), batch=wishes.batch, progress=progress)
        run.end(_end(wishes, run.reached), stored=wishes.store is not None)
        if wishes.store is not None:
            run.hand_over(wishes.store)
        reader = StateReader(home / "state.db")
        summary = _summary(reader, surveys, run, wishes, len(said.bad))
        if wishes.report is not None and recorder is not None:
            report.save(report.make(recorder, reader, summary, run.settings), wishes.report)
        return summary


class Models:
    """The models' process, asked and waited for. Without a model that loads it says so once and is silent."""

    def __init__(self, say: Callable[[str], None], surveys: Sequence[Survey]) -> None:
        """Prepare; what the recordings answer themselves is not asked."""
        self._say = say
        self._encoded = frozenset[str]().union(*(each.encoded for each in surveys))
        self._fitted = any(RowKind.FAMILIES in each.kinds for each in surveys)
        self._linked = any(RowKind.LINKER in each.kinds for each in surveys)
        self._reviewed = any(RowKind.REVIEWS in each.kinds for each in surveys)
        self._process = ModelsProcess()
        self._failed = False

    def answer(self, asks: Sequence[pipeline.Ask]) -> list[ModelRow]:
        """Return the answers to all that was asked within one tick, however many batches asked it."""
        templates: dict[str, dict[str, Template]] = {}
        for ask in asks:
            if isinstance(ask, LinkAsk):
                if not self._linked:
                    self._process.submit_link(ask)
            elif isinstance(ask, ReviewAsk):
                if not self._reviewed:
                    self._process.submit_review(ask)
            elif not isinstance(ask, FitAsk):
                wanted = {each.id: each for each in ask.templates if each.id not in self._encoded}
                templates.setdefault(ask.tenant, {}).update(wanted)
            elif not self._fitted:
                self._process.submit_fit(ask)
        for tenant, each in templates.items():
            self._process.submit_encode(tenant, each.values())
        rows: list[ModelRow] = []
        while self._process.waiting and not self._failed:
            rows += self._polled()
        return rows

    def _polled(self) -> list[ModelRow]:
        results = self._process.poll()
        if not results:
            time.sleep(POLL_S)
        for gave_up in results:
            if isinstance(gave_up, GaveUp):
                self._failed = self._failed or gave_up.asked == "load"
                self._say(f"the models could not {gave_up.asked}: {plain(gave_up.reason)}")
        return [result for result in results if isinstance(result, ModelRow)]

    def close(self) -> None:
        """End the process."""
        self._process.close()


class _Run:
    """One replay: the state, the store it goes to, and the numbers of the rows."""

    def __init__(
        self,
        store: StateStore,
        models: Models | None,
        events: IO[bytes] | None,
        say: Callable[[str], None],
        places: Mapping[str, str],
        recorder: Recorder | None = None,
        redacting: pipeline.Redacting | None = None,
    ) -> None:
        self._redacting = redacting or pipeline.Redacting()
        self._store = store
        self._models = models
        self._events = events
        self._say = say
        self._places = places  # of feedback that comes from a file, by the action's id
        self._recorder = recorder  # None: no report is wanted
        self._state = store.load()
        self._ids = count(1)
        self._asks: list[pipeline.Ask] = []
        self._asked_tick = 0  # of the rows that asked
        self.events = 0
        self.broken = 0
        self.last_id = 0
        self.reached: datetime | None = None

    def take(self, lines: Iterable[Recorded], *, batch: int, progress: Callable[[int], None]) -> None:
        """Put all lines through."""
        for rows in _batches(lines, batch, by_tick=self._models is not None):
            if self._models is not None and self._asks and _tick(rows[0].received_at) > self._asked_tick:
                self._answer(self._models)
            self._advance(rows)
            progress(len(rows))

    def end(self, until: datetime | None, *, stored: bool) -> None:
        """Let time run on: to `until`, or until every incident is closed.

        A state that `serve` goes on from is taken on by a clock row, as a front without webhooks writes it.
        """
        if stored:
            if until is not None and self.reached is not None and until > self.reached:
                self._advance([Recorded(
                    received_at=until, tenant="", source="", kind=RowKind.CLOCK, body=b"", alerts=0
                )])  # fmt: skip
            self._commit(pipeline.nobody_was_told(self._state), ())
            return
        self._commit(pipeline.finish(self._state, until, trace=self._trace()), ())

    @property
    def settings(self) -> AnalysisSettings:
        """The settings in force at the end."""
        return self._state.common.settings

    def _trace(self) -> pipeline.Trace | None:
        return None if self._recorder is None else pipeline.Trace()

    def hand_over(self, home: Path) -> None:
        """Let the inbox of a later `serve` go on after the last row."""
        if self.reached is not None:
            seed(home / "inbox.db", after=self.last_id, received_at=self.reached)

    def _answer(self, models: Models) -> None:
        """Let the answers in at the tick after the questions."""
        asked, self._asks = self._asks, []
        at = time_of(self._asked_tick + pipeline.TICK_S)
        rows = [
            Recorded(
                received_at=at, tenant=row.tenant, source="", kind=row.kind, body=row.body.encode(), alerts=0
            )
            for row in models.answer(asked)
        ]
        if rows:
            self._advance(rows)

    def _advance(self, lines: Sequence[Recorded]) -> None:
        if self._recorder is not None:
            self._recorder.heard(lines)
        rows = [
            InboxRow(
                id=next(self._ids), received_at=line.received_at, tenant=line.tenant,
                source=line.source, kind=line.kind, body=line.body,
            )
            for line in lines
        ]  # fmt: skip
        try:
            self._commit(self._thought(rows), rows)
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 - as the analyst does: find the row, set it aside, go on
            self._state = self._store.load()
            self._one_by_one(rows)
        self.last_id, self.reached = rows[-1].id, rows[-1].received_at
        self._asked_tick = _tick(rows[-1].received_at)

    def _thought(self, rows: Sequence[InboxRow]) -> pipeline.Outcome:
        return pipeline.advance(self._state, rows, trace=self._trace(), redacting=self._redacting)

    def _one_by_one(self, rows: Sequence[InboxRow]) -> None:
        for row in rows:
            try:
                self._commit(self._thought([row]), [row])
            except StorageError:
                raise
            except Exception as error:  # noqa: BLE001 - the row stays in quarantine with this reason
                redactor = self._redacting.of(self.settings, row.tenant)
                reason = redactor.raw(f"{type(error).__name__}: {error}")
                self._store.quarantine_row(self._redacting.unread(row, self.settings), reason, front=FRONT)
                self._state = self._store.load()
                self.broken += 1
                if self.broken <= FAULTS_TOLD:
                    self._say(
                        f"the {row.kind} received at {when(row.received_at)} was set aside: {plain(reason)}"
                    )

    def _commit(self, outcome: pipeline.Outcome, rows: Sequence[InboxRow]) -> None:
        outcome.outbox.clear()  # a replay delivers nothing, and neither does a `serve` that goes on from it
        self._store.commit(outcome, front=FRONT, rows=rows)
        if self._models is not None:
            self._asks += outcome.asks
        if self._recorder is not None:
            self._recorder.thought(outcome)
        for action in outcome.actions.values():
            if action is not None and action.state is ActionState.REFUSED and action.id in self._places:
                self._say(
                    f"{self._places[action.id]}: {action.kind.value} was refused: {plain(action.reason)}"
                )
        self.events += len(outcome.events)
        if self._events is not None:
            self._events.writelines(msgspec.json.encode(event) + b"\n" for event in outcome.events)


# ---- what goes in --------------------------------------------------------------------------------------


def _surveys(files: Sequence[str], wishes: Wishes, spool: Path, say: Callable[[str], None]) -> list[Survey]:
    """Read every file once and tell what is wrong in it."""
    found = []
    with Progress("reading") as progress:
        for name in files:
            each = survey(name, tenant=wishes.tenant, spool=spool, progress=progress)
            found.append(each)
            _tell(name, each.bad, say)
            if not each.in_order:
                say(f"{name}: its times go back; it is put in order first")
    return found


def _said(wishes: Wishes, say: Callable[[str], None]) -> Opinions:
    """Read what people said, and tell what is wrong with it."""
    if wishes.feedback is None:
        return Opinions(rows=(), places={}, bad=())
    found = feedback.read(wishes.feedback, tenant=wishes.tenant)
    _tell(str(wishes.feedback), found.bad, say)
    return found


def _tell(name: str, bad: Sequence[BadLine], say: Callable[[str], None]) -> None:
    for each in bad[:FAULTS_TOLD]:
        say(plain(each.text))
    if len(bad) > FAULTS_TOLD:
        say(f"{name}: and {counted(len(bad) - FAULTS_TOLD, 'more bad line')}")


def _opening(
    surveys: Sequence[Survey],
    settings: AnalysisSettings | None,
    chart: Chart | None,
    lines: Iterator[Recorded],
) -> Iterator[Recorded]:
    """Return the lines, begun by the settings and the topology that were asked for in place of the recorded ones."""
    first_at = min((each.first_at for each in surveys if each.first_at), default=None)
    instead = {RowKind.SETTINGS: settings, RowKind.TOPOLOGY: chart}
    asked = {kind: told for kind, told in instead.items() if told is not None}
    if first_at is None:
        return lines
    rows = [
        Recorded(
            received_at=first_at, tenant="", source="", kind=kind, body=msgspec.json.encode(told), alerts=0
        )
        for kind, told in asked.items()
    ]
    return chain(rows, (line for line in lines if line.kind not in asked))


def _batches(lines: Iterable[Recorded], size: int, *, by_tick: bool) -> Iterator[list[Recorded]]:
    """Return the lines in batches of `size` and `BATCH_BYTES` at most, none across a tick if `by_tick`."""
    batch: list[Recorded] = []
    held = 0
    for line in lines:
        over = len(batch) >= size or held + len(line.body) > BATCH_BYTES
        if batch and (over or (by_tick and _tick(line.received_at) != _tick(batch[0].received_at))):
            yield batch
            batch, held = [], 0
        batch.append(line)
        held += len(line.body)
    if batch:
        yield batch


def _tick(moment: datetime) -> int:
    """Return the tick, in epoch seconds, at or before a moment."""
    seconds = int((moment - EPOCH).total_seconds())
    return seconds - seconds % pipeline.TICK_S


def _told_instead(
    wishes: Wishes, say: Callable[[str], None]
) -> tuple[AnalysisSettings | None, Chart | None, bytes]:
    """Return the settings and the topology to think with, None for those that were recorded, and the key of hashes.

    A topology that is named beside the configuration goes before the one that the configuration names.
    """
    if wishes.config is None and wishes.topology is None:
        return None, None, NO_KEY
    from bridge.app.kinds import known_kinds  # noqa: PLC0415 - pydantic costs a replay without one too much
    from bridge.config import load, load_topology  # noqa: PLC0415

    settings = chart = None
    key = NO_KEY
    if wishes.config is not None:
        told = load(wishes.config, known_kinds(), os.environ)
        key = _key(told, wishes, say)
        settings, chart = told.analysis, told.topology if told.topology.services else None
    if wishes.topology is not None:
        found = load_topology(wishes.topology, os.environ)
        chart = found.chart
        for note in found.notes:
            say(plain(note))
    return settings, chart, key


def _key(told: Settings, wishes: Wishes, say: Callable[[str], None]) -> bytes:
    """Return the key of hashes that the sidecar of this configuration has.

    A state that `serve` goes on from gets it, too, made if there is none: the same value has the same hash then.
    """
    from bridge.app.redact_key import known_redact_key, redact_key  # noqa: PLC0415 - as above

    key = known_redact_key(told.redact_key, told.data_dir)
    if wishes.store is not None:
        _fresh(wishes.store)
        return redact_key(told.redact_key, wishes.store, key)
    if key != NO_KEY or not told.analysis.hashes:
        return key
    say(
        f"there is no key of hashes in {told.data_dir}: those of texts that were not redacted yet are made without "
        "one, so they differ from the sidecar's, and what is behind them can be guessed"
    )
    return key


def _asks(wishes: Wishes, surveys: Sequence[Survey], settings: AnalysisSettings | None) -> bool:
    """Say whether models are asked: not where the recording has all their answers, or where none are wanted."""
    told = any(each.kinds & TOLD_KINDS for each in surveys) and not any(each.partial for each in surveys)
    return not (wishes.no_models or told or (settings is not None and not settings.models))


# ---- what comes out ------------------------------------------------------------------------------------


def _fresh(home: Path) -> Path:
    """Return where the state goes: a directory that holds none yet."""
    path = home / "state.db"
    if any((home / name).exists() for name in ("state.db", "inbox.db", "delivery.db")):
        raise StorageError(
            f"{home} already holds a state: name a new directory, or remove the one that is there"
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write to {home}: {error.strerror}") from error
    return path


def _output(path: Path) -> IO[bytes]:
    try:
        return path.open("wb")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def _end(wishes: Wishes, reached: datetime | None) -> datetime | None:
    """Return until when time runs on; None: until every incident is closed.

    A state that `serve` goes on from must not be ahead of the clock on the wall.
    """
    if wishes.until is not None or wishes.store is None:
        return wishes.until
    now = datetime.now(UTC)
    return now if reached is None else max(now, reached)


def _summary(
    reader: StateReader, surveys: Sequence[Survey], run: _Run, wishes: Wishes, bad_feedback: int
) -> Summary:
    with _output(wishes.incidents or Path(os.devnull)) as file:
        biggest = write_incidents(reader, file)
    stats = reader.stats(None)
    states = stats["incidents"]
    firsts = [each.first_at for each in surveys if each.first_at]
    lasts = [each.last_at for each in surveys if each.last_at]
    return Summary(
        webhooks=sum(each.webhooks for each in surveys),
        alerts=sum(each.alerts for each in surveys),
        episodes=stats["episodes"],
        incidents=sum(states.values()) - states["merged"],
        merged=states["merged"],
        events=run.events,
        quarantined=stats["quarantined"],
        bad_lines=sum(len(each.bad) for each in surveys) + run.broken + bad_feedback,
        first_at=min(firsts, default=None),
        last_at=max(lasts, default=None),
        biggest=biggest,
    )
