"""Where a front begins: its directory, its lock, its stores, and the row after which its inbox goes on.

A store that is broken, or was marked so by the last front, is moved aside here and begun anew; see
`bridge.storage.damage`. What could be read of the inbox is in the new one. A new `delivery.db` reads what is to be sent
from the outbox once more, under the ids that destinations know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from bridge.errors import DamagedError, StorageError
from bridge.model import FRONT
from bridge.storage.damage import is_suspect, set_aside
from bridge.storage.deliveries import DeliveryStore
from bridge.storage.inbox import InboxWriter, Position, rescue
from bridge.storage.reading import StateReader

logger = logging.getLogger(__name__)

#: Told which store was begun anew and why.
OnRenewed = Callable[[str, str], None]


def make_folder(data: Path) -> None:
    """Make the data directory if it is not there.

    Raises:
        StorageError: It cannot be made.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        raise StorageError(f"cannot make the data directory {data}: {error.strerror}") from error


def start_inbox(
    inbox: InboxWriter, data: Path, *, clock: Callable[[], datetime], on_renewed: OnRenewed
) -> int:
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
    path = data / "inbox.db"
    if is_suspect(path):
        _renew_inbox(path, floor, clock(), "it broke while it was used", on_renewed)
    try:
        is_behind = inbox.start(floor)
    except DamagedError as error:
        _renew_inbox(path, floor, clock(), str(error), on_renewed)
        is_behind = inbox.start(floor)
    if is_behind:
        logger.error(
            "inbox.db held less than was already read: it was lost or is an older copy. Webhooks that were not "
            "understood yet are gone; what comes now is numbered on.",
            extra={"event": "inbox_behind", "read": inbox.newest_id},
        )
    return 0 if floor is None else floor.id


def _renew_inbox(
    path: Path, floor: Position | None, now: datetime, reason: str, on_renewed: OnRenewed
) -> None:
    kept = set_aside(path, now)
    rescued = rescue(kept, path)
    read = 0 if floor is None else floor.id
    saved = f"{rescued.rows} rows could be read and are in the new one, the newest is {rescued.newest_id}"
    _say(path, kept, f"{reason}; {saved}, {read} was understood; kept as {kept.name}", on_renewed)


def open_deliveries(
    path: Path,
    *,
    clock: Callable[[], datetime],
    on_damage: Callable[[str], None],
    on_renewed: OnRenewed,
) -> DeliveryStore:
    """Open the delivery store, or a new one.

    Raises:
        StorageError: It cannot be used.
    """

    def renew(reason: str) -> None:
        kept = set_aside(path, clock())
        again = "what the outbox still has is sent once more, under the same event ids"
        _say(path, kept, f"{reason}; {again}; kept as {kept.name}", on_renewed)

    if is_suspect(path):
        renew("it broke while it was used")
    try:
        return DeliveryStore(path, clock=clock, on_damage=on_damage)
    except DamagedError as error:
        renew(str(error))
        return DeliveryStore(path, clock=clock, on_damage=on_damage)


def _say(path: Path, kept: Path, reason: str, on_renewed: OnRenewed) -> None:
    logger.critical(
        "%s was broken, and a new one is begun: %s.",
        path.name,
        reason,
        extra={"event": "store_renewed", "store": path.name, "kept": kept.name},
    )
    on_renewed(path.name, reason)
