"""One writer per directory: a lock that the kernel gives back however its holder ends.

Decision: `flock` on a file of its own rather than SQLite's exclusive mode, which would shut out the readers
too.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from bridge.errors import StorageError

TRY_S = 0.05


class Lock:
    """Held from `take` until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        #: Whether the holder before this one ended without giving it back.
        self.was_left = False

    def take(self, *, wait_s: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait for the lock, calling `meanwhile` between tries.

        Raises:
            StorageError: Somebody else still has it, or the file cannot be opened.
        """
        until = time.monotonic() + wait_s
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"cannot open {self._path.name}: {error.strerror}") from error
        while not self._taken():
            if time.monotonic() > until:
                holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip()
                raise StorageError(
                    f"process {holder or 'unknown'} works on the data directory {self._path.parent} already: "
                    "stop it, or name another directory with --data"
                )
            meanwhile()
            time.sleep(TRY_S)
        self.was_left = bool(os.pread(self._file, 1, 0))
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Give it back. The file stays, empty: deleting it would let two holders in."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
