"""Every destination on loopback: one server for each protocol, with an answer that the kind takes for success.

A connector is left as it is; the sender in between leads its requests here instead of to the address they name, without
TLS. Which answer is a success is found by asking the kind's own `judge`, so that a new kind needs nothing here unless
its success has words of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web
from msgspec.structs import replace
from typing_extensions import override

from bridge.model import Delivered, Duplicate, Event, Pending
from bridge.ports import (
    Append,
    Connector,
    Frames,
    Http,
    HttpResponse,
    Request,
    Response,
    Sender,
    Unreached,
)

#: The words of success of every kind at once; each looks at its own.
WORDS = (
    b'{"ok":true,"status":"success","text":"Success","code":0,"ackId":0,"acks":{"0":true},"channel":"C1","ts":"1.1",'
    b'"id":"1","name":"spaces/1/messages/1","result":"Request will be processed","requestId":"1","errors":false,'
    b'"messageIds":["1"],"MessageId":"1","FailedEntryCount":0,"FailedCount":0,"SuccessCount":1}'
)
ANSWERS = tuple((status, body) for status in (200, 202, 201, 204) for body in (WORDS, b"", b"ok", b"1"))
TAKEN = (Delivered, Duplicate, Pending)


def answer_of(connector: Connector, event: Event) -> tuple[int, bytes] | None:
    """Return the status and body that a kind takes for success; None if none is known."""
    rendered = connector.render([event], None, "")
    for status, body in ANSWERS:
        verdicts = connector.judge(rendered, HttpResponse(status=status, headers={}, body=body))
        if all(isinstance(each, TAKEN) for each in verdicts):
            return status, body
    return None


class Loopback(Sender):
    """Leads every request to the servers here."""

    def __init__(self, sender: Sender, ports: Mapping[str, int], kind: str, folder: Path) -> None:
        self._sender = sender
        self._ports = ports
        self._kind = kind
        self._folder = folder

    @override
    async def send(self, request: Request, *, timeout_s: float) -> Response:
        return await self._sender.send(self._led(request), timeout_s=timeout_s)

    def _led(self, request: Request) -> Request:
        match request:
            case Http():
                url = f"http://127.0.0.1:{self._ports['http']}/{self._kind}"
                return replace(request, url=url, ca_file="", foreign=False, auth=None)
            case Frames():
                plain = "relp" if request.transport.startswith("relp") else "tcp"
                return replace(
                    request, address=f"127.0.0.1:{self._ports[plain]}", transport=plain, ca_file=""
                )
            case Append():
                return replace(request, path=str(self._folder / "lines.jsonl"))
        return request

    @override
    async def close(self) -> None:
        await self._sender.close()


class Down(Sender):
    """A destination that is not there: refuses the connection, or says nothing at all, until told otherwise."""

    def __init__(self, sender: Sender, *, silent: bool = False) -> None:
        self._sender = sender
        self._silent = silent
        self.is_down = True
        self.attempts = 0

    @override
    async def send(self, request: Request, *, timeout_s: float) -> Response:
        self.attempts += 1
        if not self.is_down:
            return await self._sender.send(request, timeout_s=timeout_s)
        if self._silent:
            await asyncio.sleep(timeout_s)
            return Unreached(reason="no answer", maybe_sent=True, kind="timeout")
        return Unreached(reason="connection refused", maybe_sent=False)

    @override
    async def close(self) -> None:
        await self._sender.close()


class Servers:
    """A process of its own with the servers; their ports by protocol."""

    def __init__(self, answers: Mapping[str, tuple[int, bytes]]) -> None:
        self.ports = dict(zip(("http", "tcp", "relp"), _free_ports(3), strict=True))
        spawned = multiprocessing.get_context("spawn")
        self._process = spawned.Process(target=_serve, args=(self.ports, dict(answers)), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        for port in self.ports.values():
            _wait_for(port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join(10)


def _free_ports(count: int) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            yield held.getsockname()[1]


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        multiprocessing.Event().wait(0.1)
    raise SystemExit(f"nothing listens on port {port}")


def _serve(ports: dict[str, int], answers: dict[str, tuple[int, bytes]]) -> None:
    asyncio.run(_serving(ports, answers))


async def _serving(ports: dict[str, int], answers: dict[str, tuple[int, bytes]]) -> None:
    async def answered(request: web.Request) -> web.Response:
        await request.read()
        status, body = answers[request.path[1:]]
        return web.Response(status=status, body=body, content_type="application/json")

    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{kind}", answered)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", ports["http"]).start()
    serving: tuple[tuple[str, Callable[..., object]], ...] = (("tcp", _swallow), ("relp", _acknowledge))
    for name, handle in serving:
        await asyncio.start_server(handle, "127.0.0.1", ports[name])  # type: ignore[arg-type]
    await asyncio.Event().wait()


async def _swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1 << 16):
        pass
    writer.close()


async def _acknowledge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak RELP as far as a sender needs: each frame is answered with 200."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
        while True:
            number = (await reader.readuntil(b" "))[:-1]
            command = (await reader.readuntil(b" "))[:-1]
            size = await _size(reader)
            data = await reader.readexactly(size) if size else b""
            if size:
                await reader.readexactly(1)  # the LF behind the data
            told = b"200 OK" + (b"\n" + data if command == b"open" else b"")
            writer.write(b"%s rsp %d %s\n" % (number, len(told), told))
            await writer.drain()
    writer.close()


async def _size(reader: asyncio.StreamReader) -> int:
    """Read a frame's length and the one character behind it, which is LF where there is no data."""
    digits = b""
    while (each := await reader.readexactly(1)).isdigit():
        digits += each
    return int(digits)
