"""Broken stores: how one is marked, and moved out of the way for a new one.

Rules: nothing is mended in place and nothing is deleted; the broken file keeps its bytes under another name. Whoever
finds the damage while others use the file only marks it; it is moved at the next start, when nobody does.

Decision: a start makes a new store by itself. The alternative, to end and wait for a person, keeps the intake shut for
as long as nobody looks, and webhooks that come meanwhile and resolve are never mentioned again. What is lost or told
twice by that is the same either way.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path

from bridge.errors import StorageError

#: A database is these files.
PARTS = ("", "-wal", "-shm")


def set_aside(path: Path, now: datetime) -> Path:
    """Move a broken store out of the way, with its log, and return where it is now.

    Raises:
        StorageError: It cannot be moved.
    """
    kept = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S}")
    try:
        for part in PARTS:
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + part).rename(kept.with_name(kept.name + part))
        _mark(path).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot move {path.name} out of the way: {error.strerror}") from error
    return kept


def suspect(path: Path) -> None:
    """Mark a store as broken, for the next start."""
    with contextlib.suppress(OSError):  # then the damage has to be found once more
        _mark(path).touch(mode=0o640)


def is_suspect(path: Path) -> bool:
    """Return whether a store was marked as broken."""
    return _mark(path).exists()


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.suspect")
