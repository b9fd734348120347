"""The SQL sender: rows in one transaction, to PostgreSQL; one connection per database and user, kept open.

Rules: a transaction is begun, run and committed, or the connection is thrown away; there is no third. So nothing waits
for a `rollback` on a line that is dead. Nothing but the request says where to go and as whom: no PG* variable and no
`.pgpass` of whoever started the process. The library is loaded with the first rows.

A name is looked up by `names` first, so that one which leads to no host is refused and one whose server is dead keeps
nobody else waiting; the library then looks it up again, since it checks the certificate against what it was given.

Decision: no prepared statements are kept (`statement_cache_size=0`), so that a pooler in between (PgBouncer, by
transaction) is no trouble. To parse ten statements a batch costs less than a millisecond.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from typing import Any

from tenacity.wait import wait_base
from typing_extensions import override

from bridge.ports import Refused, Request, Response, Sender, Unreached, Upsert, Upserted
from connectors.common import clip, one_line
from connectors.transport.attempts import CONNECT_S, Trust, attempt, short_wait
from connectors.transport.names import Names

CLOSE_S = 1.0  # how long the end waits for a farewell
#: Class 08: the connection, not what was asked.
CONNECTION = "08"
REASON_CHARACTERS = 200


class UpsertSender(Sender):
    """Sends `Upsert` requests. Use and close it in one event loop."""

    def __init__(self, *, wait: wait_base | None = None, names: Names | None = None) -> None:
        self._wait = wait if wait is not None else short_wait()
        self._names = names or Names()
        self._trust = Trust()
        self._links: dict[tuple[str, str, str], _Link] = {}

    @override
    async def send(self, request: Request, *, timeout_s: float) -> Response:
        if not isinstance(request, Upsert):
            return Unreached(reason="not rows for a database", maybe_sent=False, kind="local")
        link = self._links.setdefault((request.address, request.database, request.user), _Link())
        try:
            async with asyncio.timeout(timeout_s):
                await link.turn.acquire()
        except TimeoutError:
            return Unreached(reason=f"{request.address} is busy", maybe_sent=False, kind="timeout")
        try:
            return await attempt(lambda: self._once(link, request, timeout_s), self._wait)
        finally:
            link.turn.release()

    async def _once(self, link: _Link, request: Upsert, timeout_s: float) -> Response:
        response: Response | None = None
        try:
            response = await self._connected(link, request, min(CONNECT_S, timeout_s))
            if response is None:
                response = await self._written(link, request, timeout_s)
            return response
        finally:
            # Whoever gave up in between, too: the transaction that was begun is no longer anybody's.
            if not isinstance(response, Upserted):
                link.drop()

    async def _connected(self, link: _Link, request: Upsert, timeout_s: float) -> Refused | Unreached | None:
        """Make sure of a connection; return why there is none."""
        if link.is_usable(_login(request)):
            return None
        link.drop()
        import asyncpg  # noqa: PLC0415 - 10 MB that nobody needs who has no such destination

        try:
            context = await self._trust.context(request.ca_file) if request.tls else None
        except OSError as error:
            return Unreached(reason=f"ca_file cannot be used: {error}", maybe_sent=False, kind="local")
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect(link, request, context)
        except TimeoutError:
            return Unreached(reason=f"no connection to {request.address} in time", maybe_sent=False)
        except asyncpg.PostgresError as error:
            return _refused(error)
        except ssl.SSLError as error:
            return Unreached(
                reason=f"TLS with {request.address}: {_said(error)}", maybe_sent=False, kind="tls"
            )
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError) as error:
            is_plain = "SSL" in str(error)
            reason = f"no connection to {request.address}: {_said(error)}"
            return Unreached(reason=reason, maybe_sent=False, kind="tls" if is_plain else "connect")
        return None

    async def _connect(self, link: _Link, request: Upsert, context: ssl.SSLContext | None) -> None:
        import asyncpg  # noqa: PLC0415

        host, _, port = request.address.rpartition(":")
        host = host.strip("[]")
        if not host.startswith("/"):
            await self._names.addresses(host, int(port))
        link.connection = await asyncpg.connect(
            host=host, port=int(port), user=request.user, database=request.database, password=request.password,
            ssl=context if context is not None else "disable", statement_cache_size=0,
            target_session_attrs="any", server_settings={"application_name": "tocsin"},
        )  # fmt: skip
        link.login = _login(request)

    async def _written(self, link: _Link, request: Upsert, timeout_s: float) -> Response:
        import asyncpg  # noqa: PLC0415

        try:
            async with asyncio.timeout(timeout_s):
                return await link.write(request)
        except TimeoutError:
            reason = f"{request.address} did not take the rows within {timeout_s:g} s"
            return Unreached(reason=reason, maybe_sent=True, kind="timeout")
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "").startswith(CONNECTION):
                reason = f"{request.address} broke off: {_said(error)}"
                return Unreached(reason=reason, maybe_sent=True, kind="reset")
            return _refused(error)
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            return Unreached(
                reason=f"{request.address} broke off: {_said(error)}", maybe_sent=True, kind="reset"
            )

    @override
    async def close(self) -> None:
        links, self._links = list(self._links.values()), {}
        await asyncio.gather(*(link.close() for link in links))


def _login(request: Upsert) -> tuple[object, ...]:
    return request.password, request.tls, request.ca_file


def _said(error: Exception) -> str:
    """Return a server's words as one short line: they may hold anything."""
    return clip(one_line(str(error)), REASON_CHARACTERS)


def _refused(error: Any) -> Refused:
    return Refused(code=error.sqlstate or "XX000", reason=str(error).splitlines()[0] if str(error) else "")


@dataclass(slots=True)
class _Link:
    """One connection, and whose turn it is."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    connection: Any = None
    login: tuple[object, ...] = ()
    done: str = ""  # the setup that was committed

    def is_usable(self, login: tuple[object, ...]) -> bool:
        return self.connection is not None and not self.connection.is_closed() and self.login == login

    async def write(self, request: Upsert) -> Upserted:
        """Run it all in one transaction."""
        run, rows = self.connection, request.rows.decode()
        await run.execute("begin")
        if request.setup != self.done:
            await run.execute(request.setup)
        returned = [
            str(each[0]) for statement in request.statements for each in await run.fetch(statement, rows)
        ]
        await run.execute("rollback" if request.is_rehearsal else "commit")
        self.done = "" if request.is_rehearsal else request.setup
        return Upserted(returned=tuple(returned))

    def drop(self) -> None:
        connection, self.connection, self.done = self.connection, None, ""
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None and not self.turn.locked():
            with contextlib.suppress(Exception):  # it ends either way
                await connection.close(timeout=CLOSE_S)
        elif connection is not None:
            connection.terminate()
