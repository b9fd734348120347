"""What every answer has in common, and what slow clients can do: over everything that a front answers."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from neighbours import TENANTS, Neighbours
from servers import require_server
from sidecars import Sidecar, until

from bridge.api import asking
from bridge.app.openapi import OPERATIONS
from bridge.intake.serving import PAGE_PROTECTION, PROTECTION

HERE = TENANTS[0]
#: Of each kind of slow client so many at once.
SLOW = 200


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Neighbours]:
    neighbours = Neighbours(tmp_path)
    async with neighbours.answering():
        yield neighbours


def everything() -> list[tuple[str, str]]:
    """Return a request for each operation, and for what is not there."""
    asked = [(method, re.sub(r"\{.*?\}", "1", path)) for method, path in OPERATIONS]
    asked += [("HEAD", path) for method, path in asked if method == "GET"]
    asked += [
        ("DELETE", "/api/v1/incidents"),
        ("GET", "/nowhere"),
        ("TRACE", "/"),
        ("OPTIONS", "/api/v1/stats"),
    ]
    return asked + [("GET", f"{path}/") for method, path in asked if method == "GET" and path != "/"]


@pytest.mark.parametrize("tenant", [HERE, "nobody"])
async def test_every_answer_says_how_it_is_to_be_handled_and_leads_nowhere_else(
    front: Neighbours, tenant: str
) -> None:
    for method, path in everything():
        status, headers, _ = await front.ask(
            tenant, method, path, b"{}" if method in {"POST", "PUT"} else None
        )
        wanted = PROTECTION | (PAGE_PROTECTION if method in {"GET", "HEAD"} else {})
        assert {name: headers.get(name) for name in wanted} == wanted, (method, path)
        assert not 300 <= status < 400, (method, path)
        assert "Location" not in headers
        assert "Set-Cookie" not in headers


async def test_an_action_whose_body_does_not_come_is_not_waited_for(
    front: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "BODY_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", front.client._base_url.port)
    head = f"POST /api/v1/incidents/1/ack HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-of-{HERE}\r\n"
    writer.write(f"{head}Content-Length: 10\r\n\r\n{{".encode())
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 503")
    writer.close()


@pytest.mark.timeout(180)
def test_slow_clients_keep_nobody_from_being_heard(make: Callable[..., Sidecar], tmp_path: Path) -> None:
    """slowhttptest sends heads and bodies a few bytes at a time, and reads a few bytes at a time."""
    program = require_server("slowhttptest")
    sidecar = make()
    sidecar.start()
    url = f"http://127.0.0.1:{sidecar.port}"
    common = ["-c", str(SLOW), "-r", str(SLOW), "-i", "2", "-l", "26", "-p", "10"]
    attacks = {
        "heads": ["-H", "-x", "10", "-u", f"{url}/api/v1/stats"],
        "bodies": ["-B", "-s", "8192", "-x", "10", "-f", "application/json", "-t", "POST", "-u", f"{url}/v1/alertmanager"],
        "readers": ["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "16", "-k", "3", "-u", f"{url}/openapi.json"],
    }  # fmt: skip
    running = {}
    for name, options in attacks.items():
        with (tmp_path / name).open("wb") as said:
            running[name] = subprocess.Popen([program, *common, *options], stdout=said, stderr=said)
    try:
        until(lambda: sidecar.metric("tocsin_connections") > SLOW, "slow clients")
        slowest_s, number = 0.0, 0
        while any(each.poll() is None for each in running.values()):
            began = time.monotonic()
            sidecar.send(f"Amid{number}")
            slowest_s = max(slowest_s, time.monotonic() - began)
            number += 1
            time.sleep(0.1)
    finally:
        for each in running.values():
            each.kill()
            each.wait(20)
    # Few enough for a machine that has much else to do; alone it is a hundred, of milliseconds each.
    assert number > 3
    assert slowest_s < 15.0
    assert sidecar.metric('tocsin_connections_closed_total{reason="headless"}') > 0
    assert sidecar.metric('tocsin_intake_rejected_total{reason="slow"}') > 0
    until(lambda: sidecar.metric("tocsin_connections") < 10, "they are gone")
    for name in running:
        told = re.sub(r"\x1b\[[0-9;]*m", "", (tmp_path / name).read_text("utf-8", "replace"))
        assert set(re.findall(r"service available: +(\w+)", told)) == {"YES"}, name
