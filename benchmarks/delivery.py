"""From the outbox to the destination: how many incidents a second, what one message costs, what an outage costs.

The real dispatcher, its stores on the disk, the real connectors and senders; destinations are servers on loopback in a
process of their own that answer well (`parts/loopback.py`), so what is shown is Tocsin's side.

    python benchmarks/delivery.py [--incidents 1000] [--day 20000] [--backlog 2000] [--rounds 5] [--kind KIND ...]

* incidents a second: one event each, of 5 alerts, from a full outbox to the last acknowledgement, by kind;
* render: `render` and the stored form of such an event, median (good: below 200 us);
* a day down: a destination that refuses every connection for a simulated day, in which `--day` events come; what the
  process grows by from the day's first tenth to its end (good: below 32 MiB), and what the store takes on the disk
  (good: below 2 KiB an event);
* recovery: from the moment the destination works again to the last of a backlog (good: below 60 s);
* neighbours: throughput of one destination beside another that is dead (refuses, or never answers) and has as many
  events waiting, as a share of its throughput alone, the best round of each (good: at least 0.95).

Exits 1 if something is not good.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from parts.loopback import Down, Loopback, Servers, answer_of
from typing_extensions import override

import connectors
from bridge.app.checking import test_event
from bridge.app.destinations import policy_of, senders
from bridge.dispatch import Dispatcher, DispatchSettings, SilentMeter
from bridge.dispatch.surroundings import Pause
from bridge.model import Event, EventKind, event_id
from bridge.ports import Append, Connector, Frames, Http, Sender, encode_request
from bridge.storage.deliveries import DeliveryStore, OutboxReader
from bridge.storage.sqlite import open_writer
from bridge.storage.state import STATE_SCHEMA

ALERTS = 5
RENDER_US, SHARE, RECOVERY_S = 200.0, 0.95, 60.0
DAY_S, GROWTH_BYTES, EVENT_BYTES = 86_400.0, 32 << 20, 2048
DEATHS = ("refused", "silent")
PROTOCOLS = (Http, Frames, Append)


def made_event(incident: str) -> Event:
    """Return an ordinary event: an incident that opened with a few alerts."""
    event = test_event(incident, 1, EventKind.OPENED, datetime.now(UTC))
    first = event.incident.episodes[0]
    episodes = tuple(
        msgspec.structs.replace(
            first, fingerprint=f"{number:016x}", severity="warning",
            labels={
                "alertname": "HighLatency", "severity": "warning", "service": "checkout", "namespace": "shop",
                "cluster": "eu-1", "instance": f"10.0.0.{number}:9100",
            },
            annotations={"summary": f"p99 is 2.{number} s", "runbook_url": "https://runbooks.example.com/latency"},
        )
        for number in range(ALERTS)
    )  # fmt: skip
    view = msgspec.structs.replace(
        event.incident, title="HighLatency on 5 instances of checkout", severity="warning", alerts_total=ALERTS,
        alerts_firing=ALERTS, episodes=episodes,
    )  # fmt: skip
    return msgspec.structs.replace(event, incident=view)


def write_outbox(folder: Path, names: list[str], incidents: range, at: datetime | None = None) -> None:
    """Commit an event and its outbox rows for each incident, as the analyst does."""
    at_us = int((at or datetime.now(UTC)).timestamp() * 1e6)
    template = made_event("incident")
    with closing(open_writer(folder / "state.db", STATE_SCHEMA)) as state:
        state.execute("BEGIN")
        for number in incidents:
            incident = f"i{number:08}"
            made = msgspec.structs.replace(
                template, event_id=event_id("default", incident, 1, EventKind.OPENED),
                incident=msgspec.structs.replace(template.incident, id=incident),
            )  # fmt: skip
            state.execute(
                "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)",
                ("default", incident, 1, made.event_id, "opened", at_us, msgspec.json.encode(made)),
            )
            state.executemany(
                "INSERT INTO outbox (tenant, destination, event_id, incident, seq, kind, at, not_before)"
                " VALUES (?, ?, ?, ?, 1, 'opened', ?, ?)",
                [("default", name, made.event_id, incident, at_us, at_us) for name in names],
            )
        state.execute("COMMIT")


@dataclass
class Taken(SilentMeter):
    """Counts what each destination has, and says when one has enough."""

    enough: dict[str, int]
    counts: dict[str, int] = field(default_factory=dict)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @override
    def counted(self, destination: str, result: str, events: int) -> None:
        if result in {"delivered", "duplicate"}:
            self.counts[destination] = self.counts.get(destination, 0) + events
        if all(self.counts.get(name, 0) >= number for name, number in self.enough.items()):
            self.done.set()


class Routed(Sender):
    """Sends each destination's requests its own way: by the name that stands in the sealed request's way."""

    def __init__(self, ways: Mapping[str, Sender]) -> None:
        self._ways = ways

    @override
    async def send(self, request: Any, *, timeout_s: float) -> Any:
        name = request.headers.pop("x-bench")
        return await self._ways[name].send(request, timeout_s=timeout_s)


class Named:
    """A connector whose sealed requests say whose they are."""

    def __init__(self, connector: Connector, name: str) -> None:
        self._connector, self._name = connector, name
        self.caps = connector.caps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    def seal(self, request: Any, event_ids: Any, now: datetime) -> Any:
        sealed = self._connector.seal(request, event_ids, now)
        return msgspec.structs.replace(sealed, headers=dict(sealed.headers) | {"x-bench": self._name})


@contextlib.asynccontextmanager
async def dispatching(
    folder: Path,
    made: Mapping[str, Any],
    ways: Mapping[type, Sender],
    meter: Taken,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    pause: Pause | None = None,
    settings: DispatchSettings | None = None,
) -> Any:
    """Run the dispatcher over what stands in a folder."""

    async def on_trouble(*_: Any) -> None:
        """Nobody is told."""

    store, outbox = DeliveryStore(folder / "delivery.db", clock=clock), OutboxReader(folder / "state.db")
    policies = {name: policy_of(connector, None) for name, connector in made.items()}
    dispatcher = Dispatcher(
        store, outbox, made, ways, clock=clock, jitter=random.Random(7).random, on_trouble=on_trouble,
        settings=msgspec.structs.replace(settings or DispatchSettings(stop_s=1), policies=policies),
        meter=meter, pause=pause,
    )  # fmt: skip
    task = asyncio.get_running_loop().create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        dispatcher.stop()
        await task
        outbox.close()
        store.close()


# ---- by kind ---------------------------------------------------------------------------------------------


def connector_of(kind: str) -> Connector:
    return connectors.make(kind, connectors.load(kind).Settings(**connectors.load(kind).example))


def render_us(connector: Connector, events: int = 400) -> float:
    """Return the median time of one message made and encoded, in microseconds."""
    found = []
    for number in range(events):
        event = made_event(f"i{number}")
        begin = time.perf_counter()
        encode_request(connector.render([event], None, "").request)
        found.append(time.perf_counter() - begin)
    return 1e6 * statistics.median(found)


async def per_second(kind: str, connector: Connector, ports: Mapping[str, int], incidents: int) -> float:
    """Return how many incidents a second one destination is told of."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_outbox(folder, ["it"], range(incidents))
        real = senders()
        ways = {protocol: Loopback(real[protocol], ports, kind, folder) for protocol in PROTOCOLS}
        meter = Taken({"it": incidents})
        begin = time.perf_counter()
        async with dispatching(folder, {"it": connector}, ways, meter):
            async with asyncio.timeout(300):
                await meter.done.wait()
            took_s = time.perf_counter() - begin
        for sender in real.values():
            await sender.close()
        return incidents / took_s


# ---- outages ---------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    """Return what this process has in memory now."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def day_down(events: int, real_s: float) -> tuple[int, float, int]:
    """Return what the process grew by, bytes an event on the disk, and attempts, over a simulated day.

    The day passes in `real_s` seconds: clock and pauses run that much faster.
    """
    factor, begin, start = DAY_S / real_s, time.perf_counter(), datetime.now(UTC)

    def clock() -> datetime:
        return start + timedelta(seconds=(time.perf_counter() - begin) * factor)

    async def pause(signal: asyncio.Event, until: datetime) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, (until - clock()).total_seconds()) / factor):
                await signal.wait()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_outbox(folder, ["it"], range(1), start)
        real = senders()
        down = Down(real[Http])
        looks = DispatchSettings(poll_s=60, look_every_s=60, measure_every_s=300, stop_s=60)
        sizes: list[int] = []
        async with dispatching(
            folder, {"it": connector_of("callback")}, {Http: down}, Taken({"it": events}),
            clock=clock, pause=pause, settings=looks,
        ):  # fmt: skip
            tenth = events // 10
            for part in range(10):
                write_outbox(folder, ["it"], range(part * tenth + 1, (part + 1) * tenth + 1), clock())
                await asyncio.sleep(max(0.0, begin + (part + 1) * real_s / 10 - time.perf_counter()))
                sizes.append(resident_bytes())
        for sender in real.values():
            await sender.close()
        disk = sum(path.stat().st_size for path in folder.glob("delivery.db*"))
        return max(sizes) - sizes[0], disk / events, down.attempts


async def recovery_s(ports: Mapping[str, int], backlog: int, down_s: float = 15.0) -> float:
    """Return how long it takes from the end of an outage to the last of the backlog."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_outbox(folder, ["it"], range(backlog))
        real = senders()
        down = Down(Loopback(real[Http], ports, "pagerduty", folder))
        meter = Taken({"it": backlog})
        async with dispatching(folder, {"it": connector_of("pagerduty")}, {Http: down}, meter):
            await asyncio.sleep(down_s)
            down.is_down = False
            begin = time.perf_counter()
            async with asyncio.timeout(300):
                await meter.done.wait()
            took_s = time.perf_counter() - begin
        for sender in real.values():
            await sender.close()
        return took_s


async def beside(ports: Mapping[str, int], incidents: int, neighbour: str) -> float:
    """Return the throughput of one destination beside a neighbour that is "refused", "silent" or "" (none)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = ["it", "neighbour"] if neighbour else ["it"]
        write_outbox(folder, names, range(incidents))
        real = senders()
        well = Loopback(real[Http], ports, "callback", folder)
        other = Down(well, silent=neighbour == "silent")
        made = {each: Named(connector_of("callback"), each) for each in names}
        meter = Taken({"it": incidents})
        begin = time.perf_counter()
        async with dispatching(folder, made, {Http: Routed({"it": well, "neighbour": other})}, meter):
            async with asyncio.timeout(300):
                await meter.done.wait()
            took_s = time.perf_counter() - begin
        for sender in real.values():
            await sender.close()
        return incidents / took_s


async def shares(ports: Mapping[str, int], given: argparse.Namespace) -> dict[str, float]:
    """Return by kind of death of the neighbour the share of the throughput alone, best rounds of each."""
    best: dict[str, float] = {}
    for _ in range(given.rounds):
        for death in ("", *DEATHS):  # in turns, so that what else the machine does weighs on all of them
            best[death] = max(best.get(death, 0.0), await beside(ports, given.incidents, death))
    return {death: best[death] / best[""] for death in DEATHS}


# ---- the whole -------------------------------------------------------------------------------------------


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--incidents", type=int, default=1000)
    parser.add_argument("--day", type=int, default=20_000, help="events of the day")
    parser.add_argument("--day-seconds", type=float, default=40.0, help="how long the simulated day takes")
    parser.add_argument("--backlog", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", action="append", default=[], help="only these kinds")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    made = {kind: connector_of(kind) for kind in given.kind or sorted(connectors.KINDS)}
    needed = {kind: connector_of(kind) for kind in ("callback", "pagerduty")} | made
    event = made_event("i")
    answers = {kind: answer for kind, each in needed.items() if (answer := answer_of(each, event))}
    with Servers(answers) as servers:
        good = print_kinds(made, answers, servers.ports, given.incidents)
        good &= print_outages(servers.ports, given)
    sys.exit(0 if good else 1)


def print_kinds(
    made: Mapping[str, Connector], answers: Mapping[str, Any], ports: Mapping[str, int], incidents: int
) -> bool:
    """Print a line for each kind; return whether rendering is cheap enough."""
    dearest = 0.0
    print(
        f"\n  {'':14}{'incidents/s':>12}{'render us':>11}   one event of {ALERTS} alerts, {incidents:,} incidents"
    )
    for kind, connector in made.items():
        cost_us = render_us(connector)
        dearest = max(dearest, cost_us)
        request = connector.render([made_event("i")], None, "").request
        reachable = isinstance(request, PROTOCOLS) and (not isinstance(request, Http) or kind in answers)
        rate = asyncio.run(per_second(kind, connector, ports, incidents)) if reachable else None
        print(f"  {kind:14}{'-' if rate is None else f'{rate:,.0f}':>12}{cost_us:11.0f}")
    print(f"  the dearest message: {dearest:.0f} us (good: below {RENDER_US:.0f})")
    return dearest < RENDER_US


def print_outages(ports: Mapping[str, int], given: argparse.Namespace) -> bool:
    """Print what outages cost; return whether all of it is good."""
    grown, each_bytes, attempts = asyncio.run(day_down(given.day, given.day_seconds))
    print(
        f"\n  down for a simulated day, {given.day:,} events, {attempts:,} attempts: the process grew by "
        f"{grown / 2**20:.1f} MiB (good: below {GROWTH_BYTES >> 20}), {each_bytes:.0f} bytes an event on the disk "
        f"(good: below {EVENT_BYTES})"
    )
    recovered_s = asyncio.run(recovery_s(ports, given.backlog))
    print(
        f"  recovery: a backlog of {given.backlog:,} gone {recovered_s:.1f} s after the destination works again "
        f"(good: below {RECOVERY_S:.0f})"
    )
    found = asyncio.run(shares(ports, given))
    for death, share in found.items():
        print(f"  beside a destination that is dead ({death}): {share:.2f} of the throughput (good: {SHARE})")
    return (
        grown < GROWTH_BYTES and each_bytes < EVENT_BYTES and recovered_s < RECOVERY_S
        and min(found.values()) >= SHARE
    )  # fmt: skip


if __name__ == "__main__":
    main()
