"""Writing history to a file that is whole or not there.

Rule: the lines are those of `storage.reading`, whether they came through the API or from the data directory
of a sidecar that does not run; the bytes are the same.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.errors import StorageError
from bridge.storage.reading import StateReader

#: What each format is called on disk.
FILE_NAMES = {"webhooks": "webhooks.jsonl", "jsonl": "incidents.jsonl"}


def lines_of(data: Path, form: str, since: datetime | None = None) -> Iterator[bytes]:
    """Return the lines of a data directory, every tenant's.

    Raises:
        StorageError: There is no store, or it cannot be read.
    """
    path = data / "state.db"
    if not path.exists():
        raise StorageError(
            f"there is no state.db in {data}: name the directory that `tocsin serve --data` had"
        )
    reader = StateReader(path)
    read = reader.history_lines if form == "webhooks" else reader.incident_lines
    after: Any = None
    while True:
        part = read(None, since=since, after=after)
        yield from part.lines
        if part.next is None:
            return
        after = part.next


def write(lines: Iterable[bytes], out: Path, form: str, progress: Callable[[int], None]) -> tuple[Path, int]:
    """Write the lines into the directory `out`; return the file's path and how many there were.

    Raises:
        StorageError: The directory or the file cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        return _write(lines, out / FILE_NAMES[form], progress)
    except OSError as error:
        raise StorageError(f"cannot write to {out}: {error.strerror or error}") from error


def _write(lines: Iterable[bytes], path: Path, progress: Callable[[int], None]) -> tuple[Path, int]:
    written = 0
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        unfinished = Path(file.name)
        try:
            for line in lines:
                file.write(line)
                written += 1
                progress(1)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            unfinished.unlink()
            raise
    unfinished.replace(path)
    return path, written
