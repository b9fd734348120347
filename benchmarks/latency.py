"""From a webhook's arrival to the send at the destination: quiet, inside a storm, and with the analyst stopped.

A whole sidecar runs (front, analyst, models) with one callback destination without waiting. Probe alerts open one
incident each, being of a cluster of their own: of one cluster time alone would put them together, and what joins an
incident that is open is told with its next update, up to half a minute later. Their latency runs from just before the
POST to the moment the callback server has read the event. Percentiles are of the probes.

    python benchmarks/latency.py [--probes 60] [--storm 20000] [--storm-s 60] [--skip-stopped]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from aiohttp import web

CONFIG = """
listen: 127.0.0.1:{port}
storage: {{path: {data}}}
destinations:
  - {{name: probe, kind: callback, url: "http://127.0.0.1:{sink}/", secret: "whsec_{secret}"}}
routes:
  - {{to: [probe], wait: 0s}}
"""
SECRET = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEVER = "0001-01-01T00:00:00Z"


class Sink:
    """The callback destination: notes when each incident's first event arrived."""

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}
        self.arrived = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        event = json.loads(await request.read())["data"]
        now = time.perf_counter()
        for episode in event["incident"]["episodes"]:
            name = episode["labels"].get("probe")
            if name is not None:
                self.seen.setdefault(name, now)
        self.arrived.set()
        return web.Response(status=204)


def alert(labels: dict[str, str]) -> dict[str, object]:
    """Return one firing alert."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {
        "status": "firing", "labels": labels, "annotations": {"summary": f"{labels['alertname']} fires"},
        "startsAt": now, "endsAt": NEVER, "generatorURL": "",
    }  # fmt: skip


def body(alerts: list[dict[str, object]], group: str) -> bytes:
    """Return a webhook body."""
    return json.dumps({"version": "4", "groupKey": group, "receiver": "r", "alerts": alerts}).encode()


class Sidecar:
    """A running `tocsin serve` and its destination."""

    def __init__(self, folder: Path, port: int, sink_port: int) -> None:
        config = folder / "tocsin.yaml"
        config.write_text(CONFIG.format(port=port, data=folder / "data", sink=sink_port, secret=SECRET))
        self.url = f"http://127.0.0.1:{port}"
        self.log = (folder / "log").open("wb")
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "serve", "--config", str(config)],
            stderr=self.log,
            stdout=self.log,
        )
        self.begin = begin

    async def ready(self, session: aiohttp.ClientSession) -> float:
        """Wait until it is ready; return the seconds since its start."""
        while time.perf_counter() - self.begin < 60:
            try:
                async with session.get(f"{self.url}/-/ready") as answer:
                    if answer.status == 200:
                        return time.perf_counter() - self.begin
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.01)
        raise SystemExit("the sidecar did not become ready within 60 s")

    def analysts(self) -> list[int]:
        """Return the process ids of the analyst."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-f", "bridge.app.analyst"],
            capture_output=True,
            check=False,
        )
        return [int(pid) for pid in found.stdout.split()]

    def memory_mb(self, pid: int) -> float:
        """Return the resident memory of one process and its children."""
        total = 0.0
        children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, check=False).stdout.split()
        for each in [pid, *map(int, children)]:
            try:
                status = Path(f"/proc/{each}/status").read_text()
            except OSError:
                continue
            line = next((line for line in status.splitlines() if line.startswith("VmRSS")), "VmRSS: 0 kB")
            total += int(line.split()[1]) / 1024
        return total

    def stop(self) -> None:
        """End it and wait."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


class Bench:
    """The scenes."""

    def __init__(self, sidecar: Sidecar, sink: Sink, session: aiohttp.ClientSession) -> None:
        self.sidecar, self.sink, self.session = sidecar, sink, session
        self.sent: dict[str, float] = {}

    async def post(self, payload: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        async with self.session.post(
            f"{self.sidecar.url}/v1/alertmanager", data=payload, headers=headers
        ) as answer:
            if answer.status != 200:
                print(f"the sidecar answered {answer.status}: {await answer.text()}")

    async def probe(self, name: str, severity: str = "warning") -> None:
        labels = {
            "alertname": f"Probe{name}",
            "severity": severity,
            "probe": name,
            "cluster": name,
            "instance": f"host-{name}",
        }
        self.sent[name] = time.perf_counter()
        await self.post(body([alert(labels)], f'{{}}:{{alertname="Probe{name}"}}'))

    async def all_seen(self, names: list[str], limit_s: float) -> list[float]:
        """Wait for the probes; return the latencies of those that came."""
        end = time.perf_counter() + limit_s
        while not all(name in self.sink.seen for name in names) and time.perf_counter() < end:
            self.sink.arrived.clear()
            try:
                await asyncio.wait_for(self.sink.arrived.wait(), 1.0)
            except TimeoutError:
                continue
        return [self.sink.seen[name] - self.sent[name] for name in names if name in self.sink.seen]

    async def quiet(self, probes: int) -> list[float]:
        names = [f"quiet{number}" for number in range(probes)]
        for name in names:
            await self.probe(name)
            await asyncio.sleep(0.25)
        return await self.all_seen(names, 60)

    async def storm(self, alerts: int, span_s: float, probes: int) -> list[float]:
        names = [f"storm{number}" for number in range(probes)]
        begin = time.perf_counter()
        sent = asked = 0
        while sent < alerts or asked < probes:
            elapsed = time.perf_counter() - begin
            while sent < min(alerts, alerts * elapsed / span_s):
                await self.post(self._burst(sent))
                sent += 20
            while asked < min(probes, probes * elapsed / span_s):
                await self.probe(names[asked])
                asked += 1
            await asyncio.sleep(0.005)
        return await self.all_seen(names, 180)

    def _burst(self, first: int) -> bytes:
        alerts = []
        for number in range(first, first + 20):
            service = number % 60
            alerts.append(
                alert({
                    "alertname": f"Rule{number % 40}", "severity": "warning", "cluster": "eu-1", "rack": "r7",
                    "instance": f"node-{number % 400}:9100", "service": f"svc-{service}",
                    "pod": f"svc-{service}-7d9f8b6c5-{number:05d}",
                })
            )  # fmt: skip
        return body(alerts, '{}:{cluster="eu-1"}')

    async def stopped(self) -> list[float]:
        """Stop the analyst with SIGSTOP and send one critical alert."""
        for pid in self.sidecar.analysts():
            os.kill(pid, signal.SIGSTOP)
        await self.probe("stopped", "critical")
        return await self.all_seen(["stopped"], 120)


def told(scene: str, latencies: list[float], sent: int, target_s: float) -> None:
    """Print one row."""
    if not latencies:
        print(f"{scene:34} {sent:6} sent, none arrived in time")
        return
    ordered = sorted(latencies)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(
        f"{scene:34} {len(latencies):5}/{sent:<5} p50 {statistics.median(ordered):7.3f} s   p99 {p99:7.3f} s   "
        f"worst {ordered[-1]:7.3f} s   target p99 < {target_s:g} s"
    )


async def run(given: argparse.Namespace, folder: Path, free: Callable[[], int]) -> None:
    sink = Sink()
    application = web.Application()
    application.router.add_post("/", sink.take)
    runner = web.AppRunner(application)
    await runner.setup()
    sink_port = free()
    await web.TCPSite(runner, "127.0.0.1", sink_port).start()
    sidecar = Sidecar(folder, free(), sink_port)
    async with aiohttp.ClientSession() as session:
        try:
            ready_s = await sidecar.ready(session)
            front_mb = sidecar.memory_mb(sidecar.process.pid)
            print(f"front ready after {ready_s:.2f} s")
            bench = Bench(sidecar, sink, session)
            await asyncio.sleep(given.warm_s)
            told("quiet", await bench.quiet(given.probes), given.probes, 2)
            storm = f"{given.storm} alerts in {given.storm_s:g} s"
            told(storm, await bench.storm(given.storm, given.storm_s, given.probes), given.probes, 30)
            for pid in sidecar.analysts():
                print(f"analyst with its models process: {sidecar.memory_mb(pid):.0f} MB")
            own = _own_mb(sidecar.process.pid)
            print(f"front: {own:.0f} MB (with children at the start: {front_mb:.0f} MB)")
            if not given.skip_stopped:
                told("critical, analyst SIGSTOPped", await bench.stopped(), 1, 60)
        finally:
            sidecar.stop()
            await runner.cleanup()


def _own_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def _free_port() -> int:
    import socket  # noqa: PLC0415 - one call

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--probes", type=int, default=60)
    parser.add_argument("--storm", type=int, default=20_000)
    parser.add_argument("--storm-s", type=float, default=60.0)
    parser.add_argument(
        "--warm-s", type=float, default=15.0, help="wait for the models before the first scene"
    )
    parser.add_argument("--skip-stopped", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(given, Path(folder), _free_port))


if __name__ == "__main__":
    main()
