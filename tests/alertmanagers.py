"""An Alertmanager's API as a fake, to misbehave: what it lists, since when it runs, and how it answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

OLD = "2026-01-01T00:00:00.000Z"


def entry(name: str, **changes: Any) -> dict[str, Any]:
    """Return one alert as Alertmanager lists it."""
    fields: dict[str, Any] = {
        "labels": {"alertname": name, "severity": "critical"}, "annotations": {"summary": f"{name} is wrong"},
        "fingerprint": f"{sum(name.encode()):016x}", "startsAt": "2026-01-01T00:00:00.000Z",
        "endsAt": "2026-01-01T00:04:00.000Z", "updatedAt": OLD, "generatorURL": "", "receivers": [{"name": "tocsin"}],
        "status": {"state": "active", "silencedBy": [], "inhibitedBy": []},
    }  # fmt: skip
    return fields | changes


class Alertmanager:
    """One fake peer."""

    def __init__(self) -> None:
        self.alerts: Any = []
        self.started = OLD
        self.receivers = ["tocsin", "pager"]
        self.status = 200
        self.authorization: str | None = None  # asked for
        self.asked = 0  # how often for its list
        self.headers: dict[str, str] = {}
        self.open = asyncio.Event()
        self.open.set()
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer any question."""
        self.asked += request.path.endswith("/alerts")
        await self.open.wait()
        if self.authorization is not None and request.headers.get("Authorization") != self.authorization:
            return web.Response(status=401)
        if self.status != 200:
            return web.Response(status=self.status, headers={"Location": f"{self.url}/elsewhere"})
        what = request.path.removeprefix("/prefix").removeprefix("/api/v2/")
        told: Any = {
            "status": {"uptime": self.started},
            "receivers": [{"name": name} for name in self.receivers],
            "alerts": self.alerts,
        }[what]
        if isinstance(told, bytes):
            return web.Response(body=told, headers=self.headers)
        return web.json_response(told, headers=self.headers)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Alertmanager]:
        """Serve on a port of its own."""
        application = web.Application()
        application.router.add_get("/{any:.*}", self.answer)
        runner = web.AppRunner(application, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self.open.set()
            await runner.cleanup()
