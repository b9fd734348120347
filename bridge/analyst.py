"""The loop inbox -> outcome: reads rows, lets the pipeline think, commits, says what happened.

Rules: synchronous, one thread, everything it needs comes in as arguments. It never waits for a model: asks
are handed over and answers come back as inbox rows. After any failure the state in memory is thrown away
and loaded anew. Only a row is ever set aside, never because a store failed, and only after it failed alone.

What models take part is the analyst's own to say: it puts a row of its own in front of what it reads next, whenever
that changes, and at first without models. So what is decided without them is never said to be decided with them,
whatever was killed meanwhile, and the history says where each mode began.

Theory of operation. A batch that raises is taken again one row at a time, each in its own commit; the row
that raises again goes to quarantine with its bytes, and the rest goes on. Should ever more rows than
`ASIDE_LIMIT` of the last `ASIDE_WINDOW` go that way, the fault is ours and not theirs: the loop stops
emptying the inbox into the quarantine, says so, and tries the same row again later.

While more waits than one batch takes, rows are taken by turns (`bridge.turns`), so that the storm of one tenant does
not keep the others waiting. Where there is more than one tenant a batch takes about `TURN_S`, by what the last ones
took: one tenant's batch is what another waits for. A quiet inbox is read in its order, without asking what waits.

Decision: one row at a time rather than halving. A failed batch costs one load of the state, not one per
halving, and it is what the front does after a death (`bridge.app.recovery`), so there is one rule to
understand.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from bridge.errors import DamagedError, DamagedInboxError, MisplacedError, StorageError
from bridge.model import FRONT, WEBHOOK_KINDS, InboxRow, Word
from bridge.turns import Reached, Turns, Waiting

State = TypeVar("State")
State_contra = TypeVar("State_contra", contravariant=True)
Kept_co = TypeVar("Kept_co", covariant=True)
Say = Callable[[Mapping[str, Any]], None]

MAX_ROWS = 256
MAX_BYTES = 8 << 20
#: How long a batch takes, about, while rows wait and there is more than one tenant.
TURN_S = 0.12
LEAST_BYTES = 8 << 10
#: Rows whose places are learned at once; each costs some microseconds.
NOTED_ROWS = 20_000
#: More are not looked at before some are taken: 24 bytes of memory each.
MAX_WAITING = 4_000_000
#: More rows than this set aside among the last so many: it is not the rows.
ASIDE_LIMIT = 20
ASIDE_WINDOW = 200
ALIVE_S = 1.0
#: How long the loop leaves a store alone that did not commit.
REST_S = 1.0
PRUNE_S = 600.0
#: While there was more that is too old than one call deletes.
PRUNE_SOON_S = 1.0
GAUGES_S = 1.0
REASON_LETTERS = 500
ASIDE_COUNT = "quarantined:row"
#: What every alert has: how many there are is known without reading them.
ALERT_MARK = b'"startsAt"'
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Outcome(Protocol):
    """What the pipeline made of a batch, as far as this loop looks into it."""

    @property
    def asks(self) -> Sequence[Any]:
        """Work for the models."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What to add to the metrics."""


class Inbox(Protocol):
    """Where rows come from."""

    def read(self, after: int, max_rows: int, max_bytes: int) -> list[InboxRow]:
        """Return the rows after an id, in order; at least one if there is any."""

    def newest_id(self) -> int:
        """Return the id of the newest row; 0 before the first."""

    def waiting(self, after: int, max_rows: int) -> Sequence[Waiting]:
        """Return what is known of the rows after an id without reading them, in order."""

    def fetch(self, ids: Sequence[int]) -> list[InboxRow]:
        """Return these rows, in order of their ids."""


class Store(Protocol[Kept_co]):
    """Where the state lives. Each method is one transaction."""

    def load(self) -> Kept_co:
        """Return the state as last committed."""

    def cursor(self, front: str) -> int:
        """Return the id of the row of `front` up to which all were committed; 0 at first."""

    def taken(self, front: str) -> dict[str, int]:
        """Return the last row that was committed of each tenant whose rows went before others'."""

    def commit(
        self,
        outcome: Any,
        *,
        front: str,
        rows: Sequence[InboxRow],
        reached: Reached | None,
        progress: Callable[[], None],
    ) -> None:
        """Keep an outcome together with the cursors after `rows`; call `progress` often."""

    def quarantine_row(self, row: InboxRow, reason: str, *, front: str, reached: Reached) -> None:
        """Keep a row that cannot be understood and move the cursors past it."""


class Answer(Protocol):
    """What the models found, as the inbox row that will hold it."""

    @property
    def kind(self) -> str:
        """Of the row: "vectors" or "families"."""

    @property
    def tenant(self) -> str:
        """Whose templates they are."""

    @property
    def body(self) -> str:
        """JSON."""


class Models(Protocol):
    """The process that thinks slowly. Nothing here blocks."""

    @property
    def up(self) -> bool:
        """Whether they answer."""

    def ask(self, ask: Any) -> None:
        """Take work; what is too much or cannot be done now is forgotten and will be asked again."""

    def answers(self) -> Iterable[Answer]:
        """Return what was finished since the last call."""


class Thinking(Protocol[State_contra]):
    """What is done with a state besides storing it."""

    def advance(
        self,
        state: State_contra,
        rows: Sequence[InboxRow],
        *,
        behind: Collection[str] | None,
        progress: Callable[[], None],
    ) -> Outcome:
        """Let rows change the state; call `progress` often. After an exception the state is spoilt.

        `behind` are the tenants that wait with an older row than another's newest that was taken; None: as it was.
        """

    def outstanding(self, state: State_contra) -> Iterable[Any]:
        """Return what the models were asked and have not answered."""

    def gauges(self, state: State_contra) -> Mapping[str, float]:
        """Count what metrics show of a state."""

    def own_row(self, state: State_contra, following: InboxRow | None, *, models_up: bool) -> InboxRow | None:
        """Return a row, without an id, that has to be thought before `following`; None if there is none."""

    def unread(self, row: InboxRow) -> InboxRow:
        """Return a row as it may be kept that could not be understood; it is not parsed again."""

    def tellable(self, text: str, tenant: str) -> str:
        """Return what is said of a tenant's row without what may not be told of it."""

    def prune(self, state: State_contra, now: datetime) -> bool:
        """Delete stored rows that are older than the settings in force allow; return whether more may be."""

    def erase(self, state: State_contra, *, progress: Callable[[], None]) -> bool:
        """Go on with what people asked to be erased; return whether to come back at once."""


class Work(Word, frozen=True, kw_only=True):
    """How one analyst works."""

    front: str = FRONT
    skips: frozenset[int] = frozenset()  # rows that killed analysts
    careful_through: int = 0  # rows up to this id go one at a time
    max_rows: int = MAX_ROWS
    max_bytes: int = MAX_BYTES


class Batch(Word, frozen=True, kw_only=True):
    """Rows that are thought together, and who waits on after them."""

    rows: tuple[InboxRow, ...] = ()
    behind: frozenset[str] = frozenset()
    turn: tuple[int, ...] = ()  # whose turn it was, if they are not simply what comes next


class Analyst(Generic[State]):
    """One loop over one inbox. Call `load` once, then `step` for ever."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        store: Store[State],
        thinking: Thinking[State],
        models: Models,
        say: Say,
        clock: Callable[[], float],
        work: Work | None = None,
    ) -> None:
        self._inbox = inbox
        self._store = store
        self._thinking = thinking
        self._models = models
        self._say = say
        self._clock = clock
        self._work = work or Work()
        self._state: State | None = None  # None: to be loaded
        self._careful_through = self._work.careful_through
        self._put_aside: deque[bool] = deque(maxlen=ASIDE_WINDOW)
        self._alive_at = self._rest_until = self._prune_at = self._gauged_at = float("-inf")
        self._gauges_old = True
        self._prune_every_s = PRUNE_S
        self._own_rows = True  # until one of them was not understood
        self._reached: datetime | None = None
        self._turns = Turns(Reached(0, 0))
        self._tenants: set[str] = set()  # whose rows were read
        self._bytes_per_s = MAX_BYTES / 8.0
        self.cursor = 0

    def load(self) -> None:
        """Load the state and say ready.

        Raises:
            StorageError: The state cannot be read.
        """
        self._alive()
        self._load()
        self._say({"say": "ready", "cursor": self.cursor})
        self._tell_gauges()

    def ask_again(self) -> None:
        """Ask the models for all that is still wanted: after they joined, or lost what they were asked."""
        if self._state is not None:
            for ask in self._thinking.outstanding(self._state):
                self._models.ask(ask)

    def step(self) -> bool:
        """Do one batch, or nothing if there is none; return whether to come back at once."""
        self._alive()
        if self._clock() < self._rest_until:
            return False
        self._pass_on_answers()
        try:
            return self._step()
        except (DamagedError, MisplacedError):  # the file: nothing here can mend it
            raise
        except DamagedInboxError as error:  # its writer mends that, and starts another analyst
            self._say({"say": "inbox_damaged", "reason": str(error)})
            self._rest(str(error))
            return False
        except StorageError as error:  # full or busy: it is not the rows
            self._rest(f"a store does not work: {error}")
            return False

    def _step(self) -> bool:
        if self._state is None:
            self._load()
        batch = self._next()
        rows = batch.rows
        self._put_own(rows[0] if rows else None)
        self._prune()
        erases = self._state is not None and self._thinking.erase(self._state, progress=self._alive)
        if not rows:
            self._tell_gauges()
            return erases
        self._say(_begun(rows))
        if rows[0].id in self._work.skips:
            self._set_aside(batch, "an analyst died of it again and again")
        else:
            self._attempt(batch)
        return True

    def _put_own(self, following: InboxRow | None) -> None:
        """Think what has to be thought before the next row: with or without models, at first the settings."""
        while self._own_rows and self._state is not None:
            own = self._thinking.own_row(self._state, following, models_up=self._models.up)
            if own is None:
                return
            state, self._state = self._state, None
            try:
                outcome = self._thinking.advance(state, [own], behind=None, progress=self._alive)
            except Exception as error:  # noqa: BLE001 - one of the three loops: what is read goes on without it
                self._own_rows = False
                self._tell_failed([own], self._reason(own, error), error)
                self._load()
                return
            self._store.commit(
                outcome, front=self._work.front, rows=[own], reached=None, progress=self._alive
            )
            self._state = state
            self._gauges_old = True
            # No `committed`: that says that a row of the inbox is done, by which deaths are no longer counted.
            self._say({"say": "counted", "counters": dict(outcome.counts)})
            for ask in outcome.asks:
                self._models.ask(ask)

    def _load(self) -> None:
        self._state = None  # two states at once need the memory of two
        self._state = self._store.load()
        self.cursor = self._store.cursor(self._work.front)
        taken = self._store.taken(self._work.front)
        self._tenants |= taken.keys()
        self._turns = Turns(Reached(self.cursor, 0), taken)  # what was not committed waits on

    # ---- what is next --------------------------------------------------------------------------------------

    def _next(self) -> Batch:
        """Return what is thought next: up to a row that must not be touched, or that row alone."""
        careful = self.cursor < self._careful_through
        most = 1 if careful else self._work.max_rows
        if not self._turns:
            size_bytes = self._work.max_bytes if careful else self._turn_bytes()
            rows = self._inbox.read(self.cursor, most, size_bytes)
            self._tenants |= {row.tenant for row in rows if row.tenant}
            if not rows or self._inbox.newest_id() <= rows[-1].id:
                return Batch(rows=tuple(self._untouched(rows)))
        self._note()
        return self._by_turns(most)

    def _untouched(self, rows: list[InboxRow]) -> list[InboxRow]:
        for place, row in enumerate(rows):
            if row.id in self._work.skips:
                return rows[: max(place, 1)]
        return rows

    def _note(self) -> None:
        if len(self._turns) < MAX_WAITING:
            waiting = self._inbox.waiting(self._turns.noted, NOTED_ROWS)
            self._tenants |= {row.tenant for row in waiting if row.tenant}
            self._turns.note(waiting)
            self._alive()

    def _by_turns(self, most: int) -> Batch:
        while self._turns:
            turn = self._turns.pick(most, self._turn_bytes())
            if any(row in self._work.skips for row in turn.ids):
                turn = self._turns.pick(1, 0)
            rows = self._inbox.fetch(turn.ids)
            if rows:
                return Batch(rows=tuple(rows), behind=turn.behind, turn=turn.ids)
            self._turns.done(turn.ids)  # they went with an inbox that was begun anew
        return Batch()

    def _turn_bytes(self) -> int:
        """Return how much one batch may hold: less where another tenant may wait for its end."""
        if len(self._tenants) <= 1:
            return self._work.max_bytes
        return min(self._work.max_bytes, max(LEAST_BYTES, int(self._bytes_per_s * TURN_S)))

    def _take_off(self, batch: Batch) -> Reached:
        """Let rows wait no more; return up to where all were taken then."""
        if batch.turn:
            self._turns.done(batch.turn)
        else:
            last = batch.rows[-1]
            self._turns.skip_to(Reached(last.id, (last.received_at - _EPOCH) // timedelta(microseconds=1)))
        return self._turns.reached

    # ---- thinking ------------------------------------------------------------------------------------------

    def _attempt(self, batch: Batch) -> None:
        started = self._clock()
        rows = batch.rows
        state, self._state = self._state, None  # it is spoilt unless all goes well
        assert state is not None  # noqa: S101 - loaded by `_step`
        try:
            outcome = self._thinking.advance(state, rows, behind=batch.behind, progress=self._alive)
            self._say({"say": "saving"})
            reached = self._take_off(batch)
            self._store.commit(
                outcome, front=self._work.front, rows=rows, reached=reached, progress=self._alive
            )
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - one of the three loops: an unknown fault is one line
            self._failed(batch, error)
        else:
            self._state = state
            self._put_aside.extend(False for _ in rows)
            self._measure(rows, self._clock() - started)
            self._committed(rows, dict(outcome.counts), self._clock() - started)
            for ask in outcome.asks:
                self._models.ask(ask)

    def _measure(self, rows: Sequence[InboxRow], took_s: float) -> None:
        """Learn how much can be thought in a second."""
        if took_s > 0:
            now = sum(len(row.body) for row in rows) / took_s
            self._bytes_per_s += (now - self._bytes_per_s) / 2 if took_s >= TURN_S / 4 else 0.0

    def _failed(self, batch: Batch, error: Exception) -> None:
        rows = batch.rows
        reason = self._reason(rows[0], error)
        self._tell_failed(rows, reason, error)
        alone_before = rows[0].id == rows[-1].id <= self._careful_through
        self._careful_through = max(self._careful_through, rows[-1].id)
        if not alone_before:
            return
        if sum(self._put_aside) >= ASIDE_LIMIT:
            self._rest(f"too many rows cannot be understood, which is a fault of Tocsin: {reason}")
            return
        self._set_aside(batch, reason)
        self._put_aside.append(True)

    def _reason(self, row: InboxRow, error: Exception) -> str:
        text = self._thinking.tellable(f"{type(error).__name__}: {error}", row.tenant)
        return text[:REASON_LETTERS]

    def _tell_failed(self, rows: Sequence[InboxRow], reason: str, error: Exception) -> None:
        trace = self._thinking.tellable("".join(traceback.format_exception(error)), rows[0].tenant)
        self._say({"say": "failed", "from": rows[0].id, "to": rows[-1].id, "reason": reason, "trace": trace})

    def _set_aside(self, batch: Batch, reason: str) -> None:
        row, self._state = batch.rows[0], None
        reached = self._take_off(batch)
        kept = self._thinking.unread(row)
        self._store.quarantine_row(kept, reason, front=self._work.front, reached=reached)
        self._say(
            {"say": "aside", "row": row.id, "tenant": row.tenant, "source": row.source, "reason": reason}
        )
        self._committed([row], {ASIDE_COUNT: 1}, 0.0)

    def _committed(self, rows: Sequence[InboxRow], counters: dict[str, int], took_s: float) -> None:
        self.cursor, at_us = self._turns.reached
        self._reached = _EPOCH + timedelta(microseconds=at_us)
        self._say(
            {
                "say": "committed",
                "cursor": self.cursor,
                "at": self._reached.isoformat(),
                "rows": len(rows),
                "took_s": round(took_s, 6),
                "counters": counters,
            }
        )
        self._gauges_old = True
        if self._clock() - self._gauged_at >= GAUGES_S:
            self._tell_gauges()

    def _tell_gauges(self) -> None:
        """Say what can be counted in the state: once a second while busy, and when idle again."""
        if self._gauges_old and self._state is not None:
            self._gauges_old = False
            self._gauged_at = self._clock()
            self._say({"say": "gauges", "gauges": dict(self._thinking.gauges(self._state))})

    def _pass_on_answers(self) -> None:
        for answer in self._models.answers():
            self._say({"say": "row", "kind": answer.kind, "tenant": answer.tenant, "body": answer.body})

    def _alive(self) -> None:
        now = self._clock()
        if now - self._alive_at >= ALIVE_S:
            self._alive_at = now
            self._say({"say": "alive"})

    def _rest(self, reason: str) -> None:
        self._state = None
        self._rest_until = self._clock() + REST_S
        self._say({"say": "trouble", "reason": reason})

    def _prune(self) -> None:
        """Delete what is too old: now and then, and soon again while that is not enough, busy or not."""
        now = self._clock()
        if self._reached is None or self._state is None or now - self._prune_at < self._prune_every_s:
            return
        self._prune_at = now
        more = self._thinking.prune(self._state, self._reached)
        self._prune_every_s = PRUNE_SOON_S if more else PRUNE_S


def _begun(rows: Sequence[InboxRow]) -> Mapping[str, Any]:
    """Return what is said of a batch before it is worked on; its size says how long it may take."""
    return {
        "say": "begin",
        "from": rows[0].id,
        "to": rows[-1].id,
        "bytes": sum(len(row.body) for row in rows),
        "alerts": sum(row.body.count(ALERT_MARK) for row in rows if row.kind in WEBHOOK_KINDS),
    }
