"""Who gets into a running front: the gate, the keys of token issuers, and who remembers.

Rule: a changed configuration acts from the next request on. Keys that were fetched stay where their place stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from aiohttp import web

from bridge.app.admissions import Admissions
from bridge.app.changing import key_places, keyring_of
from bridge.app.minting import MintedTokens
from bridge.auth import Grant
from bridge.config import Settings
from bridge.intake import Gate
from bridge.telemetry import Telemetry
from connectors.transport.http import HttpSender

if TYPE_CHECKING:
    from bridge.app.key_sets import KeySets
    from bridge.auth.jwts import Keys

logger = logging.getLogger(__name__)

#: How often it is looked whether a token was minted or revoked.
LOOK_S = 1.0


class Admitting:
    """The gate of one front. `run` belongs to the front's workers."""

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Take what is configured, where to count, any steady clock, and the time in seconds since the epoch."""
        self._telemetry = telemetry
        self._clock = clock
        self._key_sets: KeySets | None = None
        self._has_sets = asyncio.Event()
        self._tenants = frozenset(settings.tenants)
        self._minted = MintedTokens(settings.data_dir, lambda: self._tenants, self._forget)
        self.gate = Gate(
            keyring_of(settings, self._keys(settings), self._minted),
            wall=wall,
            fetch=self._fetch,
            witness=Admissions(telemetry, clock),
        )

    def change(self, settings: Settings) -> None:
        """Put other credentials in force."""
        self._tenants = frozenset(settings.tenants)
        self.gate.keyring = keyring_of(settings, self._keys(settings), self._minted)

    def say_who(self) -> None:
        """Say it loudly where nobody has to show anything."""
        if self.gate.keyring.is_open:
            logger.warning(
                "No credentials are configured: whoever is on this machine may do everything, nobody else anything. "
                "Write tenants[].tokens to change that.",
                extra={"event": "open_to_loopback"},
            )

    async def run(self) -> None:
        """Keep the keys of issuers fresh and hear of revoked tokens, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_fresh())
            while True:
                self._minted.look()
                await asyncio.sleep(LOOK_S)

    async def _keep_fresh(self) -> None:
        await self._has_sets.wait()
        if self._key_sets is not None:
            await self._key_sets.run()

    async def authenticate(self, request: web.Request) -> Grant | None:
        """Return what a caller of the API may do; None if its credential is missing or not one of ours.

        Raises:
            UndecidedError: The keys that it needs cannot be had for now.
        """
        answer = await self.gate.admit(request)
        return answer if isinstance(answer, Grant) else None

    async def _fetch(self, place: str) -> bool:
        return self._key_sets is None or await self._key_sets.fetch(place)

    def _forget(self) -> None:
        self.gate.keyring.forget()

    def _keys(self, settings: Settings) -> Mapping[str, Keys]:
        places = key_places(settings)
        if self._key_sets is None and places:
            # With `cryptography` behind it this is dear, and most need it not.
            from bridge.app.key_sets import MAX_BYTES, KeySets  # noqa: PLC0415

            self._key_sets = KeySets(
                lambda: HttpSender(body_bytes=MAX_BYTES + 1),
                telemetry=self._telemetry,
                changed=self._forget,
                clock=self._clock,
            )
            self._has_sets.set()
        return {} if self._key_sets is None else self._key_sets.use(places)
