"""A million bodies that no Alertmanager sends: does the sidecar stand, and does its memory stay bounded?

    python benchmarks/fuzz.py [--bodies 1000000] [--seed 1]

The whole sidecar, models off, gets nearly valid webhooks (`parts/mutations.py`) over real connections. At the end it
is left alone until it has understood them. Wanted: each request has an answer; no 5xx but 503; front and analyst are
the same processes as at the start; nothing in the log that is a bug; and memory does not grow with what was sent. The
front holds in the second half at most a fifth, or 64 MiB, more than in the first. The analyst remembers each different
alert that it took (a third of the bodies is good, and most of them are another alert), so it may grow with those, by
8 KiB each; how many they can be is for the quota `fingerprints` to say.

`--bodies` in order of size: 3,000 are in the tests, 1,000,000 take half an hour. Two runs with one seed send the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.crash import environment, free_port, kill, start
from benchmarks.crash_sidecar import analyst_of, command
from benchmarks.parts.mutations import Shot, shots

CONFIG = """
analysis: {{models: false}}
destinations: [{{name: file, kind: file, path: {data}/incidents.jsonl}}]
routes: [{{to: [file]}}]
"""
CONNECTIONS = 16
ANSWER_S = 60.0
DRAIN_S = 1800.0
MIB = 1 << 20
#: What the analyst may hold: without models and alerts, and for each different alert that it remembers.
LEAST_BYTES, ALERT_BYTES = 128 * MIB, 8 << 10
#: Log events that are written where code of ours is wrong.
BUGS = frozenset(
    {"dispatch_bug", "front_failed", "batch_failed", "analyst_ended", "analyst_killed", "request_failed"}
)


@dataclass(slots=True)
class Found:
    """What came of the bodies."""

    answers: Counter[int] = field(default_factory=Counter)
    unanswered: list[Shot] = field(default_factory=list)
    wrong: list[tuple[int, Shot]] = field(default_factory=list)
    most_bytes: dict[str, list[int]] = field(
        default_factory=dict
    )  # by process: in the first half, in the second
    is_same: bool = True
    bugs: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0
    stored: dict[str, int] = field(default_factory=dict)

    @property
    def grows(self) -> list[str]:
        """The processes whose memory grew by more than a fifth and 64 MiB, and by more than what they remember."""
        remembers = {"analyst": self.stored.get("episodes", 0) * ALERT_BYTES}
        return [
            name
            for name, (first, second) in self.most_bytes.items()
            if second > max(first * 1.2, first + 64 * MIB, remembers.get(name, 0) + LEAST_BYTES)
        ]

    @property
    def good(self) -> bool:
        """Whether it stood."""
        return self.is_same and not (self.unanswered or self.wrong or self.bugs or self.grows)


async def fire(port: int, bodies: int, seed: int, found: Found, watch: Watch) -> None:
    """Send so many bodies over several connections."""
    shot = shots(seed)
    left = bodies

    async def gun() -> None:
        nonlocal left
        reader = writer = None
        while left > 0:
            left -= 1
            each = shot()
            if left % 1000 == 0:
                watch.look(in_second_half=left < bodies / 2)
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert reader is not None
            try:
                async with asyncio.timeout(ANSWER_S):
                    status, stays_open = await ask(reader, writer, each)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
                found.unanswered.append(each)
                stays_open = False
            else:
                found.answers[status] += 1
                if status >= 500 and status != 503:
                    found.wrong.append((status, each))
            if not stays_open:
                await leave(writer)
                reader = writer = None
        if writer is not None:
            await leave(writer)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(gun())


async def leave(writer: asyncio.StreamWriter) -> None:
    """End a connection."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, shot: Shot) -> tuple[int, bool]:
    """Send one request; return the status, and whether the connection stays open."""
    content_type = f"Content-Type: {shot.content_type}\r\n" if shot.content_type else ""
    head = f"POST {shot.path} HTTP/1.1\r\nHost: localhost\r\n{content_type}Content-Length: {len(shot.body)}\r\n\r\n"
    writer.write(head.encode() + shot.body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(answer.split(" ", 2)[1])
    length = next(
        (line for line in answer.split("\r\n") if line.startswith("content-length:")), "content-length: 0"
    )
    await reader.readexactly(int(length.split(":")[1]))
    return status, "connection: close" not in answer


class Watch:
    """Looks at the memory of front and analyst."""

    def __init__(self, front: int, found: Found) -> None:
        self._front = front
        self._first_analyst = analyst_of(front)
        self._found = found
        found.most_bytes = {"front": [0, 0], "analyst": [0, 0]}

    def look(self, *, in_second_half: bool) -> None:
        """Note how much they hold now."""
        analyst = analyst_of(self._front)
        self._found.is_same = self._found.is_same and analyst == self._first_analyst
        for name, process in (("front", self._front), ("analyst", analyst)):
            most = self._found.most_bytes[name]
            most[in_second_half] = max(most[in_second_half], resident_bytes(process))


def resident_bytes(process: int | None) -> int:
    """Return what a process holds in memory; 0 where there is none."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text("ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def stats(port: int) -> dict[str, int]:
    """Return what the sidecar says of itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/stats", timeout=30) as answer:
        said = json.load(answer)
    return {
        "backlog": said["inbox_backlog"], "episodes": said["episodes"], "quarantined": said["quarantined"],
        "incidents": sum(said["incidents"].values()),
    }  # fmt: skip


def run(bodies: int, seed: int) -> Found:
    """Send so many bodies to a sidecar of its own; return what came of it."""
    found = Found()
    with tempfile.TemporaryDirectory(prefix="tocsin-fuzz-") as name:
        data, port = Path(name), free_port()
        (data / "tocsin.yaml").write_text(CONFIG.format(data=data), "utf-8")
        log = data / "sidecar.log"
        process = start(command(data, port), port, environment(0, data), log)
        try:
            await_analyst(process)
            watch = Watch(process.pid, found)
            begun = time.monotonic()
            asyncio.run(fire(port, bodies, seed, found, watch))
            found.took_s = time.monotonic() - begun
            until = time.monotonic() + DRAIN_S
            while (said := stats(port))["backlog"] and time.monotonic() < until:
                watch.look(in_second_half=True)
                time.sleep(0.5)
            watch.look(in_second_half=True)
            found.stored = said
            found.is_same = found.is_same and process.poll() is None
            process.terminate()
            process.wait(60)
        finally:
            if process.poll() is None:
                kill(process)
        found.bugs = bugs_in(log)
    return found


def await_analyst(process: subprocess.Popen[bytes]) -> None:
    """Wait until the front has started its analyst."""
    until = time.monotonic() + 60.0
    while analyst_of(process.pid) is None:
        assert time.monotonic() < until, "no analyst was started"
        time.sleep(0.05)


def bugs_in(log: Path) -> Counter[str]:
    """Return what the log says that only a fault of ours makes it say; a line that is no JSON is one, too."""
    bugs: Counter[str] = Counter()
    for line in log.read_text("utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)["event"]
        except (ValueError, KeyError, TypeError):
            event = "no JSON"
        if event in BUGS or event == "no JSON":
            bugs[event] += 1
    return bugs


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bodies", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    found = run(given.bodies, given.seed)
    print(f"{given.bodies:,} bodies, seed {given.seed}, in {found.took_s:.0f} s")
    print("  answers: " + ", ".join(f"{status} {count:,}" for status, count in sorted(found.answers.items())))
    print(f"  without an answer {len(found.unanswered)}; 5xx but 503 {len(found.wrong)}")
    print(
        f"  the same processes at the end: {found.is_same}; lines of the log that tell of a bug: {dict(found.bugs)}"
    )
    print("  " + "; ".join(
        f"{name} at most {first / MIB:.0f} MiB in the first half, {second / MIB:.0f} MiB in the second"
        for name, (first, second) in found.most_bytes.items()
    ))  # fmt: skip
    print("  stored: " + ", ".join(f"{count:,} {name}" for name, count in found.stored.items()))
    for status, shot in found.wrong[:3]:
        print(f"  {status}: {shot.path} {shot.content_type!r} {shot.body[:500]!r}")
    for shot in found.unanswered[:3]:
        print(f"  no answer: {shot.path} {shot.content_type!r} {shot.body[:500]!r}")
    print("good" if found.good else "NOT GOOD")
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
