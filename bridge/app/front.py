"""The front: takes webhooks in, delivers incidents, answers questions, watches over the analyst.

Rules: light (no model library, no numpy) and ready before anything else starts. Every worker is a task of
one group: one that dies ends the process, with its error, and whoever runs it starts it anew. On the way
out nothing acknowledged is lost: first nothing new is accepted, then the analyst finishes its batch and the
dispatcher what is under way, and only then the files are closed; together less than 10 s.

Decision: `AppRunner` inside our own `TaskGroup` instead of `web.run_app` with `cleanup_ctx`. The order of
the end is written down in one place, and a worker's error is not swallowed by a cleanup.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import platform
import random
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from bridge.api import Api, Health, Reloaded, Surroundings
from bridge.app.address import point_at
from bridge.app.admitting import Admitting
from bridge.app.auditing import AuditLog
from bridge.app.beginning import make_folder, open_deliveries, start_inbox
from bridge.app.changing import in_force, later
from bridge.app.chores import Chores, Others, clock_us
from bridge.app.destinations import connectors_of, dispatch_settings, senders
from bridge.app.encryption import Encryption
from bridge.app.ending import LIMIT_S, end_within
from bridge.app.erasing import Erasing
from bridge.app.health import health_of
from bridge.app.hearing import Calls, Hearing
from bridge.app.listening import Listening
from bridge.app.locks import Lock
from bridge.app.polling import Polling
from bridge.app.quotas import QuotaKeeper
from bridge.app.recovery import Launch, Patience, Recovery
from bridge.app.redact_key import KEY_VARIABLE, redact_key
from bridge.app.sampling import Sampling
from bridge.app.service_graphs import ServiceGraphs
from bridge.app.supervision import Supervisor, command, start_analyst
from bridge.app.surface import every_route
from bridge.app.systemd import notify, watchdog_s
from bridge.app.telling import Telling
from bridge.app.troubles import Troubles
from bridge.config import Settings
from bridge.dispatch import Dispatcher
from bridge.errors import ConfigError, DamagedError, StorageError
from bridge.intake import Intake, IntakeSettings
from bridge.model import RowKind
from bridge.ports import Connector
from bridge.redaction import NO_KEY, Redactors
from bridge.storage.damage import suspect
from bridge.storage.deliveries import DeliveryStore, OutboxReader
from bridge.storage.inbox import InboxWriter
from bridge.storage.reading import StateReader
from bridge.telemetry import DispatchCounters, IntakeCounters, Telemetry
from bridge.telemetry.exposition import Exposition
from bridge.webhooks.alertmanager import check_usable

logger = logging.getLogger(__name__)

LOCK_S = 2.0
#: How long deliveries that are under way may take at the end.
LAST_DELIVERIES_S = 3.0
DESTINATION_TROUBLES = {
    "blocked": "TocsinDestinationBlocked",
    "unreachable": "TocsinDestinationUnreachable",
    "dead_letters": "TocsinDeadLetters",
    "stuck": "TocsinDeliveryStuck",
    "unconfigured": "TocsinDestinationMissing",
}


class Front:
    """One running sidecar, but for its analyst."""

    def __init__(
        self, settings: Settings, load: Callable[[], Settings], *, patience: Patience | None = None
    ) -> None:
        """Prepare; nothing is opened before `run`.

        Args:
            settings: What holds at first.
            load: Reads the configuration anew; raises ConfigError with every fault.
            patience: How long to wait for the analyst.
        """
        data = settings.data_dir
        self.settings = settings
        self.telemetry = Telemetry()
        self._load = load
        self._connectors: dict[str, Connector] = {}
        self._redact_key = NO_KEY  # until the data directory is ours
        self._redactors = Redactors()
        self._dispatcher: Dispatcher | None = None
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.url = ""  # where it listens, once it does
        self._damage = ""  # which store is broken, and why: the end of this front
        self.inbox = InboxWriter(
            data / "inbox.db",
            clock_us=clock_us,
            on_commit=self._on_commit,
            on_damage=partial(self._on_damage, "inbox.db"),
        )
        self.troubles = Troubles(
            put=self.inbox.put,
            tenant=settings.tenants[0],
            file=data / "troubles.json",
            clock=_now,
            telemetry=self.telemetry,
        )
        self.polling = Polling(
            put=self.inbox.put,
            polls=lambda: self.settings.polls,
            troubles=self.troubles,
            telemetry=self.telemetry,
            clock=time.monotonic,
        )
        state = StateReader(data / "state.db")
        self.quotas = QuotaKeeper(
            settings=lambda: self.settings,
            stored=state.stored,
            troubles=self.troubles,
            telemetry=self.telemetry,
            clock=time.monotonic,
        )
        self.hearing = Hearing(
            self.telemetry,
            self.troubles,
            newest_id=lambda: self.inbox.newest_id,
            calls=Calls(
                events=self._on_events,
                state_lost=self._on_state_lost,
                inbox_damaged=partial(self._on_damage, "inbox.db"),
                doubt=self.polling.want,
                gauges=self.quotas.hear,
            ),
            clock=time.monotonic,
            wall=time.time,
        )
        self.telling = Telling(
            self.inbox,
            settings=lambda: self.settings,
            timers=lambda: self.hearing.timers,
            behind=lambda: self.hearing.behind,
            troubles=self.troubles,
            telemetry=self.telemetry,
            clock=time.monotonic,
            wall=time.time,
        )
        self.service_graphs = ServiceGraphs(
            put=self.inbox.put,
            servers=lambda: self.settings.prometheus,
            stored=lambda: state.charts("prometheus"),
            telemetry=self.telemetry,
            clock=time.monotonic,
        )
        self.sampling = Sampling(
            put=self.inbox.put,
            series=lambda: self.settings.series,
            stored=state.measured_until,
            telemetry=self.telemetry,
            wall=time.time,
        )
        self.audit = AuditLog(
            data, wall=time.time, keep_s=lambda: self.settings.audit_s, redact=self._redacted
        )
        self.erasing = Erasing(self.inbox, stage=state.erasing, understood=lambda: self.hearing.cursor)
        self.chores = Chores(
            data=data,
            inbox=self.inbox,
            hearing=self.hearing,
            troubles=self.troubles,
            telemetry=self.telemetry,
            raw_s=lambda: self.settings.raw_s,
            others=Others(
                look_at_graphs=self.service_graphs.look,
                prune_audit=self.audit.prune,
                look_at_quotas=self.quotas.look,
            ),
        )
        self._counters = IntakeCounters(self.telemetry)
        self.admitting = Admitting(settings, self.telemetry, clock=time.monotonic, wall=time.time)
        self._encryption: Encryption | None = None
        self.intake = Intake(
            self.inbox,
            self.admitting.gate,
            IntakeSettings(max_body_bytes=settings.max_body_bytes, budget_bytes=settings.budget_bytes),
            self._counters,
            self.quotas,
        )
        self._recovery = Recovery(patience)
        self.supervisor = Supervisor(
            start=self._start_analyst,
            rows=self.inbox,
            recovery=self._recovery,
            listener=self.hearing,
            clock=time.monotonic,
        )

    async def run(self) -> None:
        """Serve until a signal asks for the end.

        Raises:
            StorageError: A store cannot be opened, or another process works on it.
            DamagedError: A store broke. It is marked, and another front begins with a new one.
            ConfigError: A destination cannot be made.
            ListenError: The address cannot be listened on.
            ExceptionGroup: A worker died.
        """
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as opened:
            deliveries = self._open(opened)
            await self.telling.tell_settings()
            listening = await self._listen(deliveries, opened)
            async with asyncio.TaskGroup() as group:
                delivering = group.create_task(self._deliver(deliveries))
                supervising = group.create_task(self.supervisor.run())
                others = [
                    group.create_task(work)
                    for work in (
                        self.troubles.run(),
                        self.telling.run(),
                        self.polling.run(),
                        self.sampling.run(),
                        self._keep_reloading(),
                        self._watchdog(),
                        self.chores.run(),
                        self.erasing.run(deliveries),
                        self.admitting.run(),
                        listening.run(),
                    )
                ]
                self._say_ready()
                with self._signals(self._loop):
                    await self._stop.wait()
                self._say_stopping()
                await listening.close()
                await self._end_workers()
                await asyncio.wait([delivering, supervising])
                for worker in others:
                    worker.cancel()
        if self._damage:
            raise DamagedError(self._damage)
        logger.info("Everything acknowledged is on the disk.", extra={"event": "front_stopped"})

    def stop(self) -> None:
        """Ask for the end."""
        self._stop.set()

    async def reload(self) -> Reloaded:
        """Read the configuration anew and say what came of it; with faults the old one stays."""
        async with self._reloading:
            try:
                settings = await asyncio.to_thread(self._load)
                made = connectors_of(settings.destinations)
            except ConfigError as error:
                self.telemetry.set("tocsin_config_reload_ok", 0)
                logger.error(  # noqa: TRY400 - the faults say it all
                    "The changed configuration is bad; the old one stays: %s",
                    error,
                    extra={"event": "config_refused", "faults": len(error.faults)},
                )
                return Reloaded(faults=error.faults)
            waits = await self._apply(settings, made)
        self._say_notes()
        return Reloaded(later=waits, notes=settings.notes)

    # ---- the beginning and the end -----------------------------------------------------------------------

    def _open(self, opened: AsyncExitStack) -> DeliveryStore:
        """Open the stores; what is opened first is closed last."""
        data = self.settings.data_dir
        make_folder(data)
        lock = Lock(data / "front.lock")
        lock.take(wait_s=LOCK_S)
        opened.callback(lock.release)
        self._redact_key = redact_key(self.settings.redact_key, data)
        self._redactors = Redactors(self._redact_key)
        renewed = self.hearing.store_renewed
        read = start_inbox(self.inbox, data, clock=_now, on_renewed=renewed)
        opened.callback(self.inbox.close)
        if lock.was_left:
            self._recovery.distrust(read, self.inbox.newest_id)
        self._connectors = connectors_of(self.settings.destinations)
        on_damage = partial(self._on_damage, "delivery.db")
        path = data / "delivery.db"
        deliveries = open_deliveries(path, clock=_now, on_damage=on_damage, on_renewed=renewed)
        opened.callback(deliveries.close)
        return deliveries

    async def _listen(self, deliveries: DeliveryStore, opened: AsyncExitStack) -> Listening:
        around = Surroundings(
            authenticate=self.admitting.authenticate,
            authenticate_whole=self.admitting.gate.admit_whole,
            put=self._put,
            check=check_usable,
            newest_row=lambda: self.inbox.newest_id,
            ready=self._why_not_ready,
            audit=self.audit,
            operator=lambda: self.settings.tenants[0],
            reload=self.reload,
            health=self._health,
            metrics=Exposition(self.telemetry.render, clock=time.monotonic).page,
            erasing=self.erasing.unfinished,
        )
        api = Api(StateReader(self.settings.data_dir / "state.db"), deliveries, around)
        opened.callback(api.close)
        if self.settings.tls is not None:
            self._encryption = Encryption(self.settings.tls)
        every = every_route(self.intake, api, release())
        listening = Listening(every, self._counters, self.telemetry, self._encryption)
        opened.push_async_callback(listening.close)
        self.url = await listening.start(self.settings.host, self.settings.port)
        return listening

    def _redacted(self, tenant: str, value: Any) -> Any:
        """Return what may be kept of what somebody wrote."""
        return self._redactors.of(tenant, self.settings.analysis.redact_of(tenant)).everywhere(value)

    def _say_ready(self) -> None:
        settings, telemetry = self.settings, self.telemetry
        telemetry.set("tocsin_build_info", 1, version=release(), python=platform.python_version())
        telemetry.set("tocsin_config_reload_ok", 1)
        telemetry.watch("tocsin_ready", lambda: float(not self.inbox.trouble))
        telemetry.watch("tocsin_inbox_queued_bytes", lambda: float(self.inbox.queued_bytes))
        notify("READY=1", os.environ)
        logger.info(
            "Tocsin listens on %s, its data is in %s.",
            self.url,
            settings.data_dir,
            extra={"event": "front_ready", "destinations": ", ".join(self._connectors)},
        )
        point_at(self.url, sys.stderr)
        self.admitting.say_who()
        self._say_notes()

    def _say_notes(self) -> None:
        for note in self.settings.notes:
            logger.warning("%s", note, extra={"event": "config_note"})

    def _say_stopping(self) -> None:
        notify("STOPPING=1", os.environ)
        logger.info("Tocsin stops; nothing new is accepted.", extra={"event": "front_stopping"})

    async def _end_workers(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.stop()
        await self.supervisor.stop()

    def _end(self) -> None:
        """Obey a signal: end in good order, or in bad, but in time."""
        end_within(LIMIT_S)
        self.stop()

    @contextmanager
    def _signals(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        handlers = {signal.SIGTERM: self._end, signal.SIGINT: self._end, signal.SIGHUP: self._reload.set}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            # From here on the end is under way; a second interrupt must not leave it half done.
            for number in handlers:
                loop.add_signal_handler(number, _nothing)

    # ---- the workers -------------------------------------------------------------------------------------

    async def _deliver(self, deliveries: DeliveryStore) -> None:
        """Run one dispatcher after the other: a changed list of destinations needs a new one."""
        outbox = OutboxReader(self.settings.data_dir / "state.db")
        made = senders()
        try:
            while not self._stop.is_set():
                self._dispatcher = Dispatcher(
                    deliveries,
                    outbox,
                    self._connectors,
                    made,
                    clock=_now,
                    jitter=random.random,
                    on_trouble=self._on_destination_trouble,
                    settings=dispatch_settings(
                        self.settings, self._connectors, stop_s=LAST_DELIVERIES_S, key=self._redact_key
                    ),
                    meter=DispatchCounters(self.telemetry),
                )
                await self._dispatcher.run()
        finally:
            for sender in made.values():
                await sender.close()
            outbox.close()

    async def _keep_reloading(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            await self._reload_by_signal()

    async def _reload_by_signal(self) -> None:
        """Reload as the API does: written down before, and what came of it behind."""
        tenant = self.settings.tenants[0]
        try:
            entry = await self.audit.begin({
                "tenant": tenant, "actor": "signal", "role": "admin", "peer": None, "action": "reload",
                "target": "", "asked": None, "before": None,
            })  # fmt: skip
        except StorageError as error:
            logger.error(  # noqa: TRY400 - the error says it all
                "The configuration stays: that it was to be read anew cannot be written down (%s).",
                error,
                extra={"event": "config_refused", "faults": 0},
            )
            return
        told = await self.reload()
        with suppress(StorageError):
            after = {"faults": len(told.faults), "later": list(told.later)}
            await self.audit.end(entry, tenant=tenant, done=True, after=after)

    async def _watchdog(self) -> None:
        every_s = watchdog_s(os.environ, os.getpid())
        while every_s is not None:
            await asyncio.sleep(every_s)
            notify("WATCHDOG=1", os.environ)

    # ---- what the workers are given ----------------------------------------------------------------------

    async def _on_destination_trouble(self, destination: str, kind: str, reason: str | None) -> None:
        self.troubles.report(DESTINATION_TROUBLES[kind], reason, destination=destination)

    def _on_commit(self, seconds: float, _rows: int, _size_bytes: int) -> None:
        """Hear of a commit, in the writer's thread."""
        self.telemetry.observe("tocsin_commit_seconds", seconds)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the last rows of a stop
                self._loop.call_soon_threadsafe(self._on_rows)

    def _on_rows(self) -> None:
        self.telling.rows_came()
        self.supervisor.wake()

    async def _put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        """Append what the API says."""
        row = await self.inbox.put(tenant, source, kind, body)
        if kind is RowKind.ERASE:
            self.erasing.want(tenant, body)
        return row

    def _on_events(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.wake()

    def _on_damage(self, store: str, reason: str) -> None:
        """Hear, in any thread, that a store is broken: mark it, and end, so that another front begins anew."""
        if self._damage or self._loop is None:
            return
        self._damage = f"{store}: {reason}"
        suspect(self.settings.data_dir / store)
        logger.critical(
            "%s is broken and is begun anew: %s.",
            store,
            reason,
            extra={"event": "store_damaged", "store": store},
        )
        with suppress(RuntimeError):  # the loop is closed: it ends anyway
            # Not `_end`, whose last resort would strike the front that comes after this one.
            self._loop.call_soon_threadsafe(self.stop)

    def _on_state_lost(self) -> None:
        self.telling.tell_anew()
        self.service_graphs.tell_anew()
        self.sampling.tell_anew()

    async def _start_analyst(self, launch: Launch, skips: Sequence[int]) -> Process:
        level = self.settings.log_level.upper()
        words = command(self.settings.data_dir, launch, skips, log_level=level)
        return await start_analyst(words, {KEY_VARIABLE: self._redact_key.decode()})

    def _health(self, tenant: str) -> Health:
        known = health_of(tenant, self.settings, self.telemetry, self.troubles)
        return msgspec.structs.replace(known, quotas=self.quotas.health(tenant))

    async def _why_not_ready(self) -> str:
        return self.inbox.trouble

    # ---- a changed configuration -------------------------------------------------------------------------

    async def _apply(self, settings: Settings, made: dict[str, Connector]) -> tuple[str, ...]:
        """Put new settings in force; return those that act only from the next start on, as the file names them."""
        old, self.settings = self.settings, in_force(self.settings, settings)
        waits = later(old, settings)
        self.admitting.change(settings)
        if self._encryption is not None:
            self._encryption.change(self.settings.tls)
        self.troubles.move_to(settings.tenants[0])
        logging.getLogger("bridge").setLevel(settings.log_level.upper())
        await self.telling.tell_settings()
        if (settings.destinations, settings.delivery) != (old.destinations, old.delivery):
            self._change_destinations(old, made)
        if settings.polls != old.polls:
            self.polling.change()
        self.telemetry.set("tocsin_config_reload_ok", 1)
        logger.info(
            "The changed configuration is in force%s.",
            f", but for {', '.join(waits)}, which need a restart" if waits else "",
            extra={"event": "config_reloaded"},
        )
        return waits

    def _change_destinations(self, old: Settings, made: dict[str, Connector]) -> None:
        self._connectors = made
        for destination in old.destinations:
            for trouble in DESTINATION_TROUBLES.values():  # what lasts is told again
                self.troubles.is_well(trouble, destination=destination.name)
            if destination.name not in made:
                self.telemetry.forget_destination(destination.name)
        if self._dispatcher is not None:
            self._dispatcher.stop()


def release() -> str:
    """Return the version that is installed."""
    try:
        return importlib.metadata.version("tocsin")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _now() -> datetime:
    return datetime.now(UTC)


def _nothing() -> None:
    """Do nothing at a signal."""
