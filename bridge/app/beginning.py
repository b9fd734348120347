"""Where a front begins: its directory, its lock, and the row after which its inbox goes on."""

from __future__ import annotations

import logging
from pathlib import Path

from bridge.errors import StorageError
from bridge.model import FRONT
from bridge.storage.inbox import InboxWriter
from bridge.storage.reading import StateReader

logger = logging.getLogger(__name__)


def make_folder(data: Path) -> None:
    """Make the data directory if it is not there.

    Raises:
        StorageError: It cannot be made.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        raise StorageError(f"cannot make the data directory {data}: {error.strerror}") from error


def start_inbox(inbox: InboxWriter, data: Path) -> int:
    """Open the inbox and return up to which row the state has read it.

    Its ids and its clock go on above that, whatever became of it.

    Raises:
        StorageError: It cannot be used.
    """
    try:
        floor = StateReader(data / "state.db").position(FRONT)
    except StorageError as error:  # the analyst finds out, too, and deals with it
        logger.warning("How far the state is cannot be told: %s.", error, extra={"event": "state_unread"})
        floor = None
    if inbox.start(floor):
        logger.error(
            "inbox.db held less than was already read: it was lost or is an older copy. Webhooks that were not "
            "understood yet are gone; what comes now is numbered on.",
            extra={"event": "inbox_behind", "read": inbox.newest_id},
        )
    return 0 if floor is None else floor.id
