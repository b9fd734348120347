"""kill -9, again and again under load, against a ledger that the killed process cannot touch.

The thing under test is a command that listens on a port and keeps its files in a directory. Sixteen senders
give every webhook a serial number and write it into the ledger when its 200 has arrived. The thing is
killed at a random moment and started again on the same files, as often as asked; then everything in the
ledger must be in the inbox. fsync is slowed (LD_PRELOAD), so that a kill meets webhooks on their way.

A test that cannot fail proves nothing, so two controls run too and must be seen to fail: an intake that
answers before its commit loses what it acknowledged; and an intake with synchronous=OFF, which no kill -9
can catch since the kernel keeps the pages, answers without an fdatasync between its write and its 200, as
strace sees.

    python benchmarks/crash.py [--kills 200] [--serve] [--data DIR] [--seed 1]

`--serve` kills the whole sidecar (`python -m bridge serve`) in place of the bare intake. Exit 0: the thing
held and both controls failed.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bridge.model import RowKind
from bridge.storage.inbox import InboxReader

HERE = Path(__file__).resolve().parent
PARTS = HERE / "parts"
PATH = "/v1/alertmanager/crash"
SENDERS = 16
START_S = 60.0
Command = Callable[[Path, int], list[str]]


@dataclass
class Ledger:
    """What was sent and what was acknowledged, by serial number."""

    sent: Iterator[int] = field(default_factory=itertools.count)
    acknowledged: set[int] = field(default_factory=set)
    refused: Counter[int] = field(default_factory=Counter)  # answers other than 200, by status
    silent: int = 0  # requests without an answer
    acknowledged_at_s: float = 0.0  # of the newest, on the monotonic clock
    longest_wait_s: float = 0.0  # between two that were acknowledged one after the other

    def acknowledge(self, serial: int, now_s: float) -> None:
        """Write down that the 200 of a webhook has arrived."""
        if self.acknowledged_at_s:
            self.longest_wait_s = max(self.longest_wait_s, now_s - self.acknowledged_at_s)
        self.acknowledged_at_s = now_s
        self.acknowledged.add(serial)


@dataclass(frozen=True)
class Verdict:
    """What the checks found."""

    acknowledged: int
    stored: int
    lost: int
    doubled: int
    integrity: str
    slowest_start_s: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing was lost and nothing is broken."""
        return self.acknowledged > 0 and not self.lost and not self.doubled and self.integrity == "ok"


def intake(kind: str) -> Command:
    """Return the command of one of the servers of `parts/servers.py`."""
    return lambda data, port: [
        sys.executable, str(PARTS / "servers.py"), kind, "--data", str(data), "--port", str(port)
    ]  # fmt: skip


def sidecar(data: Path, port: int) -> list[str]:
    """Return the command of the whole sidecar."""
    return [
        sys.executable, "-m", "bridge", "serve", "--listen", f"127.0.0.1:{port}", "--data", str(data)
    ]  # fmt: skip


# ---- the senders -----------------------------------------------------------------------------------------


def webhook(serial: int, name: str = "Crash") -> bytes:
    """Return a webhook with one alert that carries `serial`; each name has a cluster of its own."""
    alert = {
        "status": "firing",
        "labels": {"alertname": name, "serial": str(serial), "cluster": name.lower()},
        "annotations": {"summary": "x" * 500},
        "startsAt": "2026-11-23T19:06:13.436321123Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": f"{serial:016x}",
    }
    return json.dumps({"version": "4", "receiver": "crash", "groupKey": "{}:{}", "alerts": [alert]}).encode()


def serial_of(body: bytes) -> int:
    """Return the serial that `webhook` wrote."""
    return int(json.loads(body)["alerts"][0]["labels"]["serial"])


def send(
    port: int, ledger: Ledger, until: threading.Event, body_of: Callable[[int], bytes], pause_s: float
) -> None:
    """Send webhooks one after the other, each with its own serial, until told to stop."""
    connection: http.client.HTTPConnection | None = None
    while not until.is_set():
        connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        serial = next(ledger.sent)
        try:
            connection.request("POST", PATH, body_of(serial), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            connection = None
            ledger.silent += 1
            until.wait(0.02)
            continue
        if answer.status == http.client.OK:
            ledger.acknowledge(serial, time.monotonic())
            until.wait(pause_s)
        else:
            ledger.refused[answer.status] += 1
            until.wait(0.02)
    if connection is not None:
        connection.close()


@contextlib.contextmanager
def load(
    port: int, ledger: Ledger, body_of: Callable[[int], bytes] = webhook, pause_s: float = 0.0
) -> Iterator[None]:
    """Send from several threads while the block runs; each waits so long after an answer."""
    until = threading.Event()
    given = (port, ledger, until, body_of, pause_s)
    threads = [threading.Thread(target=send, args=given) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        until.set()
        for thread in threads:
            thread.join()


# ---- the thing under test --------------------------------------------------------------------------------


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(slow_us: int, work: Path) -> dict[str, str]:
    """Return what the thing is started with; without a C compiler fsync stays as it is."""
    given = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    compiler = shutil.which("cc")
    if not slow_us or compiler is None:
        return given
    shim = work / "slowsync.so"
    if not shim.exists():
        source = str(PARTS / "slowsync.c")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(shim), source, "-ldl"], check=True)
    return given | {"LD_PRELOAD": str(shim), "SLOWSYNC_US": str(slow_us)}


def start(command: list[str], port: int, env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start the thing in a process group of its own; return when it accepts connections."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return process
        time.sleep(0.01)
    kill(process)
    raise SystemExit(f"the thing did not start:\n{log.read_text()[-2000:]}")


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 the thing and everything that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_loop(
    command: Command, data: Path, *, kills: int, draw: random.Random, env: dict[str, str]
) -> tuple[Ledger, float]:
    """Kill the thing `kills` times under load; return the ledger and the slowest start in seconds."""
    ledger, slowest = Ledger(), 0.0
    log = data / "thing.log"
    for _ in range(kills):
        port = free_port()
        begun = time.monotonic()
        process = start(command(data, port), port, env, log)
        slowest = max(slowest, time.monotonic() - begun)
        with load(port, ledger):
            time.sleep(draw.uniform(0.1, 0.6))
            kill(process)
    # Once more, so that what a kill left behind is recovered by the thing itself.
    port = free_port()
    process = start(command(data, port), port, env, log)
    process.terminate()
    process.wait(30)
    return ledger, slowest


# ---- the checks ------------------------------------------------------------------------------------------


def stored(data: Path) -> Counter[int]:
    """Return the serials in the inbox and how often each is there."""
    reader = InboxReader(data / "inbox.db")
    found: Counter[int] = Counter()
    after = 0
    try:
        while rows := reader.read(after, 10_000, 64 << 20):
            found.update(serial_of(row.body) for row in rows if row.kind is RowKind.WEBHOOK)
            after = rows[-1].id
    finally:
        reader.close()
    return found


def integrity(data: Path) -> str:
    """Return "ok", or what SQLite finds wrong with the inbox."""
    with contextlib.closing(sqlite3.connect(data / "inbox.db")) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def judged(ledger: Ledger, data: Path, slowest_start_s: float = 0.0) -> Verdict:
    """Hold the inbox against the ledger. Stored and not acknowledged is allowed, the other way is not."""
    found = stored(data)
    return Verdict(
        acknowledged=len(ledger.acknowledged),
        stored=len(found),
        lost=len(ledger.acknowledged - set(found)),
        doubled=sum(times > 1 for times in found.values()),
        integrity=integrity(data),
        slowest_start_s=slowest_start_s,
    )


def killed(command: Command, data: Path, *, kills: int, draw: random.Random, env: dict[str, str]) -> Verdict:
    """Kill the thing `kills` times under load and hold its inbox against the ledger."""
    ledger, slowest_start_s = kill_loop(command, data, kills=kills, draw=draw, env=env)
    return judged(ledger, data, slowest_start_s)


def unsynced_answers(command: Command, data: Path, *, webhooks: int, env: dict[str, str]) -> tuple[int, int]:
    """Return how many webhooks were answered 200, and how many of them without an fdatasync before.

    The webhooks go one after the other under strace: between two answers the log must be written, and synced
    after its last write.
    """
    port, trace, ledger = free_port(), data / "trace", Ledger()
    traced = ["strace", "-f", "-y", "-s", "16", "-o", str(trace)]
    calls = ["-e", "trace=pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg"]
    process = start([*traced, *calls, *command(data, port)], port, env, data / "thing.log")
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        for _ in range(webhooks):
            serial = next(ledger.sent)
            connection.request("POST", PATH, webhook(serial), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == http.client.OK:
                ledger.acknowledged.add(serial)
    kill(process)
    return len(ledger.acknowledged), unsynced_in(trace.read_text(errors="replace"))


_LOG_WRITE = re.compile(r"\d+\s+pwrite64\(\d+<[^>]*inbox\.db-wal>")
_LOG_SYNC = re.compile(r"(\d+)\s+f(?:data)?sync\(\d+<[^>]*inbox\.db-wal>")
_SYNCED = re.compile(r"(\d+)\s+.*f(?:data)?sync.*= 0\b")
_ANSWER = re.compile(r'\d+\s+(?:write|writev|sendto|sendmsg)\(\d+<(?:socket|TCP).*"HTTP/1\.1 200')


def unsynced_in(trace: str) -> int:
    """Return how many answers in strace's output came before what they acknowledge was synced."""
    wrong, written, synced = 0, False, False
    syncing: set[str] = set()  # threads inside an fdatasync of the log
    for line in trace.splitlines():
        if _LOG_WRITE.match(line):
            written, synced = True, False
        elif started := _LOG_SYNC.match(line):
            syncing.add(started[1])
        if (ended := _SYNCED.match(line)) and ended[1] in syncing:
            syncing.discard(ended[1])
            synced = True
        if _ANSWER.match(line):
            wrong += not (written and synced)
            written = synced = False
    return wrong


# ---- the run ---------------------------------------------------------------------------------------------


def told(name: str, verdict: Verdict) -> None:
    """Print one verdict."""
    print(
        f"  {name:34} acknowledged {verdict.acknowledged:>7,}  lost {verdict.lost:>6,}"
        f"  twice {verdict.doubled:>3,}"
        f"  stored and not acknowledged {verdict.stored - verdict.acknowledged + verdict.lost:>5,}"
        f"  integrity {verdict.integrity}  slowest start {verdict.slowest_start_s:.2f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--serve", action="store_true", help="kill the whole sidecar")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slow-us", type=int, default=4000, help="added to each fsync")
    given = parser.parse_args()
    command = sidecar if given.serve else intake("tocsin")
    draw = random.Random(given.seed)
    with contextlib.ExitStack() as stack:

        def new() -> Path:
            return Path(
                stack.enter_context(tempfile.TemporaryDirectory(dir=given.data, prefix="tocsin-crash-"))
            )

        env = environment(given.slow_us, new())
        print(f"{given.kills} kills, seed {given.seed}")
        held = killed(command, new(), kills=given.kills, draw=draw, env=env)
        told("the sidecar" if given.serve else "the intake", held)
        early = killed(intake("early"), new(), kills=5, draw=draw, env=env)
        told("control: answers before the commit", early)
        good = held.good and early.lost > 0
        if shutil.which("strace"):
            answered, wrong = unsynced_answers(command, new(), webhooks=100, env=env)
            print(
                f"  {'synced before the answer':34} {answered} answers, {wrong} without an fdatasync before"
            )
            _, caught = unsynced_answers(intake("unsynced"), new(), webhooks=100, env=env)
            print(f"  {'control: synchronous=OFF':34} {caught} of 100 answers without an fdatasync before")
            good = good and answered > 0 and wrong == 0 and caught > 0
        else:
            print("  strace is not installed (apt-get install strace): whether it syncs was not looked at")
            good = False
    print("good" if good else "NOT GOOD: something was lost, or a control did not fail")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
