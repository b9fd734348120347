"""The HTTP sender: what the network does becomes a value, and nothing secret becomes a reason."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading

import msgspec
import pytest
import tenacity
from aiohttp import web
from aiohttp.test_utils import TestServer
from certificates import make_certificate
from servers import free_port

from bridge.ports import Append, Auth, Http, HttpResponse, Unreached
from connectors.common import judge_http
from connectors.transport.attempts import Trust
from connectors.transport.http import HttpSender
from connectors.transport.names import Names
from connectors.transport.vendors import Authorizers


class Waits(tenacity.wait.wait_base):
    """Waits for nothing and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:  # noqa: ARG002 (tenacity's signature)
        self.count += 1
        return 0.0


@pytest.fixture
def waits():
    return Waits()


@pytest.fixture
async def sender(waits):
    sender = HttpSender(wait=waits)
    yield sender
    await sender.close()


def post(url: str, **changes) -> Http:
    return Http(**({"method": "POST", "url": url, "headers": {}, "body": b"{}"} | changes))


async def raw_server(answer: bytes):
    """Return a server that reads a request, writes `answer` and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_status_headers_and_body_come_back(sender):
    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=418, body=await request.read(), headers={"X-Some": request.method})

    app = web.Application()
    app.router.add_route("*", "/", handle)
    async with TestServer(app) as server:
        response = await sender.send(post(str(server.make_url("/")), body=b"tea"), timeout_s=5)

    assert isinstance(response, HttpResponse)
    assert (response.status, response.body, response.headers["x-some"]) == (418, b"tea", "POST")


async def test_nobody_there_is_tried_three_times_and_nothing_was_sent(sender, waits):
    response = await sender.send(post(f"http://127.0.0.1:{free_port()}/secret?token=secret"), timeout_s=5)

    assert isinstance(response, Unreached)
    assert (response.kind, response.maybe_sent) == ("connect", False)
    assert waits.count == 3  # asked once per try
    assert "secret" not in response.reason


async def test_a_name_that_is_not_found_in_time_is_told_as_that(waits):
    let_go = threading.Event()
    names = Names(lambda *_, **__: let_go.wait(5) and [], within_s=0.05)
    sender = HttpSender(wait=waits, names=names)
    request = Http(method="POST", url="http://dead.example/", headers={}, body=b"{}")
    response = await sender.send(request, timeout_s=5)
    let_go.set()
    await sender.close()

    assert isinstance(response, Unreached)
    assert response.reason.endswith("the name dead.example cannot be looked up in time")


async def test_a_name_that_does_not_exist_is_a_connect_fault(sender):
    response = await sender.send(post("http://nowhere.invalid/"), timeout_s=5)

    assert isinstance(response, Unreached)
    assert response.kind == "connect"


@pytest.mark.parametrize("url", ["", "nonsense", "http://[::1", "ftp://127.0.0.1/"])
async def test_an_address_that_is_none_is_a_local_fault(sender, url):
    response = await sender.send(post(url), timeout_s=5)

    assert isinstance(response, Unreached)
    assert (response.kind, response.maybe_sent) == ("local", False)


async def test_a_header_that_would_begin_another_is_not_sent(sender):
    async with TestServer(web.Application()) as server:
        request = post(str(server.make_url("/")), headers={"authorization": "a\r\nx-evil: secret"})
        response = await sender.send(request, timeout_s=5)

    assert isinstance(response, Unreached)
    assert "secret" not in response.reason


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"SSH-2.0-OpenSSH\r\n", b"\x00\xff" * 50],
)
async def test_what_breaks_off_or_is_no_http_may_have_been_taken(sender, waits, answer):
    server, url = await raw_server(answer)
    async with server:
        response = await sender.send(post(url), timeout_s=5)

    assert isinstance(response, Unreached)
    assert (response.kind, response.maybe_sent) == ("reset", True)
    assert waits.count == 0  # never again within the attempt: it could arrive twice


async def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time(sender):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        response = await sender.send(post(f"http://127.0.0.1:{listener.getsockname()[1]}/"), timeout_s=0.2)

    assert isinstance(response, Unreached)
    assert (response.kind, response.maybe_sent) == ("timeout", True)


async def test_a_large_body_arrives_whole_and_says_how_long_it_is(sender):
    body = bytes(range(256)) * 20_000

    async def handle(request: web.Request) -> web.Response:
        assert request.headers["content-length"] == str(len(body))
        return web.Response(body=b"whole" if await request.read() == body else b"torn")

    app = web.Application(client_max_size=10_000_000)
    app.router.add_post("/", handle)
    async with TestServer(app) as server:
        response = await sender.send(post(str(server.make_url("/")), body=body), timeout_s=5)

    assert isinstance(response, HttpResponse)
    assert response.body == b"whole"


async def test_a_compressed_answer_is_not_unpacked(sender):
    async def handle(request: web.Request) -> web.Response:
        assert request.headers["accept-encoding"] == "identity"
        return web.Response(body=b"\x1f\x8b not really", headers={"Content-Encoding": "gzip"})

    app = web.Application()
    app.router.add_post("/", handle)
    async with TestServer(app) as server:
        response = await sender.send(post(str(server.make_url("/"))), timeout_s=5)

    assert isinstance(response, HttpResponse)
    assert response.body.startswith(b"\x1f\x8b")


async def test_tls_trusts_the_given_file_and_nothing_else(sender, waits, tmp_path):
    certificate, key = make_certificate(tmp_path)
    other, _ = make_certificate(tmp_path, "other")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = TestServer(web.Application(), scheme="https")
    await server.start_server(ssl=context)
    url = str(server.make_url("/"))
    try:
        good = await sender.send(post(url, ca_file=str(certificate)), timeout_s=5)
        system = await sender.send(post(url), timeout_s=5)
        wrong = await sender.send(post(url, ca_file=str(other)), timeout_s=5)
        missing = await sender.send(post(url, ca_file=str(tmp_path / "none")), timeout_s=5)
    finally:
        await server.close()

    assert isinstance(good, HttpResponse)
    assert [response.kind for response in (system, wrong, missing)] == ["tls", "tls", "local"]
    assert "self-signed" in system.reason
    assert waits.count == 0  # what waiting does not heal is not tried again


async def test_a_certificate_for_another_host_is_refused(sender, tmp_path):
    certificate, key = make_certificate(tmp_path, host="DNS:elsewhere.example.com")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = TestServer(web.Application(), scheme="https")
    await server.start_server(ssl=context)
    try:
        response = await sender.send(post(str(server.make_url("/")), ca_file=str(certificate)), timeout_s=5)
    finally:
        await server.close()

    assert isinstance(response, Unreached)
    assert response.kind == "tls"


async def test_destinations_that_hang_do_not_starve_another_on_the_same_host(sender):
    """Behind one proxy stand many. What is under way is bounded per destination, by the dispatcher."""
    released = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        if request.path == "/hangs":
            await released.wait()
        return web.Response(text=request.path)

    app = web.Application()
    app.router.add_post("/{name}", handle)
    async with TestServer(app) as server, asyncio.TaskGroup() as group:
        hanging = [
            group.create_task(sender.send(post(str(server.make_url("/hangs"))), timeout_s=30))
            for _ in range(40)
        ]
        well = await sender.send(post(str(server.make_url("/well"))), timeout_s=5)
        assert isinstance(well, HttpResponse)
        assert not any(each.done() for each in hanging)
        released.set()


async def test_a_redirect_is_an_answer_and_is_not_followed(sender):
    asked = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPPermanentRedirect("/elsewhere")

    app = web.Application()
    app.router.add_post("/{name}", handle)
    async with TestServer(app) as server:
        response = await sender.send(post(str(server.make_url("/here"))), timeout_s=5)

    assert isinstance(response, HttpResponse)
    assert (response.status, response.headers["location"], asked) == (308, "/elsewhere", ["/here"])


async def test_a_date_in_retry_after_is_measured_against_the_servers_own_clock(sender):
    async def handle(_request: web.Request) -> web.Response:
        headers = {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Fri, 31 Dec 1999 23:57:59 GMT"}
        return web.Response(status=503, headers=headers)

    app = web.Application()
    app.router.add_post("/", handle)
    async with TestServer(app) as server:
        response = await sender.send(post(str(server.make_url("/"))), timeout_s=5)

    verdict = judge_http(response)
    assert (verdict.after_s, verdict.whole_destination) == (120.0, True)


async def test_what_is_not_http_is_refused(sender):
    assert isinstance(await sender.send(Append(path="x", lines=b""), timeout_s=1), Unreached)


async def test_certificates_are_read_beside_the_event_loop(monkeypatch):
    make, threads = ssl.create_default_context, []

    def making(**options):
        threads.append(threading.current_thread())
        return make(**options)

    monkeypatch.setattr(ssl, "create_default_context", making)
    trust = Trust()

    assert await trust.context("") is await trust.context("")
    (thread,) = threads
    assert thread is not threading.main_thread()


class Keys:
    """An authorizer whose first token is refused."""

    def __init__(self, *, renews: bool) -> None:
        self.renews, self.used, self.stale = renews, [], True

    async def authorize(self, request: Http, auth: Auth, *, timeout_s: float) -> Http:
        assert timeout_s == 5.0
        self.used.append(auth.options["scope"])
        token = "old" if self.stale else "new"
        return msgspec.structs.replace(request, headers={"authorization": token})

    def forget(self, auth: Auth) -> bool:
        assert auth.vendor == "azure"
        self.stale = False
        return self.renews


class OneVendor(Authorizers):
    def __init__(self, keys: Keys) -> None:
        super().__init__()
        self._made["azure"] = keys


@pytest.mark.parametrize(("renews", "status", "tried"), [(True, 200, 2), (False, 401, 1)])
async def test_credentials_of_a_cloud_that_were_refused_are_renewed_once(renews, status, tried):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.headers["authorization"] == "new" else 401)

    app = web.Application()
    app.router.add_post("/x", answer)
    keys = Keys(renews=renews)
    async with TestServer(app) as server:
        request = Http(
            method="POST", url=str(server.make_url("/x")), headers={}, body=b"x",
            auth=Auth(vendor="azure", options={"scope": "s"}),
        )  # fmt: skip
        sender = HttpSender(authorizers=OneVendor(keys))
        response = await sender.send(request, timeout_s=5.0)
        await sender.close()

    assert isinstance(response, HttpResponse)
    assert (response.status, keys.used) == (status, ["s"] * tried)


async def test_an_extra_that_is_not_installed_is_named():
    class Nobody(Authorizers):
        def of(self, vendor: str):
            raise ImportError(vendor)

    request = Http(method="POST", url="http://127.0.0.1:9/", headers={}, body=b"", auth=Auth(vendor="aws"))
    response = await HttpSender(authorizers=Nobody()).send(request, timeout_s=5.0)

    assert isinstance(response, Unreached)
    assert (response.kind, 'pip install "tocsin[aws]"' in response.reason) == ("local", True)
