"""The analyst process: `python -m bridge.app.analyst --data DIR`, started and watched by the front.

Rules: its words go to standard output as JSON lines, its orders come by standard input, its log goes to
standard error. It imports no model library; those live in the child of `bridge.app.models`, which may join
after the work has begun. It ends when told to, after the batch at hand; when its orders end, since then the
front is dead; and with its parent, so that no stopped analyst outlives a killed front. The interrupt of a
terminal is the front's business.

The pipe. From here: `ready`, `begin`, `alive`, `saving`, `committed`, `counted`, `gauges`, `failed`, `aside`, `row`,
`models`, `state_lost`, `inbox_damaged`, `trouble`. To here: `wake` (there are new rows), `stop`.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge import pipeline
from bridge.analyst import Analyst, Work
from bridge.app.garbage import collect_seldom
from bridge.app.locks import Lock
from bridge.app.mind import LateModels, Mind
from bridge.app.models import ModelsProcess
from bridge.app.redact_key import handed_over
from bridge.errors import DamagedError, StorageError
from bridge.model import RowKind
from bridge.storage.damage import set_aside
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


def run(options: argparse.Namespace, pipe: Pipe, key: bytes) -> None:
    """Work until the end is asked for; `key` is that of the hashes of what is redacted.

    Raises:
        DamagedError: state.db cannot be used any more.
        StorageError: A store cannot be used now, or the inbox is not the one that was read before.
    """
    data: Path = options.data
    with contextlib.ExitStack() as opened:
        lock = Lock(data / "analyst.lock")
        lock.take(wait_s=LOCK_S, meanwhile=lambda: pipe.say({"say": "alive"}))
        opened.callback(lock.release)
        store = opened.enter_context(contextlib.closing(StateStore(data / "state.db")))
        inbox = opened.enter_context(contextlib.closing(InboxReader(data / "inbox.db")))
        models = LateModels(ModelsProcess, pipe.say, time.monotonic() + options.models_after)
        opened.callback(models.close)
        analyst = Analyst(
            inbox=inbox,
            store=store,
            thinking=Mind(
                store,
                models,
                lambda: inbox.newest_body(RowKind.SETTINGS),
                inbox.newest_topologies,
                key=key,
            ),
            models=models,
            say=pipe.say,
            clock=time.monotonic,
            work=Work(skips=frozenset(options.skip), careful_through=options.careful_through),
        )
        analyst.load()
        collect_seldom()
        check_inbox(inbox.newest_id(), analyst.cursor)
        work(analyst, models, pipe)


def check_inbox(newest_id: int, cursor: int) -> None:
    """Pass if the inbox goes on where it was read last.

    Raises:
        StorageError: It ends before that: what it takes in now would never be read.
    """
    if newest_id < cursor:
        raise StorageError(
            f"inbox.db ends at row {newest_id}, but up to row {cursor} was read: it was replaced while Tocsin ran. "
            "Start Tocsin again, and it goes on above that"
        )


def begin_anew(options: argparse.Namespace, pipe: Pipe, key: bytes, damage: DamagedError) -> None:
    """Work on from what the inbox still has, after the state was lost.

    Raises:
        StorageError: That does not work either.
    """
    kept = set_aside(options.data / "state.db", datetime.now(UTC))
    logger.critical(
        "The state is broken and begun anew from what the inbox still has; the old file is kept: %s.",
        damage,
        extra={"event": "state_lost", "kept": kept.name},
    )
    pipe.say({"say": "state_lost", "kept": kept.name, "reason": str(damage)})
    run(options, pipe, key)


def work(analyst: Analyst[pipeline.State], models: LateModels, pipe: Pipe) -> None:
    """Take one batch after the other; look for orders in between."""
    ask_again_at = time.monotonic()
    while not pipe.stopping:
        busy = analyst.step()
        now = time.monotonic()
        # Busy or not they may join; asking for all that is owed takes time that a backlog does not have.
        if models.joins(now) or (not busy and models.idle and now >= ask_again_at):
            ask_again_at = now + ASK_AGAIN_S
            analyst.ask_again()
        pipe.listen(0.0 if busy else IDLE_S)


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
    key = handed_over()  # before any process is started that would inherit it
    set_up_logging(level=options.log_level)
    pipe = take_pipe()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: setattr(pipe, "stopping", True))
    try:
        end_with_parent()
        try:
            run(options, pipe, key)
        except DamagedError as error:
            begin_anew(options, pipe, key, error)
    except FrontGoneError:
        return 0
    except StorageError as error:
        logger.error("The analyst cannot work: %s", error, extra={"event": "analyst_trouble"})  # noqa: TRY400
        return 1
    except Exception:
        logger.exception("The analyst has a bug and ends.", extra={"event": "analyst_trouble"})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
