"""S3: where an object goes, and that it goes there once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib

import pytest
import tenacity
from aiohttp import web
from aiohttp.test_utils import TestServer
from builders import START, event
from destinations import build

from bridge.model import Blocked, Delivered, Duplicate, EventKind, Retry
from bridge.ports import Http, HttpResponse, Rendered
from connectors.formats.shapes import shape_of
from connectors.transport.http import HttpSender


def put(case: str = "s3", **settings) -> Http:
    connector = build(case, **settings)
    rendered = connector.render([event(EventKind.UPDATED, seq) for seq in (1, 2)], None, "")
    sealed = connector.seal(rendered.request, rendered.event_ids, START)
    assert isinstance(sealed, Http)
    return sealed


@pytest.mark.parametrize(
    ("settings", "begins"),
    [
        ({}, "https://example-incidents.s3.eu-west-1.amazonaws.com/incidents/year%3D2026/month%3D11/day%3D23/"),
        ({"bucket": "a.b"}, "https://s3.eu-west-1.amazonaws.com/a.b/incidents/"),
        ({"endpoint": "http://minio:9000", "path": ""}, "http://minio:9000/example-incidents/20261123T"),
        ({"region": "cn-north-1", "path": "{tenant}/x"}, "https://example-incidents.s3.cn-north-1.amazonaws.com.cn/default/x/2026"),
    ],
)  # fmt: skip
def test_an_object_has_an_address_that_stores_agree_on(settings, begins):
    assert put(**settings).url.startswith(begins)


def test_an_object_is_put_only_if_there_is_none_and_can_be_checked():
    request = put()

    assert (request.method, request.headers["if-none-match"]) == ("PUT", "*")
    assert base64.b64decode(request.headers["x-amz-checksum-crc32"]) == zlib.crc32(request.body).to_bytes(
        4, "big"
    )


def test_one_event_per_object_is_stored_once_whatever_happens():
    assert build("s3").caps.delivery_class == "at least once, deduplicate on event_id"
    assert build("s3", max_events=1).caps.delivery_class == "exactly-once effect"
    assert build("s3", max_events=1).caps.max_events == 1


def test_the_key_of_a_frozen_request_stays_when_the_path_changes():
    rendered = build("s3").render([event()], None, "")

    sealed = build("s3", path="other").seal(rendered.request, rendered.event_ids, START)

    assert sealed.url == rendered.request.url


def test_a_file_that_was_frozen_is_made_as_it_was_meant_when_the_settings_change():
    rendered = build("s3", stored_as="parquet").render([event()], None, "")

    sealed = build("s3", format="ocsf-incident").seal(rendered.request, rendered.event_ids, START)

    assert sealed.shape == shape_of("event")
    assert sealed.url.endswith(".parquet")
    assert rendered.request.shape == ""


def test_a_frozen_file_is_the_lines_that_it_is_made_of():
    lines, file = (build("s3", stored_as=each).render([event()], None, "") for each in ("jsonl", "parquet"))

    assert file.request.body == lines.request.body
    assert build("s3").seal(lines.request, lines.event_ids, START).shape == ""
    assert build("s3", stored_as="parquet").seal(build("s3").probe(), (), START).shape == ""


def test_a_probe_is_what_no_store_that_looks_would_keep():
    request = build("s3").probe()
    wrong = HttpResponse(status=400, headers={}, body=b"<Error><Code>BadDigest</Code></Error>")

    digest = hashlib.md5(request.body, usedforsecurity=False).digest()
    assert request.headers["content-md5"] != base64.b64encode(digest).decode()
    assert len(base64.b64decode(request.headers["content-md5"])) == len(digest)
    assert build("s3").judge(Rendered(request=request, event_ids=("x",)), wrong) == (Delivered(),)
    assert isinstance(build("s3").judge(build("s3").render([event()], None, ""), wrong)[0], Retry)


# ---- a store that fails in every documented way -----------------------------------------------------------


class Store:
    """A fake of S3 that keeps what it is given, once; the next faults are queued in `faults`."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.requests = 0
        self.released = asyncio.Event()
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_put("/{key:.*}", self.put)
        return app

    async def put(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        body, fault = await request.read(), self.faults.pop(0) if self.faults else ""
        if fault == "slow down":
            return web.Response(
                status=503, body=b"<Error><Code>SlowDown</Code></Error>", headers={"Retry-After": "9"}
            )
        if fault == "elsewhere":
            raise web.HTTPTemporaryRedirect("https://elsewhere.example.com/")
        if request.path in self.kept:
            return web.Response(status=412, body=b"<Error><Code>PreconditionFailed</Code></Error>")
        assert request.headers["if-none-match"] == "*"
        self.kept[request.path] = body
        if fault == "reset after accept":
            assert request.transport is not None
            request.transport.abort()
        if fault == "slow":
            await self.released.wait()
        return web.Response(headers={"ETag": '"1"'})


@pytest.fixture
async def store():
    fake = Store()
    async with TestServer(fake.app()) as server:
        fake.url = str(server.make_url("/"))
        yield fake
        fake.released.set()


async def deliver(store: Store, *, timeout_s: float = 10):
    connector = build("s3", endpoint=store.url, access_key_id="AKIA1", secret_access_key="of-the-test")
    rendered = connector.render([event(EventKind.UPDATED, seq) for seq in (1, 2)], None, "")
    sender = HttpSender(wait=tenacity.wait_none())
    request = connector.seal(rendered.request, rendered.event_ids, START)
    response = await sender.send(request, timeout_s=timeout_s)
    await sender.close()
    return connector.judge(rendered, response)


@pytest.mark.parametrize(("fault", "timeout_s"), [("reset after accept", 10.0), ("slow", 0.3)])
async def test_what_was_stored_before_the_answer_was_lost_is_found_there(store, fault, timeout_s):
    store.faults = [fault]

    first = await deliver(store, timeout_s=timeout_s)
    second = await deliver(store)

    # Of a PUT aiohttp itself tries a connection that broke once more, and finds the object then.
    assert {type(each) for each in first} == ({Retry} if fault == "slow" else {Duplicate})
    assert second == (Duplicate(),) * 2
    assert len(store.kept) == 1


async def test_a_store_that_asks_for_patience_gets_it(store):
    store.faults = ["slow down"]

    verdict, _ = await deliver(store)

    assert verdict == Retry(reason="HTTP 503: SlowDown", after_s=9.0, whole_destination=True)
    assert (store.requests, store.kept) == (1, {})


async def test_another_region_is_not_followed_to(store):
    store.faults = ["elsewhere"]

    verdict, _ = await deliver(store)

    assert isinstance(verdict, Blocked)
    assert store.requests == 1
