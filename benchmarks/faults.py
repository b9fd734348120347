"""What happens to acknowledged alerts and to incidents while something breaks? One row for each fault.

    python benchmarks/faults.py [--only NAME] [--seconds 8]

Each row is a sidecar of its own under load: sixteen senders with a ledger, a file and a callback as destinations. The
fault strikes after `--seconds`, goes away, the load goes on for as long again, and then the sidecar is left alone until
all is understood and delivered. Then the ledgers, which nothing of the sidecar can touch, are held against its stores:

* `lost`: webhooks that were answered 200 and are an episode of no incident; `twice`: those that are two;
* `file`, `hook`: events due at the destination that never arrived; in brackets how many arrived again under the same
  id, which at-least-once allows. An event counts as arrived at the hook if the hook has acknowledged it;
* `order`: incidents whose events the hook acknowledged in another order than they happened in;
* `refused`: webhooks answered 503, and those that had no answer at all; Alertmanager sends both again;
* `pause`: the longest time without a webhook that was acknowledged;
* `said`: what the log warns of.

The last row is the control, a webhook that the ledger holds and no sidecar got: a check that cannot fail shows nothing.
What needs a tool that is not installed is named and skipped: cc (slow disk), fiu-run of fiu-utils (input/output
errors), libfaketime (clock), the right to mount (a disk that is really full). Exit 0: every row is good.

What the figures are not: no power is cut here. What was written and not synced survives kill -9, in the kernel; that
each answer follows its fdatasync is shown by `crash.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.crash import Ledger, environment, free_port, kill, load, start
from benchmarks.crash_sidecar import Judgement, analyst_of, command, drain, judged, kinds
from benchmarks.parts.receiver import Mood, Received, Receiver

CONFIG = """
analysis: {{models: false}}
delivery: {{timeout: 2s}}
destinations:
  - {{name: file, kind: file, path: {data}/incidents.jsonl}}
  - {{name: hook, kind: callback, url: "{url}", secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}}
routes: [{{to: [file, hook]}}]
"""
PAUSE_S = 0.05  # of each sender after an answer: some 200 webhooks a second
PAGE_BYTES = 4096
IDLE_S = 3.0
USUAL = "open_to_loopback"  # without a credential, said at each start
FIU = Path("/usr/lib/fiu")
FAKETIME = "libfaketimeMT.so.1"


@dataclass(slots=True)
class Case:
    """One sidecar under load, and the hands to break it with."""

    data: Path
    hook: Receiver
    env: dict[str, str]
    seconds: float
    ledger: Ledger = field(default_factory=Ledger)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the sidecar, for the first time or again."""
        (self.data / "tocsin.yaml").write_text(CONFIG.format(data=self.data, url=self.hook.url), "utf-8")
        self.port = free_port()
        self.process = start(command(self.data, self.port), self.port, self.env, self.log)

    @property
    def log(self) -> Path:
        """What the sidecar says."""
        return self.data / "sidecar.log"

    @property
    def front(self) -> int:
        """The process id of the front."""
        assert self.process is not None
        return self.process.pid

    @property
    def analyst(self) -> int:
        """The process id of the analyst, once there is one."""
        until = time.monotonic() + 60.0
        while time.monotonic() < until:
            found = analyst_of(self.front)
            if found is not None:
                return found
            time.sleep(0.05)
        raise SystemExit("no analyst was started")

    @contextlib.contextmanager
    def under_load(self) -> Iterator[None]:
        """Send while the block runs, at least for `seconds` after it."""
        with load(self.port, self.ledger, kinds, PAUSE_S):
            yield
            time.sleep(self.seconds)

    def struck(self, fault: Callable[[], None]) -> None:
        """Let a fault that needs no restart strike in the middle of the load."""
        with self.under_load():
            time.sleep(self.seconds)
            fault()

    def finish(self) -> None:
        """Wait until all is understood and delivered, then end the sidecar."""
        drain(self.port, IDLE_S)
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)

    def said(self) -> Counter[str]:
        """Return which events of the log are warnings or errors, and how often each was said."""
        found: Counter[str] = Counter()
        for line in self.log.read_text("utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                if told.get("level") in {"warning", "error", "critical"} and told["event"] != USUAL:
                    found[told["event"]] += 1
        return found


# ---- processes -------------------------------------------------------------------------------------------


def nothing(case: Case) -> None:
    case.struck(lambda: None)


def killed(case: Case) -> None:
    """Kill front, analyst and both in turn, twice each."""
    victims = itertools.cycle(("front", "analyst", "both"))
    draw = random.Random(1)
    for victim in itertools.islice(victims, 6):
        with load(case.port, case.ledger, kinds, PAUSE_S):
            time.sleep(draw.uniform(0.5, 2.0))
            if victim != "front":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(case.analyst, signal.SIGKILL)
            if victim != "analyst":
                os.kill(case.front, signal.SIGKILL)
                assert case.process is not None
                case.process.wait()
        if victim != "analyst":
            case.start()
    nothing(case)


def stopped(seconds: float, *victims: str) -> Callable[[Case], None]:
    """Return a fault that stops processes with SIGSTOP for so long."""

    def strike(case: Case) -> None:
        found = [getattr(case, victim) for victim in victims]

        def stop() -> None:
            for number in found:
                os.kill(number, signal.SIGSTOP)
            time.sleep(seconds)
            for number in found:
                with contextlib.suppress(ProcessLookupError):  # the front kills an analyst that is silent
                    os.kill(number, signal.SIGCONT)

        case.struck(stop)

    return strike


# ---- the disk --------------------------------------------------------------------------------------------


def limited(case: Case) -> None:
    """Let no file grow beyond what it is, for both processes, and then let them again."""
    found = (case.front, case.analyst)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit() -> None:
        for number, size_bytes in zip(found, (300_000, 100_000), strict=True):
            resource.prlimit(number, resource.RLIMIT_FSIZE, (size_bytes, hard))
        time.sleep(case.seconds)
        for number in found:
            resource.prlimit(number, resource.RLIMIT_FSIZE, (hard, hard))

    case.struck(limit)


def full(case: Case) -> None:
    """Fill the file system that the stores are on, and make room again."""
    ballast = case.data / "ballast"

    def fill() -> None:
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        time.sleep(case.seconds)
        ballast.unlink()

    case.struck(fill)


def hanging(case: Case) -> None:
    """Let every fsync take ten seconds, and then no time again."""
    slowness = Path(case.env["SLOWSYNC_FILE"])

    def hang() -> None:
        slowness.write_text("10000000", "ascii")
        time.sleep(12.0)
        slowness.write_text("1000", "ascii")

    case.struck(hang)


def input_output_errors(case: Case) -> None:
    """Let one in twenty writes and syncs fail with EIO, in both processes."""
    found = (case.front, case.analyst)

    def control(order: str) -> None:
        for number in found:
            for name in ("posix/io/rw/pwrite", "posix/io/sync/fdatasync", "posix/io/sync/fsync"):
                asked = [
                    "fiu-ctrl",
                    "-f",
                    case.env["FIU_CTRL_FIFO"],
                    "-c",
                    order.format(name=name),
                    str(number),
                ]
                subprocess.run(asked, check=True, capture_output=True, timeout=10)

    def strike() -> None:
        control("enable_random name={name},probability=0.05,failinfo=5")
        time.sleep(case.seconds)
        control("disable name={name}")

    case.struck(strike)


def corrupted(name: str, *, is_understood: bool = False) -> Callable[[Case], None]:
    """Return a fault that overwrites pages in the middle of a store after a kill -9."""

    def strike(case: Case) -> None:
        with load(case.port, case.ledger, kinds, PAUSE_S):
            time.sleep(case.seconds)
        if is_understood:
            drain(case.port, IDLE_S)
        assert case.process is not None
        kill(case.process)
        with contextlib.closing(sqlite3.connect(case.data / name)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with (case.data / name).open("r+b") as file:
            pages = file.seek(0, os.SEEK_END) // PAGE_BYTES
            for page in range(1, pages, 3):
                file.seek(page * PAGE_BYTES)
                file.write(random.Random(page).randbytes(PAGE_BYTES))
        case.start()
        nothing(case)

    return strike


# ---- the clock -------------------------------------------------------------------------------------------


def jumping(case: Case) -> None:
    """Set the clock two hours ahead, a day ahead, an hour back and right again."""
    clock = Path(case.env["FAKETIME_TIMESTAMP_FILE"])

    def jump() -> None:
        for offset in ("+2h", "+1d", "-1h", "+0"):
            fresh = clock.with_suffix(".new")
            fresh.write_text(offset, "ascii")
            fresh.rename(clock)
            time.sleep(case.seconds / 2)

    case.struck(jump)


# ---- the destination -------------------------------------------------------------------------------------


def moody(mood: Mood) -> Callable[[Case], None]:
    """Return a fault in which the hook misbehaves and then answers again."""

    def strike(case: Case) -> None:
        def misbehave() -> None:
            case.hook.mood = mood
            time.sleep(case.seconds)
            case.hook.mood = Mood.WELL
            case.hook.released.set()

        case.struck(misbehave)

    return strike


# ---- what each needs -------------------------------------------------------------------------------------


@contextlib.contextmanager
def plain(work: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give a folder, and an environment in which nothing is slowed."""
    yield work, environment(0, work)


@contextlib.contextmanager
def slow_disk(work: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give an environment in which fsync takes 1 ms more, and a file that says how much."""
    slowness = work / "slowness"
    slowness.write_text("1000", "ascii")
    yield work, environment(1000, work) | {"SLOWSYNC_FILE": str(slowness)}


@contextlib.contextmanager
def very_slow_disk(work: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give an environment in which fsync takes 0.1 s more."""
    yield work, environment(100_000, work)


@contextlib.contextmanager
def failing_calls(work: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give an environment in which calls of the C library can be told to fail."""
    libraries = f"{FIU / 'fiu_run_preload.so'} {FIU / 'fiu_posix_preload.so'}"
    yield work, environment(0, work) | {"LD_PRELOAD": libraries, "FIU_CTRL_FIFO": str(work / "fiu")}


@contextlib.contextmanager
def false_clock(work: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give an environment whose clock is set by a file; the monotonic clock runs on."""
    clock = work / "clock"
    clock.write_text("+0", "ascii")
    library = next(Path("/usr/lib").glob(f"*/faketime/{FAKETIME}"))
    yield (
        work,
        environment(0, work)
        | {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )


@contextlib.contextmanager
def small_disk(work: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give a folder on a file system of 32 MiB."""
    folder = work / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], check=True)
    try:
        yield folder, environment(0, work)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def has_compiler() -> bool:
    return shutil.which("cc") is not None


def has_fiu() -> bool:
    return shutil.which("fiu-ctrl") is not None and (FIU / "fiu_posix_preload.so").exists()


def has_faketime() -> bool:
    return any(Path("/usr/lib").glob(f"*/faketime/{FAKETIME}"))


def may_mount() -> bool:
    return os.geteuid() == 0


Surroundings = Callable[[Path], contextlib.AbstractContextManager[tuple[Path, dict[str, str]]]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One row: what it is called, what happens, where, and whether it can happen here."""

    name: str
    strike: Callable[[Case], None]
    surroundings: Surroundings = plain
    is_possible: Callable[[], bool] = lambda: True


FAULTS = (
    Fault("nothing", nothing),
    Fault("kill -9 of front, analyst, both", killed),
    Fault("SIGSTOP front, 5 s", stopped(5.0, "front")),
    Fault("SIGSTOP analyst, 20 s", stopped(20.0, "analyst")),
    Fault("SIGSTOP both, 5 s", stopped(5.0, "front", "analyst")),
    Fault("files may not grow", limited),
    Fault("disk full", full, small_disk, may_mount),
    Fault("EIO, 1 in 20 writes and syncs", input_output_errors, failing_calls, has_fiu),
    Fault("slow disk, fsync 0.1 s", nothing, very_slow_disk, has_compiler),
    Fault("disk hangs, fsync 10 s", hanging, slow_disk, has_compiler),
    Fault("clock +2 h, +1 d, -1 h, right", jumping, false_clock, has_faketime),
    Fault("destination resets", moody(Mood.RESETS)),
    Fault("destination half-open", moody(Mood.HALF_OPEN)),
    Fault("destination answers 500", moody(Mood.REFUSES)),
    Fault("destination answers 429", moody(Mood.BUSY)),
    Fault("state.db, pages overwritten", corrupted("state.db")),
    Fault("delivery.db, pages overwritten", corrupted("delivery.db")),
    Fault("inbox.db, pages overwritten", corrupted("inbox.db", is_understood=True)),
)


# ---- the run ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one fault."""

    stores: Judgement
    refused: int
    silent: int
    longest_wait_s: float
    hook_missing: int
    hook_repeated: int
    disordered: int
    said: Counter[str]
    other_answers: int

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled, missed or told out of order, and only 503 was ever refused with."""
        return self.stores.good and not (self.hook_missing or self.disordered or self.other_answers)


def run(fault: Fault, seconds: float) -> Outcome:
    """Let one fault strike a sidecar of its own; return what came of it."""
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tocsin-fault-")))
        folder, env = stack.enter_context(fault.surroundings(work))
        hook = stack.enter_context(Receiver())
        case = Case(folder, hook, env, seconds)
        case.start()
        try:
            _ = case.analyst
            fault.strike(case)
            case.finish()
        except BaseException:
            for line in case.log.read_text("utf-8", errors="replace").splitlines()[-2000:]:
                if '"level": "info"' not in line:
                    sys.stderr.write(f"{line}\n")
            raise
        finally:
            if case.process is not None and case.process.poll() is None:
                kill(case.process)
        return examined(case)


def examined(case: Case) -> Outcome:
    """Hold the ledgers against the stores."""
    missing, repeated = told_to_hook(case.data, case.hook.received)
    ledger = case.ledger
    return Outcome(
        stores=judged(ledger, case.data),
        refused=ledger.refused[503],
        silent=ledger.silent,
        longest_wait_s=ledger.longest_wait_s,
        hook_missing=missing,
        hook_repeated=repeated,
        disordered=case.hook.received.disordered,
        said=case.said(),
        other_answers=ledger.refused.total() - ledger.refused[503],
    )


def told_to_hook(data: Path, received: Received) -> tuple[int, int]:
    """Return how many events the hook never acknowledged, and how often it got one again."""
    with contextlib.closing(sqlite3.connect(data / "state.db")) as db:
        due = {event for (event,) in db.execute("select event_id from outbox where destination = 'hook'")}
    return len(due - set(received.acknowledged)), sum(times - 1 for times in received.read.values())


HEAD = (
    "| fault | acknowledged | lost | twice | file | hook | order | refused | pause | said |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def told(name: str, outcome: Outcome) -> str:
    """Return one row of the table."""
    stores = outcome.stores
    broken = "" if stores.integrity == "ok" else f" (state.db: {stores.integrity})"
    said = ", ".join(sorted(outcome.said)) or "nothing"
    twice = stores.doubled + stores.gaps
    return (
        f"| {name} | {stores.acknowledged:,} | {stores.lost + stores.homeless} | {twice}{broken} "
        f"| {stores.missing} ({stores.repeated}) of {stores.due:,} | {outcome.hook_missing} ({outcome.hook_repeated}) "
        f"| {outcome.disordered} | {outcome.refused:,} + {outcome.silent:,} | {outcome.longest_wait_s:.1f} s | {said} |"
    )


def control(seconds: float) -> bool:
    """Say whether a webhook that was acknowledged and is nowhere is found to be lost."""
    with tempfile.TemporaryDirectory(prefix="tocsin-fault-") as work, Receiver() as hook:
        case = Case(Path(work), hook, environment(0, Path(work)), seconds)
        case.start()
        case.struck(lambda: case.ledger.acknowledged.add(next(case.ledger.sent)))
        case.finish()
        outcome = examined(case)
    print(told("control: one that was never sent", outcome), flush=True)
    return outcome.stores.lost == 1 and not outcome.good


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="faults with this in their name")
    parser.add_argument("--seconds", type=float, default=8.0, help="of load before and after a fault")
    given = parser.parse_args()
    print(HEAD, flush=True)
    good = True
    for fault in FAULTS:
        if given.only and given.only not in fault.name:
            continue
        if not fault.is_possible():
            print(f"| {fault.name} | not possible here | | | | | | | | |", flush=True)
            continue
        outcome = run(fault, given.seconds)
        good = good and outcome.good
        print(told(fault.name, outcome) + ("" if outcome.good else " NOT GOOD"), flush=True)
    if not given.only:
        good = control(given.seconds) and good
    print("good" if good else "NOT GOOD")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
