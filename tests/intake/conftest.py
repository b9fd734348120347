from __future__ import annotations

import contextlib
import time

import pytest
from aiohttp import ClientSession, web
from doors import LARGE_BYTES, Box, Counted, Door

from bridge.auth import Keyring
from bridge.intake import Gate, Intake, IntakeSettings, Runner, routes, strays


async def large(_request: web.Request) -> web.Response:
    """Answer with more than any buffer takes."""
    return web.Response(body=bytes(LARGE_BYTES))


@pytest.fixture
async def doors():
    """Make a door; with an inbox in memory unless another is given."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(
            *,
            inbox=None,
            tokens=(),
            keyring=None,
            middlewares=(),
            ssl=None,
            fetch=None,
            quotas=None,
            most=None,
            **settings,
        ) -> Door:
            meter = Counted()
            inbox = Box() if inbox is None else inbox
            gate = Gate(
                Keyring(tokens) if keyring is None else keyring, wall=time.time, fetch=fetch, witness=meter
            )
            intake = Intake(inbox, gate, IntakeSettings(**settings), meter, quotas)
            application = web.Application(middlewares=[strays(meter), *middlewares])
            application.add_routes(routes(intake))
            application.router.add_get("/large", large)
            # As the front runs it, which aiohttp's own test server does not.
            runner = Runner(application, meter, most=most)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl).start()
            port = runner.addresses[0][1]
            client = await stack.enter_async_context(
                ClientSession(f"http{'s' if ssl else ''}://127.0.0.1:{port}")
            )
            return Door(client, port, runner, intake, meter)

        yield make
