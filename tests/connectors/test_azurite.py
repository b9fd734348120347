"""Blob Storage against Azurite, Microsoft's own emulator. Apart (`make test-azurite`): it comes from npm and starts slowly."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import socket
import subprocess
import time
from urllib.parse import quote, urlencode

import aiohttp
import pytest
import tenacity
from builders import START, event
from destinations import build
from servers import free_port
from sidecars import NO_MODELS, Sidecar, until

from bridge.model import Blocked, Delivered, Duplicate, EventKind
from bridge.ports import Rendered
from connectors.transport.http import HttpSender

PROGRAM = os.environ.get("TOCSIN_AZURITE", "")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="TOCSIN_AZURITE names no azurite-blob program")
#: The account and key that every Azurite has. Source: learn.microsoft.com, "Use the Azurite emulator".
ACCOUNT = "devstoreaccount1"
KEY = base64.b64decode(
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
ENDS = "2099-01-01T00:00:00Z"


def signature(permissions: str) -> str:
    """Return a signature of the account for its blobs, as "Create an account SAS" has it."""
    version = "2020-08-04"
    text = f"{ACCOUNT}\n{permissions}\nb\nco\n\n{ENDS}\n\nhttps,http\n{version}\n"
    made = base64.b64encode(hmac.new(KEY, text.encode(), hashlib.sha256).digest()).decode()
    return urlencode(
        {
            "sv": version,
            "ss": "b",
            "srt": "co",
            "sp": permissions,
            "se": ENDS,
            "spr": "https,http",
            "sig": made,
        },
        quote_via=quote,
    )


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    port, folder = free_port(), tmp_path_factory.mktemp("azurite")
    with (folder / "log").open("wb") as log, subprocess.Popen(
        [
            *(PROGRAM, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)),
            *("--skipApiVersionCheck", "--disableTelemetry", "--silent"),
        ],
        stdout=log,
        stderr=log,
    ) as process:  # fmt: skip
        for _ in range(600):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            process.kill()
            pytest.fail("Azurite does not listen")
        try:
            yield f"http://127.0.0.1:{port}/{ACCOUNT}"
        finally:
            process.terminate()


@pytest.fixture
async def container(azurite, request):
    """Make a container of its own for a test."""
    name = f"test-{abs(hash(request.node.name)) % 10**9}"
    await make_container(azurite, name)
    return name


async def make_container(azurite, name):
    async with aiohttp.ClientSession() as session:
        url = f"{azurite}/{name}?restype=container&{signature('rwlc')}"
        async with session.put(url, headers={"x-ms-version": "2021-12-02"}) as answer:
            assert answer.status == 201, await answer.text()


@pytest.fixture
def connector(azurite, container):
    return build("blob_sas", url=azurite, container=container, path="day={day}", sas_token=signature("cw"))


async def deliver(connector, rendered):
    sender = HttpSender(wait=tenacity.wait_none())
    sealed = connector.seal(rendered.request, rendered.event_ids, START)
    response = await sender.send(sealed, timeout_s=10)
    await sender.close()
    return connector.judge(rendered, response)


async def read(azurite, container, key):
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{azurite}/{container}/{quote(key)}?{signature('r')}") as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "application/x-ndjson"
        return [json.loads(line) for line in (await answer.text()).splitlines()]


def three(connector) -> Rendered:
    return connector.render([event(EventKind.UPDATED, seq) for seq in (1, 2, 3)], None, "")


async def test_an_incident_becomes_a_blob_that_can_be_read(azurite, container, connector):
    rendered = three(connector)

    assert await deliver(connector, rendered) == (Delivered(),) * 3
    stored = await read(azurite, container, rendered.request.about["key"])
    assert tuple(each["event_id"] for each in stored) == rendered.event_ids


@pytest.mark.parametrize("permissions", ["cw", "rwlc"])
async def test_a_repeat_stores_nothing_twice_whatever_the_signature_may(azurite, container, permissions):
    connector = build("blob_sas", url=azurite, container=container, sas_token=signature(permissions))
    rendered = three(connector)

    assert await deliver(connector, rendered) == (Delivered(),) * 3
    assert await deliver(connector, rendered) == (Duplicate(),) * 3


async def test_to_create_is_enough(azurite, container):
    """Not for a repeat here: Azure documents a 403 of its own for that, Azurite has none."""
    connector = build("blob_sas", url=azurite, container=container, sas_token=signature("c"))

    assert await deliver(connector, three(connector)) == (Delivered(),) * 3


async def test_a_signature_that_may_only_read_blocks_and_is_not_shown(azurite, container):
    connector = build("blob_sas", url=azurite, container=container, sas_token=signature("r"))

    (verdict, *_) = await deliver(connector, three(connector))

    assert isinstance(verdict, Blocked)
    assert "the rights to create and write" in verdict.reason
    assert signature("r")[-20:] not in verdict.reason


async def test_a_wrong_signature_blocks(azurite, container):
    wrong = signature("c").partition("sig=")[0] + "sig=AAAA"
    connector = build("blob_sas", url=azurite, container=container, sas_token=wrong)

    assert isinstance((await deliver(connector, three(connector)))[0], Blocked)


async def test_a_container_that_is_not_there_blocks(azurite):
    connector = build("blob_sas", url=azurite, container="not-there", sas_token=signature("c"))

    assert isinstance((await deliver(connector, three(connector)))[0], Blocked)


async def test_the_probe_may_be_put_again_and_again(connector):
    probe = Rendered(request=connector.probe(), event_ids=("x",))

    assert [await deliver(connector, probe) for _ in range(3)] == [(Delivered(),)] * 3


def test_an_alert_becomes_a_line_in_a_blob(azurite, tmp_path):
    """The whole sidecar, from the webhook to what a reader of the storage finds."""
    asyncio.run(make_container(azurite, "whole"))
    lake = {
        "name": "lake",
        "kind": "blob",
        "url": azurite,
        "container": "whole",
        "sas_token": signature("cw"),
    }
    sidecar = Sidecar(tmp_path, NO_MODELS + f"destinations: [{json.dumps(lake)}]\n")
    sidecar.start()
    delivered = 'tocsin_deliveries_total{destination="lake",result="delivered"}'
    try:
        sidecar.send("NodeDown")
        until(lambda: sidecar.metric(delivered), "the delivery", patience_s=30)
    finally:
        sidecar.end()

    (name,) = asyncio.run(names(azurite, "whole"))
    (event_read, *_) = asyncio.run(read(azurite, "whole", name))
    assert event_read["incident"]["episodes"][0]["labels"]["alertname"] == "NodeDown"


async def names(azurite, container):
    url = f"{azurite}/{container}?restype=container&comp=list&{signature('rl')}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return re.findall(r"<Name>([^<]+)</Name>", await answer.text())
