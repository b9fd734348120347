"""The public keys of token issuers, fetched from where the configuration says and kept fresh.

Rules: fetched in the background every five minutes, and at once when a token names a key that is not there, but for one
place never twice within five seconds: tokens that are made up must not become requests to somebody else. One request is
bounded in time and size and follows no redirect. Requests that wait for keys wait for one fetch together.

Keys that were there stay in use for a day while the place cannot be asked; what an issuer takes away is gone with the
next answer. Whoever needs keys that cannot be had is answered 503 and comes again.

Decision: the sender of the destinations asks (`connectors.transport.http`), as for Alertmanagers. One client that knows
TLS, slow resolvers and names without secrets is enough.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from bridge.auth.jwts import Keys, KeySetError
from bridge.ports import Http, HttpResponse, Sender
from bridge.telemetry import Telemetry

logger = logging.getLogger(__name__)

REFRESH_S = 300.0
#: For so long a place is not asked again, whatever it answered.
PAUSE_S = 5.0
#: One request and its answer may take so long; requests of senders wait for it.
ANSWER_S = 5.0
#: The largest set that is read. Real ones have some kilobytes.
MAX_BYTES = 1 << 20
#: After so long without an answer the keys are not believed any more.
STALE_S = 86_400.0


class _Place:
    """One set of keys and when it was asked for."""

    def __init__(self, keys: Keys, ca_file: str) -> None:
        self.keys = keys
        self.ca_file = ca_file
        self.lock = asyncio.Lock()
        self.asked_at_s = float("-inf")
        self.read_at_s = float("-inf")
        self.is_fresh = False  # the last answer was a set
        self.is_silent = False  # and it was said that it was none


class KeySets:
    """Fetches the sets. `run` belongs to the front's workers."""

    def __init__(
        self,
        sender: Callable[[], Sender],
        *,
        telemetry: Telemetry,
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """Take how to ask, whom to tell, and any steady clock.

        Args:
            sender: Makes a sender of HTTP requests, closed in the end.
            telemetry: Where fetches are counted.
            changed: Called when a set has other keys than before.
            clock: Seconds.
        """
        self._make = sender
        self._telemetry = telemetry
        self._changed = changed
        self._clock = clock
        self._sender: Sender | None = None
        self._places: dict[str, _Place] = {}
        self._wanted = asyncio.Event()

    def use(self, places: Mapping[str, str]) -> Mapping[str, Keys]:
        """Take where sets are, each with the file of authorities that its place is trusted by; return their keys.

        Keys that are there already stay.
        """
        kept = {}
        for place, ca_file in places.items():
            known = self._places.get(place)
            kept[place] = (
                known if known is not None and known.ca_file == ca_file else _Place(Keys(place), ca_file)
            )
        self._places = kept
        self._wanted.set()
        return {place: each.keys for place, each in kept.items()}

    async def fetch(self, place: str) -> bool:
        """Have a set fetched unless that has just been done; return whether its keys are what is there now."""
        found = self._places.get(place)
        if found is None:  # a file: it has what it had when the configuration was read
            return True
        async with found.lock:
            if self._clock() - found.asked_at_s >= PAUSE_S:
                await self._ask(found)
            return found.is_fresh

    async def run(self) -> None:
        """Keep all sets fresh, for ever."""
        try:
            while True:
                self._wanted.clear()
                await asyncio.gather(*(self.fetch(place) for place in tuple(self._places)))
                self._drop_stale()
                try:
                    async with asyncio.timeout(REFRESH_S):
                        await self._wanted.wait()
                except TimeoutError:
                    continue
        finally:
            if self._sender is not None:
                await self._sender.close()

    async def _ask(self, place: _Place) -> None:
        place.asked_at_s = self._clock()
        if self._sender is None:
            self._sender = self._make()
        request = Http(
            method="GET",
            url=place.keys.place,
            headers={"Accept": "application/json"},
            body=b"",
            ca_file=place.ca_file,
        )
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._sender.send(request, timeout_s=ANSWER_S)
        except TimeoutError:
            self._is_silent(place, "no answer in time")
            return
        if not isinstance(answer, HttpResponse):
            self._is_silent(place, answer.reason if hasattr(answer, "reason") else "no answer")
            return
        if answer.status != 200 or len(answer.body) > MAX_BYTES:  # noqa: PLR2004 - HTTP's OK
            why = f"it answered {answer.status}" if answer.status != 200 else "its answer is too long"  # noqa: PLR2004
            self._is_silent(place, why)
            return
        try:
            changed = place.keys.take(answer.body)
        except KeySetError as error:
            self._is_silent(place, str(error))
            return
        self._is_read(place)
        if changed:
            self._changed()

    def _is_read(self, place: _Place) -> None:
        place.is_fresh, place.read_at_s = True, self._clock()
        self._telemetry.add("tocsin_key_sets_total", result="read")
        if place.is_silent:
            place.is_silent = False
            logger.info(
                "The keys at %s can be had again.", place.keys.place, extra={"event": "keys_recovered"}
            )

    def _is_silent(self, place: _Place, reason: str) -> None:
        place.is_fresh = False
        self._telemetry.add("tocsin_key_sets_total", result="failed")
        if not place.is_silent:
            place.is_silent = True
            logger.warning(
                "The keys at %s cannot be had: %s.", place.keys.place, reason, extra={"event": "keys_unread"}
            )

    def _drop_stale(self) -> None:
        for place in self._places.values():
            if place.keys.is_read and self._clock() - place.read_at_s > STALE_S:
                place.keys.drop()
                self._changed()
