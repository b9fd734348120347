"""`tocsin serve`: from a configuration to a running front, and its exit code."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

import uvloop

from bridge import config
from bridge.app.front import Front
from bridge.app.garbage import collect_seldom
from bridge.app.kinds import known_kinds
from bridge.app.recovery import Patience
from bridge.errors import ConfigError, DamagedError, ListenError, StorageError
from bridge.telemetry import set_up_logging

logger = logging.getLogger(__name__)

#: So often a broken store is replaced without anybody starting Tocsin anew.
MOST_BROKEN_STORES = 5
#: For the tests of a silent analyst, which cannot wait for 15 s.
SILENCE_VARIABLE = "TOCSIN_TEST_SILENCE_S"


def serve(path: Path | None, *, listen: str | None = None, data: Path | None = None) -> int:
    """Run until a signal asks for the end; return the exit code.

    What keeps it from running is logged: a store that cannot be opened or that another process works on, an
    address that cannot be had.

    Raises:
        ConfigError: With every fault of the configuration.
    """

    def load() -> config.Settings:
        return config.load(path, known_kinds(), os.environ, listen=listen, data_dir=data)

    def load_again() -> config.Settings:
        if path is not None and is_blank(path):  # an editor is just writing it: that would drop every token
            raise ConfigError(
                (f"{path}: is empty, which a running Tocsin does not take for a configuration",)
            )
        return load()

    settings = load()
    set_up_logging(level=settings.log_level.upper())
    collect_seldom()
    for _ in range(MOST_BROKEN_STORES):
        code = _one_front(settings, load_again)
        if code is not None:
            return code
    logger.error(
        "Tocsin cannot run: one store after the other breaks. Look at the disk.",
        extra={"event": "front_failed"},
    )
    return 1


def _one_front(settings: config.Settings, load_again: Callable[[], config.Settings]) -> int | None:
    """Run a front to its end; return the exit code, or None where another one is to begin with a new store."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(settings, load_again))
    except DamagedError:
        return None  # it is said and marked
    except (ListenError, StorageError, OSError) as error:
        logger.error("Tocsin cannot run: %s", error, extra={"event": "front_failed"})  # noqa: TRY400 - the sentence says it all
        return 1
    except ExceptionGroup as error:
        logger.critical("A worker died.", exc_info=error, extra={"event": "front_failed"})
        return 1
    return 0


def is_blank(path: Path) -> bool:
    """Return whether there is nothing at all in a file; one that cannot be read is told elsewhere."""
    try:
        return not path.read_bytes().strip()
    except OSError:
        return False


async def _run(settings: config.Settings, load: Callable[[], config.Settings]) -> None:
    await Front(settings, load, patience=_patience(os.environ.get(SILENCE_VARIABLE))).run()


def _patience(silence_s: str | None) -> Patience:
    if silence_s is None:
        return Patience()
    if not silence_s.isascii() or not silence_s.isdecimal() or int(silence_s) == 0:
        raise ConfigError(
            (f"{SILENCE_VARIABLE}: must be a whole number of seconds; it is there for tests only",)
        )
    return Patience(silence_s=float(silence_s))
