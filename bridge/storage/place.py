"""Whether a file that is open still is the one that its path names.

Rule: a commit into a file that was deleted or moved away is a commit to nowhere: it is gone with the next restart.
Asking costs about 2 us, so a writer can ask before each commit.
"""

from __future__ import annotations

import os
from pathlib import Path

from bridge.errors import MisplacedError


class Place:
    """One open database and its write-ahead log."""

    def __init__(self, path: Path) -> None:
        """Remember the file that is at `path` now; call this when it was just opened.

        Raises:
            MisplacedError: There is none.
        """
        self._path = os.fspath(path)
        self._log = self._path + "-wal"
        self._name = path.name
        self._identity = _identity(self._path)
        self._log_identity: tuple[int, int] | None = None
        self.check_file()

    def closed(self) -> None:
        """Note that the connection is closed: SQLite deletes the log then, and the next one has another."""
        self._log_identity = None

    def check(self) -> None:
        """Look whether both files are where they were. For the thread that has the connection.

        Raises:
            MisplacedError: One of them is not. Nothing that is written from here on may be promised.
        """
        self.check_file()
        if self._log_identity is None:  # the log is made at the first commit
            self._log_identity = _identity(self._log)
        elif _identity(self._log) != self._log_identity:
            raise MisplacedError(
                f"{self._name}-wal was moved or deleted while it was in use: start Tocsin again"
            )

    def check_file(self) -> None:
        """Look whether the database is where it was. For any thread.

        Raises:
            MisplacedError: It is not.
        """
        if self._identity is None or _identity(self._path) != self._identity:
            raise MisplacedError(
                f"{self._name} was moved or deleted while it was in use: put it back, or start Tocsin again"
            )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a path of pathlib costs five times as much
    except OSError:
        return None
    return found.st_dev, found.st_ino
