"""A world for the dispatcher: real stores, a clock that only the test moves, destinations that do as told.

Nothing here waits for real: when everything that can happen has happened, time jumps to the next moment that
somebody waits for.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from builders import START, event, view
from typing_extensions import override

from bridge.delivery import Backlog
from bridge.dispatch import Dispatcher, DispatchSettings, SilentMeter
from bridge.model import Blocked, Delivered, Duplicate, Event, EventKind, Pending, Verdict
from bridge.ports import (
    Append,
    Caps,
    Connector,
    Frames,
    Http,
    HttpResponse,
    Mail,
    Memory,
    Notice,
    Publish,
    Rendered,
    Request,
    Response,
    Table,
    Unreached,
    Upsert,
)
from bridge.storage.deliveries import DeliveryStore, OutboxReader
from bridge.storage.sqlite import open_writer
from bridge.storage.state import STATE_SCHEMA
from connectors.common import judge_http

EVERY = Caps(mode="every", max_events=10, max_bytes=1 << 20, delivery_class="best effort")
ONE = msgspec.structs.replace(EVERY, max_events=1)
CHAT = msgspec.structs.replace(ONE, mode="newest", updates=True)
PAGER = msgspec.structs.replace(CHAT, pages=True)

WRITES = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
Answer = Callable[[dict[str, Any]], "int | Response"]


class Inline(Executor):
    """Runs at once what others run in a thread."""

    @override
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001
            future.set_exception(error)
        return future


class Fake(Connector):
    """Renders what it is given as JSON and judges by the status; 202 and 208 have their RFC's meaning."""

    def __init__(self, name: str, caps: Caps) -> None:
        self.name = name
        self.caps = caps
        self.unwanted: set[EventKind] = set()
        self.probes = False
        self.fills = False
        self.steps: dict[str, str] = {}  # from a step to the one that follows it

    @override
    def wants(self, event: Event, memory: Memory | None) -> bool:
        return event.kind not in self.unwanted

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        body = {
            "events": [[each.incident.id, each.seq, each.kind, each.event_id] for each in events],
            "memory": memory,
            "step": step,
        }
        sent = json.dumps(body).encode()
        if self.fills:  # as large as it may be
            sent += b" " * ((max_bytes or self.caps.max_bytes) - len(sent))
        request = Http(method="POST", url=f"fake://{self.name}", headers={}, body=sent)
        return Rendered(request=request, event_ids=tuple(each.event_id for each in events), step=step)

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        return [self._verdict(rendered, response)] * len(rendered.event_ids)

    def _verdict(self, rendered: Rendered, response: Response) -> Verdict:
        if not isinstance(response, HttpResponse):
            return judge_http(response)
        if response.status == 202:
            return Pending(token=response.headers["token"], after_s=2)
        if response.status == 208:
            return Duplicate()
        verdict = judge_http(response)
        if (
            isinstance(verdict, Delivered)
            and isinstance(rendered.request, Http)
            and rendered.request.method == "POST"
        ):
            return Delivered(
                memory={"last": rendered.event_ids[-1]}, next_step=self.steps.get(rendered.step, "")
            )
        return verdict

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        assert isinstance(request, Http)
        return msgspec.structs.replace(request, headers={"sealed": now.isoformat()})

    @override
    def ask(self, token: str) -> Request:
        return Http(method="GET", url=f"fake://{self.name}/ask?{token}", headers={}, body=b"{}")

    @override
    def probe(self) -> Request | None:
        return (
            Http(method="GET", url=f"fake://{self.name}/probe", headers={}, body=b"{}")
            if self.probes
            else None
        )


@dataclass
class Sent:
    """One request as it arrived."""

    at_s: float  # since START
    destination: str
    path: str
    body: dict[str, Any]
    raw: bytes
    taken: bool

    @property
    def seqs(self) -> list[tuple[str, int]]:
        """The events in it."""
        return [(incident, seq) for incident, seq, _, _ in self.body.get("events", [])]


class World:
    """Stores on disk, a clock, destinations. `answers[name]` says what a destination does; 200 if nothing."""

    def __init__(self, folder: Path, caps: dict[str, Caps], settings: DispatchSettings | None = None) -> None:
        self.folder = folder
        self.now = START
        self.settings = settings or DispatchSettings()
        self.connectors = {name: Fake(name, each) for name, each in caps.items()}
        self.foreign: dict[str, Connector] = {}  # destinations with a real connector
        self.answers: dict[str, Answer] = {}
        self.takes_s: dict[str, float] = {}  # how long a destination takes to answer
        self.sent: list[Sent] = []
        self.troubles: list[tuple[float, str, str, str | None]] = []
        self.random = random.Random(7)
        self._timers: list[tuple[datetime, asyncio.Future[None]]] = []
        self._seqs: dict[str, int] = {}
        with closing(open_writer(folder / "state.db", STATE_SCHEMA)):
            pass
        self.store = self._store()
        self.dispatcher: Dispatcher
        self.meter = Counting()
        self.running_under_way = 0
        self.most_under_way = 0

    # ---- what the analyst does ---------------------------------------------------------------------------

    def emit(
        self,
        incident: str,
        kind: EventKind,
        *destinations: str,
        wait_s: float = 0.0,
        tenant: str = "default",
        **changes: Any,
    ) -> str:
        """Commit an event and its outbox rows (to every destination if none is named); return its id."""
        seq = self._seqs[incident] = self._seqs.get(incident, 0) + 1
        made = event(kind, seq, incident=view(id=incident, episodes=1, **changes), tenant=tenant)
        at_us = _microseconds(self.now)
        with closing(open_writer(self.folder / "state.db", STATE_SCHEMA)) as state:
            state.execute("BEGIN")
            state.execute(
                "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)",
                (tenant, incident, seq, made.event_id, kind.value, at_us, msgspec.json.encode(made)),
            )
            for destination in destinations or [*self.connectors, *self.foreign]:
                state.execute(
                    "INSERT INTO outbox (tenant, destination, event_id, incident, seq, kind, at, not_before)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        tenant, destination, made.event_id, incident, seq, kind.value, at_us,
                        at_us + int(wait_s * 1e6),
                    ),
                )  # fmt: skip
            state.execute("COMMIT")
        return made.event_id

    def forget(self, event_id: str) -> None:
        """Delete an event as retention does."""
        with closing(open_writer(self.folder / "state.db")) as state:
            state.execute("DELETE FROM event WHERE event_id = ?", (event_id,))

    # ---- what destinations do ----------------------------------------------------------------------------

    async def send(self, request: Request, *, timeout_s: float) -> Response:
        """Be the sender of every destination."""
        assert timeout_s == self.settings.attempt_timeout_s
        name, path, raw = _arrived(request)
        if isinstance(request, Http):
            assert request.headers.get("sealed") in {
                self.now.isoformat(), None if name in self.foreign else ""
            }  # fmt: skip
        self.running_under_way += 1
        self.most_under_way = max(self.most_under_way, self.running_under_way)
        try:
            if self.takes_s.get(name):
                await self.pause(asyncio.Event(), self.now + timedelta(seconds=self.takes_s[name]))
        finally:
            self.running_under_way -= 1
        body = json.loads(raw or b"{}") if isinstance(request, Http) else {"request": request}
        answer = self.answers.get(name, lambda _: 200)(body | {"path": path})
        response = HttpResponse(status=answer, headers={}, body=b"") if isinstance(answer, int) else answer
        taken = not isinstance(response, Unreached)
        if isinstance(response, HttpResponse):
            taken = response.status < 300
        self.sent.append(Sent(self.seconds, name, path, body, raw, taken))
        return response

    async def close(self) -> None:
        """Nothing is kept open."""

    # ---- time --------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Seconds since START."""
        return (self.now - START).total_seconds()

    def clock(self) -> datetime:
        """Return the time."""
        return self.now

    def set_back(self, seconds: float) -> None:
        """Set the clock back. Who waits waits no longer for it: a pause is so many seconds."""
        back = timedelta(seconds=seconds)
        self.now -= back
        self._timers = [(until - back, timer) for until, timer in self._timers]

    async def pause(self, signal: asyncio.Event, until: datetime) -> None:
        """Wait until the signal or the time."""
        timer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timers.append((until, timer))
        signalled = asyncio.ensure_future(signal.wait())
        try:
            await asyncio.wait({signalled, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._timers = [each for each in self._timers if each[1] is not timer]
            timer.cancel()
            signalled.cancel()

    async def _quiesce(self) -> None:
        """Let everything happen that can happen without time."""
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        while self.store.outstanding or ready:
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool], within_s: float = 3600.0) -> None:
        """Run until the condition holds."""
        deadline = self.now + timedelta(seconds=within_s)
        await self._quiesce()
        while not condition():
            self._next_moment(deadline)
            assert self.now < deadline, "it did not happen in time"
            await self._quiesce()

    async def run(self, seconds: float) -> None:
        """Run for so long."""
        end = self.now + timedelta(seconds=seconds)
        await self._quiesce()
        while self.now < end:
            self._next_moment(end)
            await self._quiesce()

    def _next_moment(self, at_most: datetime) -> None:
        self.now = max(
            self.now, min([at_most, *(until for until, timer in self._timers if not timer.done())])
        )
        for until, timer in self._timers:
            if until <= self.now and not timer.done():
                timer.set_result(None)

    # ---- the dispatcher ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self, *, ends: str = "stop") -> AsyncIterator[Dispatcher]:
        """Run a dispatcher; at the end stop it cleanly, or "kill" it in the middle of whatever it does."""
        self.dispatcher = Dispatcher(
            self.store,
            OutboxReader(self.folder / "state.db"),
            self.connectors | self.foreign,
            {
                Http: self,
                Frames: self,
                Append: self,
                Publish: self,
                Upsert: self,
                Table: self,
                Mail: self,
                Notice: self,
            },
            clock=self.clock,
            jitter=self.random.random,
            on_trouble=self._trouble,
            settings=self.settings,
            meter=self.meter,
            pause=self.pause,
            thread=Inline(),
        )
        task = asyncio.ensure_future(self.dispatcher.run())
        try:
            yield self.dispatcher
        finally:
            if ends == "stop":
                self.dispatcher.stop()
                await self.until(task.done, within_s=60)
                await task
            else:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                self.store.close()
                self.store = self._store()

    def _store(self) -> DeliveryStore:
        return DeliveryStore(self.folder / "delivery.db", clock=self.clock)

    async def _trouble(self, destination: str, kind: str, reason: str | None) -> None:
        self.troubles.append((self.seconds, destination, kind, reason))

    def deny_writes(self, denied: bool) -> None:
        """Let every write of the store fail, or none."""
        writer, opened = self.store._writer, self.store._writer._open

        def check(action: int, *_: Any) -> int:
            return sqlite3.SQLITE_DENY if denied and action in WRITES else sqlite3.SQLITE_OK

        def open_connection() -> sqlite3.Connection:
            connection = opened()
            connection.set_authorizer(check)
            return connection

        writer._open = open_connection  # type: ignore[method-assign]
        writer._connection.set_authorizer(check)

    # ---- what came of it ---------------------------------------------------------------------------------

    def taken(self, destination: str) -> list[tuple[str, int]]:
        """Return the events that a destination took, in order, with repeats."""
        return [each for sent in self.of(destination) if sent.taken for each in sent.seqs]

    def of(self, destination: str) -> list[Sent]:
        """Return the requests that reached a destination."""
        return [each for each in self.sent if each.destination == destination]

    def states(self, destination: str) -> dict[tuple[str, int], str]:
        """Return the state of each delivery."""
        page = self.store.listed("default", destination=destination, limit=1000)
        return {(each["incident"], each["seq"]): each["state"] for each in page.items}

    def shown(self, destination: str) -> list[dict[str, Any]]:
        """Return the deliveries as the API lists them, the oldest first."""
        return list(reversed(self.store.listed("default", destination=destination, limit=1000).items))

    def is_done(self, *destinations: str) -> bool:
        """Return whether nothing is under way for these destinations."""
        return all(
            state not in {"waiting", "pending"}
            for name in destinations or [*self.connectors, *self.foreign]
            for state in (self.states(name) or {(): "waiting"}).values()
        )


@dataclass
class Counting(SilentMeter):
    """Keeps what was counted."""

    results: dict[tuple[str, str], int] = field(default_factory=dict)
    backlogs: dict[str, Backlog] = field(default_factory=dict)
    refusing: dict[str, bool] = field(default_factory=dict)

    @override
    def counted(self, destination: str, result: str, events: int) -> None:
        self.results[destination, result] = self.results.get((destination, result), 0) + events

    @override
    def backlog(self, destination: str, backlog: Backlog) -> None:
        self.backlogs[destination] = backlog

    @override
    def blocked(self, destination: str, *, is_blocked: bool) -> None:
        self.refusing[destination] = is_blocked


def answer(status: int, **headers: str) -> HttpResponse:
    """Return an HTTP answer."""
    return HttpResponse(
        status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=b""
    )


def silence(*, maybe_sent: bool) -> Unreached:
    """Return no answer."""
    return Unreached(reason="no answer", maybe_sent=maybe_sent, kind="timeout" if maybe_sent else "connect")


def _arrived(request: Request) -> tuple[str, str, bytes]:
    """Return for which destination a request is, its path and its bytes: the name is its host or directory."""
    match request:
        case Http():
            name, _, path = request.url.partition("://")[2].partition("/")
            return name, path, request.body
        case Frames():
            return request.address.partition(":")[0], "", b"".join(request.frames)
        case Append():
            return request.path.split("/")[1], request.path, request.lines
        case Mail():
            return request.address.partition(":")[0], request.sender, request.message
        case Notice():
            return request.url.partition("://")[2].partition("/")[0], "", request.text.encode()
        case Upsert():
            return request.address.partition(":")[0], request.database, request.rows
        case Table():
            return request.path.split("/")[1], request.name, request.rows
        case Publish():
            return (
                request.address.partition(":")[0],
                request.topic,
                b"\n".join(each.value for each in request.records),
            )


def _microseconds(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000)


__all__ = ["CHAT", "EVERY", "ONE", "PAGER", "Blocked", "World", "answer", "silence"]
