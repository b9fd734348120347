"""An inbox that begins where a replay ended, so that `serve` goes on from the replay's state.

Rule: run before any front has the file. One clock row, which the state has already behind it, holds the id
and the time after which the next row comes.
"""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path

from bridge.storage.inbox.file import Position, begin_after, opened
from bridge.storage.sqlite import transaction
from bridge.storage.times import microseconds


def seed(path: Path, *, after: int, received_at: datetime) -> None:
    """Create an inbox whose next row gets an id above `after` and a time not before `received_at`.

    Raises:
        StorageError: It cannot be written.
    """
    position = Position(id=after, at_us=microseconds(received_at))
    with closing(opened(path)) as connection, transaction(connection):
        begin_after(connection, position)
