"""Telling of trouble with destinations: when it begins, now and then while it lasts, and when it is over.

Rule: what could not be told stays owed. The trouble may be the very disk that the telling is written to.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from bridge.dispatch.surroundings import OnTrouble
from bridge.errors import TocsinError

_LOG = logging.getLogger(__name__)
#: How long one telling may take; it is a commit to the inbox.
TELL_S = 10.0


class Alarms:
    """What is wrong with which destination, and what of it was told."""

    def __init__(self, on_trouble: OnTrouble, remind_every_s: float) -> None:
        self._on_trouble = on_trouble
        self._remind_every = timedelta(seconds=remind_every_s)
        self._wrong: dict[tuple[str, str], str] = {}
        self._told_at: dict[tuple[str, str], datetime] = {}

    def wrong(self, destination: str, kind: str, reason: str) -> None:
        """Say that something is wrong; the first reason stands while it lasts."""
        self._wrong.setdefault((destination, kind), reason)

    def over(self, destination: str, kind: str) -> None:
        """Say that it is over, or never was."""
        self._wrong.pop((destination, kind), None)

    async def tell(self, now: datetime) -> None:
        """Tell what is owed."""
        for key, reason in list(self._wrong.items()):
            told_at = self._told_at.get(key)
            if (told_at is None or now - told_at >= self._remind_every) and await self._told(key, reason):
                self._told_at[key] = now
        for key in [each for each in self._told_at if each not in self._wrong]:
            if await self._told(key, None):
                del self._told_at[key]

    async def _told(self, key: tuple[str, str], reason: str | None) -> bool:
        destination, kind = key
        try:
            async with asyncio.timeout(TELL_S):
                await self._on_trouble(destination, kind, reason)
        except (TocsinError, TimeoutError) as error:
            _LOG.warning(
                "Trouble with a destination could not be told.",
                extra={
                    "event": "trouble_untold", "destination": destination, "kind": kind,
                    "error_type": type(error).__name__,
                },
            )  # fmt: skip
            return False
        return True
