"""An intake behind a real HTTP server, with everything that can be looked at."""

from __future__ import annotations

import asyncio
import io
from collections import Counter

from aiohttp import ClientSession

from bridge.auth import Denied, Grant
from bridge.errors import StorageError
from bridge.intake import Intake
from bridge.model import RowKind

URL = "/v1/alertmanager"
#: More than socket and program keep for a client that takes nothing.
LARGE_BYTES = 64 << 20
JSON = {"Content-Type": "application/json"}


class Counted:
    """A meter and a witness that remember."""

    def __init__(self) -> None:
        self.alerts = self.webhooks = self.size_bytes = 0
        self.reasons: Counter[str] = Counter()
        self.shapes: Counter[str] = Counter()  # of what was let in
        self.whys: list[str] = []  # of what was turned away

    def accepted(self, alerts: int, size_bytes: int) -> None:
        self.webhooks += 1
        self.alerts += alerts
        self.size_bytes += size_bytes

    def refused(self, reason: str) -> None:
        self.reasons[reason] += 1

    def let_in(self, grant: Grant) -> None:
        self.shapes[grant.shape] += 1

    def turned_away(self, denied: Denied, peer: str | None) -> None:  # noqa: ARG002
        self.whys.append(denied.why)

    def undecided(self, place: str) -> None:
        self.whys.append(place)


class Box:
    """An inbox in memory, which fails or waits when told to."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, RowKind, bytes]] = []
        self.error: StorageError | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def put(self, tenant: str, source: str, kind: RowKind, text: bytes) -> int:
        await self.open.wait()
        if self.error:
            raise self.error
        self.rows.append((tenant, source, kind, text))
        return len(self.rows)


class Door:
    """One intake behind a real HTTP server, with everything that can be looked at."""

    def __init__(self, client: ClientSession, port: int, runner, intake: Intake, meter: Counted) -> None:
        self.client, self.port, self.runner, self.intake, self.meter = client, port, runner, intake, meter
        self.inbox = intake._inbox

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self.runner.server.connections)

    async def post(self, data, path: str = URL, headers=JSON, **more) -> tuple[int, dict]:
        data = io.BytesIO(data) if isinstance(data, bytes) else data
        async with self.client.post(path, data=data, headers=headers, **more) as answer:
            return answer.status, await answer.json()

    async def raw(self, head: str, text: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection and send bytes as they are."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + text)
        await writer.drain()
        return reader, writer

    async def until(self, held_bytes: int) -> None:
        """Wait until so much of the budget is held."""
        while self.intake.budget.held_bytes != held_bytes:
            await asyncio.sleep(0)


async def status_line(reader: asyncio.StreamReader) -> bytes:
    return (await asyncio.wait_for(reader.readline(), 10)).rstrip()
