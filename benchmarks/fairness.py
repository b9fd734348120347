"""What tenants notice of another's storm: from a webhook to the incident at the destination, quiet and in the storm.

A whole sidecar runs (front, analyst, models) with several tenants, which share one callback destination without
waiting. Each but the first sends its share: webhooks of a few alerts, each of a cluster of its own, so that each opens
an incident. In the storm the first sends a hundred times that, and every alert of it is new. Latencies run from just
before the POST to the moment the callback server has read the event; percentiles are over all tenants that are quiet.
What counts is the larger of twice the quiet p99 and 500 ms.

    python benchmarks/fairness.py [--tenants 2 10] [--seconds 20] [--rate 2] [--alerts 10] [--times 100]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from aiohttp import web
from latency import SECRET, Sink, _free_port, alert, body

LEAST_S = 0.5
PARALLEL = 16


class Bench:
    """One sidecar with its tenants, and what they send."""

    def __init__(
        self, given: argparse.Namespace, tenants: int, session: aiohttp.ClientSession, url: str, sink: Sink
    ) -> None:
        self.given, self.tenants, self.session, self.url, self.sink = given, tenants, session, url, sink
        self.sent: dict[str, float] = {}
        self.refused: dict[int, int] = {}
        self.stormed = 0

    async def post(self, tenant: int, payload: bytes) -> None:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token(tenant)}"}
        async with self.session.post(f"{self.url}/v1/alertmanager", data=payload, headers=headers) as answer:
            await answer.read()
            if answer.status != 200:
                self.refused[answer.status] = self.refused.get(answer.status, 0) + 1

    async def quiet(self, tenant: int, scene: str, end: float) -> list[str]:
        """Send one tenant's share until `end`."""
        names = []
        begin = time.perf_counter() + tenant / self.tenants / self.given.rate  # not all at once
        while (due := begin + len(names) / self.given.rate) < end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            name = f"{scene}-{tenant}-{len(names)}"
            names.append(name)
            alerts = [
                alert({
                    "alertname": f"Probe{number}", "severity": "warning", "probe": name, "cluster": name,
                    "instance": f"{name}-{number}",
                })
                for number in range(self.given.alerts)
            ]  # fmt: skip
            self.sent[name] = time.perf_counter()
            await self.post(tenant, body(alerts, f'{{}}:{{cluster="{name}"}}'))
        return names

    async def storm(self, end: float) -> None:
        """Send a hundred times a share until `end`, as the first tenant, over a few connections."""
        begin = time.perf_counter()
        numbers = iter(range(1 << 60))
        rate = self.given.rate * self.given.times

        async def sender() -> None:
            while True:
                number = next(numbers)
                due = begin + number / rate
                if due >= end:
                    return
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if time.perf_counter() >= end:
                    return
                first = number * self.given.alerts
                await self.post(
                    0,
                    body(
                        [storming(first + each) for each in range(self.given.alerts)], '{}:{cluster="eu-1"}'
                    ),
                )
                self.stormed += self.given.alerts

        async with asyncio.TaskGroup() as group:
            for _ in range(PARALLEL):
                group.create_task(sender())

    async def scene(self, name: str, *, storms: bool) -> list[float]:
        """Let all send for a while; return the latencies of the quiet ones, infinite where nothing came in a minute."""
        end = time.perf_counter() + self.given.seconds
        async with asyncio.TaskGroup() as group:
            if storms:
                group.create_task(self.storm(end))
            quiet = [group.create_task(self.quiet(tenant, name, end)) for tenant in range(1, self.tenants)]
        names = [each for task in quiet for each in task.result()]
        limit = time.perf_counter() + 60
        while not all(each in self.sink.seen for each in names) and time.perf_counter() < limit:
            await asyncio.sleep(0.1)
        return [self.sink.seen.get(each, float("inf")) - self.sent[each] for each in names]

    async def backlog(self) -> int:
        """Return how many webhooks wait for the analyst."""
        headers = {"Authorization": f"Bearer {token(0)}-viewer"}
        async with self.session.get(f"{self.url}/api/v1/stats", headers=headers) as answer:
            return int((await answer.json())["inbox_backlog"])


def storming(number: int) -> dict[str, object]:
    """Return one new alert of the storm."""
    service = number % 60
    return alert({
        "alertname": f"Rule{number % 40}", "severity": "warning", "cluster": "eu-1", "rack": "r7",
        "instance": f"node-{number % 400}:9100", "service": f"svc-{service}", "pod": f"svc-{service}-{number:07d}",
    })  # fmt: skip


def token(tenant: int) -> str:
    """Return what a tenant sends with."""
    return f"tenant-{tenant}-0123456789abcdef"


def config(port: int, data: Path, sink_port: int, tenants: int) -> str:
    """Return the configuration."""
    lines = [f"listen: 127.0.0.1:{port}", f"storage: {{path: {data}}}", "tenants:"]
    for tenant in range(tenants):
        sender = f"{{token: {token(tenant)}, role: sender}}"
        viewer = f"{{token: {token(tenant)}-viewer, role: viewer}}"
        lines.append(f"  - {{name: t{tenant}, tokens: [{sender}, {viewer}]}}")
    lines += [
        "destinations:",
        f'  - {{name: probe, kind: callback, url: "http://127.0.0.1:{sink_port}/", secret: "whsec_{SECRET}"}}',
        "routes:",
        *(f"  - {{tenant: t{tenant}, to: [probe], wait: 0s}}" for tenant in range(tenants)),
    ]
    return "\n".join(lines) + "\n"


def percentile(latencies: list[float], share: float) -> float:
    """Return a percentile, the nearest one above."""
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def told(scene: str, latencies: list[float]) -> None:
    """Print one scene."""
    p50, p99 = statistics.median(latencies), percentile(latencies, 0.99)
    print(
        f"  {scene:10} {len(latencies):5} webhooks   p50 {p50:7.3f} s   p99 {p99:7.3f} s"
        f"   worst {max(latencies):7.3f} s"
    )


async def run(given: argparse.Namespace, tenants: int, folder: Path) -> bool:
    """Measure with so many tenants; return whether the quiet ones kept their pace."""
    sink = Sink()
    application = web.Application()
    application.router.add_post("/", sink.take)
    runner = web.AppRunner(application)
    await runner.setup()
    sink_port, port = _free_port(), _free_port()
    await web.TCPSite(runner, "127.0.0.1", sink_port).start()
    path = folder / "tocsin.yaml"
    path.write_text(config(port, folder / "data", sink_port, tenants))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "serve", "--config", str(path)], stderr=log, stdout=log
        )
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                url = f"http://127.0.0.1:{port}"
                await ready(session, url)
                await asyncio.sleep(given.warm_s)
                bench = Bench(given, tenants, session, url, sink)
                print(f"{tenants} tenants, each {given.rate:g} webhooks a second of {given.alerts} alerts:")
                quiet = await bench.scene("quiet", storms=False)
                told("quiet", quiet)
                storm = await bench.scene("storm", storms=True)
                told("in a storm", storm)
                print(
                    f"  the storm: {bench.stormed / given.seconds:.0f} alerts a second of the first tenant; "
                    f"{await bench.backlog()} webhooks of it wait on; refused: {bench.refused or 'none'}"
                )
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            await runner.cleanup()
    before, after = percentile(quiet, 0.99), percentile(storm, 0.99)
    bound = max(2 * before, LEAST_S)
    is_fair = after <= bound
    print(
        f"  p99 in the storm is {after / before:.2f} times the quiet one, {after:.3f} s of at most {bound:.3f} s: "
        f"{'kept' if is_fair else 'NOT kept'}"
    )
    return is_fair


async def ready(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until the sidecar is ready."""
    limit = time.perf_counter() + 60
    while time.perf_counter() < limit:
        try:
            async with session.get(f"{url}/-/ready") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.05)
    raise SystemExit("the sidecar did not become ready within 60 s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tenants", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each scene")
    parser.add_argument("--rate", type=float, default=2.0, help="webhooks a second of a quiet tenant")
    parser.add_argument("--alerts", type=int, default=10, help="in each")
    parser.add_argument("--times", type=float, default=100.0, help="how many shares the storm is")
    parser.add_argument("--warm-s", type=float, default=15.0, help="wait for the models first")
    given = parser.parse_args()
    kept = True
    for tenants in given.tenants:
        with tempfile.TemporaryDirectory() as folder:
            kept = asyncio.run(run(given, tenants, Path(folder))) and kept
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
