"""The analyst process: `python -m bridge.app.analyst --data DIR`, started and watched by the front.

Rules: its words go to standard output as JSON lines, its orders come by standard input, its log goes to
standard error. It imports no model library; those live in the child of `bridge.app.models`, which may join
after the work has begun. It ends when told to, after the batch at hand; when its orders end, since then the
front is dead; and with its parent, so that no stopped analyst outlives a killed front. The interrupt of a
terminal is the front's business.

The pipe. From here: `ready`, `begin`, `alive`, `committed`, `gauges`, `failed`, `aside`, `row`, `models`,
`trouble`. To here: `wake` (there are new rows), `stop`.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge import pipeline
from bridge.analysis.families import EncodeAsk, FitAsk
from bridge.analyst import Analyst, Work
from bridge.app.locks import Lock
from bridge.app.models import GaveUp, ModelRow, ModelsProcess
from bridge.errors import StorageError
from bridge.model import InboxRow, IncidentState
from bridge.storage.inbox import InboxReader
from bridge.storage.state import StateStore
from bridge.telemetry import set_up_logging

logger = logging.getLogger(__name__)

#: An idle analyst looks for rows so often even if no wake came.
IDLE_S = 0.25
#: How often what the models never answered is asked again.
ASK_AGAIN_S = 300.0
LOCK_S = 20.0
_PR_SET_PDEATHSIG = 1  # prctl(2)


class FrontGoneError(BaseException):
    """Nobody listens any more. Not an `Exception`: it is no fault of the batch at hand."""


class Pipe:
    """Words out, orders in."""

    def __init__(self, orders: int, words: int) -> None:
        self._orders = orders
        self._words = words
        self._unread = b""
        self.stopping = False

    def say(self, message: Mapping[str, Any]) -> None:
        """Write one message.

        Raises:
            FrontGoneError: The front is dead.
        """
        line = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while line:
                line = line[os.write(self._words, line) :]
        except BrokenPipeError as error:
            raise FrontGoneError from error

    def listen(self, timeout_s: float) -> None:
        """Wait for orders for at most so long; any order ends the wait."""
        ready, _, _ = select.select([self._orders], [], [], timeout_s)
        if not ready:
            return
        read = os.read(self._orders, 1 << 16)
        self.stopping = self.stopping or not read
        *lines, self._unread = (self._unread + read).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                self.stopping = self.stopping or json.loads(line)["do"] == "stop"


class Mind:
    """The real pipeline and its store, as `bridge.analyst.Thinking`."""

    def __init__(self, store: StateStore, models: LateModels) -> None:
        self._store = store
        self._models = models

    def advance(
        self, state: pipeline.State, rows: Sequence[InboxRow], *, progress: Callable[[], None]
    ) -> pipeline.Outcome:
        """Think."""
        outcome = pipeline.advance(state, rows, progress=progress)
        self._models.wanted = state.common.settings.models
        return outcome

    def outstanding(self, state: pipeline.State) -> list[pipeline.Ask]:
        """Return what the models still owe."""
        self._models.wanted = state.common.settings.models
        return pipeline.outstanding(state)

    def gauges(self, state: pipeline.State) -> dict[str, float]:
        """Count. Costs 5 ms with 20,000 open incidents."""
        groups = [group for tenant in state.tenants.values() for group in tenant.groups.values()]
        beats = [beat for tenant in state.tenants.values() for beat in tenant.beats.values()]
        return {
            "due": float(state.next_tick() is not None),
            "incidents_open": sum(group.head.state is IncidentState.OPEN for group in groups),
            "heartbeat_missing": sum(beat.missing for beat in beats),
            "degraded": float(state.common.model_free or not state.common.settings.models),
            "resident_bytes": resident_bytes(),
            "models_up": float(self._models.up),
        }

    def prune(self, state: pipeline.State, now: datetime) -> None:
        """Delete what is too old."""
        self._store.prune(now, state.common)


class LateModels:
    """The models' process, which joins some time after the work has begun.

    Before that asks are forgotten: what is wanted then is asked anew when it joins. Templates that the models
    gave up on are not asked about again by this analyst.
    """

    def __init__(
        self, make: Callable[[], ModelsProcess], say: Callable[[Mapping[str, Any]], None], join_at_s: float
    ) -> None:
        self._make = make
        self._say = say
        self._join_at_s = join_at_s
        self._process: ModelsProcess | None = None
        self._given_up: set[str] = set()
        self._up = False
        self.wanted = False

    @property
    def up(self) -> bool:
        """Whether the models answer."""
        return self._process is not None and self._process.ready

    @property
    def idle(self) -> bool:
        """Whether they have joined and owe nothing that they know of."""
        return self._process is not None and self._process.waiting == 0

    def joins(self, now_s: float) -> bool:
        """Let the process join if its time has come; return whether it did so just now."""
        if self._process is not None or not self.wanted or now_s < self._join_at_s:
            return False
        self._process = self._make()
        return True

    def ask(self, ask: pipeline.Ask) -> None:
        """Hand work over. Too much at once is forgotten, and asked again later."""
        if self._process is None:
            return
        match ask:
            case EncodeAsk():
                wanted = [template for template in ask.templates if template.id not in self._given_up]
                self._process.submit_encode(ask.tenant, wanted)
            case FitAsk():
                self._process.submit_fit(ask)

    def answers(self) -> Iterator[ModelRow]:
        """Return what is finished; say when the models come up, or cannot."""
        for result in self._process.poll() if self._process is not None else ():
            if isinstance(result, ModelRow):
                yield result
            else:
                self._gave_up(result)
        if self.up and not self._up:
            self._up = True
            self._say({"say": "models", "up": True})

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()

    def _gave_up(self, result: GaveUp) -> None:
        self._given_up.update(result.templates)
        logger.warning(
            "The models gave something up: %s.",
            result.reason,
            extra={"event": "models_lost", "asked": result.asked, "templates": len(result.templates)},
        )
        if result.asked == "load":
            self._up = False
            self._say({"say": "models", "up": False})


def run(options: argparse.Namespace, pipe: Pipe) -> None:
    """Work until the end is asked for."""
    data: Path = options.data
    lock = Lock(data / "analyst.lock")
    lock.take(wait_s=LOCK_S, meanwhile=lambda: pipe.say({"say": "alive"}))
    store = StateStore(data / "state.db")
    inbox = InboxReader(data / "inbox.db")
    models = LateModels(ModelsProcess, pipe.say, time.monotonic() + options.models_after)
    analyst = Analyst(
        inbox=inbox,
        store=store,
        thinking=Mind(store, models),
        models=models,
        say=pipe.say,
        clock=time.monotonic,
        work=Work(skips=frozenset(options.skip), careful_through=options.careful_through),
    )
    try:
        analyst.load()
        work(analyst, models, pipe)
    finally:
        models.close()
        inbox.close()
        store.close()
        lock.release()


def work(analyst: Analyst[pipeline.State], models: LateModels, pipe: Pipe) -> None:
    """Take one batch after the other; look for orders in between."""
    ask_again_at = time.monotonic()
    while not pipe.stopping:
        busy = analyst.step()
        now = time.monotonic()
        if not busy and (models.joins(now) or (models.idle and now >= ask_again_at)):
            ask_again_at = now + ASK_AGAIN_S
            analyst.ask_again()
        pipe.listen(0.0 if busy else IDLE_S)


def resident_bytes() -> int:
    """Return the memory of this process, as far as the platform tells."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def end_with_parent() -> None:
    """Let the kernel kill this process when the front dies, even while it is stopped (Linux)."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between
        raise FrontGoneError


def take_pipe() -> Pipe:
    """Return the pipe, and put the log in the place of standard output: a stray print must not break it."""
    pipe = Pipe(os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return pipe


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser(prog="python -m bridge.app.analyst", description="Started by the front.")
    parser.add_argument("--data", type=Path, required=True, help="directory of the stores")
    parser.add_argument("--careful-through", type=int, default=0, help="rows up to this id go one at a time")
    parser.add_argument("--models-after", type=float, default=0.0, help="models join after so many seconds")
    parser.add_argument("--skip", type=int, action="append", default=[], help="row that must not be touched")
    parser.add_argument("--log-level", default="INFO")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """Run the process; return its exit code."""
    options = parse(words)
    set_up_logging(level=options.log_level)
    pipe = take_pipe()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: setattr(pipe, "stopping", True))
    try:
        end_with_parent()
        run(options, pipe)
    except FrontGoneError:
        return 0
    except StorageError as error:
        logger.error("The analyst cannot work: %s", error, extra={"event": "analyst_trouble"})  # noqa: TRY400
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
