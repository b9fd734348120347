"""Where a request may go: what the configuration names, anywhere there is a host; what anybody else names, only in public."""

from __future__ import annotations

import socket

import pytest
import tenacity
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bridge.ports import Http, HttpResponse, Unreached
from connectors.transport.http import HttpSender
from connectors.transport.names import Names
from connectors.transport.places import is_public, is_somewhere

#: Which names lead where.
LEADS = {"inside.example.com": "127.0.0.1", "metadata.example.com": "169.254.169.254", "zero.example.com": "0.0.0.0"}  # fmt: skip
PRIVATE = (
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "192.0.2.1", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "[::1]", "localhost", "",
)  # fmt: skip


def look_up(host, port, **_):
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (LEADS.get(host, host), port))]


@pytest.fixture
async def inside():
    """A server on loopback that must not be reached by whoever likes, and how often it was."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path == "/away":
            raise web.HTTPFound(f"http://127.0.0.1:{port}/secret")
        return web.Response(text="secret")

    application = web.Application()
    application.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    yield port, asked
    await runner.cleanup()


@pytest.fixture
async def sender():
    made = HttpSender(wait=tenacity.wait_none(), names=Names(look_up))
    yield made
    await made.close()


async def ask(sender: HttpSender, url: str, *, foreign: bool):
    return await sender.send(
        Http(method="GET", url=url, headers={}, body=b"", foreign=foreign), timeout_s=5.0
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "inside.example.com", "[::ffff:127.0.0.1]", "2130706433"])
async def test_what_is_not_from_the_configuration_reaches_nothing_inside(inside, sender, host):
    port, asked = inside
    answer = await ask(sender, f"http://{host}:{port}/", foreign=True)
    assert isinstance(answer, Unreached)
    assert (answer.kind in {"connect", "local"}, answer.maybe_sent) == (True, False)
    assert asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "inside.example.com"])
async def test_what_the_configuration_names_may_be_private(inside, sender, host):
    port, asked = inside
    answer = await ask(sender, f"http://{host}:{port}/", foreign=False)
    assert isinstance(answer, HttpResponse)
    assert asked == ["/"]
    # A connection that is kept from that serves no stranger.
    assert isinstance(await ask(sender, f"http://{host}:{port}/", foreign=True), Unreached)
    assert asked == ["/"]


async def test_a_redirect_leads_nowhere(inside, sender):
    port, asked = inside
    answer = await ask(sender, f"http://127.0.0.1:{port}/away", foreign=False)
    assert isinstance(answer, HttpResponse)
    assert answer.status == 302
    assert asked == ["/away"]


@pytest.mark.parametrize("host", ["metadata.example.com", "zero.example.com"])
async def test_a_configured_name_may_not_lead_to_what_is_no_host(inside, sender, host):
    port, asked = inside
    answer = await ask(sender, f"http://{host}:{port}/", foreign=False)
    assert isinstance(answer, Unreached)
    assert "leads to no host" in answer.reason
    assert asked == []


async def test_an_address_that_is_written_out_is_what_was_meant():
    assert await Names(look_up).addresses("169.254.1.2", 80) == look_up("169.254.1.2", 80)


@pytest.mark.parametrize("host", PRIVATE)
def test_what_is_not_public(host):
    assert not is_public(host)


@pytest.mark.parametrize("host", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_what_is_public(host):
    assert is_public(host)
    assert is_somewhere(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "192.168.0.1", "fc00::1", "::1", "100.64.0.1"])
def test_names_may_lead_to_private_hosts(host):
    assert is_somewhere(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "169.254.169.254", "fe80::1", "224.0.0.1", "::ffff:169.254.169.254"])  # fmt: skip
def test_names_may_not_lead_to_what_is_no_host(host):
    assert not is_somewhere(host)


@given(st.ip_addresses())
def test_an_address_in_ipv6_clothes_is_what_it_is_without(address):
    if address.version == 4:
        assert is_public(f"::ffff:{address}") == is_public(str(address))
        assert is_somewhere(f"::ffff:{address}") == is_somewhere(str(address))
    assert not is_public(str(address)) or is_somewhere(str(address))
