"""Where the front is heard: the application, its address, and the connections that wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from aiohttp import web

from bridge.api import explain
from bridge.app.address import listen
from bridge.app.encryption import Encryption
from bridge.app.limits import most_connections, raise_file_limit, waiting_connections
from bridge.intake import Runner, strays
from bridge.telemetry import IntakeCounters, Telemetry

#: How long requests that are being answered may take at the end.
LAST_ANSWERS_S = 2.0
#: How often connections are looked at that wait for a request.
SWEEP_S = 2.0


class Listening:
    """One address. `run` belongs to the front's workers."""

    def __init__(
        self,
        routes: Iterable[web.RouteDef],
        counters: IntakeCounters,
        telemetry: Telemetry,
        encryption: Encryption | None = None,
    ) -> None:
        app = web.Application(middlewares=[strays(counters), explain])
        app.add_routes(routes)
        files = raise_file_limit()
        self._runner = Runner(app, counters, most=most_connections(files), shutdown_timeout=LAST_ANSWERS_S)
        self._telemetry = telemetry
        self._encryption = encryption
        self._max_waiting = waiting_connections(files)

    async def start(self, host: str, port: int) -> str:
        """Begin to accept; return the URL.

        Raises:
            ListenError: The address cannot be listened on.
        """
        await self._runner.setup()
        context = None if self._encryption is None else self._encryption.context
        return await listen(self._runner, host, port, context)

    async def close(self) -> None:
        """Accept nothing new, let what is under way be answered, and close. Again it does nothing."""
        await self._runner.cleanup()

    async def run(self) -> None:
        """Keep files free for who sends: close connections that wait for too long, or are too many.

        And take over certificates that have changed.
        """
        while True:
            found = self._runner.sweep(time.monotonic(), self._max_waiting)
            self._telemetry.set("tocsin_connections", found.open)
            for reason in ("headless", "idle", "slow", "crowded"):
                self._telemetry.add("tocsin_connections_closed_total", getattr(found, reason), reason=reason)
            if self._encryption is not None:
                self._encryption.look()
            await asyncio.sleep(SWEEP_S)
