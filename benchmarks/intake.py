"""Durable intake beside what aiohttp can answer at all: shares of the ceiling, and p99, in one run.

Four servers stay up at the same time and wrk visits each for a moment per round, in turning order, so that
a noisy machine is noisy to all of them; what counts are the medians of each round's ratios. Bodies have 1,
10, 64 and 1000 alerts (about 0.8 kB each), 64 connections, keep-alive. fsync as this machine's disk has it
(--data), then slowed to 1 and 4 ms by an LD_PRELOAD shim, on a memory file system where there is one, so
that the disk's own mood does not add to it.

    python benchmarks/intake.py [--quick] [--rounds 5] [--seconds 1] [--data DIR] [--serve]

`--serve` measures the whole sidecar (`python -m bridge serve`) in place of the bare intake; `--with COMMAND`
starts one more command beside the servers and keeps it running ({data} is where the sidecar keeps its files).
wrk shares the machine with the server: every figure is what both reach together. `cpu us` is the server's
processor time for one request; it says more than the throughput when somebody else loads the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = HERE / "parts"
PATH = "/v1/alertmanager"
CONNECTIONS = 64
CEILING, RAW, NAIVE, TOCSIN = "ceiling", "rawlog", "naive", "tocsin"
MEANING = {
    CEILING: "aiohttp reads the body, 200",
    RAW: "raw preallocated log, group fdatasync",
    NAIVE: "SQLite FULL, a commit per request",
    TOCSIN: "Tocsin",
}
#: wrk's side: bodies in turn from a file of (length, newline, body), and one line of JSON at the end.
SCRIPT = """
local requests, at = {}, 0
function init(arguments)
  wrk.method, wrk.headers["Content-Type"] = "POST", "application/json"
  local file = io.open(os.getenv("BODIES"), "rb")
  while true do
    local size = file:read("*n")
    if not size then break end
    file:read(1)
    requests[#requests + 1] = wrk.format(nil, nil, nil, file:read(size))
  end
  file:close()
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency, _)
  io.write(string.format(
    '{"requests": %d, "us": %d, "refused": %d, "broken": %d, "p50_us": %d, "p99_us": %d, "max_us": %d}\\n',
    summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
"""


@dataclass(frozen=True)
class Visit:
    """What wrk saw of one server in one round."""

    per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    refused: int
    broken: int
    cpu_us: float  # of the server, for one request


@dataclass(frozen=True)
class Server:
    """One server that is up."""

    name: str
    port: int
    process: subprocess.Popen[str]


def needed(program: str, package: str) -> str:
    """Return where `program` is, or end with what to install."""
    path = shutil.which(program)
    if path is None:
        sys.exit(f"{program} is not installed: apt-get install {package}")
    return path


def alert(number: int, serial: int) -> dict[str, object]:
    """Return a firing alert like those of the common node rules."""
    instance = f"node-{number:04d}-{serial:04d}.example.net:9100"
    return {
        "status": "firing",
        "labels": {
            "alertname": "NodeFilesystemSpaceFillingUp", "cluster": "eu-1", "container": "node-exporter",
            "device": "/dev/nvme0n1p1", "fstype": "ext4", "instance": instance, "job": "node-exporter",
            "mountpoint": "/var/lib/containers", "namespace": "monitoring", "prometheus": "monitoring/k8s",
            "service": "node-exporter", "severity": "warning", "team": "infra",
        },
        "annotations": {
            "description": f"Filesystem on {instance} has only 14.62% available space left.",
            "summary": "Filesystem is predicted to run out of space within the next 24 hours.",
        },
        "startsAt": "2026-11-23T19:06:13.436321123Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.net:9090/graph?g0.expr=node_filesystem_avail_bytes&g0.tab=1",
        "fingerprint": f"{serial * 100_000 + number:016x}",
    }  # fmt: skip


def webhook(alerts: int, serial: int) -> bytes:
    """Return a body of `alerts` alerts that no other serial shares."""
    body = {
        "receiver": "tocsin", "status": "firing", "alerts": [alert(n, serial) for n in range(alerts)],
        "groupLabels": {"alertname": "NodeFilesystemSpaceFillingUp"}, "commonLabels": {"cluster": "eu-1"},
        "commonAnnotations": {}, "externalURL": "http://alertmanager.example.net:9093", "version": "4",
        "groupKey": f'{{}}:{{alertname="NodeFilesystemSpaceFillingUp", serial="{serial}"}}',
        "truncatedAlerts": 0,
    }  # fmt: skip
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def write_bodies(path: Path, alerts: int) -> int:
    """Write different bodies for wrk to send in turn; return the size of one."""
    bodies = [webhook(alerts, serial) for serial in range(200 if alerts <= 64 else 16)]
    path.write_bytes(b"".join(b"%d\n%b" % (len(body), body) for body in bodies))
    return len(bodies[0])


def environment(shim: Path, slow_us: int) -> dict[str, str]:
    """Return what a server is started with."""
    given = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    if slow_us:
        given |= {"LD_PRELOAD": str(shim), "SLOWSYNC_US": str(slow_us)}
    return given


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_of(name: str, data: Path, port: int, *, whole: bool) -> list[str]:
    """Return the command line of a server; `whole` takes the sidecar for Tocsin."""
    if name == TOCSIN and whole:
        listen = ["--listen", f"127.0.0.1:{port}", "--data", str(data)]
        return [sys.executable, "-m", "bridge", "serve", *listen]
    return [sys.executable, str(PARTS / "servers.py"), name, "--data", str(data), "--port", str(port)]


def answers(port: int) -> bool:
    """Return whether a webhook is answered 200."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{PATH}", webhook(1, 0), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@contextlib.contextmanager
def running(name: str, command: list[str], port: int, env: dict[str, str], log: Path) -> Iterator[Server]:
    """Run one server until the block ends; ready when it answers."""
    with log.open("w") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, text=True)
        try:
            until = time.monotonic() + 60
            while not answers(port):
                if process.poll() is not None or time.monotonic() > until:
                    sys.exit(f"{name} did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.05)
            yield Server(name, port, process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cpu_s(process: subprocess.Popen[str]) -> float:
    """Return the processor time that a server has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def visit(server: Server, bodies: Path, script: Path, seconds: float) -> Visit:
    """Load one server for `seconds`."""
    before = cpu_s(server.process)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    done = subprocess.run(
        [*command, "-s", str(script), f"http://127.0.0.1:{server.port}{PATH}"],
        env={**os.environ, "BODIES": str(bodies)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seen = json.loads(done.stdout.splitlines()[-1])
    requests = max(seen["requests"], 1)
    return Visit(
        per_s=requests / seen["us"] * 1e6,
        p50_ms=seen["p50_us"] / 1e3,
        p99_ms=seen["p99_us"] / 1e3,
        max_ms=seen["max_us"] / 1e3,
        refused=seen["refused"],
        broken=seen["broken"],
        cpu_us=(cpu_s(server.process) - before) / requests * 1e6,
    )


def measured(
    servers: list[Server], bodies: Path, script: Path, rounds: int, seconds: float
) -> list[dict[str, Visit]]:
    """Visit every server once a round, each round beginning with another."""
    for server in servers:
        visit(server, bodies, script, 1)  # buffers, caches, first growth of the files
    found = []
    for number in range(rounds):
        turned = servers[number % len(servers) :] + servers[: number % len(servers)]
        found.append({server.name: visit(server, bodies, script, seconds) for server in turned})
    return found


def median(found: list[dict[str, Visit]], name: str, field: str) -> float:
    """Return the median of one figure over the rounds."""
    return statistics.median(getattr(round_[name], field) for round_ in found)


def ratio(found: list[dict[str, Visit]], name: str, to: str) -> float:
    """Return the median of each round's ratio of throughput."""
    return statistics.median(round_[name].per_s / round_[to].per_s for round_ in found)


def print_table(alerts: int, size: int, found: list[dict[str, Visit]]) -> None:
    """Print one table."""
    print(f"\n  {alerts} alerts a webhook ({size:,} bytes)")
    print(f"  {'':38}{'hooks/s':>9}{'alerts/s':>11}{'% ceiling':>10}{'x naive':>9}{'p50 ms':>8}{'p99 ms':>8}"
          f"{'cpu us':>8}{'not 200':>8}")  # fmt: skip
    for name in found[0]:
        per_s = median(found, name, "per_s")
        wrong = sum(round_[name].refused + round_[name].broken for round_ in found)
        print(
            f"  {MEANING.get(name, name):38}{per_s:9,.0f}{per_s * alerts:11,.0f}"
            f"{100 * ratio(found, name, CEILING):10.0f}{ratio(found, name, NAIVE):9.1f}"
            f"{median(found, name, 'p50_ms'):8.1f}{median(found, name, 'p99_ms'):8.1f}"
            f"{median(found, name, 'cpu_us'):8.0f}{wrong:8,}"
        )


def measure_disk(data: Path) -> float:
    """Return the median milliseconds of an fdatasync after 4 KiB."""
    with tempfile.TemporaryFile(dir=data) as file:
        times = []
        for _ in range(200):
            file.write(b"x" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def places(given: argparse.Namespace) -> list[tuple[str, int, Path]]:
    """Return (title, microseconds added to each fsync, directory) of each part of the run."""
    memory = Path("/dev/shm")  # noqa: S108 - a memory file system, only where there is one
    slow = memory if memory.is_dir() else given.data
    parts = [(f"fsync as it is ({measure_disk(given.data):.2f} ms)", 0, given.data)]
    parts += [(f"fsync slowed to {ms} ms", ms * 1000, slow) for ms in (1, 4)]
    return [part for part in parts if given.fsync is None or str(part[1] // 1000) in given.fsync.split(",")]


def run_part(given: argparse.Namespace, title: str, slow_us: int, parent: Path, work: Path) -> None:
    """Measure all bodies at one fsync."""
    print(f"\n{title}")
    for alerts in given.alerts:
        size = write_bodies(work / "bodies", alerts)
        # New servers for each size: nobody pays for what an earlier table left behind.
        with contextlib.ExitStack() as stack:
            servers = []
            for name in (CEILING, RAW, NAIVE, TOCSIN):
                data = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent, prefix="tocsin-")))
                port = free_port()
                command = command_of(name, data, port, whole=given.serve)
                env, log = environment(work / "slowsync.so", slow_us), work / f"{name}.log"
                servers.append(stack.enter_context(running(name, command, port, env, log)))
                if name == TOCSIN and given.beside:
                    stack.enter_context(beside(given.beside.replace("{data}", str(data)), env, work))
            print_table(
                alerts,
                size,
                measured(servers, work / "bodies", work / "wrk.lua", given.rounds, given.seconds),
            )


@contextlib.contextmanager
def beside(command: str, env: dict[str, str], work: Path) -> Iterator[None]:
    """Keep one more command running."""
    with (work / "beside.log").open("w") as log:
        process = subprocess.Popen(shlex.split(command), env=env, stdout=log, stderr=log)
        try:
            yield
            if process.poll() is not None:
                print(f"  (the command beside ended by itself with {process.returncode})")
        finally:
            process.terminate()
            process.wait(15)


def wanted() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two rounds, 10 and 64 alerts")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one visit, whole seconds")
    parser.add_argument("--alerts", default=None, help="alerts in a body, separated by commas")
    parser.add_argument("--fsync", default=None, help="which of 0 (as it is), 1, 4 ms, separated by commas")
    parser.add_argument(
        "--data", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure"
    )
    parser.add_argument("--serve", action="store_true", help="the whole sidecar in place of the bare intake")
    parser.add_argument("--with", dest="beside", help="a command that runs beside; {data} is filled in")
    given = parser.parse_args()
    given.rounds = given.rounds or (2 if given.quick else 5)
    sizes = given.alerts or ("10,64" if given.quick else "1,10,64,1000")
    if not re.fullmatch(r"\d+(,\d+)*", sizes):
        parser.error("--alerts takes numbers separated by commas")
    given.alerts = [int(size) for size in sizes.split(",")]
    return given


def main() -> None:
    given = wanted()
    needed("wrk", "wrk")
    compiler = needed("cc", "gcc libc6-dev")
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as directory:
        work = Path(directory)
        shim = work / "slowsync.so"
        subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", str(shim), str(PARTS / "slowsync.c"), "-ldl"],
            check=True,
        )
        (work / "wrk.lua").write_text(SCRIPT)
        print(f"{os.cpu_count()} processors shared with wrk, load {os.getloadavg()[0]:.1f} before we began, "
              f"{given.rounds} rounds of {given.seconds:g} s, {CONNECTIONS} connections")  # fmt: skip
        for title, slow_us, parent in places(given):
            run_part(given, title, slow_us, parent, work)
        print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
