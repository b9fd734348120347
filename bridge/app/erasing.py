"""Erasing in the front's own stores, once the analyst is done with its own: webhooks, requests, and the row that asks.

Rules: what is to be done stands in the inbox and is found there again after any end. First the analyst (it says so in
`state.db`), then the webhooks that it understood, then what is on its way, of which the events are without what is
erased by then; each file is written anew; the row that asks is emptied before its own file is. A store that does not
work now is asked again later, and nothing is called done before it is.

Decision: looked at every second while something is to be erased, rather than told by the analyst. What it would say in
its pipe is lost with the process that reads it, and the question costs next to nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from bridge.analysis.erasing import Erase, Eraser, sealed
from bridge.errors import StorageError
from bridge.storage.inbox import EraseRow, InboxWriter
from bridge.webhooks.alertmanager import fingerprint_of

logger = logging.getLogger(__name__)

#: How often it is looked whether it can go on, and how long it rests after what takes long failed.
LOOK_S, REST_S = 1.0, 10.0


class OnItsWay(Protocol):
    """The deliveries, as erasing sees them."""

    async def newest_request(self) -> int:
        """Return the highest number that a request ever had."""

    async def erase(self, tenant: str, through: int, masked: Callable[[str], str]) -> int:
        """Forget a tenant's requests up to number `through`; return how many of them have to be waited for."""

    async def write_anew(self) -> bool:
        """Write the file without what was deleted. False: try again."""


class Erasing:
    """Finishes erasures."""

    def __init__(
        self,
        inbox: InboxWriter,
        *,
        stage: Callable[[str, str], str | None],
        understood: Callable[[], int],
    ) -> None:
        """Prepare.

        Args:
            inbox: Whose rows ask for it.
            stage: Returns how far the analyst is with the erasure of a tenant; None: it knows of none. Blocks.
            understood: Returns the number of the newest row that the analyst has understood.
        """
        self._inbox = inbox
        self._stage = stage
        self._understood = understood
        self._wanted = asyncio.Event()
        self._unfinished: dict[str, str] = {}  # id -> tenant
        self._through: dict[str, int] = {}  # id -> the newest request that may hold what is erased
        self._trouble = ""
        self._rest_s = LOOK_S

    def want(self, tenant: str, body: bytes) -> None:
        """Hear that an erase was asked for."""
        self._unfinished[msgspec.json.decode(body, type=Erase).id] = tenant
        self._wanted.set()

    def unfinished(self, tenant: str) -> Collection[str]:
        """Return the erasures of a tenant that are not done."""
        return [name for name, owner in self._unfinished.items() if owner == tenant]

    async def run(self, deliveries: OnItsWay) -> None:
        """Finish what there is and what will be, for ever."""
        while True:
            self._wanted.clear()
            waits = await self._look(deliveries)
            try:
                async with asyncio.timeout(self._rest_s if waits else None):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def _look(self, deliveries: OnItsWay) -> bool:
        """Go on with all of them; return whether some are not done."""
        waits, self._rest_s = False, LOOK_S
        try:
            rows = await self._inbox.erasing()
            self._unfinished |= {_read(row).id: row.tenant for row in rows}
            for row in rows:
                waits = not await self._finish(row, deliveries) or waits
        except StorageError as error:
            self._say_trouble(str(error))
            self._rest_s = REST_S
            return True
        self._trouble = ""
        return waits

    async def _finish(self, row: EraseRow, deliveries: OnItsWay) -> bool:
        """Do what is left of one; return whether it is done."""
        erase = _read(row)
        if not erase.sealed:
            stage = await asyncio.to_thread(self._stage, row.tenant, erase.id)
            if stage is None and self._understood() >= row.id:
                logger.error(
                    "An erasure could not be understood and is not made.",
                    extra={"event": "erase_failed", "erasure": erase.id, "tenant": row.tenant},
                )
            elif stage != "done" or not await self._in_own(row, erase, deliveries):
                return False
            await self._inbox.seal_erase(row.id, msgspec.json.encode(sealed(erase)))
        if not await self._written_anew(self._inbox):
            return False
        await self._inbox.clear_erase(row.id)
        self._unfinished.pop(erase.id, None)
        self._through.pop(erase.id, None)
        logger.info(
            "What was to be erased is in none of the stores any more.",
            extra={"event": "erased", "erasure": erase.id, "tenant": row.tenant},
        )
        return True

    async def _in_own(self, row: EraseRow, erase: Erase, deliveries: OnItsWay) -> bool:
        """Erase in the inbox and on the way; return whether nothing is waited for any more."""
        eraser = Eraser(erase, row.received_at, fingerprint_of=fingerprint_of)
        await self._inbox.erase(row, eraser)
        if erase.id not in self._through:
            self._through[erase.id] = await deliveries.newest_request()
        if await deliveries.erase(row.tenant, self._through[erase.id], eraser.masked):
            return False
        return await self._written_anew(deliveries)

    async def _written_anew(self, store: InboxWriter | OnItsWay) -> bool:
        done = await store.write_anew()
        if not done:  # somebody reads, and to write it takes long
            self._rest_s = REST_S
        return done

    def _say_trouble(self, reason: str) -> None:
        if reason != self._trouble:
            self._trouble = reason
            logger.warning(
                "An erasure is not done yet, since a store does not work now: %s.", reason,
                extra={"event": "erase_waits"},
            )  # fmt: skip


def _read(row: EraseRow) -> Erase:
    try:
        return msgspec.json.decode(row.body, type=Erase)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Erase(id=f"row-{row.id}", sealed=True)
