"""A service of Azure as a contract fake: TLS on loopback, one token that it takes, answers as documented."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import tenacity
from aiohttp import web
from aiohttp.test_utils import TestServer
from builders import START
from certificates import make_certificate

from bridge.model import Verdict
from bridge.ports import Connector, Rendered
from connectors.transport.http import HttpSender
from connectors.transport.vendors import azure


@dataclass
class Answer:
    """One answer. `drops`: the request is taken, and the connection breaks instead."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    drops: bool = False


@dataclass
class Service:
    """Takes requests with `token`, or a shared access signature `sas`, and gives `answers` before the `good` one."""

    good: Answer
    url: str = ""
    ca_file: str = ""
    token: str = "token-1"
    answers: list[Answer] = field(default_factory=list)
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    sender: HttpSender = field(default_factory=lambda: HttpSender(wait=tenacity.wait_none()))

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.bodies.append(await request.read())
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return web.Response(status=401, body=b'{"error":{"code":"InvalidToken","message":"expired"}}')
        answer = self.answers.pop(0) if self.answers else self.good
        if answer.drops:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    async def deliver(self, connector: Connector, rendered: Rendered) -> list[Verdict]:
        """Send what was rendered as the dispatcher does; return the verdicts."""
        sealed = connector.seal(rendered.request, rendered.event_ids, START)
        return list(connector.judge(rendered, await self.sender.send(sealed, timeout_s=10.0)))


@contextlib.asynccontextmanager
async def service(good: Answer, directory: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """Yield a service; the identity that everybody uses gets token-1, token-2, ... for whatever it asks."""
    certificate, key = make_certificate(directory)
    fake = Service(good=good, ca_file=str(certificate))

    def get_token(scope: str) -> SimpleNamespace:
        fake.scopes.append(scope)
        return SimpleNamespace(token=f"token-{len(fake.scopes)}")

    patch.setattr(azure, "_credential", lambda _options, _asking: SimpleNamespace(get_token=get_token))
    patch.setattr(azure, "ANEW_S", 0.0)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(str(certificate), str(key))
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=context)
    fake.url = f"https://127.0.0.1:{server.port}"
    try:
        yield fake
    finally:
        await fake.sender.close()
        await server.close()
