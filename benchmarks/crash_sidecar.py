"""kill -9 of the front, of the analyst and of both, under load; then incidents and deliveries against the ledger.

The whole sidecar runs with a file destination. At random moments the front, the analyst or both, in turn, are killed;
a dead front is started again on the same files, a dead analyst by the front. At the end the sidecar is left alone until
it has understood and delivered everything, and then:

* every alert whose webhook was acknowledged is an episode of exactly one incident, once (lost, doubled effects);
* every incident's events are numbered without gaps, and the file holds each event the outbox named, under one id;
* what stands in the file more often than once is counted (at least once is the promise, once the aim).

    python benchmarks/crash_sidecar.py [--kills 200] [--seed 1] [--models]

Exit 0: nothing was lost and nothing happened twice. The controls that must fail are in `crash.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.crash import Ledger, environment, free_port, kill, load, start, webhook
from bridge.model import Episode

CONFIG = """
analysis: {{models: {models}}}
destinations: [{{name: file, kind: file, path: {data}/incidents.jsonl}}]
routes: [{{to: [file]}}]
"""
DRAIN_S = 120.0


def kinds(serial: int) -> bytes:
    """Return a webhook. Of two hundred in a row ten at a time are an incident, so that some open all the time."""
    return webhook(serial, f"Crash{serial // 200 * 20 + serial % 20}")


def command(data: Path, port: int) -> list[str]:
    """Return the command of the sidecar."""
    config = str(data / "tocsin.yaml")
    listen = f"127.0.0.1:{port}"
    return [
        sys.executable,
        "-m",
        "bridge",
        "serve",
        "--config",
        config,
        "--listen",
        listen,
        "--data",
        str(data),
    ]


def analyst_of(front: int) -> int | None:
    """Return the process id of the front's analyst."""
    found = subprocess.run(
        ["pgrep", "-P", str(front), "-f", "bridge.app.analyst"], capture_output=True, check=False
    ).stdout.split()
    return int(found[0]) if found else None


def stats(port: int) -> dict[str, Any]:
    """Return what the sidecar says of its backlogs."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/stats", timeout=10) as answer:
        return dict(json.load(answer))


def kill_loop(
    data: Path, *, kills: int, draw: random.Random, env: dict[str, str], idle_s: float = 10.0
) -> tuple[Ledger, Counter[str]]:
    """Kill as often as asked, then let the sidecar finish; return the ledger and what was killed."""
    ledger, killed = Ledger(), Counter[str]()
    log = data / "sidecar.log"
    victims = itertools.cycle(("front", "analyst", "both"))
    victim = next(victims)
    port = free_port()
    process = start(command(data, port), port, env, log)
    try:
        while killed.total() < kills:
            with load(port, ledger, kinds):
                while killed.total() < kills and process.poll() is None:
                    time.sleep(draw.uniform(0.2, 1.0))
                    if not strike(victim, process):
                        continue
                    killed[victim] += 1
                    victim = next(victims)
                    if killed.total() % 20 == 0:
                        print(
                            f"  {killed.total()} kills, {len(ledger.acknowledged):,} acknowledged", flush=True
                        )
            if process.poll() is not None:
                port = free_port()
                process = start(command(data, port), port, env, log)
        drain(port, idle_s)
        process.terminate()
        process.wait(30)
    finally:
        if process.poll() is None:
            kill(process)
    return ledger, killed


def strike(victim: str, front: subprocess.Popen[bytes]) -> bool:
    """Kill the victim; return False where it is an analyst that does not run yet."""
    analyst = analyst_of(front.pid)
    if victim != "front":
        if analyst is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(analyst, signal.SIGKILL)
    if victim != "analyst":
        front.kill()
        front.wait()
    return True


def drain(port: int, idle_s: float) -> None:
    """Wait until everything is understood and delivered, the last update, too: nothing waits for `idle_s`."""
    until = time.monotonic() + DRAIN_S
    idle_since: float | None = None
    said: dict[str, Any] = {}
    while (now := time.monotonic()) < until:
        with contextlib.suppress(OSError):
            said = stats(port)
            if said["inbox_backlog"] or said["deliveries"]["waiting"]:
                idle_since = None
            elif idle_since is None:
                idle_since = now
            elif now - idle_since >= idle_s:
                return
        time.sleep(0.2)
    raise SystemExit(f"the sidecar did not finish within {DRAIN_S:.0f} s: {said}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What state and file hold against the ledger."""

    acknowledged: int
    episodes: int
    incidents: int
    lost: int
    doubled: int
    homeless: int
    events: int
    gaps: int
    due: int
    missing: int
    repeated: int
    integrity: str

    @property
    def good(self) -> bool:
        """Whether nothing was lost, nothing happened twice and nothing is broken."""
        wrong = self.lost or self.doubled or self.homeless or self.gaps or self.missing
        return bool(self.acknowledged) and not wrong and self.integrity == "ok"


def judge(ledger: Ledger, data: Path) -> bool:
    """Hold state and file against the ledger, print what was found, say whether it is good."""
    found = judged(ledger, data)
    print(
        f"  acknowledged {found.acknowledged:,}, episodes {found.episodes:,}, incidents {found.incidents:,}"
    )
    print(
        f"  acknowledged and lost {found.lost}; effects that happened twice {found.doubled}; "
        f"without incident {found.homeless}"
    )
    print(f"  events {found.events:,}, incidents with a gap in their numbers {found.gaps}")
    print(
        f"  file: {found.due:,} events due, {found.missing} missing, {found.repeated} written again under the same id"
    )
    print(f"  integrity of state.db: {found.integrity}")
    return found.good


def judged(ledger: Ledger, data: Path) -> Judgement:
    """Hold state and file against the ledger."""
    with contextlib.closing(sqlite3.connect(data / "state.db")) as db:
        bodies = db.execute("select body, incident from episode").fetchall()
        incidents = {incident for (incident,) in db.execute("select id from incident")}
        events = db.execute("select incident, seq, event_id from event order by incident, seq").fetchall()
        named = {event for (event,) in db.execute("select event_id from outbox where destination = 'file'")}
        sound = db.execute("pragma integrity_check").fetchone()[0]
    labels = [msgspec.msgpack.decode(body, type=Episode).labels for body, _ in bodies]
    # Tocsin's own alerts (the analyst is down) are episodes, too, and have no serial.
    serials = Counter(int(each["serial"]) for each in labels if "serial" in each)
    homeless = sum(incident not in incidents for _, incident in bodies)
    lost = ledger.acknowledged - set(serials)
    doubled = sum(times > 1 for times in serials.values())
    numbers: dict[str, list[int]] = {}
    for incident, seq, _ in events:
        numbers.setdefault(incident, []).append(seq)
    gaps = sum(seqs != list(range(1, len(seqs) + 1)) for seqs in numbers.values())
    lines = [
        json.loads(line)["event_id"] for line in (data / "incidents.jsonl").read_text().splitlines() if line
    ]
    written = Counter(lines)
    missing = named - set(written)
    repeated = sum(times - 1 for times in written.values())
    return Judgement(
        acknowledged=len(ledger.acknowledged),
        episodes=len(serials),
        incidents=len(incidents),
        lost=len(lost),
        doubled=doubled,
        homeless=homeless,
        events=len(events),
        gaps=gaps,
        due=len(named),
        missing=len(missing),
        repeated=repeated,
        integrity=str(sound),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slow-us", type=int, default=1000, help="added to each fsync")
    parser.add_argument("--models", action="store_true", help="with the encoder (each start loads it)")
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="tocsin-crash-"))
    models = str(given.models).lower()
    (work / "tocsin.yaml").write_text(CONFIG.format(data=work, models=models), "utf-8")
    print(f"{given.kills} kills, seed {given.seed}", flush=True)
    env = environment(given.slow_us, work)
    ledger, killed = kill_loop(work, kills=given.kills, draw=random.Random(given.seed), env=env)
    print("  " + ", ".join(f"{name} {times}" for name, times in sorted(killed.items())))
    good = judge(ledger, work)
    print("good" if good else f"NOT GOOD: see {work}")
    if good:
        shutil.rmtree(work)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
